//! Whether a file has the shape that its schema says: every mistake of it, not just the first.
//!
//! Each mistake is taken out of the tree, so that the rest can be judged all the same.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::file::File;
use super::found::Found;
use super::schema::schema;
use super::source::Source;
use super::time::TIME;
use super::{Error, syntax};

/// A schema, or a part of it.
type Schema = Map<String, Value>;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| match schema() {
    Value::Object(schema) => schema,
    _ => Schema::new(),
});

/// Reads the file's shape: what could be read of it, if anything can be judged, and what is wrong.
pub(super) fn read(source: &Source<'_>) -> (Option<File>, Found) {
    let (mut document, errors) = DeTable::parse_recoverable(source.text);
    if !errors.is_empty() {
        let errors = syntax::explain(source, &errors);
        return (None, Found::of(errors));
    }
    let mut found = check(source, document.get_mut());
    match File::deserialize(toml::Deserializer::from(document)) {
        Ok(file) => (Some(file), found),
        Err(error) => {
            // The schema lets something through that serde does not.
            found.errors.push(Error {
                file: source.path.to_owned(),
                line: error.span().map(|span| source.line(span.start)),
                column: error.span().map(|span| source.column(span.start)),
                key: None,
                message: error.message().replace('\n', " "),
            });
            (None, found)
        }
    }
}

/// Checks a file's tree, and takes out what is wrong with it.
fn check(source: &Source<'_>, document: &mut DeTable<'_>) -> Found {
    let mut walker = Walker {
        source,
        errors: Vec::new(),
    };
    let mut found = Found::default();
    let properties = object(SCHEMA.get("properties"));
    keep(document, |key, value| {
        let (name, at) = (key.get_ref().as_ref(), key.span());
        let Some(schema) = properties.get(name) else {
            let message = unknown(name, value.get_ref(), properties, true);
            walker.error(at, name, message);
            return false;
        };
        let before = walker.errors.len();
        let of = Of::new(schema);
        let sound = match (&of, value.get_ref()) {
            // Each of a list of tables by itself, so that the others are judged.
            (Of::List(item), DeValue::Array(_)) if matches!(item.get("type"), Some(Value::String(kind)) if kind == "object") =>
            {
                if let DeValue::Array(items) = value.get_mut() {
                    keep_items(items, |value| {
                        let before = walker.errors.len();
                        let sound = walker.value(value, item, name, true);
                        if walker.errors.len() > before {
                            found.holes.push((name.to_owned(), walker.lines(value)));
                        }
                        if !sound {
                            found.lost.insert(name.to_owned());
                        }
                        sound
                    });
                }
                true
            }
            _ => walker.value(value, schema_of(schema), name, true),
        };
        if !sound {
            found.lost.insert(name.to_owned());
        }
        if walker.errors.len() > before && !matches!(of, Of::List(_)) {
            let mut lines = walker.lines(value);
            let first = walker.source.line(at.start).min(*lines.start());
            lines = first..=*lines.end();
            found.holes.push((name.to_owned(), lines));
        }
        sound
    });
    found.errors = walker.errors;
    found
}

/// Takes out of a table what is not to be kept.
fn keep<'i>(
    table: &mut DeTable<'i>,
    mut kept: impl FnMut(&Spanned<DeString<'i>>, &mut Spanned<DeValue<'i>>) -> bool,
) {
    let mut gone: Vec<String> = Vec::new();
    for (key, value) in table.iter_mut() {
        if !kept(key, value) {
            gone.push(key.get_ref().to_string());
        }
    }
    for key in gone {
        table.remove(key.as_str());
    }
}

/// Takes out of a list what is not to be kept. Whether all is.
fn keep_items<'i>(
    items: &mut DeArray<'i>,
    mut kept: impl FnMut(&mut Spanned<DeValue<'i>>) -> bool,
) -> bool {
    let all = std::mem::replace(items, DeArray::new());
    let before = all.len();
    for mut value in all {
        if kept(&mut value) {
            items.push(value);
        }
    }
    items.len() == before
}

