//! The pages that people read: their configurations are good, their commands exist, and what they name is there.
//!
//! A block of `toml` is a whole configuration. A block of `toml fragment` is laid over [`BASE`]: keys are added or
//! replaced, and of tables in a list the one with the same name or id.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, Parser};
use geodns::cli::args::Arguments;
use geodns::config::{self, Config};
use geodns_common::verdict::Verdict;
use serde_json::Value;

/// The file that a fragment is a part of.
const BASE: &str = r#"
[kernel]
interfaces = ["eth0"]
[[zone]]
name = "example.org"
file = "example.org.zone"
[[mirror]]
id = "ams"
addresses = ["192.0.2.10"]
[[pool]]
id = "www"
mirrors = ["ams"]
policy = "failover"
[[steer]]
name = "www.example.org"
pool = "www"
"#;

/// A page.
struct Page {
    /// From the root of the repository.
    name: String,
    text: String,
}

/// A block between fences.
struct Block<'a> {
    /// The words behind the first fence.
    kind: &'a str,
    lines: Vec<&'a str>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Result<Vec<Page>> {
    let mut names = vec!["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for entry in fs::read_dir(root().join("docs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    ensure!(names.len() > 10, "{names:?}");
    let read = |name: String| -> Result<Page> {
        let text = fs::read_to_string(root().join(&name)).with_context(|| name.clone())?;
        Ok(Page { name, text })
    };
    names.into_iter().map(read).collect()
}

impl Page {
    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut open = false;
        for line in self.text.lines() {
            match line.strip_prefix("```") {
                Some(_) if open => open = false,
                Some(kind) => {
                    open = true;
                    let lines = Vec::new();
                    blocks.push(Block { kind, lines });
                }
                None if open => blocks
                    .last_mut()
                    .into_iter()
                    .for_each(|b| b.lines.push(line)),
                None => {}
            }
        }
        blocks
    }

    /// The text outside of blocks.
    fn prose(&self) -> String {
        let mut fences = self.text.split("\n```");
        let mut prose = String::new();
        while let Some(text) = fences.next() {
            // Behind the closing fence.
            prose += text;
            prose += "\n\n";
            let _block = fences.next();
        }
        prose
    }

    /// The spans between backquotes in the prose, each on one line.
    fn spans(&self) -> Vec<String> {
        let of = |paragraph: &str| {
            let spans = paragraph.split('`').skip(1).step_by(2);
            spans
                .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        self.prose().split("\n\n").flat_map(of).collect()
    }

    /// Lines of blocks that call a program, as a shell would.
    fn calls(&self, program: &str) -> Vec<Vec<String>> {
        let mut calls = Vec::new();
        for block in self.blocks() {
            for line in block.lines {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                let line = line.strip_prefix("target/release/").unwrap_or(line);
                let words = words(line);
                if words.first().is_some_and(|word| word == program) {
                    calls.push(words);
                }
            }
        }
        calls
    }
}

/// The words of a command, up to a comment or a pipe.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        for word in part.split_whitespace() {
            if ["#", "|", "&&", ">"].contains(&word) {
                return words;
            }
            words.push(word.to_owned());
        }
    }
    words
}

