//! `manent mark`, `manent comment`, `manent tag`: what a person writes beside flows.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::args::Global;
use super::errors::CliError;
use super::mids::Chosen;
use super::output::Output;
use super::store::Flows;
use super::{stores, text};
use crate::flow::Mid;
use crate::store::{Annotator, Change, Note, Reader};

/// Mark flows
#[derive(Debug, Args)]
#[command(after_help = MARK_EXAMPLES)]
pub(super) struct MarkArgs {
    /// The flows: 12  12,15  40-60  100-  last  last:5  @FILE  -  FILE.db:12
    #[arg(required = true)]
    mids: Vec<Flows>,
    /// With this sign [default: :default:]
    #[arg(long, value_name = "TEXT", conflicts_with = "off")]
    marker: Option<String>,
    /// Take the mark away
    #[arg(long)]
    off: bool,
}

/// Write a comment beside flows
#[derive(Debug, Args)]
#[command(after_help = COMMENT_EXAMPLES)]
pub(super) struct CommentArgs {
    /// The flows, in one word: 12  12,15  40-60  100-  last  last:5  @FILE  -  FILE.db:12
    mids: Flows,
    /// The comment, which takes the place of one that is there; `-` reads it from standard input
    #[arg(required_unless_present = "off", conflicts_with = "off")]
    text: Option<String>,
    /// Take the comment away
    #[arg(long)]
    off: bool,
}

/// Add tags to flows, and remove them
#[derive(Debug, Args)]
#[command(after_help = TAG_EXAMPLES)]
pub(super) struct TagArgs {
    /// The flows, in one word: 12  12,15  40-60  100-  last  last:5  @FILE  -  FILE.db:12
    mids: Flows,
    /// Tags to add (+name) and to remove (-name)
    #[arg(required = true, value_name = "±NAME", trailing_var_arg = true, allow_hyphen_values = true)]
    changes: Vec<String>,
}

pub(super) fn mark(args: &MarkArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let change = match args.off {
        true => Change::unmark(),
        false => Change::mark(args.marker.as_deref().unwrap_or(Change::DEFAULT_MARKER))
            .map_err(CliError::BadNote)?,
    };
    apply(&args.mids, &change, if args.off { "unmarked" } else { "marked" }, global, output)
}

pub(super) fn comment(args: &CommentArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let change = match args.text.as_deref() {
        None => Change::uncomment(),
        Some("-") if args.mids.reads_stdin() => return Err(CliError::StdinTwice.into()),
        Some("-") => Change::comment(stdin()?.trim_end_matches(['\r', '\n'])).map_err(CliError::BadNote)?,
        Some(text) => Change::comment(text).map_err(CliError::BadNote)?,
    };
    let done = if args.off { "without comment now" } else { "commented on" };
    apply(std::slice::from_ref(&args.mids), &change, done, global, output)
}

pub(super) fn tag(args: &TagArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for word in &args.changes {
        match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(name), _) => add.push(name.to_owned()),
            // A flag that came late would become a tag.
            (_, Some(name)) if !name.starts_with('-') => remove.push(name.to_owned()),
            _ => return Err(CliError::BadTagChange { word: word.clone() }.into()),
        }
    }
    let change = Change::tags(add, remove).map_err(CliError::BadNote)?;
    apply(std::slice::from_ref(&args.mids), &change, "tagged", global, output)
}

/// Nothing is changed unless all that was named is there. Then it is done a few hundred at a time, so that a recorder never
/// waits long.
fn apply(
    flows: &[Flows],
    change: &Change,
    done: &str,
    global: &Global,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let places = places(flows, global, output)?;
    let several = global.stores()?.single().is_none();
    let names = stores::names(&places.keys().cloned().collect::<Vec<_>>());
    let mut data = output.data();
    let mut count = 0;
    for ((path, chosen), name) in places.iter().zip(names) {
        let (reader, mut annotator) = (Reader::open(path)?, Annotator::open(path)?);
        chosen.pages(&reader, |mids| {
            count += annotator.apply(mids, change)? as u64;
            if output.json {
                let notes = reader.notes(mids)?;
                for mid in mids {
                    let mut object = Map::new();
                    object.insert("mid".into(), mid.0.into());
                    put_json(&mut object, notes.get(mid));
                    if several {
                        object.insert("store".into(), name.as_str().into());
                    }
                    writeln!(data, "{}", Value::Object(object))?;
                }
            }
            Ok(())
        })?;
    }
    data.flush()?;
    if !output.json {
        let only = places.values().next().filter(|_| places.len() == 1).and_then(Chosen::only);
        output.talk(&match only {
            Some(mid) => format!("flow {mid} {done}"),
            None => format!("{} {done}", text::count(count, "flow")),
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The flows that were named, by store: of the only one, or one by one.
fn places(flows: &[Flows], global: &Global, output: &Output) -> anyhow::Result<BTreeMap<PathBuf, Chosen>> {
    let stores = global.stores()?;
    if let Some(mids) = Flows::all_mids(flows)
        && let [path] = &stores.some_files()?[..]
    {
        let chosen = Chosen::of(&mids, &Reader::open(path)?)?.sorted();
        return Ok(BTreeMap::from([(path.clone(), chosen)]));
    }
    let mut places = BTreeMap::<PathBuf, Chosen>::new();
    for flows in flows {
        let (path, mid) = flows.one(&stores)?.place(&stores, output)?;
        places.entry(path).or_default().push(mid);
    }
    Ok(places.into_iter().map(|(path, chosen)| (path, chosen.sorted())).collect())
}

/// The notes of one flow, for one that shows it alone.
///
/// # Errors
/// What the store said.
pub(super) fn of(reader: &Reader, mid: Mid) -> anyhow::Result<Note> {
    Ok(reader.notes(&[mid])?.remove(&mid).unwrap_or_default())
}

/// Adds the keys `marker`, `comment` and `tags`.
pub(super) fn put_json(object: &mut Map<String, Value>, note: Option<&Note>) {
    object.insert("marker".into(), json!(note.and_then(|note| note.marker.as_deref())));
    object.insert("comment".into(), json!(note.and_then(|note| note.comment.as_deref())));
    object.insert("tags".into(), json!(note.map(|note| &note.tags[..]).unwrap_or_default()));
}

/// No more than a comment may have, and a line end.
fn stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = Change::MAX_COMMENT as u64 + 3;
    let read = io::stdin().lock().take(limit).read_to_string(&mut text);
    read.map_err(|source| CliError::Read { path: "standard input".to_owned(), source })?;
    Ok(text)
}

const MARK_EXAMPLES: &str = "\
Examples:
  manent mark 12 40-60
  manent mark last --marker todo
  manent ls --json | jq -c 'select(.status >= 500)' | manent mark -
  manent mark 100- --off
  manent mark flows-20261122.db:12 -s 'flows-*.db'     of a store among several

Works while a capture runs. Exit code 3, and nothing is changed, if one of the flows is not there; ranges may have gaps.";

const COMMENT_EXAMPLES: &str = "\
Examples:
  manent comment last 'here the session is lost'
  manent comment 12,15 - < note.txt
  manent comment 12 -- '--a comment that begins with dashes'
  manent comment 12 --off

Works while a capture runs. Exit code 3, and nothing is changed, if one of the flows is not there; ranges may have gaps.";

const TAG_EXAMPLES: &str = "\
Examples:
  manent tag 40-60 +login
  manent tag last +cart -login
  manent tag 12 -- -s                removes the tag s, which would be an option otherwise

Works while a capture runs. Exit code 3, and nothing is changed, if one of the flows is not there; ranges may have gaps.";
