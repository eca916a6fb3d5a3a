//! Sibling modules form no circle: who changes one would have to know all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Path;
use super::tree::{File, Tree};

/// A folder, and modules in it that use each other in a circle.
type Circle = (&'static str, &'static [&'static str]);

/// The circles that are left: there is none.
const CIRCLES: &[Circle] = &[];

/// The files of a crate, by module.
type Modules<'a> = BTreeMap<&'a [String], &'a File>;
/// Modules that use another: for each two of them, a file and a line.
type Arrows<'a> = BTreeMap<(&'a str, &'a str), (&'a str, usize)>;

/// Modules of one folder do not use each other in a circle.
pub fn circles(tree: &Tree) -> Vec<String> {
    circles_but(tree, CIRCLES)
}

fn circles_but(tree: &Tree, known: &[Circle]) -> Vec<String> {
    let arrows = arrows(tree);
    let mut known: Vec<_> = known.iter().collect();
    let mut complaints = Vec::new();
    for (folder, arrows) in &arrows {
        for circle in circles_of(arrows) {
            if let Some(at) = known.iter().position(|known| **known == (folder, &circle)) {
                known.remove(at);
                continue;
            }
            let mut complaint = format!(
                "{folder}: {} use each other in a circle:",
                circle.join(", ")
            );
            for ((one, other), (file, line)) in arrows {
                if circle.contains(one) && circle.contains(other) {
                    complaint.push_str(&format!("\n    {file}:{line}: {one} uses {other}"));
                }
            }
            complaints.push(complaint);
        }
    }
    complaints.extend(known.iter().map(|(folder, circle)| {
        let circle = circle.join(", ");
        format!("{folder}: {circle} are no circle any more; take them out of CIRCLES in xtask/src/tidy/circles.rs")
    }));
    complaints
}

/// The arrows among the modules of each folder.
fn arrows(tree: &Tree) -> BTreeMap<String, Arrows<'_>> {
    let mut crates: BTreeMap<&str, Modules<'_>> = BTreeMap::new();
    for file in tree.files().filter(|file| !file.is_test) {
        crates
            .entry(&file.root)
            .or_default()
            .insert(&file.module, file);
    }
    let mut arrows: BTreeMap<String, Arrows<'_>> = BTreeMap::new();
    for (root, modules) in crates {
        for (module, file) in &modules {
            for (line, path) in &file.code.paths {
                let followed = followed(path, &modules);
                for (depth, one) in module.iter().enumerate() {
                    let folder = &module[..depth];
                    let sibling = |path: &Path| {
                        let inside = path.len() > depth && path.starts_with(folder);
                        modules
                            .get(path.get(..=depth).filter(|_| inside)?)?
                            .module
                            .last()
                    };
                    let other = sibling(path).or_else(|| sibling(&followed));
                    if let Some(other) = other.filter(|other| *other != one) {
                        let folder = [&[root.to_owned()], folder].concat().join("/");
                        let arrows = arrows.entry(folder).or_default();
                        arrows.entry((one, other)).or_insert((&file.path, *line));
                    }
                }
            }
        }
    }
    arrows
}

/// The path to where a name comes from, if it goes through modules that have it by `use`.
fn followed(path: &Path, modules: &Modules<'_>) -> Path {
    let mut path = path.clone();
    // A name may come from far, but not in a circle.
    for _ in 0..8 {
        let known = (0..path.len())
            .rev()
            .find_map(|len| Some((len, modules.get(&path[..len])?)));
        let Some((len, file)) = known else { break };
        let Some((_, target)) = file.code.uses.iter().find(|(name, _)| *name == path[len]) else {
            break;
        };
        path.splice(..=len, target.iter().cloned());
    }
    path
}

/// Modules that use each other, sorted: each reaches all others of its circle.
fn circles_of<'a>(arrows: &Arrows<'a>) -> Vec<Vec<&'a str>> {
    let reached = |from: &'a str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            let used = arrows.keys().filter(|(one, _)| *one == module);
            next.extend(
                used.map(|(_, other)| *other)
                    .filter(|other| reached.insert(*other)),
            );
        }
        reached
    };
    let modules: BTreeSet<&str> = arrows.keys().map(|(one, _)| *one).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        modules.iter().map(|one| (*one, reached(one))).collect();
    let circle = |one: &str| -> Vec<&'a str> {
        let all = reached[one].iter().copied();
        all.filter(|other| reached.get(other).is_some_and(|back| back.contains(one)))
            .collect()
    };
    let circles: BTreeSet<_> = modules
        .iter()
        .map(|one| circle(one))
        .filter(|circle| !circle.is_empty())
        .collect();
    circles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_use_each_other_are_found() {
        let files = [
            ("a/lib.rs", "mod room;\nmod other;"),
            ("a/other.rs", "use crate::room::one;"),
            (
                "a/room/mod.rs",
                "mod one;\nmod two;\nmod three;\npub use three::Three;\nuse one::f;\n#[cfg(test)]\nmod tests;",
            ),
            ("a/room/one.rs", "use super::two::g;\nuse std::fmt;"),
            ("a/room/two.rs", "fn g() { x(super::Three) }"),
            (
                "a/room/three.rs",
                "#[cfg(test)]\nuse super::four;\nmod inner {\n    use super::super::one;\n}",
            ),
            ("a/room/four.rs", "use crate::room::one;"),
            ("a/room/tests.rs", "use super::one;\nuse super::tests;"),
        ];
        let texts = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let tree = Tree::of(texts.into()).unwrap();
        assert_eq!(
            circles_but(&tree, &[]),
            ["a/room: one, three, two use each other in a circle:\n    \
                 a/room/one.rs:1: one uses two\n    \
                 a/room/three.rs:4: three uses one\n    \
                 a/room/two.rs:1: two uses three"]
        );
        let known = ("a/room", ["one", "three", "two"].as_slice());
        let gone = ("a", ["other", "room"].as_slice());
        assert_eq!(
            circles_but(&tree, &[known, gone]),
            [
                "a: other, room are no circle any more; take them out of CIRCLES in xtask/src/tidy/circles.rs"
            ]
        );
    }
}