/// Lays one configuration over another.
fn lay_over(under: &mut toml::Table, over: toml::Table) {
    let id = |of: &toml::Value| of.get("name").or(of.get("id")).cloned();
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => under.extend(over),
            (Some(toml::Value::Array(under)), toml::Value::Array(over)) => {
                for value in over {
                    match under.iter_mut().find(|other| id(other) == id(&value)) {
                        Some(other) => *other = value,
                        None => under.push(value),
                    }
                }
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[test]
fn every_configuration_is_good() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = "c2hhcmVkIGJ5IHR3byBzZXJ2ZXJzLCBhbmQgYnkgbm8=\n";
    fs::write(folder.path().join("transfer.key"), secret)?;
    fs::write(folder.path().join("notify.secret"), secret)?;
    fs::write(
        folder.path().join("web.token"),
        "0123456789abcdef0123456789abcdef\n",
    )?;
    let file = folder.path().join("geodns.toml");
    let mut tried = 0;
    for page in pages()? {
        for block in page.blocks() {
            let text = block.lines.join("\n");
            let text = match block.kind {
                "toml" => text,
                "toml fragment" => {
                    let mut table: toml::Table = BASE.parse()?;
                    let fragment = text.parse::<toml::Table>();
                    lay_over(&mut table, fragment.with_context(|| page.name.clone())?);
                    table.to_string()
                }
                kind => {
                    ensure!(!kind.starts_with("toml"), "{}: {kind}", page.name);
                    // What is a configuration says so.
                    ensure!(!text.starts_with('['), "{}: {text}", page.name);
                    continue;
                }
            };
            fs::write(&file, &text)?;
            if let Err(errors) = Config::load(&file) {
                bail!("{}: {errors}\nof\n{text}", page.name);
            }
            tried += 1;
        }
    }
    ensure!(tried > 8, "{tried}");
    Ok(())
}

/// Follows the words of a command as far as they name commands and options.
fn exists(words: &[&str]) -> Result<()> {
    let mut all = Arguments::command();
    all.build();
    let mut command = &all;
    for word in words.iter().skip(1) {
        let has = |name: &str, letter: Option<char>| {
            command.get_arguments().any(|argument| {
                argument.get_long() == Some(name)
                    || letter.is_some() && argument.get_short() == letter
            })
        };
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap_or_default();
            ensure!(has(option, None), "no option --{option} in {words:?}");
        } else if let Some(option) = word.strip_prefix('-').filter(|left| !left.is_empty()) {
            ensure!(
                has("", option.chars().next()),
                "no option -{option} in {words:?}"
            );
        } else if let Some(found) = command.find_subcommand(word) {
            command = found;
        } else {
            ensure!(!command.has_subcommands(), "no command {word} in {words:?}");
        }
    }
    Ok(())
}

#[test]
fn every_command_exists() -> Result<()> {
    let mut tried = 0;
    for page in pages()? {
        for call in page.calls("geodns") {
            // Whole: with all that the command needs.
            Arguments::try_parse_from(&call).with_context(|| page.name.clone())?;
            tried += 1;
        }
        for span in page.spans() {
            let words: Vec<&str> = span.split(' ').collect();
            if words.len() > 1 && words[0] == "geodns" {
                exists(&words).with_context(|| page.name.clone())?;
                tried += 1;
            }
        }
    }
    ensure!(tried > 60, "{tried}");
    Ok(())
}

#[test]
fn every_chore_exists() -> Result<()> {
    let main = fs::read_to_string(root().join("xtask/src/main.rs"))?;
    let (_, tasks) = main.split_once("enum Task {").context("no tasks")?;
    let (tasks, _) = tasks.split_once("\n}").context("no end of tasks")?;
    let names = tasks
        .lines()
        .map(|line| line.trim().split(['(', ',']).next());
    let tasks: BTreeSet<String> = names.flatten().map(str::to_lowercase).collect();
    for page in pages()? {
        let calls = page.calls("cargo");
        let spans = page.spans();
        let spans = spans.iter().map(|span| words(span));
        for words in calls.into_iter().chain(spans) {
            if words.len() > 2 && words[..2] == ["cargo", "xtask"] {
                ensure!(tasks.contains(&words[2]), "{}: {words:?}", page.name);
            }
        }
    }
    Ok(())
}

/// The anchor that a heading has where pages are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let all = pages()?;
    for page in &all {
        let folder = Path::new(&page.name).parent().unwrap_or(Path::new(""));
        let prose = page.prose();
        let links = prose.split("](").skip(1);
        for link in links.filter_map(|link| link.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = match file {
                "" => PathBuf::from(&page.name),
                file => folder.join(file),
            };
            let path = root().join(path);
            ensure!(
                path.exists(),
                "{}: {link}: no {}",
                page.name,
                path.display()
            );
            let text = match heading {
                "" => continue,
                _ => fs::read_to_string(&path)?,
            };
            let headings = text.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            ensure!(anchors.any(|a| a == heading), "{}: {link}", page.name);
        }
    }
    // And somebody who reads README finds every page.
    let readme = &all[0].text;
    for page in all.iter().filter(|page| page.name.starts_with("docs/")) {
        let inner = ["docs/testing.md", "docs/decisions.md"].contains(&page.name.as_str());
        ensure!(inner || readme.contains(&page.name), "{}", page.name);
    }
    Ok(())
}

