//! The columns of a list, and a row as a line of it: on a terminal, in a pipe, as JSON.

use std::io::{self, Write};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use super::merged::Found;
use super::output::{Data, Output};
use super::row::{self, Line};
use super::{escape, text};

/// A column.
#[derive(Debug)]
struct Column {
    /// As `--columns` and JSON have it.
    name: &'static str,
    /// Shorter names that are taken, too.
    alias: &'static str,
    width: Width,
}

/// How much room a column has on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Left(usize),
    Right(usize),
    /// What the others leave.
    Rest,
}

/// The flag of commands that list.
#[derive(Debug, Args)]
pub(super) struct ColumnFlags {
    /// Which columns, in this order: names with commas between. With --json, which keys
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parser())]
    columns: Vec<Chosen>,
}

/// A column that was asked for, by its place in the table.
#[derive(Debug, Clone, Copy)]
struct Chosen(usize);

/// Writes rows as lines.
#[derive(Debug)]
pub(super) struct Lines {
    output: Output,
    columns: Vec<Chosen>,
    mid_width: usize,
    /// Columns for the names of stores.
    store_width: usize,
}

impl Lines {
    pub(super) fn new(flags: &ColumnFlags, output: &Output) -> Self {
        Self { output: *output, columns: flags.columns.clone(), mid_width: 1, store_width: 0 }
    }

    /// Writes a page of rows, their mids below each other.
    ///
    /// # Errors
    /// If standard output is closed or full.
    pub(super) fn write(&mut self, page: &[Found]) -> io::Result<()> {
        page.iter().for_each(|found| self.fit(found));
        let mut data = self.output.data();
        page.iter().try_for_each(|found| self.write_one(found, &mut data))?;
        data.flush()
    }

    fn fit(&mut self, found: &Found) {
        self.mid_width = self.mid_width.max(found.row.mid.to_string().len());
        let store = found.store.as_ref().map_or(0, |store| store.chars().count());
        self.store_width = self.store_width.max(store.min(STORE_WIDTH));
    }

    fn write_one(&self, found: &Found, data: &mut Data) -> io::Result<()> {
        match (self.output.json, self.output.terminal, self.columns.is_empty()) {
            (true, _, true) => writeln!(data, "{}", Value::Object(object(found))),
            (true, _, false) => writeln!(data, "{}", self.chosen_json(found)),
            (false, true, true) => writeln!(data, "{}", self.default_for_terminal(found)),
            (false, false, true) => {
                let line = Line::from(&found.row).for_pipe();
                match &found.store {
                    Some(store) => writeln!(data, "{line}\t{}", escape::line(&**store)),
                    None => writeln!(data, "{line}"),
                }
            }
            (false, true, false) => writeln!(data, "{}", self.chosen_for_terminal(found)),
            (false, false, false) => {
                let object = object(found);
                let cells = self.columns.iter().map(|chosen| piped(chosen.column(), found, &object));
                writeln!(data, "{}", cells.collect::<Vec<_>>().join("\t"))
            }
        }
    }

    fn default_for_terminal(&self, found: &Found) -> String {
        let line = Line::from(&found.row).with_messages(found.messages).with_note(found.note.as_ref());
        let Some(store) = &found.store else {
            return line.for_terminal(self.output.width, self.mid_width, self.output.paint);
        };
        let width = self.store_width;
        let store = text::truncate(&escape::line(&**store), width);
        let rest = self.output.width.saturating_sub(width + 2);
        format!("{store:<width$}  {}", line.for_terminal(rest, self.mid_width, self.output.paint))
    }

    fn chosen_json(&self, found: &Found) -> Value {
        let mut all = object(found);
        let chosen = self.columns.iter().map(|chosen| chosen.column().name);
        Value::Object(
            chosen
                .map(|name| (name.to_owned(), all.get_mut(name).map_or(Value::Null, Value::take)))
                .collect(),
        )
    }

    fn chosen_for_terminal(&self, found: &Found) -> String {
        let object = object(found);
        let widths = self.columns.iter().map(|chosen| match (chosen.column().name, chosen.column().width) {
            ("mid", _) => Width::Right(self.mid_width),
            ("store", _) => Width::Left(self.store_width),
            (_, width) => width,
        });
        let widths: Vec<Width> = widths.collect();
        let fixed = widths.iter().map(|width| match width {
            Width::Left(width) | Width::Right(width) => *width,
            Width::Rest => 0,
        });
        let taken = fixed.sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let flexible = widths.iter().filter(|width| **width == Width::Rest).count().max(1);
        let rest = (self.output.width.saturating_sub(taken) / flexible).max(MIN_REST);
        let mut line = String::new();
        for (at, (chosen, width)) in self.columns.iter().zip(&widths).enumerate() {
            let cell = shown(chosen.column(), found, &object);
            let is_last = at + 1 == widths.len();
            line += &match *width {
                Width::Right(width) => format!("{:>width$}", text::truncate(&cell, width)),
                Width::Left(width) if is_last => text::truncate(&cell, width),
                Width::Left(width) => format!("{:<width$}", text::truncate(&cell, width)),
                Width::Rest if is_last => text::truncate(&cell, rest),
                Width::Rest => format!("{:<rest$}", text::truncate(&cell, rest)),
            };
            line += if is_last { "" } else { GAP };
        }
        line
    }
}

impl Chosen {
    fn column(self) -> &'static Column {
        &COLUMNS[self.0]
    }
}

