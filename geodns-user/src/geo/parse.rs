//! Reads `prefix,mirror,mirror,...` lists. A million lines are common, so the usual line is taken apart by
//! hand and anything else by the standard parsers.

use std::collections::HashMap;
use std::path::Path;

use ipnet::IpNet;

use super::{Layer, Prefix};
use crate::base::complaint::{Error, Errors};
use crate::base::prefix;

/// Lines of which it is kept what is wrong with them; of the others only the number.
const MAX_WRONG: usize = 50;

/// A mistake, and its line (from 1).
#[derive(Debug)]
pub struct Wrong {
    pub line: usize,
    pub message: String,
}

/// Why a line is not taken.
enum Bad {
    /// It is wrong itself.
    Line(String),
    /// The list is too much with it.
    List(String),
}

impl From<String> for Bad {
    fn from(message: String) -> Self {
        Self::Line(message)
    }
}

impl Layer {
    /// Parses a list of lines `prefix,mirror,mirror,...`, the best mirror first. `mirror` gives the number
    /// for an id (`None`: leave it out), or says what is wrong with it. Blank lines and `#` comments are
    /// skipped; a first line `prefix,mirror` is a header. Host bits set, a repeated prefix, anything
    /// unparsable: an error with the line. `key` is what names the file in the configuration.
    pub fn parse(
        text: &str,
        file: &Path,
        key: Option<&str>,
        mirror: impl FnMut(&str) -> Result<Option<u8>, String>,
    ) -> Result<Self, Errors> {
        parse(text, mirror).map_err(|(wrong, more)| {
            let errors = wrong.into_iter().map(|wrong| Error {
                file: file.to_owned(),
                line: Some(wrong.line),
                column: None,
                key: key.map(str::to_owned),
                message: wrong.message,
            });
            Errors::new(errors.collect(), more)
        })
    }
}

/// A list; or what is wrong with its lines, and how many more have something.
fn parse<'a>(
    text: &'a str,
    mut mirror: impl FnMut(&str) -> Result<Option<u8>, String>,
) -> Result<Layer, (Vec<Wrong>, usize)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut layer = Layer::default();
    // What stands behind the prefix, and its number: lines that are alike are common, and stand together.
    let mut known: HashMap<&'a str, Option<u16>> = HashMap::new();
    let mut latest: Option<(&'a str, Option<u16>)> = None;
    let mut header_allowed = true;
    let mut take = |content: &'a str| -> Result<(), Bad> {
        let Some((prefix, ids)) = content.split_once(',') else {
            let help = match content.contains([';', '\t', ' ']) {
                true => "; put a comma between the two",
                false => "",
            };
            let message = format!("{content:?} is not of the form prefix,mirror{help}");
            return Err(message.into());
        };
        let prefix = field(prefix);
        let is_header = || prefix == "prefix" && fields(ids).all(|id| id == "mirror");
        if std::mem::take(&mut header_allowed) && is_header() {
            return Ok(());
        }
        let number = match latest {
            Some((known, number)) if known == ids => number,
            _ => match known.get(ids) {
                Some(&number) => number,
                None => {
                    let order = order(ids, &mut mirror)?;
                    let number = layer
                        .number(&order)
                        .map_err(|error| Bad::List(error.to_string()))?;
                    known.insert(ids, number);
                    number
                }
            },
        };
        latest = Some((ids, number));
        if let Some((first, len)) = v4(prefix.as_bytes())
            && first.checked_shl(len.into()).unwrap_or(0) == 0
        {
            if let Some(number) = number {
                layer.v4.push((first, len, number));
            }
            return Ok(());
        }
        let net = prefix::parse(prefix)?;
        if let Some(number) = number {
            match net {
                IpNet::V4(net) => layer
                    .v4
                    .push((net.addr().to_bits(), net.prefix_len(), number)),
                IpNet::V6(net) => layer
                    .v6
                    .push((net.addr().to_bits(), net.prefix_len(), number)),
            }
        }
        Ok(())
    };
    let mut wrong = Vec::new();
    let mut more = 0;
    for (line, content) in lines(text) {
        match take(content) {
            Ok(()) => (),
            Err(Bad::Line(message)) if wrong.len() < MAX_WRONG => {
                wrong.push(Wrong { line, message });
            }
            Err(Bad::Line(_)) => more += 1,
            Err(Bad::List(message)) => {
                wrong.push(Wrong { line, message });
                break;
            }
        }
    }
    if !wrong.is_empty() {
        return Err((wrong, more));
    }
    let repeated = sort(&mut layer.v4).map(|(first, len)| (u128::from(first) << 96, len, true));
    let repeated = repeated.or(sort(&mut layer.v6).map(|(first, len)| (first, len, false)));
    match repeated {
        Some((first, len, v4)) => Err((vec![find_repeated(text, first, len, v4)], 0)),
        None => Ok(layer),
    }
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .map(str::trim)
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The members of a line, best first.
fn order(
    ids: &str,
    mut mirror: impl FnMut(&str) -> Result<Option<u8>, String>,
) -> Result<Vec<u8>, String> {
    let mut order = Vec::new();
    for id in fields(ids) {
        match mirror(id)? {
            Some(member) if order.contains(&member) => {
                return Err(format!("mirror \"{id}\" stands in it twice; remove one"));
            }
            member => order.extend(member),
        }
    }
    Ok(order)
}

