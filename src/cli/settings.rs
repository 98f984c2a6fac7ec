//! `manent config`: what the settings are and where they come from, and a file to begin with.

use std::io::Write as _;
use std::path::PathBuf;
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
    use std::os::unix::fs::OpenOptionsExt as _;

    let failed = |source| CliError::Write { path: text::path(&path), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    // It may come to hold passwords.
    options.write(true).mode(0o600);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CliError::FileExists { path: text::path(&path) }.into());
        }
        Err(error) => return Err(failed(error).into()),
    };
    file.write_all(template().as_bytes()).map_err(failed)?;
    output.talk(&format!("written: {}", text::path(&path)));
    Ok(())
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
