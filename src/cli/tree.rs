//! The command tree as it is parsed and shown: the definitions of `args`, and what follows from them alone.
//!
//! - a switch that file or environment may set is taken back by `--no-SWITCH`;
//! - `--help` has a sentence a flag, `manent help COMMAND` all that there is to say, with keys and variables.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use super::args::Cli;
use crate::config::layers::{self, LayerError, is_setting, negation};
use crate::config::setting::Setting;
use crate::config::{DEFAULT_LISTEN, default_ca_dir, default_store};

/// The command line of this process, with file and environment below it.
///
/// # Errors
/// See [`LayerError`].
pub(super) fn parse(args: &[OsString]) -> Result<(Cli, Vec<Setting>), LayerError> {
    let tree = with_negations(shown(only_named(Cli::command(), args)));
    let mut parsed = layers::parse(&tree, args, &|name| std::env::var_os(name))?;
    let cli = Cli::from_arg_matches_mut(&mut parsed.matches);
    let cli = cli.map_err(|error| LayerError::Usage(error.format(&mut tree.clone())))?;
    Ok((cli, parsed.settings))
}

/// A warning for each variable of the environment that looks like a slip in one of ours: nothing else would tell.
pub(super) fn misspelt_variables() -> Vec<String> {
    let tree = visible();
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let told = names.filter_map(|name| {
        layers::misspelt(&tree, &name).map(|near| format!("{name} is no setting; did you mean {near}?"))
    });
    told.collect()
}

/// All commands.
#[cfg(test)]
pub(super) fn tree() -> Command {
    with_negations(visible())
}

/// The same, without what is understood and not listed.
pub(super) fn visible() -> Command {
    shown(Cli::command())
}

/// With the names alone of the commands other than the one that the arguments name, and the one that has all settings: to
/// copy and change what is known of all others is most of the work of a start. Everything, where the arguments name none, or
/// ask for help on one.
fn only_named(root: Command, args: &[OsString]) -> Command {
    let named = args.get(named_at(&root, args)).and_then(|arg| arg.to_str());
    let Some(named) =
        named.filter(|named| root.get_subcommands().any(|command| command.get_name() == *named))
    else {
        return root;
    };
    root.mut_subcommands(|command| match command.get_name() {
        name if name == named || name == layers::KEYS_OF => command,
        name => Command::new(name.to_owned()),
    })
}

fn shown(root: Command) -> Command {
    let default = |arg: Arg, path: Result<std::path::PathBuf, _>| match path {
        Ok(path) => arg.default_value(path.into_os_string()).hide_default_value(true),
        Err(_) => arg, // told where the path is needed
    };
    let listen = |command: Command, addr: String| {
        change(command, "listen", |arg| arg.default_value(addr.clone()).hide_default_value(true))
    };
    let tree = change(root, "store", |arg| default(arg, default_store()));
    let tree = change(tree, "ca_dir", |arg| default(arg, default_ca_dir()))
        .mut_subcommand("capture", |capture| listen(capture, DEFAULT_LISTEN.to_string()))
        .mut_subcommand("doctor", |doctor| listen(doctor, DEFAULT_LISTEN.to_string()))
        .mut_subcommand("env", |env| listen(env, DEFAULT_LISTEN.to_string()))
        .mut_subcommand("config", |config| {
            config.mut_subcommands(|command| match command.get_name() {
                "show" => listen(command, DEFAULT_LISTEN.to_string()),
                _ => command,
            })
        })
        .mut_subcommand("serve", |serve| without_layers(listen(serve, DEFAULT_LISTEN.to_string()), WAYS_IN))
        // A proxy beside the one that the settings are for, and for one command of this machine.
        .mut_subcommand("run", |run| {
            without_layers(without_layers(listen(run, "127.0.0.1:0".to_owned()), WAYS_IN), ACCESS)
        });
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).global(true);
    let help = help.help("Print help; `manent help COMMAND` tells more").display_order(1000);
    with_helps(tree.disable_help_flag(true).arg(help), &[])
}

/// Puts `capture` where the command would stand, if there is none: `manent -p 0` is `manent capture -p 0`.
///
/// A word that is no command stays, so that clap can tell what was meant.
pub(super) fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let root = Cli::command();
    let at = named_at(&root, &args);
    if at > args.len() {
        return args; // the value of the last flag is missing, which clap tells
    }
    let first = args.get(at).map(|arg| arg.to_string_lossy().into_owned());
    let named = first.as_ref().is_some_and(|arg| {
        !arg.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&arg.as_str())
    });
    match first.as_deref() {
        Some("tag") => with_options_first(&root, &mut args, at + 1),
        _ if named => {}
        _ => args.insert(at, "capture".into()),
    }
    args
}

