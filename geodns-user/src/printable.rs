//! Text that is safe to show: whatever a stranger or a file has said, it moves no cursor, hides nothing and
//! pretends to be no other line.
//!
//! The command line and the logs let all that they write go through here, so no place that formats a value has to
//! think of it.

use std::borrow::Cow;
use std::fmt::Write;

/// Text of one or more lines. Line feeds stay; every other character that a terminal obeys is written as JSON
/// writes it: `\u001b`. Text that is JSON thus stays the same JSON.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\n' && is_obeyed(character))
}

/// Text that must stay on one line: line feeds are escaped too.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed)
}

/// As [`line()`], but for colours and the like, as the formatter of logs sets them: strangers may do so too, and no
/// more than that.
pub fn coloured_line(text: &str) -> String {
    const STYLES: [&str; 9] = ["0", "1", "2", "3", "31", "32", "33", "34", "35"];
    let mut parts = text.split("\u{1b}[");
    let mut safe = line(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let style = part.split_once('m').map(|(style, _)| style);
        let is_known = style.is_some_and(|style| STYLES.contains(&style));
        safe.push_str(if is_known { "\u{1b}[" } else { "\\u001b[" });
        safe.push_str(&line(part));
    }
    safe
}

/// Whether a terminal, or a viewer of logs, may do something else than show it: control characters (Unicode
/// category Cc: C0, DEL, C1), line and paragraph separators, and what turns the direction of text (UAX #9).
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            // All of them are below U+10000, so one escape of four digits is enough.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, shown) in [
            ("down: 503", "down: 503"),
            ("Zürich, São Paulo, 東京", "Zürich, São Paulo, 東京"),
            ("\u{1b}[2Jup", "\\u001b[2Jup"),
            ("a\tb\rc\u{7f}", "a\\u0009b\\u000dc\\u007f"),
            ("\u{9b}31m", "\\u009b31m"),
            ("\u{202e}pu", "\\u202epu"),
            ("one\ntwo", "one\ntwo"),
        ] {
            assert_eq!(lines(text), shown);
        }
        assert_eq!(line("one\ntwo"), "one\\u000atwo");
    }

    proptest! {
        #[test]
        fn any_text_is_made_safe(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_obeyed));
            prop_assert!(!lines(&text).contains(|c| c != '\n' && is_obeyed(c)));
            prop_assert_eq!(lines(&text).matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn json_stays_the_same_json(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&serde_json::json!({ "reason": text })).unwrap();
            let read: serde_json::Value = serde_json::from_str(&lines(&json)).unwrap();
            prop_assert_eq!(read["reason"].as_str(), Some(text.as_str()));
        }
    }
}
