//! Statements that set variables, in the languages of shells. A value means itself and runs nothing, whatever it holds.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::ValueEnum;

use crate::cli::errors::CliError;

/// A language of shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// POSIX and what came of it.
    #[value(alias = "bash", alias = "zsh", alias = "ksh", alias = "dash", alias = "ash")]
    Sh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
}

impl Shell {
    /// The language of the shell that `$SHELL` names.
    ///
    /// # Errors
    /// With its name, if it is none of these.
    pub(super) fn of(shell: Option<&OsStr>) -> Result<Self, String> {
        let name = shell.and_then(|shell| Path::new(shell).file_name()).unwrap_or_default().to_string_lossy();
        match &*name {
            "" | "sh" | "bash" | "zsh" | "ksh" | "mksh" | "dash" | "ash" | "busybox" => Ok(Self::Sh),
            "fish" => Ok(Self::Fish),
            "pwsh" | "powershell" => Ok(Self::Powershell),
            _ => Err(name.into_owned()),
        }
    }

    /// A line that gives a variable its value, or takes it away.
    ///
    /// # Errors
    /// If the value has bytes that the shell has no way to write.
    pub(super) fn statement(self, name: &str, value: Option<&OsStr>) -> Result<Vec<u8>, CliError> {
        let bytes = value.map(OsStr::as_encoded_bytes);
        Ok(match (self, bytes) {
            (Self::Sh, None) => format!("unset {name};\n").into(),
            (Self::Sh, Some(value)) => {
                let quoted = replaced(value, |byte| (byte == b'\'').then_some(&b"'\\''"[..]));
                [b"export ", name.as_bytes(), b"='", &quoted, b"';\n"].concat()
            }
            // That there is nothing to erase is no failure, and `set` of the next one leaves the status as it is.
            (Self::Fish, None) => format!("set -e {name}; or true;\n").into(),
            (Self::Fish, Some(value)) => {
                let quoted = replaced(value, |byte| match byte {
                    b'\'' => Some(b"\\'"),
                    b'\\' => Some(b"\\\\"),
                    _ => None,
                });
                [b"set -gx ", name.as_bytes(), b" '", &quoted, b"';\n"].concat()
            }
            (Self::Powershell, None) => format!("$env:{name} = $null\n").into(),
            (Self::Powershell, Some(value)) => {
                let value = std::str::from_utf8(value).map_err(|_| CliError::Flag {
                    flag: "--shell powershell",
                    why: format!("{name} would have bytes in it that are no UTF-8"),
                })?;
                let mut quoted = String::new();
                for letter in value.chars() {
                    quoted.extend(POWERSHELL_QUOTES.contains(&letter).then_some(letter));
                    quoted.push(letter);
                }
                format!("$env:{name} = '{quoted}'\n").into()
            }
        })
    }

    /// A comment that says how to run what was printed; `args` are those of this process. It stands last: `eval` without
    /// quotes makes one line of all.
    pub(super) fn usage(self, args: impl Iterator<Item = OsString>) -> String {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(&byte);
        let words = args.map(|arg| match arg.to_str() {
            Some(word) if !word.is_empty() && word.bytes().all(is_plain) => word.to_owned(),
            _ => "…".to_owned(),
        });
        let command = std::iter::once("manent".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        match self {
            Self::Sh => format!("# Run it with: eval \"$({command})\""),
            Self::Fish => format!("# Run it with: {command} | source"),
            Self::Powershell => format!("# Run it with: {command} | Out-String | Invoke-Expression"),
        }
    }
}

fn replaced(value: &[u8], by: impl Fn(u8) -> Option<&'static [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        match by(byte) {
            Some(other) => out.extend_from_slice(other),
            None => out.push(byte),
        }
    }
    out
}

/// PowerShell takes typographic quotation marks for the plain one, which two of stand for one
/// (about_Quoting_Rules; PowerShell language specification 3.0, §2.3.5.2).
const POWERSHELL_QUOTES: [char; 5] = ['\'', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'];

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use proptest::prelude::*;

    use super::*;

    /// A verbatim string at the start of `text`, as the shell reads it, and what is behind it.
    fn unquoted(shell: Shell, text: &str) -> (String, &str) {
        let mut out = String::new();
        let mut rest = text.strip_prefix('\'').expect("an opening quote").chars();
        loop {
            let letter = rest.next().expect("a closing quote");
            match shell {
                Shell::Sh if letter == '\'' => match rest.as_str().strip_prefix("\\''") {
                    Some(more) => (rest, out) = (more.chars(), out + "'"),
                    None => return (out, rest.as_str()),
                },
                Shell::Fish if letter == '\\' => {
                    let escaped = rest.next().expect("something escaped");
                    if !matches!(escaped, '\\' | '\'') {
                        out.push('\\');
                    }
                    out.push(escaped);
                }
                Shell::Powershell if POWERSHELL_QUOTES.contains(&letter) => {
                    match rest.as_str().chars().next().filter(|next| POWERSHELL_QUOTES.contains(next)) {
                        Some(next) => {
                            out.push(next);
                            rest.next();
                        }
                        None => return (out, rest.as_str()),
                    }
                }
                Shell::Fish if letter == '\'' => return (out, rest.as_str()),
                _ => out.push(letter),
            }
        }
    }

    proptest! {
        #[test]
        fn any_value_means_itself(value in r#"([^\x00]|['’‘‚‛\\$`"!%\n ;]){0,40}"#) {
            for (shell, start, end) in [
                (Shell::Sh, "export X=", ";\n"),
                (Shell::Fish, "set -gx X ", ";\n"),
                (Shell::Powershell, "$env:X = ", "\n"),
            ] {
                let made = shell.statement("X", Some(OsStr::new(&value))).expect("UTF-8");
                let made = String::from_utf8(made).expect("UTF-8");
                let (read, rest) = unquoted(shell, made.strip_prefix(start).expect("the assignment"));
                prop_assert_eq!((&*read, rest), (&*value, end));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_where_they_can() {
        let odd = OsStr::from_bytes(b"/a\xff'");
        assert_eq!(Shell::Sh.statement("X", Some(odd)).expect("any bytes"), b"export X='/a\xff'\\''';\n");
        assert!(Shell::Fish.statement("X", Some(odd)).is_ok());
        assert!(Shell::Powershell.statement("X", Some(odd)).is_err());
    }

    #[test]
    fn the_language_is_that_of_the_users_shell() {
        let of = |shell: &str| Shell::of(Some(OsStr::new(shell)));
        assert_eq!(of("/usr/bin/fish"), Ok(Shell::Fish));
        assert_eq!(of("/bin/zsh"), Ok(Shell::Sh));
        assert_eq!(of("/opt/microsoft/powershell/7/pwsh"), Ok(Shell::Powershell));
        assert_eq!(of("/bin/tcsh"), Err("tcsh".to_owned()));
        assert_eq!(Shell::of(None), Ok(Shell::Sh));
    }

    #[test]
    fn the_comment_repeats_what_was_asked() {
        let usage = |words: &[&str]| Shell::Sh.usage(words.iter().map(OsString::from));
        assert_eq!(usage(&["env", "-p", "9000"]), "# Run it with: eval \"$(manent env -p 9000)\"");
        assert_eq!(usage(&["env", "--ca-dir", "a b\n"]), "# Run it with: eval \"$(manent env --ca-dir …)\"");
    }
}
