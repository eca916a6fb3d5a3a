//! A Rust file's code alone: what is left without comments, literals and tests.

use std::iter::Peekable;
use std::str::CharIndices;

/// The code, in which comments and literals are blank. Each line stays where it is.
pub fn code(text: &str) -> String {
    let mut code = Blanked(String::with_capacity(text.len()));
    let mut rest = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = rest.next() {
        let after = &text[at + c.len_utf8()..];
        let is_word = before.is_alphanumeric() || before == '_';
        match c {
            '/' if after.starts_with('/') => {
                let len = after.find('\n').unwrap_or(after.len());
                code.blank(c, &mut rest, at + 1 + len);
            }
            '/' if after.starts_with('*') => code.blank(c, &mut rest, at + comment(&text[at..])),
            '"' => code.blank(c, &mut rest, at + 1 + string(after)),
            'r' if !is_word || before == 'b' || before == 'c' => match raw_string(after) {
                Some(len) => code.blank(c, &mut rest, at + 1 + len),
                None => code.0.push(c),
            },
            '\'' => match character(after) {
                Some(len) => code.blank(c, &mut rest, at + 1 + len),
                None => code.0.push(c),
            },
            _ => code.0.push(c),
        }
        before = c;
    }
    code.0
}

struct Blanked(String);

impl Blanked {
    /// Blanks a character, and those that follow it, up to an index.
    fn blank(&mut self, first: char, rest: &mut Peekable<CharIndices<'_>>, until: usize) {
        let mut push = |c: char| self.0.push(if c == '\n' { c } else { ' ' });
        push(first);
        while let Some((_, c)) = rest.next_if(|(at, _)| *at < until) {
            push(c);
        }
    }
}

/// Octets of a block comment, which may have others in it.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(two) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = match two {
            _ if two.starts_with("/*") => {
                depth += 1;
                2
            }
            _ if two.starts_with("*/") => {
                depth -= 1;
                2
            }
            _ => two.chars().next().map_or(1, char::len_utf8),
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Octets of a string behind its first quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Octets of a raw string behind its `r`.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.bytes().take_while(|&octet| octet == b'#').count();
    let content = text[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(hashes + 1 + len)
}

/// Octets of a character behind its first quote. `None`: it is a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    match chars.next()? {
        (_, '\\') => {
            chars.next();
            chars.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1)
        }
        _ => chars
            .next()
            .filter(|&(_, c)| c == '\'')
            .map(|(at, _)| at + 1),
    }
}

/// [`code()`] without the items that are there for tests alone, and the names of the modules among those that have a
/// file of their own.
pub fn without_tests(code: &str) -> (String, Vec<&str>) {
    const TEST: &str = "#[cfg(test)]";
    let mut rest = code;
    let mut left = String::with_capacity(code.len());
    let mut modules = Vec::new();
    while let Some(at) = rest.find(TEST) {
        let (before, item) = rest.split_at(at);
        left.push_str(before);
        let len = TEST.len() + item_len(&item[TEST.len()..]);
        modules.extend(declared(&item[..len]));
        left.extend(item[..len].chars().filter(|&c| c == '\n'));
        rest = &item[len..];
    }
    left.push_str(rest);
    (left, modules)
}

/// Octets of the item at the beginning: up to its semicolon, or its last brace.
fn item_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => {
                depth -= 1;
                if depth == 0 && c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The modules that code declares, and that have a file of their own.
pub fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| {
        let words = line.trim().strip_suffix(';')?;
        let (before, name) = words.rsplit_once(' ')?;
        let keyword = before.rsplit(' ').next()?;
        (keyword == "mod").then_some(name)
    })
}

/// The names that are taken from the crate's root, each with its line. `depth`: how many modules below the root the
/// code is.
pub fn taken_from_root(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut taken = Vec::new();
    let mut at = 0;
    while let Some((start, word)) = next_word(code, at) {
        at = start + word.len();
        let is_root = match word {
            "crate" => true,
            "super" => {
                let mut supers = 1;
                while let Some(next) = behind_colons(code, at)
                    && code[next..].starts_with("super")
                {
                    supers += 1;
                    at = next + "super".len();
                }
                supers >= depth
            }
            _ => false,
        };
        let Some(next) = behind_colons(code, at).filter(|_| is_root) else {
            continue;
        };
        let names = match code[next..].starts_with('{') {
            true => of_group(code, next + 1),
            false => next_word(code, next).into_iter().collect(),
        };
        let line = |at: usize| 1 + code[..at].matches('\n').count();
        taken.extend(
            names
                .into_iter()
                .map(|(at, name)| (line(at), name.to_owned())),
        );
    }
    taken
}

fn next_word(code: &str, from: usize) -> Option<(usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let start = from + code[from..].find(is_word)?;
    let len = code[start..]
        .find(|c| !is_word(c))
        .unwrap_or(code.len() - start);
    Some((start, &code[start..start + len]))
}

/// Where a path goes on, if it does.
fn behind_colons(code: &str, at: usize) -> Option<usize> {
    let rest = code[at..].trim_start().strip_prefix("::")?.trim_start();
    Some(code.len() - rest.len())
}

/// The first names in the braces of a `use` that begin here.
fn of_group(code: &str, from: usize) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut depth = 1;
    let mut is_first = true;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_first = true,
            c if is_first && depth == 1 && !c.is_whitespace() => {
                names.extend(next_word(code, from + at));
                is_first = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = r##"a("crate::x", '"', '\'', r#"crate::"y"#, b"\"z") // crate::w
/* crate::v /* u */ */ fn b<'a>(c: &'a str) -> char { 'd' }
let attr = br"crate::q";"##;
        let code = code(text);
        assert_eq!(code.lines().count(), 3);
        assert!(!code.contains("crate"), "{code}");
        for kept in ["a(", "fn b<'a>(c: &'a str) -> char {", "let attr = b"] {
            assert!(code.contains(kept), "{code}");
        }
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use a;\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\n#[allow(x)]\nmod more {\n    fn c() { d[0]; }\n}\nfn e() {}\n\
            #[cfg(test)]\npub mod writer;\n";
        let (left, modules) = without_tests(text);
        assert_eq!(modules, ["tests", "writer"]);
        let words: Vec<_> = left.split_whitespace().collect();
        assert_eq!(words.join(" "), "use a; fn b() {} fn e() {}");
        assert_eq!(left.lines().count(), text.lines().count());
    }

    #[test]
    fn names_from_the_root_are_found_wherever_they_stand() {
        let text = "use crate::a::{self, B};\nuse crate::{\n    c::{D, e::F},\n    g,\n};\nfn f() { crate :: h() }\nuse super::i;\n\
            use super::super::j;\nlet crate_name = 1;\n";
        let taken = |depth| {
            let taken = taken_from_root(text, depth).into_iter();
            taken
                .map(|(line, name)| format!("{line} {name}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(3), ["1 a", "3 c", "4 g", "6 h"]);
        assert_eq!(taken(2), ["1 a", "3 c", "4 g", "6 h", "8 j"]);
        assert_eq!(taken(1), ["1 a", "3 c", "4 g", "6 h", "7 i", "8 j"]);
    }
}