/// The type that a schema describes.
enum Of<'a> {
    Table(&'a Schema),
    List(&'a Schema),
    /// One of these, and what to call it.
    Either(&'a [Value], Option<&'a str>),
    Text(&'a Schema),
    Whole,
    Number,
    Boolean,
    Anything,
}

impl<'a> Of<'a> {
    fn new(schema: &'a Value) -> Self {
        Self::schema(schema_of(schema))
    }

    fn schema(schema: &'a Schema) -> Self {
        if let Some(Value::Array(either)) = schema.get("anyOf") {
            return Self::Either(either, schema.get("x-toml").and_then(Value::as_str));
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => Self::Table(schema),
            Some("array") => Self::List(schema.get("items").map_or(schema, schema_of)),
            Some("string") => Self::Text(schema),
            Some("integer") => Self::Whole,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            _ => Self::Anything,
        }
    }

    fn fits(&self, value: &DeValue<'_>) -> bool {
        match self {
            Self::Table(_) => value.is_table(),
            Self::List(_) => value.is_array(),
            Self::Text(_) => value.is_str(),
            Self::Whole => value.is_integer(),
            Self::Number => value.is_integer() || value.is_float(),
            Self::Boolean => value.is_bool(),
            Self::Either(either, _) => either.iter().any(|one| Of::new(one).fits(value)),
            Self::Anything => true,
        }
    }

    /// It, in words.
    fn words(&self) -> String {
        match self {
            Self::Table(schema) => format!("a table, as {}", form(schema)),
            Self::List(_) => "a list, as [\"a\", \"b\"]".to_owned(),
            Self::Text(schema) if is_time(schema) => "a time, as \"5m\"".to_owned(),
            Self::Text(_) => "a string, in quotes".to_owned(),
            Self::Whole => "a whole number".to_owned(),
            Self::Number => "a number, as 0.1".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Either(_, Some(words)) => (*words).to_owned(),
            Self::Either(either, None) => {
                let words: Vec<_> = either.iter().map(|one| Of::new(one).words()).collect();
                words.join(", or ")
            }
            Self::Anything => "something else".to_owned(),
        }
    }
}

fn object(value: Option<&Value>) -> &Schema {
    static EMPTY: LazyLock<Schema> = LazyLock::new(Schema::new);
    value.and_then(Value::as_object).unwrap_or(&EMPTY)
}

/// A schema itself, where another one is referred to.
fn schema_of(schema: &Value) -> &Schema {
    let schema = object(Some(schema));
    let name = schema.get("$ref").and_then(Value::as_str);
    match name.and_then(|name| name.strip_prefix("#/$defs/")) {
        Some(name) => object(object(SCHEMA.get("$defs")).get(name)),
        None => schema,
    }
}

fn is_time(schema: &Schema) -> bool {
    schema.get("pattern").and_then(Value::as_str) == Some(TIME)
}

/// A table as one would write it within a line.
fn form(schema: &Schema) -> String {
    if let Some(form) = schema.get("x-toml").and_then(Value::as_str) {
        return form.to_owned();
    }
    let required = schema.get("required").and_then(Value::as_array);
    let keys: Vec<String> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(assignment(schema))
        .collect();
    match keys.is_empty() {
        true => "{ key = ... }".to_owned(),
        false => format!("{{ {} }}", keys.join(", ")),
    }
}

/// A key and what its value looks like.
fn assignment(schema: &Schema) -> impl Fn(&str) -> String {
    let properties = object(schema.get("properties"));
    move |key| {
        let value = match properties.get(key).map(Of::new) {
            Some(Of::Text(_)) => "\"...\"",
            Some(Of::List(_)) => "[...]",
            Some(Of::Table(_)) => "{ ... }",
            _ => "...",
        };
        format!("{key} = {value}")
    }
}

/// The walk through a file's tree.
struct Walker<'a> {
    source: &'a Source<'a>,
    errors: Vec<Error>,
}

impl Walker<'_> {
    fn error(&mut self, span: Range<usize>, key: &str, message: impl Into<String>) {
        self.errors.push(self.source.error(span, key, message));
    }

    /// The lines that a value stands in.
    fn lines(&self, value: &Spanned<DeValue<'_>>) -> RangeInclusive<usize> {
        let extent = extent(value);
        self.source.line(extent.start)..=self.source.line(extent.end)
    }

    /// Checks a value. Whether it can be used: what is wrong within it and can be left out is left out.
    fn value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        schema: &Schema,
        path: &str,
        is_section: bool,
    ) -> bool {
        let span = value.span();
        let of = Of::schema(schema);
        if !of.fits(value.get_ref()) {
            let message = mismatch(value.get_ref(), &of, path, is_section);
            self.error(span, path, message);
            return false;
        }
        match (of, value.get_mut()) {
            (Of::Table(schema), DeValue::Table(table)) => self.table(table, schema, path, span),
            (Of::List(item), DeValue::Array(items)) => {
                let all = keep_items(items, |value| self.value(value, item, path, false));
                // Of a list of tables the others can be judged without it.
                all || matches!(Of::schema(item), Of::Table(_)) && !items.is_empty()
            }
            (Of::Either(either, _), _) => {
                let fitting = either.iter().find(|one| Of::new(one).fits(value.get_ref()));
                fitting.is_none_or(|one| self.value(value, schema_of(one), path, false))
            }
            (Of::Whole, DeValue::Integer(number)) => {
                let digits: String = number
                    .as_str()
                    .chars()
                    .filter(|digit| *digit != '_')
                    .collect();
                let sound = number.radix() != 10 || digits.parse::<i64>().is_ok();
                if !sound {
                    self.error(span, path, "far out of range; write a smaller number");
                }
                sound
            }
            (Of::Number, number) => {
                let digits = match number {
                    DeValue::Float(number) => number.as_str(),
                    DeValue::Integer(number) => number.as_str(),
                    _ => "",
                };
                let digits: String = digits.chars().filter(|digit| *digit != '_').collect();
                let sound = digits
                    .parse::<f64>()
                    .is_ok_and(|number| !number.is_infinite() || digits.contains("inf"));
                if !sound {
                    self.error(span, path, "far out of range; write a smaller number");
                }
                sound
            }
            _ => true,
        }
    }

    /// Checks the keys of a table. Whether all are there that must be.
    fn table(
        &mut self,
        table: &mut DeTable<'_>,
        schema: &Schema,
        path: &str,
        at: Range<usize>,
    ) -> bool {
        let properties = object(schema.get("properties"));
        let required = schema.get("required").and_then(Value::as_array);
        let required = || required.into_iter().flatten().filter_map(Value::as_str);
        for key in required() {
            if !table.contains_key(key) {
                let message = format!("missing; add {}", assignment(schema)(key));
                self.error(at.clone(), &format!("{path}.{key}"), message);
            }
        }
        keep(table, |key, value| {
            let name = key.get_ref().as_ref();
            let inner = format!("{path}.{name}");
            match properties.get(name) {
                Some(schema) => self.value(value, schema_of(schema), &inner, false),
                None => {
                    let message = unknown(name, value.get_ref(), properties, false);
                    self.error(key.span(), &inner, message);
                    false
                }
            }
        });
        required().all(|key| table.contains_key(key))
    }
}