/// Where the command stands, or would: behind the global flags.
fn named_at(root: &Command, args: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(width) = args.get(at).and_then(|arg| arg.to_str()).and_then(|arg| global_width(root, arg))
    {
        at += width;
    }
    at
}

/// Puts options in front of the words of `tag`, where they are not taken for tags to remove. What begins with one dash is a tag,
/// unless it is one of our letters; behind `--` all are.
fn with_options_first(root: &Command, args: &mut Vec<OsString>, begin: usize) {
    let (mut options, mut words) = (Vec::new(), Vec::new());
    let mut rest = args.split_off(begin.min(args.len())).into_iter();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        let width = match text.strip_prefix('-') {
            Some("-") => {
                words.push(arg);
                words.extend(rest.by_ref());
                break;
            }
            Some(long) if long.starts_with('-') => global_width(root, &text).unwrap_or(1),
            Some("h" | "V") => 1,
            Some(letters)
                if letters.len() == 1 || !letters.is_empty() && letters.bytes().all(|c| c == b'v') =>
            {
                global_width(root, &text).unwrap_or(0)
            }
            _ => 0,
        };
        match width {
            0 => words.push(arg),
            1 => options.push(arg),
            _ => {
                options.push(arg);
                match rest.next() {
                    Some(value) => options.push(value),
                    // It stands last, so that clap tells what is missing.
                    None => words.clear(),
                }
            }
        }
    }
    args.extend(options);
    args.extend(words);
}

/// How many arguments a global flag takes up, itself among them; `None` if `arg` is not one.
fn global_width(root: &Command, arg: &str) -> Option<usize> {
    let takes_value = |known: &Arg| known.get_action().takes_values();
    if let Some(long) = arg.strip_prefix("--") {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let known = root.get_arguments().find(|known| known.get_long() == Some(name));
        let negated = || root.get_arguments().find(|known| negated_name(known).as_deref() == Some(name));
        let known = known.or_else(negated)?;
        return Some(if takes_value(known) && value.is_none() { 2 } else { 1 });
    }
    let shorts = arg.strip_prefix('-').filter(|shorts| !shorts.is_empty())?;
    for (i, short) in shorts.char_indices() {
        let known = root.get_arguments().find(|known| known.get_short() == Some(short))?;
        if takes_value(known) {
            return Some(if i + short.len_utf8() == shorts.len() { 2 } else { 1 });
        }
    }
    Some(1)
}

/// Takes some of a command's flags out of the reach of file and environment.
fn without_layers(command: Command, ids: &[&str]) -> Command {
    ids.iter().fold(command, |command, id| change(command, id, |arg| arg.env(None::<&str>)))
}

/// Changes one flag, where it stands: clap's `mut_arg` puts it at the end.
fn change(command: Command, id: &str, to: impl Fn(Arg) -> Arg) -> Command {
    command.mut_args(|arg| if arg.get_id() == id { to(arg) } else { arg })
}

/// The name of the switch that takes this one back; `None` for what is no switch of file or environment.
fn negated_name(arg: &Arg) -> Option<String> {
    let long =
        arg.get_long().filter(|_| is_setting(arg) && matches!(arg.get_action(), ArgAction::SetTrue))?;
    Some(long.strip_prefix("no-").map_or_else(|| format!("no-{long}"), str::to_owned))
}

fn with_negations(mut command: Command) -> Command {
    let switches: Vec<Arg> =
        command.get_arguments().filter(|arg| negated_name(arg).is_some()).cloned().collect();
    for switch in switches {
        let Some(name) = negated_name(&switch) else { continue };
        if command.get_arguments().any(|arg| arg.get_long() == Some(&name)) {
            continue; // --record FILTER takes --no-record back, by excluding it
        }
        let (id, not) = (switch.get_id().clone(), negation(&switch));
        let negative = Arg::new(not.clone()).long(name).action(ArgAction::SetTrue).hide(true);
        let negative = negative.overrides_with(id.clone()).global(switch.is_global_set());
        command = change(command.arg(negative), id.as_str(), |arg| arg.overrides_with(not.clone()));
    }
    command.mut_subcommands(with_negations)
}

/// Gives each flag a short and a long help, and each command what the long one ends with.
fn with_helps(command: Command, above: &[String]) -> Command {
    let path = [above, &[command.get_name().to_owned()]].concat();
    let examples = command.get_after_help().map(ToString::to_string);
    let command = command.mut_args(with_help);
    let examples = unwrapped(&examples.unwrap_or_default());
    let codes = if examples.contains("Exit code") { "" } else { EXIT_CODES };
    let more = if above.is_empty() { "COMMAND".to_owned() } else { path[1..].join(" ") };
    let short = format!("{examples}\n\n`manent help {more}` tells more.").trim_start().to_owned();
    let long = format!("{examples}{codes}").trim_start().to_owned();
    let command = command.after_help(short).after_long_help(long);
    command.mut_subcommands(|below| with_helps(below, &path))
}

