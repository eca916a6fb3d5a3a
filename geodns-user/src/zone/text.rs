//! A zone file as entries: a record or a directive each, over as many lines as its parentheses hold
//! together, cut into tokens; and what a token says.
//!
//! Octets above ASCII are left as they are within strings, whatever the file's encoding; other octets
//! that nobody sees are written \DDD.

use super::labels;

/// A mistake in an entry, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub line: u32,
    pub message: String,
}

/// A word or a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// As it is written, without its quotes.
    pub text: &'a [u8],
    /// Whether it stands in quotes.
    pub quoted: bool,
    /// Whether it follows the token before it without a space.
    pub glued: bool,
    /// Line that it stands in, from 1.
    pub line: u32,
}

/// One entry, whose tokens are elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Line that it begins in, from 1.
    pub line: u32,
    /// Whether it begins with space: it has no owner of its own.
    pub indented: bool,
    /// The first thing that keeps it from being read.
    pub wrong: Option<Wrong>,
}

/// Cuts a file into entries.
pub(super) struct Entries<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Entries<'a> {
    /// `line`: the number of its first line.
    pub fn new(text: &'a [u8], line: u32) -> Self {
        Self { text, at: 0, line }
    }

    /// The next entry that says something; its tokens are put into `tokens`.
    pub fn next(&mut self, tokens: &mut Vec<Token<'a>>) -> Option<Entry> {
        loop {
            if self.at >= self.text.len() {
                return None;
            }
            let entry = self.entry(tokens);
            if !tokens.is_empty() || entry.wrong.is_some() {
                return Some(entry);
            }
        }
    }

    fn entry(&mut self, tokens: &mut Vec<Token<'a>>) -> Entry {
        tokens.clear();
        let first = self.text[self.at];
        let mut entry = Entry {
            line: self.line,
            indented: matches!(first, b' ' | b'\t' | b'('),
            wrong: None,
        };
        let mut opened = Vec::new();
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.line = self.line.saturating_add(1);
                    if opened.is_empty() {
                        return entry;
                    }
                }
                b';' => {
                    let rest = &self.text[self.at..];
                    self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                }
                b'(' => {
                    opened.push(self.line);
                    self.at += 1;
                }
                b')' => {
                    self.at += 1;
                    if opened.pop().is_none() {
                        let message = "a ')' that nothing opens; remove it, or open it before";
                        entry.is_wrong(self.line, message);
                    }
                }
                b'"' => self.string(tokens, &mut entry),
                _ => self.word(tokens),
            }
        }
        if let Some(&line) = opened.first() {
            entry.is_wrong(line, "the ( of this entry is not closed; close it");
        }
        entry
    }

    fn word(&mut self, tokens: &mut Vec<Token<'a>>) {
        let from = self.at;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"' => break,
                b'\\' => self.at += self.escape(),
                _ => self.at += 1,
            }
        }
        tokens.push(self.token(from, from, false));
    }

    fn string(&mut self, tokens: &mut Vec<Token<'a>>, entry: &mut Entry) {
        let quote = self.at;
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    tokens.push(self.token(quote, quote + 1, true));
                    self.at += 1;
                    return;
                }
                Some(b'\\') => self.at += self.escape(),
                // A string that went on would take the rest of the file for its own.
                None | Some(b'\n') => {
                    let message =
                        "the \" of this line is not closed; close it, and write a newline as \\010";
                    entry.is_wrong(self.line, message);
                    return;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// Octets of what begins with a backslash here. It does not reach into the next line.
    fn escape(&self) -> usize {
        match self.text.get(self.at + 1) {
            None | Some(b'\n') => 1,
            Some(_) => 2,
        }
    }

    /// A token up to here; `before` is where its quote stands, if it has one.
    fn token(&self, before: usize, from: usize, quoted: bool) -> Token<'a> {
        let previous = before.checked_sub(1).map(|at| self.text[at]);
        let space = matches!(
            previous,
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')')
        );
        Token {
            text: &self.text[from..self.at],
            quoted,
            glued: !space,
            line: self.line,
        }
    }
}

impl Entry {
    fn is_wrong(&mut self, line: u32, message: &str) {
        self.wrong.get_or_insert_with(|| Wrong {
            line,
            message: message.to_owned(),
        });
    }
}

