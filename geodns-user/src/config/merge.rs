//! A configuration from two files: that of the fleet, and the sections about this machine from the node's own. A digest
//! of the other sections tells nodes apart that are configured otherwise.
//!
//! What does not count is taken out line by line, so each line keeps its number, and errors name the right file.

use std::path::Path;

use super::Error;
use crate::base::sha256;

/// Sections about the machine. Where the node's own file has one of them, it stands in the place of the fleet's.
pub const OF_NODE: [&str; 11] = [
    "server", "tls", "web", "kernel", "control", "metrics", "public", "state", "announce", "fleet",
    "dnstap",
];

/// Two files in one text: first the fleet's, then the node's own.
#[derive(Debug)]
pub(super) struct Merged {
    pub text: String,
    /// Where the node's own file begins, in octets.
    pub from: usize,
    /// Lines before it.
    pub lines: usize,
}

/// Merges two files.
pub(super) fn merge(text: &str, node: (&Path, &str)) -> Result<Merged, Error> {
    let (path, own) = node;
    let sections = sections(own);
    let is_of_node =
        |section: &str| OF_NODE.contains(&section) && sections.iter().any(|own| own == section);
    let mut merged = kept(text, |section| !is_of_node(section));
    let (from, lines) = (merged.len(), merged.lines().count());
    merged += &kept(own, is_of_node);
    // Keys before the first header cannot be told apart by lines.
    let table: toml::Table = own.parse().unwrap_or_default();
    let stray = table.keys().find(|key| {
        OF_NODE.contains(&key.as_str()) && !sections.iter().any(|section| section == *key)
    });
    match stray {
        None => Ok(Merged {
            text: merged,
            from,
            lines,
        }),
        Some(key) => Err(Error {
            file: path.to_owned(),
            line: None,
            column: None,
            key: Some(key.clone()),
            message: format!(
                "it stands before the first section; write [{key}], and its keys below"
            ),
        }),
    }
}

/// The first 16 hexadecimal digits of a SHA-256 over all sections but those about the machine. Comments, places and the
/// order of keys do not matter.
pub(super) fn shared_digest(text: &str) -> String {
    let mut table: toml::Table = text.parse().unwrap_or_default();
    table.retain(|section, _| !OF_NODE.contains(&section));
    sha256::short(table.to_string().as_bytes())
}

/// The name of the section that a line begins, as `[server]` or `[[zone]]`.
fn header(line: &str) -> Option<&str> {
    let line = line.split('#').next()?.trim();
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = match name.strip_prefix('[') {
        Some(name) => name.strip_suffix(']')?,
        None => name,
    };
    let first = name.trim().split('.').next()?.trim();
    let is_bare = |c: char| c.is_ascii_alphabetic() || c == '_';
    (!first.is_empty() && first.chars().all(is_bare)).then_some(first)
}

fn sections(text: &str) -> Vec<String> {
    let headers = text.lines().filter_map(header);
    headers.map(str::to_owned).collect()
}

/// The text with empty lines in the place of those that do not count. Lines before the first header have section "".
fn kept(text: &str, counts: impl Fn(&str) -> bool) -> String {
    let mut section = "";
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        section = header(line).unwrap_or(section);
        if counts(section) {
            kept += line;
        }
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: &str = "\
[server]
identity = \"all\"
[[zone]]
name = \"example.org\"
[quorum]
least = 5
";

    #[test]
    fn sections_about_the_machine_are_the_node_s_own() {
        let own = "[server] # this machine\nsite = \"ams\"\n[quorum]\nleast = 7\n";
        let merged = merge(FLEET, (Path::new("node"), own)).unwrap();
        let lines: Vec<&str> = merged.text.lines().collect();
        assert_eq!(
            lines,
            [
                "",
                "",
                "[[zone]]",
                "name = \"example.org\"",
                "[quorum]",
                "least = 5",
                "[server] # this machine",
                "site = \"ams\"",
                "",
                ""
            ]
        );
        assert_eq!(
            (merged.lines, &merged.text[merged.from..merged.from + 8]),
            (6, "[server]")
        );
    }

    #[test]
    fn what_the_node_does_not_say_is_the_fleet_s() {
        let merged = merge(FLEET, (Path::new("node"), "[kernel]\n")).unwrap();
        assert!(merged.text.starts_with(FLEET));
        let table: toml::Table = merged.text.parse().unwrap();
        assert_eq!(table["server"]["identity"].as_str(), Some("all"));
    }

    #[test]
    fn keys_without_a_section_are_refused() {
        let error = merge(FLEET, (Path::new("node"), "server.port = 54\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node: server: it stands before the first section; write [server], and its keys below"
        );
    }

    #[test]
    fn nodes_with_other_machines_have_one_digest() {
        let of = |machine: &str, rest: &str| shared_digest(&format!("{machine}\n{rest}"));
        let one = of(
            "[server]\nsite = \"ams\"",
            "[quorum]\nleast = 5\nmax_down = 0.5",
        );
        let other = of(
            "# another\n[kernel]\nmode = \"off\"",
            "[quorum] # all\nmax_down = 0.5\nleast = 5",
        );
        assert_eq!(one, other);
        assert_ne!(one, of("", "[quorum]\nleast = 3\nmax_down = 0.5"));
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn lists_over_several_lines_are_no_sections() {
        let own = "[server]\nlisten = [\n  \"192.0.2.1\"\n]\n[kernel.x]\n[1]\n";
        assert_eq!(sections(own), ["server", "kernel"]);
    }
}
