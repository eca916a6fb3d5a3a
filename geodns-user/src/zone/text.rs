//! A zone file as entries: a record or a directive each, over as many lines as its parentheses and
//! quotes hold together, and the line that it begins in.
//!
//! The scanner of `domain` reads neither times with units (`1h30m`) nor, in a record's data, `@`
//! for the origin (RFC 1035 section 5.1), which other servers do. [`Entry::plain`] puts both into
//! the form that it reads, where a time or a name can stand.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Name;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// As it is written, last newline included if it has one.
    pub text: &'a str,
    /// Line that it begins in, from 1.
    pub line: usize,
    /// The parenthesis or quote that the file ends in.
    pub open: Option<char>,
    /// Where its first tokens are.
    tokens: Vec<(usize, usize)>,
}

/// Cuts a file into entries. Lines that say nothing are entries too.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (length, open, tokens) = scan(rest);
        let (text, after) = rest.split_at(length);
        let entry = Entry {
            text,
            line,
            open,
            tokens,
        };
        line += text.bytes().filter(|&byte| byte == b'\n').count();
        rest = after;
        Some(entry)
    })
}

impl<'a> Entry<'a> {
    /// Its first tokens, as they are written.
    pub fn tokens(&self) -> impl Iterator<Item = &'a str> {
        self.tokens.iter().map(|&(from, to)| &self.text[from..to])
    }

    fn token(&self, at: usize) -> Option<&'a str> {
        self.tokens.get(at).map(|&(from, to)| &self.text[from..to])
    }

    /// Its text with times in seconds and the origin written out, and a newline at its end.
    pub fn plain(&self, origin: &Name) -> Cow<'a, str> {
        let mut text = String::new();
        let mut copied = 0;
        for (place, means) in self.places() {
            let Some(token) = self.token(place) else {
                continue;
            };
            let instead = match means {
                Means::Time => seconds(token).map(|secs| secs.to_string()),
                Means::Name => (token == "@").then(|| escaped(origin)),
            };
            if let Some(instead) = instead {
                let (from, to) = self.tokens[place];
                text += &self.text[copied..from];
                text += &instead;
                copied = to;
            }
        }
        let ends = self.text.ends_with('\n');
        if copied == 0 && ends {
            return Cow::Borrowed(self.text);
        }
        text += &self.text[copied..];
        if !ends {
            text.push('\n');
        }
        Cow::Owned(text)
    }

    /// Where times and names stand among its tokens, in order; names in the data only.
    fn places(&self) -> Vec<(usize, Means)> {
        use Means::{Name, Time};
        let is =
            |token: &str, words: &[&str]| words.iter().any(|word| token.eq_ignore_ascii_case(word));
        if self.token(0).is_some_and(|first| is(first, &["$TTL"])) {
            return vec![(1, Time)];
        }
        let mut places = Vec::new();
        // An owner stands at the very beginning of the line.
        let mut at = usize::from(self.tokens.first().is_some_and(|&(from, _)| from == 0));
        // TTL and class in either order, each at most once; a type is neither.
        for _ in 0..2 {
            match self.token(at) {
                Some(token) if seconds(token).is_some() => places.push((at, Time)),
                Some(token) if token.bytes().all(|byte| byte.is_ascii_digit()) => {}
                Some(token) if is(token, &["IN", "CH", "HS"]) => {}
                _ => break,
            }
            at += 1;
        }
        let Some(rtype) = self.token(at) else {
            return places;
        };
        let data = at + 1;
        if is(rtype, &["SOA"]) {
            places.extend([(data, Name), (data + 1, Name)]);
            // Past the serial.
            places.extend((data + 3..data + 7).map(|at| (at, Time)));
        } else if is(rtype, &["MINFO", "RP"]) {
            places.extend([(data, Name), (data + 1, Name)]);
        } else if is(rtype, &["MX", "SVCB", "HTTPS"]) {
            places.push((data + 1, Name));
        } else if is(rtype, &["SRV", "IPSECKEY"]) {
            places.push((data + 3, Name));
        } else if is(rtype, &["NAPTR"]) {
            places.push((data + 5, Name));
        } else if is(rtype, &["RRSIG"]) {
            places.push((data + 7, Name));
        } else if is(
            rtype,
            &[
                "NS", "CNAME", "DNAME", "PTR", "NSEC", "MB", "MD", "MF", "MG", "MR",
            ],
        ) {
            places.push((data, Name));
        }
        places
    }
}

/// What a token stands for.
#[derive(Clone, Copy)]
enum Means {
    Time,
    Name,
}

/// A name as the scanner reads it, with all but letters and digits escaped.
fn escaped(name: &Name) -> String {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        for &byte in label.as_slice() {
            if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                text.push(byte.into());
            } else {
                write!(text, "\\{byte:03}").expect("writing to a string");
            }
        }
        text.push('.');
    }
    if text.is_empty() {
        text.push('.');
    }
    text
}

