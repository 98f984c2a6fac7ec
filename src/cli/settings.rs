//! `manent config`: what the settings are and where they come from, and a file to begin with.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, Args, Subcommand};

use super::args::Global;
use super::errors::CliError;
use super::flags::ProxyFlags;
use super::output::Output;
use super::{escape, text, tree};
use crate::config::setting::{Origin, Setting};
use crate::config::{default_config, layers};

/// Show the settings and where they come from, or write a file of them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(Box<ShowArgs>),
    Init(InitArgs),
    Path(PathArgs),
}

/// Show each setting, its value, and where that comes from: default, file and line, variable, or flag
///
/// It takes the flags of `capture`, and shows what they would come to. Passwords are left out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct ShowArgs {
    #[command(flatten)]
    proxy: ProxyFlags,
}

/// Write a file with each setting, its default and what it does, all of it commented out
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct InitArgs {
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// Print the path of the file of settings: --config, MANENT_CONFIG, or the usual one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct PathArgs;

pub(super) fn run(
    args: &ConfigArgs,
    global: &Global,
    settings: &[Setting],
    output: &Output,
) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Show(args) => {
            show(settings, output)?;
            // What no single setting tells, such as a listener that nothing guards.
            args.proxy.config(global)?;
        }
        Verb::Init(args) => init(args, file(global)?, output)?,
        Verb::Path(PathArgs) => {
            let path = file(global)?;
            output.data_line(&escape::line(path.as_os_str().as_encoded_bytes()))?;
            if !path.exists() {
                output.talk("It is not there yet: manent config init");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file of settings, whether or not it is there.
fn file(global: &Global) -> anyhow::Result<PathBuf> {
    let named = layers::named_file(global.config.clone(), &|name| std::env::var_os(name));
    Ok(named.map_or_else(default_config, Ok)?)
}

fn show(settings: &[Setting], output: &Output) -> anyhow::Result<()> {
    let mut data = output.data();
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
    for setting in settings {
        if output.json {
            writeln!(data, "{}", setting.json())?;
            continue;
        }
        let value = escape::line(setting.shown().unwrap_or_else(|| "none".to_owned()));
        let origin = escape::line(setting.origin.to_string());
        if !output.terminal {
            writeln!(data, "{}\t{value}\t{origin}", setting.key)?;
            continue;
        }
        let line = format!("{:width$}  {value:20}  ", setting.key);
        let (line, origin) = match setting.origin {
            Origin::Default => (output.paint.dim(&line), output.paint.dim(&origin)),
            _ => (line, origin),
        };
        writeln!(data, "{line}{origin}")?;
    }
    Ok(data.flush()?)
}

fn init(args: &InitArgs, path: PathBuf, output: &Output) -> anyhow::Result<()> {
    let failed = |source| CliError::Write { path: text::path(&path), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    match write(&path, dir, &template(), args.force) {
        Ok(()) => output.talk(&format!("written: {}", text::path(&path))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CliError::FileExists { path: text::path(&path) }.into());
        }
        Err(error) => return Err(failed(error).into()),
    }
    Ok(())
}

/// Puts the file in its place whole, and readable by its owner alone, as it may come to hold passwords: one that was there
/// keeps neither its mode nor, if it is a link, what it leads to. `/dev/null` and its like are written to as they are.
fn write(path: &Path, dir: &Path, text: &str, force: bool) -> io::Result<()> {
    if force && path.metadata().is_ok_and(|found| !found.is_file()) {
        return std::fs::write(path, text);
    }
    // A temporary file of this crate has mode 0600. What it tells of an error names a file that nobody has heard of.
    let mut new = tempfile::NamedTempFile::new_in(dir).map_err(|error| io::Error::from(error.kind()))?;
    new.write_all(text.as_bytes())?;
    let placed = if force { new.persist(path) } else { new.persist_noclobber(path) };
    placed.map(|_| ()).map_err(|error| error.error)
}

/// Each setting with its default and the first sentence of its help, by groups as the help has them.
fn template() -> String {
    let tree = tree::visible();
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for arg in layers::settings(&tree) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            text += &format!("\n## {}\n", heading.unwrap_or("Options"));
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text += &format!("\n# {}\n{}\n", help.replace('\n', " "), commented(arg));
    }
    text
}

/// `#max-age = ""  # TIME`: without the `#` in front it sets what holds anyway.
fn commented(arg: &Arg) -> String {
    let quoted = |value: &std::ffi::OsStr| serde_json::json!(value.to_string_lossy()).to_string();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| quoted(value)).collect();
    let value = match arg.get_action() {
        ArgAction::SetTrue => "false".to_owned(),
        ArgAction::Count => "0".to_owned(),
        ArgAction::Append => format!("[{}]", defaults.join(", ")),
        _ => defaults.first().cloned().unwrap_or_else(|| "\"\"".to_owned()),
    };
    let line = format!("#{} = {value}", arg.get_long().unwrap_or_default());
    match (arg.get_action().takes_values(), arg.get_value_names()) {
        (true, Some([name, ..])) => format!("{line}  # {name}"),
        _ => line,
    }
}

const HEAD: &str = "\
# The settings of manent. Each key has its default: take away the # in front, and change it.
#
# They are those of `manent capture`, by the names of its flags; `manent help capture` tells all about them. Other commands
# take what concerns them. Variables (MANENT_MAX_AGE) and flags (--max-age) go before what stands here; `manent config show`
# shows what holds, and why. A running capture reads this file again on SIGHUP.
#
# An empty text, an empty list and false are the default. Paths are found from the directory of this file; ~/ is the home
# directory. What may be given several times takes a list: [\"one\", \"two\"].
";

const EXAMPLES: &str = "\
Examples:
  manent config show                       each setting, its value, and where that comes from
  manent config show -p 9000 --max-age 7d  the same for a capture with these flags
  manent config show --json | jq 'select(.source != \"default\")'
  manent config init                       a file with all of them, commented out
  manent config path                       where it is";

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// `config init --force` once kept the mode 0644 of the file that it wrote over, and wrote to wherever a link led.
    #[test]
    fn a_file_that_is_written_over_becomes_private_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, other) = (dir.path().join("config.toml"), dir.path().join("other"));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        fs::write(&file, "old").expect("writable");
        fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("ours");
        let write = |force| write(&file, dir.path(), "new", force);
        let error = write(false).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).expect("there"), "old");
        write(true).expect("writable");
        assert_eq!((fs::read_to_string(&file).expect("there").as_str(), mode(&file)), ("new", 0o600));

        fs::write(&other, "untouched").expect("writable");
        fs::remove_file(&file).expect("there");
        symlink(&other, &file).expect("writable");
        write(true).expect("writable");
        assert_eq!(fs::read_to_string(&other).expect("there"), "untouched");
        assert!(fs::symlink_metadata(&file).expect("there").is_file() && mode(&file) == 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 2, "no temporary file stays");
    }
}
