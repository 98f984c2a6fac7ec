//! Defaults, `config.toml`, environment and flags, each over the one before, for the flags of a [`Command`].
//!
//! The command is the one table. A flag that names a variable (clap's `env`) is a *setting*: its long name is its key in
//! the file, with the same values as on the command line. Nothing else lists the settings, so nothing can drift.
//!
//! What file and environment say becomes the default of a flag before the command line is parsed. A flag that excludes
//! another one (`conflicts_with`) excludes it in the layers below, too: `--port 0` sets aside a `listen` of the file.
//! Within one layer that is an error.

use std::any::TypeId;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};

use super::HostCert;
use super::file::{Entry, File, FileError, Part, Value};
use super::late;
use super::paths::default_config;
use super::setting::{Origin, SECRETS, Setting, masked};
use crate::filter::nearest;

/// A command line with what lies below it.
pub(crate) struct Parsed {
    pub(crate) matches: ArgMatches,
    /// Those that the command knows, in the order of its help.
    pub(crate) settings: Vec<Setting>,
}

/// Why a command line, or what lies below it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// The command line, or a request for help.
    #[error(transparent)]
    Usage(clap::Error),
    #[error(transparent)]
    File(#[from] FileError),
    /// The file that `--config` or `MANENT_CONFIG` names is not there, or the usual one is not there any more.
    #[error("there is no {}", .path.display())]
    NoFile { path: PathBuf },
    #[error("{name} is {value:?}: {why}")]
    Variable { name: String, value: String, why: String },
    /// Two settings of one layer exclude each other.
    #[error("{first} cannot be used with {second}")]
    Together { first: String, second: String },
}

/// What a layer says of a setting.
enum Given {
    /// That it is not set: an empty text, a list of nothing, `false`.
    Unset,
    Values(Vec<OsString>),
}

/// The settings of one command.
struct Table<'a> {
    tree: &'a Command,
    /// The command and those that it is under, without the tree itself.
    path: Vec<String>,
    leaf: &'a Command,
}

/// What the layers came to, from the top.
#[derive(Default)]
struct Decided {
    /// Settings of which a layer has spoken.
    origins: HashMap<Id, Origin>,
    /// Those to which it gave a value.
    set: HashSet<Id>,
    values: Vec<(Arg, Vec<OsString>)>,
}

/// Parses `args` with what `variable` (the environment) and the file of settings say.
///
/// # Errors
/// See [`LayerError`]. [`LayerError::Usage`] also stands for help and version, which read no file.
pub(crate) fn parse(
    tree: &Command,
    args: &[OsString],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Parsed, LayerError> {
    let bare = without_variables(tree.clone());
    // What the command line says by itself, whether or not it is good.
    let said = bare.clone().ignore_errors(true).try_get_matches_from(args).map_err(LayerError::Usage)?;
    let table = Table::new(tree, &said);
    let said_here =
        table.path.iter().fold(&said, |matches, name| matches.subcommand_matches(name).unwrap_or(matches));
    let explicit = explicit(said_here);
    let mut decided = Decided::default();
    for arg in table.settings() {
        let (given, taken_back) = (explicit.contains(arg.get_id()), explicit.contains(&negation(arg)));
        if given || taken_back {
            decided.origins.insert(arg.get_id().clone(), Origin::Flag);
        }
        if given {
            decided.set.insert(arg.get_id().clone());
        }
    }
    let mut checker = Checker { command: bare.clone() };
    let environment = from_environment(&table, variable, &mut checker)?;
    decided.add_layer(&table, environment)?;
    if !NEEDS_NO_FILE.contains(&table.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
        && let Some(file) = find_file(&said, variable)?
    {
        let entries = from_file(&table, &file, &mut checker)?;
        decided.add_layer(&table, entries)?;
    }
    let mut command = bare;
    for (arg, values) in std::mem::take(&mut decided.values) {
        let path = if arg.is_global_set() { &[][..] } else { &table.path };
        command = with_default(command, path, arg.get_id(), values);
    }
    let matches = command.try_get_matches_from(args).map_err(LayerError::Usage)?;
    let here =
        table.path.iter().fold(&matches, |matches, name| matches.subcommand_matches(name).unwrap_or(matches));
    let settings = table.settings().map(|arg| {
        let origin = decided.origins.get(arg.get_id()).cloned().unwrap_or(Origin::Default);
        Setting::of(arg, here, origin)
    });
    let settings = settings.collect();
    Ok(Parsed { matches, settings })
}

/// The settings that a file may hold, in the order of the help: those of `capture`, which has them all.
pub(crate) fn settings(tree: &Command) -> Vec<&Arg> {
    let capture = tree.find_subcommand(KEYS_OF).into_iter().flat_map(Command::get_arguments);
    capture.chain(tree.get_arguments()).filter(|arg| is_setting(arg)).collect()
}

/// The variable that `name` was probably meant to be, if it is none of ours though it begins like one.
pub(crate) fn misspelt(tree: &Command, name: &str) -> Option<String> {
    let key = name.strip_prefix("MANENT_")?.to_ascii_lowercase().replace('_', "-");
    let known = settings(tree);
    let mut known = known.iter().filter_map(|arg| arg.get_long()).chain(["config", "pager"]);
    if known.clone().any(|known| known == key) {
        return None;
    }
    let near = nearest(&key, &mut known)?;
    Some(format!("MANENT_{}", near.to_uppercase().replace('-', "_")))
}

/// The id of the flag that takes another one back: `--no-insecure`.
pub(crate) fn negation(arg: &Arg) -> Id {
    Id::from(format!("not {}", arg.get_id()))
}

/// Whether variable and file set it.
pub(crate) fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long().is_some_and(|long| long != "config")
}

impl<'a> Table<'a> {
    fn new(tree: &'a Command, said: &ArgMatches) -> Self {
        let (mut path, mut leaf, mut at) = (Vec::new(), tree, said);
        while let Some((name, below)) = at.subcommand() {
            let Some(command) = leaf.find_subcommand(name) else { break };
            path.push(name.to_owned());
            (leaf, at) = (command, below);
        }
        Self { tree, path, leaf }
    }

    fn settings(&self) -> impl Iterator<Item = &'a Arg> {
        let global = self.tree.get_arguments().filter(|_| !self.path.is_empty());
        self.leaf.get_arguments().chain(global).filter(|arg| is_setting(arg))
    }

    fn excludes(&self, one: &Arg, other: &Arg) -> bool {
        let declared = |one: &Arg, other: &Arg| {
            let command = if one.is_global_set() { self.tree } else { self.leaf };
            command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
        };
        declared(one, other) || declared(other, one)
    }
}