/// The keys of a section, by the schema.
fn keys<'a>(schema: &'a Value, section: &str) -> Option<BTreeSet<&'a str>> {
    let mut at = schema["properties"].get(section)?;
    loop {
        if let Some(keys) = at["properties"].as_object() {
            return Some(keys.keys().map(String::as_str).collect());
        }
        at = match at["$ref"].as_str() {
            Some(named) => &schema["$defs"][named.rsplit('/').next()?],
            None => at.get("items")?,
        };
    }
}

#[test]
fn every_file_key_and_verdict_that_is_named_exists() -> Result<()> {
    let schema = config::schema();
    ensure!(keys(&schema, "zone").is_some_and(|keys| keys.contains("primaries")));
    let tops: Vec<String> = fs::read_dir(root())?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name != "target")
        .collect();
    let bases = [
        "",
        "geodns-user/src",
        "geodns-common/src",
        "geodns-ebpf/src",
        "tests/src",
    ];
    let (mut files, mut settings) = (0, 0);
    for page in pages()? {
        for span in page.spans() {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            let top = span.split('/').next().unwrap_or_default();
            if span.contains('/')
                && span.chars().all(is_path)
                && (tops.iter().any(|name| name == top) || span.ends_with(".rs"))
            {
                let found = bases
                    .iter()
                    .any(|base| root().join(base).join(&span).exists());
                ensure!(found, "{}: no file {span}", page.name);
                files += 1;
            }
            let setting = span.split(' ').next().unwrap_or_default();
            if let Some((section, key)) = setting.split_once('.')
                && let Some(keys) = keys(&schema, section)
                && !["rs", "md", "toml", "redb"].contains(&key)
            {
                let key = key.split('.').next().unwrap_or_default();
                ensure!(keys.contains(key), "{}: no key {setting}", page.name);
                settings += 1;
            }
            if span.starts_with("pass_") && span.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            {
                let known = Verdict::ALL.iter().any(|verdict| verdict.name() == span);
                let key = keys(&schema, "kernel").is_some_and(|keys| keys.contains(&*span));
                ensure!(known || key, "{}: no verdict {span}", page.name);
            }
        }
    }
    ensure!(files > 30 && settings > 15, "{files} {settings}");
    Ok(())
}

#[test]
fn every_room_and_every_test_is_on_its_page() -> Result<()> {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let (_, rooms) = architecture.split_once("## Rooms").context("no rooms")?;
    let (rooms, _) = rooms.split_once("\n## ").context("no end of the rooms")?;
    for (krate, lib) in [
        ("geodns-common", "geodns-common/src/lib.rs"),
        ("geodns-user", "geodns-user/src/lib.rs"),
    ] {
        let lib = fs::read_to_string(root().join(lib))?;
        let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
        for module in modules.filter_map(|module| module.strip_suffix(';')) {
            ensure!(
                rooms.contains(&format!("`{module}`")),
                "ARCHITECTURE.md, Rooms: {krate} has a room `{module}`, too"
            );
        }
    }
    let testing = fs::read_to_string(root().join("docs/testing.md"))?;
    for entry in fs::read_dir(root().join("tests/tests"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = name.trim_end_matches(".rs");
        ensure!(
            testing.contains(&format!("`{name}`")),
            "docs/testing.md: there is a test `{name}`, too"
        );
    }
    Ok(())
}

#[test]
fn readme_installs_as_the_unit_says() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let unit = fs::read_to_string(root().join("etc/geodns.service"))?;
    let steps = unit.lines().filter_map(|line| line.strip_prefix("#   "));
    let steps: Vec<&str> = steps.filter(|line| line.starts_with("install")).collect();
    ensure!(!steps.is_empty());
    for step in steps {
        ensure!(readme.lines().any(|line| line == step), "README.md: {step}");
    }
    Ok(())
}