/// Length of the first entry, what it leaves open, and where its first tokens are.
fn scan(text: &str) -> (usize, Option<char>, Vec<(usize, usize)>) {
    /// Owner, TTL, class, type, and the eight up to the signer's name of an RRSIG.
    const TOKENS: usize = 12;
    let bytes = text.as_bytes();
    let mut tokens: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    let mut depth = 0u32;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' if depth == 0 => return (at + 1, None, tokens),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b';' => {
                while bytes.get(at + 1).is_some_and(|&byte| byte != b'\n') {
                    at += 1;
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            first => {
                let start = at;
                at += 1;
                let quoted = first == b'"';
                let mut closed = !quoted;
                let mut escaped = first == b'\\';
                while let Some(&byte) = bytes.get(at) {
                    if escaped {
                        escaped = false;
                    } else if byte == b'\\' {
                        escaped = true;
                    } else if quoted && byte == b'"' {
                        at += 1;
                        closed = true;
                        break;
                    } else if !quoted && b" \t\r\n();\"".contains(&byte) {
                        break;
                    }
                    at += 1;
                }
                if tokens.len() < TOKENS {
                    tokens.push((start, at));
                }
                if !closed {
                    return (at, Some('"'), tokens);
                }
                continue;
            }
        }
        at += 1;
    }
    (bytes.len(), (depth > 0).then_some('('), tokens)
}

/// Seconds of a time with units, as `1h30m`. Plain numbers are left to the scanner.
fn seconds(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut sum = 0u32;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes().get(digits)?.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            b'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(sum)
}

/// What a token says: without quotes, and each escaped character for itself.
pub(super) fn unquoted(token: &str) -> String {
    let quoted = token.strip_prefix('"');
    let inner = quoted.map_or(token, |rest| rest.strip_suffix('"').unwrap_or(rest));
    let mut escaped = false;
    let keep = |&letter: &char| {
        escaped = letter == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::parse_name;

    #[test]
    fn times_and_origins_are_written_out_where_they_stand() {
        for (entry, expect) in [
            ("$TTL 1h\n", "$TTL 3600\n"),
            ("$ttl 1h30m ; half\n", "$ttl 5400 ; half\n"),
            ("1h 1d IN A 192.0.2.1\n", "1h 86400 IN A 192.0.2.1\n"),
            ("1h IN 1w A 192.0.2.1\n", "1h IN 604800 A 192.0.2.1\n"),
            ("\t2M A 192.0.2.1", "\t120 A 192.0.2.1\n"),
            ("a TXT 1h @\n", "a TXT 1h @\n"),
            ("a 60 TXT 1h @\n", "a 60 TXT 1h @\n"),
            ("a IN TXT 1h 2h\n", "a IN TXT 1h 2h\n"),
            (
                "@ SOA 1h 2h 1 ( 1h ; refresh\n 15m\n 1w 1d )\n",
                "@ SOA 1h 2h 1 ( 3600 ; refresh\n 900\n 604800 86400 )\n",
            ),
            (
                "@ 1h soa @ @ 1 2 3 4 5\n",
                "@ 3600 soa x\\.y.o. x\\.y.o. 1 2 3 4 5\n",
            ),
            ("@ 60 IN MX 1 @\n", "@ 60 IN MX 1 x\\.y.o.\n"),
            ("@ IN 60 NS @\n", "@ IN 60 NS x\\.y.o.\n"),
            ("@ MX 1 \\@\n", "@ MX 1 \\@\n"),
            ("@ MX @", "@ MX @\n"),
            ("a SRV 0 0 1 @", "a SRV 0 0 1 x\\.y.o.\n"),
            ("a NAPTR 1 1 @ @ @ @", "a NAPTR 1 1 @ @ @ x\\.y.o.\n"),
            ("a HTTPS 0 @", "a HTTPS 0 x\\.y.o.\n"),
            ("a 99999999w A 192.0.2.1\n", "a 99999999w A 192.0.2.1\n"),
        ] {
            let all: Vec<_> = entries(entry).collect();
            assert_eq!(all.len(), 1, "{entry:?}");
            let plain = all[0].plain(&parse_name("x\\.y.o").unwrap());
            assert_eq!(plain, expect.replace("\\.", "\\046"), "{entry:?}");
        }
        assert_eq!(escaped(&parse_name(".").unwrap()), ".");
    }

    #[test]
    fn entries_end_at_newlines_outside_parentheses_and_quotes() {
        let text = "a TXT (\n \"x;)\n(\" ) ; ( \" \n\nb\\( A \\\"\n;c (\nd";
        let cut: Vec<_> = entries(text)
            .map(|entry| (entry.line, entry.text))
            .collect();
        let expect = [
            (1, "a TXT (\n \"x;)\n(\" ) ; ( \" \n"),
            (4, "\n"),
            (5, "b\\( A \\\"\n"),
            (6, ";c (\n"),
            (7, "d"),
        ];
        assert_eq!(cut, expect);
    }

    #[test]
    fn tokens_are_unquoted() {
        for (token, expect) in [
            ("a/b", "a/b"),
            ("\"a b\"", "a b"),
            ("a\\ b\\\\c", "a b\\c"),
            ("\"", ""),
            ("\"a", "a"),
        ] {
            assert_eq!(unquoted(token), expect);
        }
    }
}