/// From where a value begins to where the last of it ends.
fn extent(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let span = value.span();
    let inner: Vec<Range<usize>> = match value.get_ref() {
        DeValue::Table(table) => table.iter().map(|(_, value)| extent(value)).collect(),
        DeValue::Array(items) => items.iter().map(extent).collect(),
        _ => Vec::new(),
    };
    inner.into_iter().fold(span, |all, one| {
        all.start.min(one.start)..all.end.max(one.end)
    })
}

/// Names the type of a value in TOML's words.
fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Explains a value that has the wrong type, and says what to write.
fn mismatch(value: &DeValue<'_>, of: &Of<'_>, path: &str, is_section: bool) -> String {
    let is = a_type(value);
    match (of, value) {
        (Of::Table(_), _) if is_section => {
            let header = match object(SCHEMA.get("properties")).get(path).map(Of::new) {
                Some(Of::List(_)) => format!("[[{path}]]"),
                _ => format!("[{path}]"),
            };
            format!("not a table; write it as {header}, with a line for each key below it")
        }
        (Of::Table(schema), _) => format!("not a table; write it as {}", form(schema)),
        (Of::List(item), _) if !is_section && matches!(Of::schema(item), Of::Table(_)) => format!(
            "not a list of tables; write each as [[{path}]], or [{}]",
            form(item)
        ),
        (Of::List(item), DeValue::Table(table)) if matches!(Of::schema(item), Of::Table(_)) => {
            let properties = object(item.get("properties"));
            let id = ["id", "name"]
                .into_iter()
                .find(|id| properties.contains_key(*id));
            match (table.iter().next(), id) {
                (Some((name, inner)), Some(id)) if inner.get_ref().is_table() => format!(
                    "not a list of tables; write [[{path}]], and {id} = {:?} below it",
                    name.get_ref()
                ),
                _ => format!("a single table; write its header as [[{path}]]"),
            }
        }
        (Of::List(item), _) if matches!(Of::schema(item), Of::Table(_)) => {
            format!("not a list of tables; write the header of each as [[{path}]]")
        }
        (Of::List(_), DeValue::String(text)) => format!("{is}; write a list, as [{text:?}]"),
        (Of::Text(schema), DeValue::Integer(number)) if is_time(schema) => {
            format!("{number} has no unit; write one, as \"{number}s\" (ms, s, m, h or d)")
        }
        (Of::Text(_), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
            let text = match value {
                DeValue::Integer(number) => number.to_string(),
                DeValue::Float(number) => number.to_string(),
                other => other.as_bool().unwrap_or_default().to_string(),
            };
            format!("{is}; write a string, in quotes, as {text:?}")
        }
        (Of::Whole | Of::Number, DeValue::String(text)) => {
            let words = match of {
                Of::Whole => "a whole number",
                _ => "a number",
            };
            match number_in(text) {
                Some(number) => format!("{is}; write {words} without quotes, as {number}"),
                None => format!("{is}; write {words}"),
            }
        }
        _ => format!("{is}; write {}", of.words()),
    }
}