/// Names the columns in the help, and where one is not known.
fn parser() -> impl TypedValueParser<Value = Chosen> {
    let names = COLUMNS.iter().map(|column| {
        let name = PossibleValue::new(column.name);
        if column.alias.is_empty() { name } else { name.alias(column.alias) }
    });
    PossibleValuesParser::new(names.collect::<Vec<_>>()).map(|name| {
        let at = COLUMNS.iter().position(|column| name == column.name || name == column.alias);
        Chosen(at.unwrap_or(0)) // clap lets no other name through
    })
}

fn object(found: &Found) -> serde_json::Map<String, Value> {
    let mut object = match row::row_json(&found.row, found.messages, found.note.as_ref()) {
        Value::Object(object) => object,
        _ => serde_json::Map::new(),
    };
    if let Some(store) = &found.store {
        object.insert("store".into(), (**store).into());
    }
    object
}

/// Whole, on one line, without tabs.
fn piped(column: &Column, found: &Found, object: &serde_json::Map<String, Value>) -> String {
    match column.name {
        "status" => Line::from(&found.row).status_text(),
        "method" => escape::line(Line::from(&found.row).method()),
        name => match object.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => escape::line(text),
            // Names of tags, the only list, have no commas.
            Some(Value::Array(texts)) => {
                escape::line(texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
            }
            Some(other) => other.to_string(),
        },
    }
}

/// Short, for a person.
fn shown(column: &Column, found: &Found, object: &serde_json::Map<String, Value>) -> String {
    let row = &found.row;
    match column.name {
        "started" => text::local_short(row.started_unix_ns),
        "duration_us" => row.duration_us.map(text::duration_us).unwrap_or_default(),
        "request_len" => text::size(row.request_len),
        "response_len" => text::size(row.response_len),
        "request_type" => escape::line(row.request_type.as_deref().map(text::short_type).unwrap_or_default()),
        "response_type" => {
            escape::line(row.response_type.as_deref().map(text::short_type).unwrap_or_default())
        }
        _ => piped(column, found, object),
    }
}

const fn column(name: &'static str, alias: &'static str, width: Width) -> Column {
    Column { name, alias, width }
}

/// All columns. A test holds them to what JSON has.
const COLUMNS: &[Column] = &[
    column("mid", "", Width::Right(0)),
    column("store", "", Width::Left(0)),
    column("kind", "", Width::Left(7)),
    column("state", "", Width::Left(14)),
    column("started", "time", Width::Left(14)),
    column("started_unix_ns", "", Width::Left(19)),
    column("method", "", Width::Left(7)),
    column("url", "", Width::Rest),
    column("status", "", Width::Right(3)),
    column("response_len", "size", Width::Right(5)),
    column("duration_us", "took", Width::Right(7)),
    column("error", "", Width::Rest),
    column("scheme", "", Width::Left(5)),
    column("host", "", Width::Rest),
    column("port", "", Width::Right(5)),
    column("path", "", Width::Rest),
    column("request_type", "", Width::Left(10)),
    column("response_type", "type", Width::Left(10)),
    column("request_len", "", Width::Right(5)),
    column("request_truncated", "", Width::Left(5)),
    column("response_truncated", "", Width::Left(5)),
    column("messages", "", Width::Right(8)),
    column("client_conn", "", Width::Right(6)),
    column("server_conn", "", Width::Right(6)),
    column("replay_of", "", Width::Right(6)),
    column("marker", "", Width::Left(9)),
    column("comment", "", Width::Rest),
    column("tags", "", Width::Rest),
];

/// `flows-20261122.db` fits.
const STORE_WIDTH: usize = 24;

/// On a very narrow terminal lines wrap rather than lose what they are for.
const MIN_REST: usize = 16;

const GAP: &str = "  ";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::output::ColorChoice;

    fn found() -> Found {
        let row = row::tests::row();
        Found { row, messages: None, store: Some("a.db".into()), note: None, part: 0 }
    }

    #[test]
    fn columns_are_the_keys_of_json() {
        let names: BTreeSet<_> = COLUMNS.iter().map(|column| column.name.to_owned()).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert_eq!(names, object(&found()).keys().cloned().collect());
        let mut aliases: Vec<_> =
            COLUMNS.iter().map(|column| column.alias).filter(|a| !a.is_empty()).collect();
        aliases.dedup();
        assert!(aliases.iter().all(|alias| !names.contains(*alias)));
    }

    #[test]
    fn chosen_columns_fill_a_terminal_and_no_more() {
        let mut output = Output::new(ColorChoice::Never, false, false);
        (output.terminal, output.width) = (true, 60);
        let at = |name| COLUMNS.iter().position(|column| column.name == name).map(Chosen).expect("a column");
        let columns = ["mid", "host", "url", "status", "started"].map(at).to_vec();
        let mut lines = Lines { output, columns, mid_width: 1, store_width: 0 };
        let found = found();
        lines.fit(&found);
        let line = lines.chosen_for_terminal(&found);
        assert!(line.chars().count() <= 60 && line.starts_with("12  ") && line.contains("  404  "), "{line}");
        lines.columns = ["size", "url"]
            .map(|alias| {
                COLUMNS
                    .iter()
                    .position(|c| c.alias == alias || c.name == alias)
                    .map(Chosen)
                    .expect("a column")
            })
            .to_vec();
        assert_eq!(lines.chosen_for_terminal(&found).trim_end(), " 2.2k  http://origin.test/a");
    }
}