/// Prose as one line a paragraph, so that clap breaks it where the terminal ends, and not there and where the source does. What
/// is indented, or stands with such lines, is a list or a table and stays.
fn unwrapped(text: &str) -> String {
    let paragraph = |paragraph: &str| {
        let is_prose = !paragraph.lines().any(|line| line.starts_with(' '));
        if is_prose { paragraph.lines().collect::<Vec<_>>().join(" ") } else { paragraph.to_owned() }
    };
    text.split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n\n")
}

fn with_help(arg: Arg) -> Arg {
    let Some(help) = arg.get_help().map(ToString::to_string) else { return arg };
    let mut long = arg.get_long_help().map_or_else(|| help.clone(), ToString::to_string);
    if let (true, Some(name), Some(variable)) = (is_setting(&arg), arg.get_long(), arg.get_env()) {
        long = format!("{long}\n[config.toml: {name}] [env: {}]", variable.to_string_lossy());
    }
    let arg = arg.help(first_sentence(&help)).hide_env(true);
    if long == help { arg } else { arg.long_help(long) }
}

/// The first sentence, and the default, which stands at the end where it is said in words.
fn first_sentence(help: &str) -> String {
    let Some((first, rest)) = help.split_once(". ") else { return help.to_owned() };
    match rest.find("[default: ") {
        Some(at) => format!("{first} {}", &rest[at..]),
        None => first.to_owned(),
    }
}

/// Flags that are about the one proxy that runs as `capture`.
const WAYS_IN: &[&str] = &["listen", "port", "reverse", "keep_host"];

/// Who may use it.
const ACCESS: &[&str] = &["proxy_auth", "allow", "open"];

const EXIT_CODES: &str = "

Exit codes:
  0  done                                 4  the store failed, or not all is in it
  1  it ran, and the answer is no         5  the network
  2  bad usage, bad settings              6  TLS or the CA
  3  not found                            7  a file to import or export";

#[cfg(test)]
mod tests {
    use super::*;

    /// That of clap's lines where there is no terminal.
    const WIDTH: usize = 100;

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    /// What the layers rest on: `config` reads the flags of `capture` and the global ones off the tree.
    #[test]
    fn each_flag_of_capture_is_a_key_and_a_variable_of_its_name() {
        let tree = tree();
        let capture = tree.find_subcommand("capture").expect("a command");
        for arg in capture.get_arguments().chain(tree.get_arguments()) {
            let Some(long) = arg.get_long().filter(|_| !arg.is_hide_set()) else { continue };
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            if ["help", "no-config"].contains(&long) {
                assert_eq!(variable, None, "--{long}");
            } else {
                let name = format!("MANENT_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(variable, Some(name), "--{long}");
            }
        }
    }

    #[test]
    fn a_command_by_itself_is_what_it_is_among_all() {
        fn helps(command: &mut Command) -> String {
            let below: String = command.get_subcommands_mut().map(helps).collect();
            format!("{}{}{below}", command.render_help(), command.render_long_help())
        }
        let keys = |tree: &Command| -> Vec<String> {
            layers::settings(tree).into_iter().map(|arg| format!("{arg:?}")).collect()
        };
        let mut whole = tree();
        whole.build();
        let names: Vec<String> = whole.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            let args = ["manent", "-v", "--store=a", "--color", "never", name].map(OsString::from);
            let mut alone = with_negations(shown(only_named(Cli::command(), &args)));
            alone.build();
            assert_eq!(keys(&alone), keys(&whole), "{name}");
            let [alone, among_all] = [&mut alone, &mut whole]
                .map(|tree| helps(tree.find_subcommand_mut(name).expect("a command")));
            assert_eq!(alone, among_all);
        }
        for args in [&["manent"][..], &["manent", "help", "ls"], &["manent", "lss"], &["manent", "--store"]] {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let all = only_named(Cli::command(), &args);
            assert!(all.find_subcommand("ls").is_some_and(|ls| ls.get_arguments().next().is_some()));
        }
    }