impl Decided {
    /// Takes from a layer what those above it leave open.
    fn add_layer(&mut self, table: &Table<'_>, layer: Vec<(&Arg, Given, Origin)>) -> Result<(), LayerError> {
        let above = self.set.clone();
        for (arg, given, origin) in layer {
            if self.origins.contains_key(arg.get_id()) {
                continue;
            }
            if let Given::Values(values) = given {
                let excluding = |set: &HashSet<Id>| {
                    table.settings().find(|other| set.contains(other.get_id()) && table.excludes(arg, other))
                };
                if excluding(&above).is_some() {
                    continue;
                }
                if let Some(other) = excluding(&self.set) {
                    let first = self.origins.get(other.get_id()).unwrap_or(&Origin::Default);
                    let told = |arg: &Arg, origin: &Origin| format!("{} ({origin})", key(arg));
                    return Err(LayerError::Together {
                        first: told(other, first),
                        second: told(arg, &origin),
                    });
                }
                self.set.insert(arg.get_id().clone());
                self.values.push((arg.clone(), values));
            }
            self.origins.insert(arg.get_id().clone(), origin);
        }
        Ok(())
    }
}

fn from_environment<'a>(
    table: &Table<'a>,
    variable: &dyn Fn(&str) -> Option<OsString>,
    checker: &mut Checker,
) -> Result<Vec<(&'a Arg, Given, Origin)>, LayerError> {
    let mut layer = Vec::new();
    for arg in table.settings() {
        let name = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
        let Some(value) = variable(&name) else { continue };
        let given = given_by_variable(arg, &value).and_then(|given| checker.check(arg, given));
        let given = given.map_err(|why| LayerError::Variable {
            name: name.clone(),
            value: masked(&key(arg), &value.to_string_lossy()),
            why,
        })?;
        layer.push((arg, given, Origin::Environment { name }));
    }
    Ok(layer)
}

