//! Output: text for people in tables and pairs, or the API's own JSON.
//!
//! Text that strangers can influence is made safe for a terminal here.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde::de::DeserializeOwned;

use crate::control::client::Reply;
use crate::printable;

/// The API's own JSON, or what a person reads.
pub fn show<T: DeserializeOwned>(
    reply: Reply,
    json: bool,
    text: impl FnOnce(T) -> String,
) -> anyhow::Result<String> {
    if json {
        let body = with_newline(&reply.body);
        return Ok(String::from_utf8(body)?);
    }
    Ok(text(reply.json()?))
}

pub fn with_newline(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    if !body.is_empty() && body.last() != Some(&b'\n') {
        body.push(b'\n');
    }
    body
}

/// Prints text that may quote strangers: a terminal obeys none of it.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_raw(printable::lines(text).as_bytes())
}

/// Prints an answer of the API as it is, but for characters that a terminal obeys.
pub fn print_json(body: &[u8]) -> anyhow::Result<()> {
    print(&String::from_utf8_lossy(&with_newline(body)))
}

/// Not `println!`, which panics when nobody reads any more.
pub fn print_raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    Ok(())
}

/// Columns of a table: heading, and whether they hold numbers.
pub type Columns<'a> = &'a [(&'a str, bool)];
pub const TEXT: bool = false;
pub const NUMBER: bool = true;

pub fn table<const N: usize>(
    columns: &[(&str, bool); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    render(columns, rows.into_iter().map(Vec::from), None)
}

/// A table; if it must fit a width, text of the last column is folded.
pub fn render(
    columns: Columns<'_>,
    rows: impl Iterator<Item = Vec<String>>,
    width: Option<u16>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns.iter().map(|(heading, _)| *heading))
        .add_rows(rows.map(|row| row.into_iter().map(one_line)));
    for (index, (_, number)) in columns.iter().enumerate() {
        let column = table.column_mut(index).expect("the header has made it");
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if index + 1 < columns.len() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table.trim_fmt() + "\n"
}

/// A cell, made safe before the table is measured: it stays one line, and as wide as it is shown.
fn one_line(cell: String) -> String {
    match printable::line(&cell) {
        Cow::Borrowed(_) => cell,
        Cow::Owned(safe) => safe,
    }
}

/// `key  value` lines.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in pairs {
        let _ = writeln!(text, "{key:width$}  {}", printable::line(value));
    }
    text
}

/// `972,275`, for sentences.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn memory(octets: u64) -> String {
    match octets {
        0..1024 => format!("{octets} B"),
        1024..0x10_0000 => format!("{:.1} KiB", octets as f64 / 1024.0),
        _ => format!("{:.1} MiB", octets as f64 / 1_048_576.0),
    }
}

pub fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

pub fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    match noun.strip_suffix('x') {
        // prefix, prefixes
        Some(_) if number != 1 => format!("{} {noun}es", grouped(number)),
        _ => format!("{} {noun}{s}", grouped(number)),
    }
}

pub fn joined<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    let items: Vec<_> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

/// The first of some ids, and how many more there are.
pub fn few(ids: &[String]) -> String {
    const MOST: usize = 6;
    let first = ids[..ids.len().min(MOST)].join(", ");
    match ids.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Columns of the terminal; none where the output is none.
pub fn terminal_width() -> Option<u16> {
    let is_terminal = io::stdout().is_terminal();
    let size = is_terminal.then(crossterm::terminal::size);
    size.and_then(Result::ok).map(|(columns, _)| columns)
}