impl Token<'_> {
    /// The mistake.
    pub fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong {
            line: self.line,
            message: message.into(),
        }
    }

    /// It, for a message: no longer than anybody reads.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 64;
        let text = String::from_utf8_lossy(&self.text[..self.text.len().min(LONGEST)]);
        let more = if self.text.len() > LONGEST { "..." } else { "" };
        format!("\"{}{more}\"", text.escape_default())
    }

    /// Whether it is this word, in upper or lower case.
    pub fn is(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Its text as a word of ASCII; empty if it is none.
    pub fn word(&self) -> &str {
        match str::from_utf8(self.text) {
            Ok(text) if text.is_ascii() && !self.quoted => text,
            _ => "",
        }
    }

    /// The octets that it means, escapes resolved.
    pub fn octets(&self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let mut rest = self.text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'\\' => out.push(self.escaped(&mut rest)?),
                b'\t' => out.push(byte),
                0..0x20 | 0x7f => return Err(self.unseen(byte)),
                _ => out.push(byte),
            }
        }
        Ok(())
    }

    /// The octet after a backslash: \DDD, or a character for itself (RFC 1035 section 5.1).
    fn escaped(&self, rest: &mut &[u8]) -> Result<u8, Wrong> {
        let wrong = || {
            self.wrong("a '\\' before neither a character nor three digits up to 255; write \\DDD")
        };
        match **rest {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                *rest = &rest[3..];
                let number = [a, b, c].map(|digit| u32::from(digit - b'0'));
                let number = number[0] * 100 + number[1] * 10 + number[2];
                u8::try_from(number).map_err(|_| wrong())
            }
            [b'0'..=b'9', ..] | [] => Err(wrong()),
            [byte @ (0..0x20 | 0x7f), ..] => Err(self.unseen(byte)),
            [byte, ..] => {
                *rest = &rest[1..];
                Ok(byte)
            }
        }
    }

    fn unseen(&self, byte: u8) -> Wrong {
        self.wrong(format!(
            "the octet {byte} is not printable; write it as \\{byte:03}"
        ))
    }

    /// The name that it means, in wire format: relative to `origin` if it does not end with a dot.
    pub fn name(&self, origin: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        if self.quoted {
            return Err(self.wrong("a name in quotes; write it without"));
        }
        match self.text {
            b"@" => {
                out.extend_from_slice(origin);
                return Ok(());
            }
            b"." => {
                out.push(0);
                return Ok(());
            }
            _ => {}
        }
        let start = out.len();
        let mut head = start;
        out.push(0);
        let mut rest = self.text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'.' => {
                    self.label(head, out)?;
                    head = out.len();
                    out.push(0);
                }
                b'\\' => {
                    let byte = self.escaped(&mut rest)?;
                    out.push(byte);
                }
                0x21..=0x7e => out.push(byte),
                0x80.. => {
                    let message = format!(
                        "{} has letters outside ASCII; write its labels in their \"xn--\" form",
                        self.shown()
                    );
                    return Err(self.wrong(message));
                }
                _ => return Err(self.unseen(byte)),
            }
        }
        // Without a dot at the end there is a label still, and the origin after it.
        if out.len() > head + 1 {
            self.label(head, out)?;
            out.extend_from_slice(origin);
        }
        if out.len() - start > 255 {
            return Err(self.wrong(format!(
                "{} is longer than the 255 octets of a name; shorten it",
                self.shown()
            )));
        }
        Ok(())
    }

    /// Writes the length of the label that ends here.
    fn label(&self, head: usize, out: &mut [u8]) -> Result<(), Wrong> {
        match out.len() - head - 1 {
            0 => Err(self.wrong(format!("{} has an empty label; remove a dot", self.shown()))),
            len @ 1..=63 => {
                out[head] = len as u8;
                Ok(())
            }
            len => Err(self.wrong(format!(
                "a label of {len} octets; labels have at most 63, names 255"
            ))),
        }
    }

    /// A number, up to `max`.
    pub fn number(&self, max: u64) -> Result<u64, Wrong> {
        // The common case, without a detour over text.
        if !self.quoted && (1..=9).contains(&self.text.len()) {
            let mut number = 0;
            if self.text.iter().all(|byte| {
                number = number * 10 + u64::from(byte.wrapping_sub(b'0'));
                byte.is_ascii_digit()
            }) && number <= max
            {
                return Ok(number);
            }
        }
        let digits = !self.word().is_empty() && self.text.iter().all(u8::is_ascii_digit);
        match self.word().parse() {
            Ok(number) if digits && number <= max => Ok(number),
            _ if digits => Err(self.wrong(format!(
                "{} is out of range; write 0 to {max}",
                self.shown()
            ))),
            _ => Err(self.wrong(format!(
                "{} is not a number; write 0 to {max}",
                self.shown()
            ))),
        }
    }

    /// Seconds, plain or with units, as `1h30m`.
    pub fn seconds(&self) -> Result<u32, Wrong> {
        if self.text.iter().all(u8::is_ascii_digit) {
            return self.number(u32::MAX.into()).map(|secs| secs as u32);
        }
        let wrong = || {
            self.wrong(format!(
                "{} is not a time; write seconds, or numbers with the units s, m, h, d and w, as 1h30m",
                self.shown()
            ))
        };
        let mut rest = self.word();
        let mut sum = 0u64;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = match rest.as_bytes().get(digits).map(u8::to_ascii_lowercase) {
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3600,
                Some(b'd') => 86400,
                Some(b'w') => 604_800,
                _ => return Err(wrong()),
            };
            sum = sum.saturating_add(number.saturating_mul(unit));
            rest = &rest[digits + 1..];
        }
        if self.word().is_empty() {
            return Err(wrong());
        }
        u32::try_from(sum).map_err(|_| {
            self.wrong(format!(
                "{} is out of range; write 0 to {} seconds",
                self.shown(),
                u32::MAX
            ))
        })
    }
}

