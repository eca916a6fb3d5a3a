//! `$GENERATE` (as BIND has it): a record for each number of a range.
//!
//! ```text
//! $GENERATE start-stop[/step] owner [TTL] [class] type data
//! ```
//!
//! `$` in owner and data is the number, `${offset,width,base}` the number plus an offset, with N
//! digits at least: decimal (`d`), octal (`o`), hexadecimal (`x`, `X`), or hexadecimal digits from the
//! last to the first with dots between them (`n`, `N`), dots counted. `$$` and `\$` are a dollar sign.

use std::fmt::Write as _;

use super::text::{Token, Wrong};

/// Digits of a number, at the most: no name holds more.
const MAX_WIDTH: u64 = 253;

/// A directive.
#[derive(Debug)]
pub(super) struct Generate<'a> {
    start: u64,
    stop: u64,
    step: u64,
    owner: Vec<Part>,
    /// TTL, class and type.
    middle: &'a [Token<'a>],
    data: Vec<Part>,
}

/// A piece of what is repeated.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Number { offset: i64, width: usize, base: u8 },
}

impl<'a> Generate<'a> {
    /// Reads what follows the directive's name.
    pub fn parse(tokens: &'a [Token<'a>], line: u32) -> Result<Self, Wrong> {
        let missing = |_: ()| {
            Wrong {
            line,
            message: "$GENERATE: START-STOP[/STEP] OWNER [TTL] [CLASS] TYPE DATA belong here; write those"
                .to_owned(),
        }
        };
        let [range, owner, rest @ ..] = tokens else {
            return Err(missing(()));
        };
        let (start, stop, step) = range_of(range)?;
        let is_head = |token: &Token<'_>| {
            token.text.first().is_some_and(u8::is_ascii_digit)
                || token.is("IN")
                || token.is("CLASS1")
        };
        let heads = rest.iter().take_while(|token| is_head(token)).count();
        let Some((middle, data)) = rest.split_at_checked(heads + 1) else {
            return Err(missing(()));
        };
        let data = match data {
            [] => return Err(missing(())),
            [data] => data,
            [_, more, ..] => {
                return Err(
                    more.wrong("$GENERATE: more than one word of data; put all of it in quotes")
                );
            }
        };
        Ok(Self {
            start,
            stop,
            step,
            owner: parts(owner)?,
            middle,
            data: parts(data)?,
        })
    }

    /// How many records it makes.
    pub fn count(&self) -> u64 {
        (self.stop - self.start) / self.step + 1
    }

    /// The numbers, one after the other.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let (start, step) = (self.start, self.step);
        (0..self.count()).map(move |turn| start + turn * step)
    }

    /// Writes the entry of a number. `None` if an offset leads below 0.
    pub fn entry(&self, number: u64, out: &mut Vec<u8>) -> Option<()> {
        write(&self.owner, number, out)?;
        for token in self.middle {
            out.push(b' ');
            out.extend_from_slice(token.text);
        }
        out.push(b' ');
        write(&self.data, number, out)?;
        out.push(b'\n');
        Some(())
    }
}

/// `start-stop[/step]`.
fn range_of(token: &Token<'_>) -> Result<(u64, u64, u64), Wrong> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let range = || {
        let (range, step) = token.word().split_once('/').unwrap_or((token.word(), "1"));
        let (start, stop) = range.split_once('-')?;
        let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
        (start <= stop && step > 0).then_some((start.into(), stop.into(), step.into()))
    };
    range().ok_or_else(|| {
        token.wrong(format!(
            "$GENERATE: {} is not a range; write START-STOP or START-STOP/STEP, as 1-254",
            token.shown()
        ))
    })
}

/// Cuts a word at its dollar signs.
fn parts(token: &Token<'_>) -> Result<Vec<Part>, Wrong> {
    let mut parts = Vec::new();
    let mut text = Vec::new();
    let mut rest = token.text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, rest) {
            // An escape is resolved when the entry is read.
            (b'\\', [next, after @ ..]) => {
                text.extend([b'\\', *next]);
                rest = after;
            }
            (b'$', [b'$', after @ ..]) => {
                text.extend(b"\\$");
                rest = after;
            }
            (b'$', _) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                let (part, after) = match rest.strip_prefix(b"{") {
                    Some(after) => modifier(after).ok_or_else(|| {
                        token.wrong(format!(
                            "$GENERATE: in {} a modifier is not ${{OFFSET[,WIDTH[,BASE]]}} with the base d, o, x, X, n or N; correct it",
                            token.shown()
                        ))
                    })?,
                    None => (Part::Number { offset: 0, width: 0, base: b'd' }, rest),
                };
                parts.push(part);
                rest = after;
            }
            _ => text.push(byte),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// The text between braces, and the text that follows them.
