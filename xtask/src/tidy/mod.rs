//! Order that the compiler does not keep: which room may use which, which modules may use each other, what a file begins
//! with, how long it is, and which tests show the invariants.
//!
//! - `tree`: the files of the repository; `source`: the code of a file
//! - `circles`: modules of a folder that use each other in a circle

mod circles;
mod source;
mod tree;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use tree::{File, Tree};

use crate::place;

/// Crates whose `lib.rs` lists their rooms in an order. A room uses only those that stand before it.
const ORDERED: [&str; 2] = ["geodns-common/src", "geodns-user/src"];
/// Lines of a file, at the most.
const MAX_LINES: usize = 1000;
/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[
    (
        "geodns-user/src/config/tests.rs",
        "one table of mistakes, and what is said of each",
    ),
    (
        "geodns-user/src/geo/mmdb/tests.rs",
        "databases that are broken in every way",
    ),
    (
        "geodns-user/src/plan/tests.rs",
        "the table against the layers, with one model for all",
    ),
    (
        "geodns-user/src/serve/tests/answers.rs",
        "one world, and what is answered from it",
    ),
    ("geodns-user/src/zone/tests.rs", "one table of zone files"),
    (
        "tests/tests/battery.rs",
        "one world, and all that is asked of it",
    ),
    ("tests/tests/cli.rs", "one site, and every command"),
    (
        "tests/tests/daemon_kernel.rs",
        "one interface, and all that may become of what is attached to it",
    ),
    (
        "tests/tests/kernel.rs",
        "one loaded program, and all that it is given",
    ),
    (
        "tests/tests/policies.rs",
        "a pool of each policy, and the model that says who gets what",
    ),
];

/// Complains of all that is out of order.
pub fn check() -> Result<()> {
    let complaints = complaints(&Tree::read(&place::root())?);
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

fn complaints(tree: &Tree) -> Vec<String> {
    let rules: [fn(&Tree) -> Vec<String>; 7] = [
        directions,
        circles::circles,
        beginnings,
        lists,
        invariants,
        lengths,
        locks,
    ];
    rules.iter().flat_map(|rule| rule(tree)).collect()
}

/// A room uses only rooms that stand before it in the list of its crate.
fn directions(tree: &Tree) -> Vec<String> {
    ORDERED
        .iter()
        .flat_map(|within| directions_of(tree, within))
        .collect()
}

fn directions_of(tree: &Tree, within: &str) -> Vec<String> {
    let library = format!("{within}/lib.rs");
    let header = tree.text(&library);
    let order: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("//! - [`")?.split('`').next())
        .collect();
    let place = |room: &str| order.iter().position(|of| *of == room);
    let mut complaints = Vec::new();
    for file in tree
        .files()
        .filter(|file| file.root == within && !file.is_test)
    {
        let (path, Some(room)) = (&file.path, file.module.first()) else {
            continue;
        };
        let Some(own) = place(room) else {
            complaints.push(format!(
                "{path}: the list of {library} has no {room}; add it there"
            ));
            continue;
        };
        for (line, used) in &file.code.paths {
            match place(&used[0]) {
                Some(other) if other > own => complaints.push(format!(
                    "{path}:{line}: {room} uses {}, which stands after it in {library}",
                    used[0]
                )),
                _ => {}
            }
        }
    }
    complaints.dedup();
    complaints
}

/// A file begins with what it is.
fn beginnings(tree: &Tree) -> Vec<String> {
    let without = tree.files().filter(|file| !file.text.starts_with("//!"));
    without
        .map(|file| {
            let path = &file.path;
            format!("{path}:1: say in a comment that begins with //! what is in this file")
        })
        .collect()
}

/// A file that has modules says of each what it is.
fn lists(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.files() {
        let path = &file.path;
        let header = file.text.lines().take_while(|line| line.starts_with("//!"));
        let header = header.collect::<Vec<&str>>().join("\n");
        for module in &file.code.modules {
            if !header.contains(&format!("`{module}`")) {
                complaints.push(format!(
                    "{path}: the list at its beginning has no `{module}`; add it there"
                ));
            }
        }
    }
    complaints
}

/// Each invariant of ARCHITECTURE.md is named where a test shows it: `// Invariant 3`, right above the test.
fn invariants(tree: &Tree) -> Vec<String> {
    const PAGE: &str = "ARCHITECTURE.md";
    let page = tree.text(PAGE);
    let section = page.split("\n## Invariants\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let number = |line: &str| line.split_once(". ")?.0.parse::<u32>().ok();
    let stated: BTreeSet<u32> = section.lines().filter_map(number).collect();
    let mut complaints = Vec::new();
    if stated.is_empty() {
        complaints.push(format!("{PAGE}: no section \"## Invariants\" with numbers"));
    }
    let mut shown = BTreeSet::new();
    for File { path, text, .. } in tree.files() {
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let Some(number) = line.trim_start().strip_prefix("// Invariant ") else {
                continue;
            };
            let mut below = lines.clone().map(|(_, line)| line.trim_start());
            let item = below
                .find(|line| !line.starts_with("//"))
                .unwrap_or_default();
            match number.parse() {
                Ok(number) if item.starts_with("#[test]") || item.starts_with("#[tokio::test") => {
                    if !stated.contains(&number) {
                        complaints.push(format!(
                            "{path}:{}: {PAGE} has no invariant {number}",
                            at + 1
                        ));
                    }
                    shown.insert(number);
                }
                _ => complaints.push(format!(
                    "{path}:{}: write \"// Invariant N\" right above a test",
                    at + 1
                )),
            }
        }
    }
    let missing = stated.difference(&shown);
    complaints.extend(missing.map(|number| {
        format!("{PAGE}: no test shows invariant {number}; write \"// Invariant {number}\" above the one that does")
    }));
    complaints
}

