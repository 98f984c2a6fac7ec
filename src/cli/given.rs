//! What this command line named that a command in a hint has to name again, so that it can be pasted: another store, another
//! directory of the CA, another file of settings. What comes from the environment holds there as well.

use std::sync::OnceLock;

use super::args::Global;
use super::escape;
use crate::config::setting::{Origin, Setting};

/// Flags, each with a blank in front of it; empty where they were not given.
#[derive(Debug, Default)]
struct Given {
    settings: String,
    store: String,
    ca_dir: String,
}

/// Of the process, as its command line is. Before that is understood, nothing is known to be given.
static GIVEN: OnceLock<Given> = OnceLock::new();

/// Takes note of what the command line says.
pub(super) fn remember(global: &Global, settings: &[Setting]) {
    let by_flag =
        |key: &str| settings.iter().any(|setting| setting.key == key && setting.origin == Origin::Flag);
    let mut given = Given::default();
    match &global.config {
        Some(file) => given.settings = format!(" --config {}", escape::shell_word(file.as_os_str())),
        None if global.no_config => given.settings = " --no-config".to_owned(),
        None => {}
    }
    if by_flag("store") {
        let flags =
            global.store_names().iter().map(|name| format!(" -s {}", escape::shell_word(name.as_os_str())));
        given.store = flags.collect();
    }
    if let (true, Ok(dir)) = (by_flag("ca-dir"), global.ca_dir()) {
        given.ca_dir = format!(" --ca-dir {}", escape::shell_word(dir.as_os_str()));
    }
    // A second command line in one process is one that a capture reads again: the same.
    let _ = GIVEN.set(given);
}

/// A text with commands of ours in it, each as it has to be written to mean what this command line meant.
pub(super) fn in_full(text: &str) -> String {
    GIVEN.get().map_or_else(|| text.to_owned(), |given| given.in_full(text))
}

impl Given {
    fn in_full(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(NAME) {
            out += before;
            out += NAME;
            let begins = out.len() == NAME.len() || BEGINS.iter().any(|mark| out.ends_with(mark));
            if begins && (after.is_empty() || after.starts_with([' ', '`', ')'])) {
                let end = ENDS.iter().filter_map(|mark| after.find(mark)).min().unwrap_or(after.len());
                out += &self.flags(&after[..end]);
            }
            rest = after;
        }
        out + rest
    }

    /// What is to stand behind the name of a command that goes on like this.
    fn flags(&self, command: &str) -> String {
        let verb =
            command.split_whitespace().next().filter(|word| !word.starts_with('-')).unwrap_or("capture");
        let names = |flags: &[&str]| command.split_whitespace().any(|word| flags.contains(&word));
        let store = if OF_STORE.contains(&verb) && !names(&["-s", "--store"]) { &self.store } else { "" };
        let ca_dir = if OF_CA.contains(&verb) && !names(&["--ca-dir"]) { &self.ca_dir } else { "" };
        let is_set = verb == "config" || OF_STORE.contains(&verb) || OF_CA.contains(&verb);
        let settings = if is_set && !names(&["--config"]) { &self.settings } else { "" };
        [settings, ca_dir, store].concat()
    }
}

const NAME: &str = "manent";

/// What stands before a command in a text, if that does not begin with it. (`cargo install manent` is none of ours.)
const BEGINS: [&str; 9] = [
    ": manent",
    "  manent",
    "; manent",
    "`manent",
    "&& manent",
    "| manent",
    "→ manent",
    "(manent",
    "or manent",
];

/// What ends one.
const ENDS: [&str; 6] = ["   ", "; ", "`", " && ", " | ", ")"];

/// Commands that use a store.
const OF_STORE: [&str; 20] = [
    "capture", "run", "serve", "doctor", "ls", "show", "cat", "tail", "mark", "comment", "tag", "stats",
    "check", "prune", "vacuum", "export", "import", "index", "replay", "diff",
];

/// Commands that use the CA.
const OF_CA: [&str; 6] = ["capture", "run", "serve", "doctor", "ca", "env"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_what_was_given_and_nothing_else_does() {
        let given = Given {
            settings: " --no-config".into(),
            store: " -s other.db".into(),
            ca_dir: " --ca-dir ca".into(),
        };
        for (text, full) in [
            ("manent ls", "manent --no-config -s other.db ls"),
            (
                "manent show last   shows the newest; manent ls   lists them",
                "manent --no-config -s other.db show last   shows the newest; manent --no-config -s other.db ls   lists them",
            ),
            ("manent -p 2", "manent --no-config --ca-dir ca -s other.db -p 2"),
            ("or: manent -s new.db     more", "or: manent --no-config --ca-dir ca -s new.db     more"),
            ("ask `manent ls FILTER` later", "ask `manent --no-config -s other.db ls FILTER` later"),
            ("manent   begins", "manent --no-config --ca-dir ca -s other.db   begins"),
            (
                "manent ca rotate && manent ca install",
                "manent --no-config --ca-dir ca ca rotate && manent --no-config --ca-dir ca ca install",
            ),
            ("eval \"$(manent env -p 2)\"", "eval \"$(manent --no-config --ca-dir ca env -p 2)\""),
            ("manent config show", "manent --no-config config show"),
            ("manent filter   tells", "manent filter   tells"),
            ("cargo install manent     or so", "cargo install manent     or so"),
            ("it is no manent of ours, http://manent/ is", "it is no manent of ours, http://manent/ is"),
        ] {
            assert_eq!(given.in_full(text), full);
            assert_eq!(Given::default().in_full(text), text);
        }
    }
}
