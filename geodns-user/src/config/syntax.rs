//! Errors of a file that is no TOML, in words that say what to write.

use toml::de::Error as Wrong;

use super::Error;
use super::source::Source;

/// Sections that stand in double brackets, and the key that tells one from the other.
const LISTS: [(&str, &str); 6] = [
    ("zone", "name"),
    ("mirror", "id"),
    ("pool", "id"),
    ("steer", "name"),
    ("tsig", "name"),
    ("block", "name"),
];

/// Errors in the order of the file, one for each line.
pub(super) fn explain(source: &Source<'_>, errors: &[Wrong]) -> Vec<Error> {
    let mut explained: Vec<Error> = errors.iter().map(|error| one(source, error)).collect();
    explained.sort_by_key(|error| error.line);
    explained.dedup_by_key(|error| error.line);
    // Who takes it for YAML has each line wrong.
    if explained.first().is_some_and(|first| first.message == YAML) {
        explained.truncate(1);
    }
    explained
}

const YAML: &str = "not TOML; write sections as [kernel], and values as interfaces = [\"eth0\"]";

fn one(source: &Source<'_>, error: &Wrong) -> Error {
    let at = error.span().map_or(0, |span| span.start);
    let before = source.text.get(..at).unwrap_or(source.text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = source.text[start..].lines().next().unwrap_or_default();
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (Some(key.trim()), value.trim()),
        None => (None, ""),
    };
    let header = header(line);
    let section = header.or_else(|| source.text[..start].lines().rev().find_map(self::header));
    let path = match (section, key) {
        (Some(section), Some(key)) => Some(format!("{section}.{key}")),
        (Some(section), None) => Some(section.to_owned()),
        (None, key) => key.map(str::to_owned),
    };
    if error.message().starts_with("duplicate key")
        && line.trim_start().starts_with("[[")
        && let Some(name) = header
        && let Some((number, culprit)) = single(&source.text[..start], name)
    {
        return Error {
            file: source.path.to_owned(),
            line: Some(number),
            column: None,
            key: Some(culprit.to_owned()),
            message: message(error.message(), "", Some(culprit), None, ""),
        };
    }
    Error {
        file: source.path.to_owned(),
        line: Some(source.line(at)),
        column: Some(source.column(at)),
        key: path,
        message: message(error.message(), line, header, key, value),
    }
}

/// The first header in single brackets for a list's name, or something below that: its line, and what it says.
fn single<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let lines = text.lines().enumerate();
    let mut single = lines.filter(|(_, line)| !line.trim_start().starts_with("[["));
    single.find_map(|(number, line)| {
        let header = header(line)?;
        let rest = header.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('.')).then_some((number + 1, header))
    })
}

/// The name in a section's header.
fn header(line: &str) -> Option<&str> {
    let line = line.split('#').next()?.trim();
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = name
        .strip_prefix('[')
        .map_or(name, |name| name.trim_end_matches(']'));
    Some(name.trim())
}

fn message(said: &str, line: &str, header: Option<&str>, key: Option<&str>, value: &str) -> String {
    let said = said.replace('\n', ", ");
    if said.starts_with("duplicate key") {
        let list = |name: &str| LISTS.into_iter().find(|(list, _)| *list == name);
        return match header.map(|header| header.split_once('.').unwrap_or((header, ""))) {
            Some((name, inner)) => match list(name) {
                Some((list, id)) if !inner.is_empty() => {
                    format!("not a list of tables; write [[{list}]], and {id} = {inner:?} below it")
                }
                Some((list, _)) => format!("a single table; write its header as [[{list}]]"),
                None => "stands here twice; put its keys below the first".to_owned(),
            },
            None => "stands here twice; remove one".to_owned(),
        };
    }
    if let Some(key) = key {
        let is_typographic = |c: char| "“”„‟‘’‚«»".contains(c);
        if value.starts_with(is_typographic) {
            let plain = value.trim_matches(is_typographic);
            return format!("typographic quotes; write {key} = {plain:?}");
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
        if !value.is_empty() && value.chars().all(is_word) {
            return format!("{value} stands without quotes; write {key} = {value:?}");
        }
    } else if header.is_none()
        && line
            .trim_end()
            .split_once(':')
            .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '))
    {
        return YAML.to_owned();
    }
    format!("not TOML: {said}; see https://toml.io")
}
