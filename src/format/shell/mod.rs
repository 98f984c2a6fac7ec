//! Command lines: writing words that no shell takes for anything else, and reading those that people copy.

mod bytes;
mod cmd;
mod quote;
mod words;

pub(super) use cmd::Cmd;
pub(crate) use quote::word;
pub(super) use quote::{HEREDOC, heredoc, piped, single_quoted};
pub(super) use words::{Command, Input, Posix, ShellError, Word};