/// No file is long without a reason.
fn lengths(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for File { path, text, .. } in tree.files() {
        let lines = text.lines().count();
        let has_reason = LONG.iter().any(|(long, _)| long == path);
        if lines > MAX_LINES && !has_reason {
            complaints.push(format!(
                "{path}: {lines} lines are more than {MAX_LINES}; part it, or add it to LONG in xtask/src/tidy with the reason"
            ));
        }
        if lines <= MAX_LINES && has_reason {
            complaints.push(format!(
                "{path}: {lines} lines are no more than {MAX_LINES}; take it out of LONG in xtask/src/tidy"
            ));
        }
    }
    complaints
}

/// Whether a poisoned lock is taken is decided in one place.
fn locks(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for File { path, text, .. } in tree.files() {
        if path.starts_with("geodns-user/src") && path != "geodns-user/src/base/lock.rs" {
            let lines = text.lines().enumerate();
            let with = lines.filter(|(_, line)| line.contains("PoisonError"));
            complaints.extend(with.map(|(at, _)| {
                format!(
                    "{path}:{}: take locks by base::lock, which knows PoisonError",
                    at + 1
                )
            }));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_in_order() {
        let complaints = complaints(&Tree::read(&place::root()).unwrap());
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter();
        let texts = files.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Tree::of(texts.collect()).unwrap()
    }

    #[test]
    fn a_room_that_uses_a_later_one_is_found() {
        let list = "//! - [`base`]: first\n//! - [`zone`]: then\n//! - [`daemon`]: last\n";
        let found = directions(&tree(&[
            ("geodns-user/src/lib.rs", list),
            ("geodns-user/src/base/mod.rs", "use super::zone;"),
            (
                "geodns-user/src/zone/mod.rs",
                "use crate::base;\n#[cfg(test)]\nmod tests;",
            ),
            ("geodns-user/src/zone/tests.rs", "use crate::daemon;"),
            (
                "geodns-user/src/zone/read.rs",
                "use super::daemon;\nuse crate::{base, daemon::D};\n// crate::daemon",
            ),
            (
                "geodns-user/src/daemon.rs",
                "use crate::zone;\nfn f() { \"crate::x\" }",
            ),
            ("geodns-user/src/other.rs", "use crate::base;"),
        ]));
        assert_eq!(
            found,
            [
                "geodns-user/src/base/mod.rs:1: base uses zone, which stands after it in geodns-user/src/lib.rs",
                "geodns-user/src/other.rs: the list of geodns-user/src/lib.rs has no other; add it there",
                "geodns-user/src/zone/read.rs:2: zone uses daemon, which stands after it in geodns-user/src/lib.rs",
            ]
        );
    }

    #[test]
    fn a_file_and_a_module_without_a_word_are_found() {
        let of = tree(&[
            (
                "a/mod.rs",
                "//! - `b`: this\nmod b;\npub mod c;\n#[cfg(test)]\nmod tests;\n",
            ),
            ("a/b.rs", "mod d {}\n"),
        ]);
        assert_eq!(
            lists(&of),
            ["a/mod.rs: the list at its beginning has no `c`; add it there"]
        );
        let without = beginnings(&of);
        assert_eq!(
            without,
            ["a/b.rs:1: say in a comment that begins with //! what is in this file"]
        );
    }

    #[test]
    fn an_invariant_without_a_test_is_found() {
        let page = "# A\n\n## Invariants\n\n1. **One.** 7. no\n   2. no\n2. **Two.**\n3. **Three.**\n\n## B\n\n4. no\n";
        let found = invariants(&tree(&[
            ("ARCHITECTURE.md", page),
            (
                "tests/a.rs",
                "// Invariant 1\n// Invariant 9\n#[test]\nfn a() {}\n// Invariant 2\nfn b() {}\n",
            ),
        ]));
        assert_eq!(
            found,
            [
                "tests/a.rs:2: ARCHITECTURE.md has no invariant 9",
                "tests/a.rs:5: write \"// Invariant N\" right above a test",
                "ARCHITECTURE.md: no test shows invariant 2; write \"// Invariant 2\" above the one that does",
                "ARCHITECTURE.md: no test shows invariant 3; write \"// Invariant 3\" above the one that does",
            ]
        );
        assert_eq!(
            invariants(&tree(&[])),
            ["ARCHITECTURE.md: no section \"## Invariants\" with numbers"]
        );
    }

    #[test]
    fn a_long_file_and_a_reason_that_is_none_any_more_are_found() {
        let long = "x\n".repeat(MAX_LINES + 1);
        let found = lengths(&tree(&[
            ("a.rs", &long),
            ("tests/tests/cli.rs", "x\n"),
            ("tests/tests/kernel.rs", &long),
        ]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs: 1001 lines are more than 1000; part it"));
        assert!(
            found[1].starts_with("tests/tests/cli.rs: 1 lines are no more than 1000; take it out")
        );
    }

    #[test]
    fn a_ladder_of_a_lock_is_found() {
        let ladder = "a.lock().unwrap_or_else(PoisonError::into_inner)";
        let found = locks(&tree(&[
            ("geodns-user/src/a.rs", ladder),
            ("geodns-user/src/base/lock.rs", ladder),
        ]));
        assert_eq!(
            found,
            ["geodns-user/src/a.rs:1: take locks by base::lock, which knows PoisonError"]
        );
    }
}