/// The fields of a line; spreadsheets pad lines with empty ones at the end.
fn fields(text: &str) -> impl Iterator<Item = &str> {
    let padded = text.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
    padded.split(',').map(field)
}

/// A field without the blanks and quotes around it.
fn field(field: &str) -> &str {
    let field = field.trim();
    field
        .strip_prefix('"')
        .and_then(|field| field.strip_suffix('"'))
        .unwrap_or(field)
}

/// `a.b.c.d/len` in plain decimal without leading zeros; everything else is for the real parser.
fn v4(text: &[u8]) -> Option<(u32, u8)> {
    let mut rest = text;
    let mut address = 0;
    for end in [b'.', b'.', b'.', b'/'] {
        let (number, after) = decimal(rest)?;
        let (&separator, after) = after.split_first()?;
        if separator != end || number > 255 {
            return None;
        }
        address = address << 8 | number;
        rest = after;
    }
    let (len, rest) = decimal(rest)?;
    (rest.is_empty() && len <= 32).then_some((address, len as u8))
}

/// Up to three digits at the start.
#[inline]
fn decimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    let mut digits = 0;
    while let Some(digit) = text.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit <= 9
    {
        value = value * 10 + u32::from(digit);
        digits += 1;
        if digits > 3 {
            return None;
        }
    }
    if digits == 0 || (digits > 1 && text[0] == b'0') {
        return None;
    }
    Some((value, &text[digits..]))
}

/// Sorts by address and length; gives a prefix that is there twice.
fn sort<A: Copy + Ord>(list: &mut [(A, u8, u16)]) -> Option<(A, u8)> {
    if list.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)) {
        return None;
    }
    list.sort_unstable();
    let twice = list
        .windows(2)
        .find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
    twice.map(|pair| (pair[0].0, pair[0].1))
}

/// The line where a prefix stands for the second time.
fn find_repeated(text: &str, first: u128, len: u8, v4: bool) -> Wrong {
    let mut places = lines(text).filter_map(|(line, content)| {
        let net = prefix::spelled(field(content.split_once(',')?.0))?;
        let prefix = Prefix::of(net);
        let same = (prefix.first, prefix.len) == (first, len) && matches!(net, IpNet::V4(_)) == v4;
        same.then_some((line, net))
    });
    match (places.next(), places.next()) {
        (Some((before, _)), Some((line, net))) => Wrong {
            line,
            message: format!("{net} stands in line {before} already; keep one of the two"),
        },
        _ => Wrong {
            line: 1,
            message: "a prefix is there twice".into(),
        },
    }
}