fn modifier(text: &[u8]) -> Option<(Part, &[u8])> {
    let end = text.iter().position(|&byte| byte == b'}')?;
    let mut fields = str::from_utf8(&text[..end]).ok()?.split(',');
    let offset: i32 = fields.next()?.parse().ok()?;
    let width = match fields.next() {
        Some(width) => width
            .parse::<u64>()
            .ok()
            .filter(|&width| width <= MAX_WIDTH)?,
        None => 0,
    };
    let base = match fields.next().unwrap_or("d").as_bytes() {
        [base @ (b'd' | b'o' | b'x' | b'X' | b'n' | b'N')] => *base,
        _ => return None,
    };
    let part = Part::Number {
        offset: offset.into(),
        width: width as usize,
        base,
    };
    fields.next().is_none().then_some((part, &text[end + 1..]))
}

fn write(parts: &[Part], number: u64, out: &mut Vec<u8>) -> Option<()> {
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Number {
                offset,
                width,
                base,
            } => {
                let number = number.checked_add_signed(*offset)?;
                out.extend_from_slice(digits(number, *width, *base).as_bytes());
            }
        }
    }
    Some(())
}

fn digits(mut number: u64, width: usize, base: u8) -> String {
    match base {
        b'o' => format!("{number:0width$o}"),
        b'x' => format!("{number:0width$x}"),
        b'X' => format!("{number:0width$X}"),
        b'n' | b'N' => {
            let mut text = String::new();
            loop {
                let digit = number & 0xf;
                let written = match base {
                    b'n' => write!(text, "{digit:x}"),
                    _ => write!(text, "{digit:X}"),
                };
                written.expect("writing to a string");
                number >>= 4;
                if number == 0 && text.len() >= width {
                    return text;
                }
                text.push('.');
                // A dot may be the last of the width.
                if number == 0 && text.len() >= width {
                    return text;
                }
            }
        }
        _ => format!("{number:0width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Entries;
    use super::*;

    /// The entries that a directive makes, or why it makes none.
    fn generated(text: &str) -> Result<String, String> {
        let mut tokens = Vec::new();
        Entries::new(text.as_bytes(), 3).next(&mut tokens);
        let generate = Generate::parse(&tokens, 3).map_err(|wrong| wrong.message)?;
        let mut out = Vec::new();
        for number in generate.numbers() {
            generate.entry(number, &mut out).ok_or("below 0")?;
        }
        assert_eq!(
            out.iter().filter(|&&byte| byte == b'\n').count() as u64,
            generate.count()
        );
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_stand_where_dollar_signs_stood() {
        for (text, expect) in [
            ("1-2 a$ A 192.0.2.$", "a1 A 192.0.2.1\na2 A 192.0.2.2\n"),
            (
                "0-9/4 a 1h IN PTR b$",
                "a 1h IN PTR b0\na 1h IN PTR b4\na 1h IN PTR b8\n",
            ),
            (
                "7-7 ${0}.$$ MX \"10 m$.\\$\\$$\"",
                "7.\\$ MX 10 m7.\\$\\$7\n",
            ),
            (
                "10-10 ${-3,3}.${0,4,o} TXT ${245,0,x}-${245,4,X}",
                "007.0012 TXT ff-00FF\n",
            ),
            ("300-300 ${0,5,n}.x PTR ${0,0,N}", "c.2.1.x PTR C.2.1\n"),
            ("1-1 ${0,7,n} PTR ${0,1,n}", "1.0.0.0 PTR 1\n"),
        ] {
            assert_eq!(generated(text).unwrap(), expect, "{text}");
        }
        assert_eq!(generated("1-1 a${-2} A 192.0.2.1").unwrap_err(), "below 0");
        for text in [
            "3-1 a A b",
            "1-3/0 a A b",
            "1 a A b",
            "-1-3 a A b",
            "1-4294967296 a A b",
            "+1-3 a A b",
        ] {
            let error = generated(text).unwrap_err();
            assert!(error.contains("is not a range"), "{error}");
        }
        for text in [
            "1-2 ${ A b",
            "1-2 ${} A b",
            "1-2 ${1,2,q} A b",
            "1-2 ${1,2,d,} A b",
            "1-2 ${0,254} A b",
        ] {
            let error = generated(text).unwrap_err();
            assert!(error.contains("modifier"), "{error}");
        }
        for text in ["1-2", "1-2 a", "1-2 a 60 IN", "1-2 a 60 IN A"] {
            let error = generated(text).unwrap_err();
            assert!(error.contains("belong here"), "{error}");
        }
        assert!(
            generated("1-2 a MX 10 m$")
                .unwrap_err()
                .contains("in quotes")
        );
    }
}