/// The one number in a text, such as `AS64500` or `52.3N`.
fn number_in(text: &str) -> Option<&str> {
    let part = |c: char| c.is_ascii_digit() || c == '.';
    let mut numbers = text.split(|c| !part(c)).filter(|number| !number.is_empty());
    let number = numbers
        .next()
        .filter(|number| number.parse::<f64>().is_ok())?;
    numbers.next().is_none().then_some(number)
}

/// Explains an unknown key.
fn unknown(name: &str, value: &DeValue<'_>, known: &Schema, is_root: bool) -> String {
    let what = match value {
        DeValue::Table(_) if is_root => "section",
        _ => "key",
    };
    let mut message = format!("unknown {what}");
    let home = || {
        let sections = object(SCHEMA.get("properties")).iter();
        sections
            .filter(|(_, schema)| object(schema_of(schema).get("properties")).contains_key(name))
            .map(|(name, _)| name)
            // Where several have it, most people mean this one.
            .min_by_key(|name| *name != "server")
    };
    match nearest(name, known.keys().map(String::as_str)) {
        Some(near) => {
            let _ = write!(message, "; did you mean {near}?");
        }
        None if is_root && what == "key" => {
            if let Some(home) = home() {
                let _ = write!(message, "; does it belong below [{home}]?");
            }
        }
        None => (),
    }
    let known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let separator = if message.ends_with('?') { "" } else { ";" };
    format!("{message}{separator} known: {}", known.join(", "))
}

/// The one of some words that a word was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = word.chars().count() / 3 + 1;
    let distances = known.map(|known| {
        let begins = known.len() >= 3 && word.starts_with(known);
        let far = strsim::osa_distance(&word, &known.to_lowercase());
        let near = begins || far <= most.min(known.len() / 2);
        (near, far, known)
    });
    let (.., nearest) = distances.filter(|(near, ..)| *near).min()?;
    Some(nearest)
}