fn from_file<'a>(
    table: &Table<'a>,
    file: &File,
    checker: &mut Checker,
) -> Result<Vec<(&'a Arg, Given, Origin)>, LayerError> {
    let known = settings(table.tree);
    let mut layer = Vec::new();
    for entry in &file.entries {
        let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(&entry.key)) else {
            return Err(unknown_key(file, entry, &known).into());
        };
        // Those of other commands are checked as well: a mistake is told at once, not on the day when it counts.
        let given = given_by_entry(arg, &entry.value, &file.path).and_then(|given| checker.check(arg, given));
        let given = given.map_err(|why| {
            let part = if may_hold_secret(entry) { Part::SecretValue } else { Part::Value };
            file.wrong(entry, part, format!("`{}`: {why}", entry.key), late::hint(&entry.key))
        })?;
        if let Some(arg) = table.settings().find(|arg| arg.get_long() == Some(&entry.key)) {
            layer.push((arg, given, Origin::File { path: file.path.clone(), line: entry.line }));
        }
    }
    Ok(layer)
}

/// Whether the value is not to be quoted.
fn may_hold_secret(entry: &Entry) -> bool {
    let holds = |value: &Value| matches!(value, Value::Text(text) if masked(&entry.key, text) != *text);
    let in_it = match &entry.value {
        Value::List(items) => items.iter().any(holds),
        value => holds(value),
    };
    in_it || SECRETS.contains(&entry.key.as_str())
}

fn unknown_key(file: &File, entry: &Entry, known: &[&Arg]) -> FileError {
    let hint = match &entry.value {
        Value::Other("a table") => "there are no sections: keys stand alone".to_owned(),
        _ => match nearest(&entry.key.replace('_', "-"), known.iter().filter_map(|arg| arg.get_long())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "manent help capture   lists all keys".to_owned(),
        },
    };
    file.wrong(entry, Part::Key, format!("unknown key `{}`", entry.key), Some(hint))
}