    /// A line of examples that is too long would be broken in the middle of what it shows.
    #[test]
    fn helps_break_where_their_paragraphs_do() {
        fn look(command: &Command, looked: &mut usize) {
            // The table of filters is also printed by itself, and as it is.
            if command.get_name() == "filter" {
                return;
            }
            let helps = [command.get_after_help(), command.get_after_long_help()];
            for help in helps.into_iter().flatten().map(ToString::to_string) {
                for paragraph in help.split("\n\n") {
                    *looked += 1;
                    let is_table = paragraph.lines().any(|line| line.starts_with(' '));
                    assert!(
                        is_table || paragraph.lines().count() <= 1,
                        "{}: {paragraph}",
                        command.get_name()
                    );
                    for line in paragraph.lines().filter(|_| is_table) {
                        assert!(line.chars().count() <= WIDTH, "{}: {line}", command.get_name());
                    }
                }
            }
            command.get_subcommands().for_each(|below| look(below, looked));
        }
        let mut looked = 0;
        look(&tree(), &mut looked);
        assert!(looked > 60, "{looked}");
    }

    /// What clap and the standard library say of numbers helps nobody: each flag says what it takes, and shows one that will do.
    #[test]
    fn a_bad_value_is_told_what_would_be_a_good_one() {
        const BAD: [&str; 6] = ["x!", "-1", "", "99999999999999999999999999", "1.5.2", "7 apples"];
        const QUANTITIES: [&str; 10] =
            ["N", "PORT", "SIZE", "TIME", "LEVEL", "MID", "NUMBER", "SHARE", "RATE", "FACTOR"];
        const HELPS: [&str; 6] = ["such as", "as in", "must be", "at most", "a rate is", "a speed is"];
        const FROM_BELOW: [&str; 5] =
            ["invalid digit", "invalid float", "number too", "empty string", "not in"];
        /// The command line with each flag that takes a value, and that value's name.
        fn flags(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, String)>) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let Some(long) = arg.get_long() else { continue };
                let name = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
                found.push(([path, &[format!("--{long}=")]].concat(), name));
            }
            for below in command.get_subcommands() {
                flags(below, &[path, &[below.get_name().to_owned()]].concat(), found);
            }
        }
        let mut tree = tree();
        let mut found = Vec::new();
        flags(&tree, &["manent".to_owned()], &mut found);
        let mut told = 0;
        for (words, name) in &found {
            for bad in BAD {
                let mut words = words.clone();
                words.last_mut().expect("the flag").push_str(bad);
                let Err(error) = tree.try_get_matches_from_mut(&words) else { continue };
                if error.kind() != clap::error::ErrorKind::ValueValidation {
                    continue;
                }
                let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                assert!(!FROM_BELOW.iter().any(|words| why.contains(words)), "{words:?}: {why}");
                if QUANTITIES.contains(&&**name) {
                    assert!(HELPS.iter().any(|words| why.contains(words)), "{words:?}: {why}");
                    told += 1;
                }
            }
        }
        assert!(told > 150, "{told}");
    }

    #[test]
    fn no_command_means_capture() {
        let filled = |line: &str| {
            let args = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
            let args = with_default_command(args).into_iter().map(|arg| arg.to_string_lossy().into_owned());
            args.collect::<Vec<_>>().join(" ")
        };
        for (given, expected) in [
            ("manent", "manent capture"),
            ("manent -p 0", "manent capture -p 0"),
            ("manent -s ls -q", "manent -s ls -q capture"),
            ("manent -s x ls", "manent -s x ls"),
            ("manent -qsx --json ls", "manent -qsx --json ls"),
            ("manent --store=x -k", "manent --store=x capture -k"),
            ("manent --color never -vv", "manent --color never -vv capture"),
            ("manent --no-json --pager ls", "manent --no-json --pager ls"),
            ("manent --config c.toml", "manent --config c.toml capture"),
            ("manent --help", "manent --help"),
            ("manent -V", "manent -V"),
            ("manent exprot", "manent exprot"),
            ("manent --nosuch", "manent capture --nosuch"),
            ("manent -s", "manent -s"),
            ("manent tag 1 +a --json -b -s x.db -q", "manent tag --json -s x.db -q 1 +a -b"),
            ("manent -q tag --json 1 -login -vv --nosuch", "manent -q tag --json -vv --nosuch 1 -login"),
            ("manent tag 1 +a -- -s --json", "manent tag 1 +a -- -s --json"),
            ("manent tag 1 +a -s", "manent tag -s"),
            ("manent show 1 tag --json", "manent show 1 tag --json"),
        ] {
            assert_eq!(filled(given), expected);
        }
    }

    #[test]
    fn short_help_is_a_sentence_and_the_default() {
        assert_eq!(first_sentence("One. Two"), "One");
        assert_eq!(first_sentence("One [default: 1]"), "One [default: 1]");
        assert_eq!(first_sentence("One: a.b. Two [default: 1]"), "One: a.b [default: 1]");
    }
}