/// Presentation format of a name in wire format, with its last dot.
pub(super) fn presented(name: &[u8]) -> String {
    use std::fmt::Write as _;
    if labels(name) == 0 {
        return ".".to_owned();
    }
    let mut text = String::new();
    let mut rest = name;
    while let Some((&len, after)) = rest.split_first() {
        if len == 0 {
            break;
        }
        let (label, after) = after.split_at(usize::from(len));
        rest = after;
        for &byte in label {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*') {
                text.push(byte.into());
            } else {
                write!(text, "\\{byte:03}").expect("writing to a string");
            }
        }
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of each entry, as they are written; a mark for indented ones.
    fn cut(text: &str) -> Vec<(u32, bool, Vec<String>, Option<String>)> {
        let mut entries = Entries::new(text.as_bytes(), 1);
        let mut tokens = Vec::new();
        let mut all = Vec::new();
        while let Some(entry) = entries.next(&mut tokens) {
            let tokens = tokens.iter().map(|token| {
                let text = String::from_utf8_lossy(token.text);
                let quote = if token.quoted { "\"" } else { "" };
                let glue = if token.glued { "+" } else { "" };
                format!("{glue}{quote}{text}{quote}@{}", token.line)
            });
            let wrong = entry
                .wrong
                .map(|wrong| format!("{}: {}", wrong.line, wrong.message));
            all.push((entry.line, entry.indented, tokens.collect(), wrong));
        }
        all
    }

    #[test]
    fn entries_go_over_as_many_lines_as_their_parentheses() {
        let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (text, expect) in [
            ("\n ; nothing\n\t\r\n", vec![]),
            (
                "a b;c\n( d\r\n)\te\\;\\(f ; (\n\ng",
                vec![
                    (1, false, words("a@1 b@1")),
                    (2, true, words("d@2 e\\;\\(f@3")),
                    (5, false, words("g@5")),
                ],
            ),
            (
                "a x=\"b c\" \"\"(\"\\\"(;\"\n)d\"e\"\n",
                vec![(1, false, {
                    let mut words = words("a@1 x=@1");
                    words.push("+\"b c\"@1".to_owned());
                    words.extend(["\"\"@1", "\"\\\"(;\"@1", "d@2", "+\"e\"@2"].map(str::to_owned));
                    words
                })],
            ),
            (
                "a\\\nb",
                vec![(1, false, words("a\\@1")), (2, false, words("b@2"))],
            ),
        ] {
            let expect: Vec<_> = expect
                .into_iter()
                .map(|(line, indented, tokens)| (line, indented, tokens, None))
                .collect();
            assert_eq!(cut(text), expect, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_open_is_told_by_its_line_and_the_rest_is_read() {
        let wrong = |text: &str| {
            let all = cut(text);
            let wrong = all.iter().filter_map(|(.., wrong)| wrong.clone());
            (all.len(), wrong.collect::<Vec<_>>())
        };
        let quote = "the \" of this line is not closed; close it, and write a newline as \\010";
        assert_eq!(wrong("a \"b\nc d\n"), (2, vec![format!("1: {quote}")]));
        assert_eq!(
            wrong("a (\n\"b\n)\nc d\"\\"),
            (2, vec![format!("2: {quote}"), format!("4: {quote}")])
        );
        let open = "the ( of this entry is not closed; close it";
        assert_eq!(wrong("x\na\n (\nb\n"), (3, vec![format!("3: {open}")]));
        let close = "a ')' that nothing opens; remove it, or open it before";
        assert_eq!(wrong("a (b) )\nc\n"), (2, vec![format!("1: {close}")]));
    }

    fn token(text: &str) -> Token<'_> {
        Token {
            text: text.as_bytes(),
            quoted: false,
            glued: false,
            line: 7,
        }
    }

    #[test]
    fn times_have_units() {
        for (text, secs) in [
            ("0", Some(0)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("1h30m", Some(5400)),
            ("1w2D3H4m5S", Some(788_645)),
            ("99999999w", None),
            ("99999999999999999999w", None),
            ("1h30", None),
            ("h", None),
            ("1x", None),
            ("", None),
            ("-1", None),
            ("+1", None),
        ] {
            assert_eq!(token(text).seconds().ok(), secs, "{text}");
        }
    }

    #[test]
    fn numbers_are_digits_in_their_range() {
        for (text, max, number) in [
            ("0", 9, Some(0)),
            ("255", 255, Some(255)),
            ("256", 255, None),
            ("007", 255, Some(7)),
            ("18446744073709551615", u64::MAX, Some(u64::MAX)),
            ("18446744073709551616", u64::MAX, None),
            ("+1", 255, None),
            ("", 255, None),
            ("1\u{e4}", 255, None),
        ] {
            assert_eq!(token(text).number(max).ok(), number, "{text}");
        }
        let error = token("256").number(255).unwrap_err();
        assert_eq!(error.message, "\"256\" is out of range; write 0 to 255");
        let error = token("x").number(255).unwrap_err();
        assert_eq!(error.message, "\"x\" is not a number; write 0 to 255");
    }

    #[test]
    fn names_are_relative_to_the_origin_and_bounded() {
        let origin = b"\x01O\0";
        let name = |text: &str| {
            let mut out = b"kept".to_vec();
            let done = token(text).name(origin, &mut out);
            done.map(|()| out[4..].to_vec())
                .map_err(|wrong| wrong.message)
        };
        assert_eq!(name("@").unwrap(), origin);
        assert_eq!(name(".").unwrap(), b"\0");
        assert_eq!(name("a.B").unwrap(), b"\x01a\x01B\x01O\0");
        assert_eq!(name("a.b.").unwrap(), b"\x01a\x01b\0");
        assert_eq!(name("\\@").unwrap(), b"\x01@\x01O\0");
        assert_eq!(name("a\\.b\\000.").unwrap(), b"\x04a.b\0\0");
        assert!(name(&"x".repeat(63)).is_ok());
        let full = "xxxxxxxxx.".repeat(25) + "xxx.";
        assert_eq!(name(&full).unwrap().len(), 255);
        assert!(name(&full.replace("xxx.", "xxxx.")).is_err());
        for (text, part) in [
            ("..", "empty label"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("\u{e4}", "xn--"),
            ("a\\256", "three digits"),
            ("a\\25", "three digits"),
            ("a\\", "three digits"),
            ("a\u{1}", "\\001"),
            ("a\\\u{1}", "\\001"),
        ] {
            let message = name(text).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
        }
        let long = name(&"x".repeat(64)).unwrap_err();
        assert_eq!(
            long,
            "a label of 64 octets; labels have at most 63, names 255"
        );
        let presented = presented(b"\x03a.\xe4\x01*\0");
        assert_eq!(presented, "a\\046\\228.*.");
        assert_eq!(name(&presented).unwrap(), b"\x03a.\xe4\x01*\0");
    }
}