/// The file that is named, or else the one at its usual place, if there is one. Once this process has read that, it has to be
/// there: an editor that is about to put a new one in its place must not lay open what the old one guards.
fn find_file(
    said: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<File>, LayerError> {
    if said.get_flag("no_config") {
        return Ok(None);
    }
    match named_file(said.get_one::<PathBuf>("config").cloned(), variable) {
        Some(path) => match File::read(&path)? {
            Some(file) => Ok(Some(file)),
            None => Err(LayerError::NoFile { path }),
        },
        None => {
            let Ok(path) = default_config() else { return Ok(None) };
            match File::read(&path)? {
                Some(file) => {
                    READ.get_or_init(|| path);
                    Ok(Some(file))
                }
                None if READ.get() == Some(&path) => Err(LayerError::NoFile { path }),
                None => Ok(None),
            }
        }
    }
}

/// What `--config` or else `MANENT_CONFIG` says.
pub(crate) fn named_file(
    flag: Option<PathBuf>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    flag.or_else(|| variable("MANENT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
}

fn given_by_variable(arg: &Arg, value: &OsStr) -> Result<Given, String> {
    let text = value.to_str().map(str::trim);
    if text == Some("") {
        return Ok(Given::Unset);
    }
    let lowered = text.unwrap_or_default().to_ascii_lowercase();
    match (arg.get_action(), text) {
        (ArgAction::SetTrue, _) => match lowered.as_str() {
            "1" | "true" | "yes" | "on" | "y" | "t" => Ok(Given::Values(vec!["true".into()])),
            "0" | "false" | "no" | "off" | "n" | "f" => Ok(Given::Unset),
            _ => Err("true or false was expected".to_owned()),
        },
        (ArgAction::Count, _) => count(&lowered),
        // A list: one a line, since patterns and paths may hold all else; with blanks or commas between where they cannot.
        (ArgAction::Append, Some(text)) => {
            let split = |c: char| match arg.get_value_delimiter() {
                Some(delimiter) => c == delimiter || c.is_whitespace(),
                None => c == '\n',
            };
            let parts = text.split(split).map(str::trim).filter(|part| !part.is_empty());
            Ok(Given::Values(parts.map(OsString::from).collect()))
        }
        _ => Ok(Given::Values(vec![value.to_owned()])),
    }
}

fn given_by_entry(arg: &Arg, value: &Value, file: &Path) -> Result<Given, String> {
    let one = |value: &Value| match value {
        Value::Text(text) => Some(placed(arg, text, file)),
        Value::Integer(digits) => Some(digits.into()),
        _ => None,
    };
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Bool(true)) => Ok(Given::Values(vec!["true".into()])),
        (ArgAction::SetTrue, Value::Bool(false)) => Ok(Given::Unset),
        (ArgAction::SetTrue, other) => Err(format!("true or false was expected, not {}", other.kind())),
        (ArgAction::Count, Value::Integer(digits)) => count(digits),
        (ArgAction::Count, other) => Err(format!("a whole number was expected, not {}", other.kind())),
        (_, Value::Text(text)) if text.trim().is_empty() => Ok(Given::Unset),
        (ArgAction::Append, Value::List(items)) if items.is_empty() => Ok(Given::Unset),
        (ArgAction::Append, Value::List(items)) => items
            .iter()
            .map(|item| {
                one(item)
                    .ok_or_else(|| format!("a list of texts ({name}) was expected, not of {}", item.kind()))
            })
            .collect::<Result<_, _>>()
            .map(Given::Values),
        (action, value) => match one(value) {
            Some(value) => Ok(Given::Values(vec![value])),
            None => {
                let or_list = if matches!(action, ArgAction::Append) { " or a list of them" } else { "" };
                Err(format!("a text ({name}){or_list} was expected, not {}", value.kind()))
            }
        },
    }
}

fn count(digits: &str) -> Result<Given, String> {
    match digits.parse::<u8>() {
        Ok(0) => Ok(Given::Unset),
        Ok(count) => Ok(Given::Values(vec![count.to_string().into()])),
        Err(_) => Err("a whole number from 0 to 255 was expected".to_owned()),
    }
}

/// A path is found from the directory of the file that names it, wherever manent is started, and `~/` is the home directory.
fn placed(arg: &Arg, text: &str, file: &Path) -> OsString {
    let place = |text: &str| -> OsString {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        match (text.strip_prefix("~/"), home, file.parent()) {
            (Some(rest), Some(home), _) => Path::new(&home).join(rest).into(),
            (_, _, Some(directory)) => directory.join(text).into(),
            _ => text.into(),
        }
    };
    let behind = |before: &str, path: &str| {
        let mut whole = OsString::from(before);
        whole.push(place(path));
        whole
    };
    let kind = arg.get_value_parser().type_id();
    if kind == TypeId::of::<PathBuf>() {
        return place(text);
    }
    if kind == TypeId::of::<HostCert>() {
        return match text.split_once('=') {
            Some((host, path)) if !host.contains('/') => behind(&format!("{host}="), path),
            _ => place(text),
        };
    }
    match text.strip_prefix('@') {
        Some(path) if arg.get_long() == Some("proxy-auth") => behind("@", path),
        _ => text.into(),
    }
}

/// Asks clap whether a value will do, before it stands where clap would blame the command line for it.
struct Checker {
    command: Command,
}

impl Checker {
    fn check(&mut self, arg: &Arg, given: Given) -> Result<Given, String> {
        if let (Given::Values(values), true) = (&given, arg.get_action().takes_values()) {
            values.iter().try_for_each(|value| self.check_value(arg, value))?;
        }
        Ok(given)
    }

    fn check_value(&mut self, arg: &Arg, value: &OsStr) -> Result<(), String> {
        let mut word = OsString::from(format!("--{}=", key(arg)));
        word.push(value);
        let line = ["manent".into(), KEYS_OF.into(), word];
        let Err(error) = self.command.try_get_matches_from_mut(line) else {
            return late::judge(&key(arg), &value.to_string_lossy());
        };
        match error.kind() {
            ErrorKind::ValueValidation => {
                let source = std::error::Error::source(&error);
                Err(source.map_or_else(|| "it cannot be used".to_owned(), ToString::to_string))
            }
            ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(known)) => {
                    Err(format!("one of {} was expected", known.join(", ")))
                }
                _ => Err("it cannot be used".to_owned()),
            },
            ErrorKind::InvalidUtf8 => Err("it is not UTF-8".to_owned()),
            // That something else is missing is not said of this value.
            _ => Ok(()),
        }
    }
}

fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_owned()
}

/// The flags that the command line names.
fn explicit(matches: &ArgMatches) -> HashSet<Id> {
    let named = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(named).cloned().collect()
}

/// clap would read them by itself, and take what they say for what the command line says.
fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.env(None::<&str>)).mut_subcommands(without_variables)
}

fn with_default(command: Command, path: &[String], id: &Id, values: Vec<OsString>) -> Command {
    match path.split_first() {
        None => command.mut_arg(id, |arg| arg.default_values(values)),
        Some((name, below)) => {
            command.mut_subcommand(name, |command| with_default(command, below, id, values))
        }
    }
}

/// The file at its usual place, once it was there. Of the process, since that reads the same one each time.
static READ: OnceLock<PathBuf> = OnceLock::new();

/// The command that has all settings.
pub(crate) const KEYS_OF: &str = "capture";

/// Commands that a broken file must not stop: they help to mend it, or have nothing to do with it.
const NEEDS_NO_FILE: &[&[&str]] = &[&["config", "init"], &["config", "path"], &["completions"], &["man"]];
