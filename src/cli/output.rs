//! The only file that prints: data to standard output, talk to standard error, colour where it is wanted.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::log::LogFormat;
use super::{given, text};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How this process talks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Whether standard output is a terminal.
    pub(super) terminal: bool,
    /// Columns of the terminal; meaningless without one.
    pub(super) width: usize,
    /// Colours for data.
    pub(super) paint: Paint,
    /// Colours for talk.
    pub(super) talk_paint: Paint,
    /// Whether talk that is no error is left out.
    pub(super) quiet: bool,
    /// Whether data and errors are JSON.
    pub(super) json: bool,
    /// Whether talk is JSON.
    pub(super) log_json: bool,
    /// Whether long output may go through a pager.
    pub(super) pager: bool,
    /// Whether it does.
    pub(super) paging: bool,
}

/// Puts colour on text, or leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// With escape sequences.
    Colored,
    /// As it is.
    Plain,
}

/// Writing to standard output failed; stands inside an [`io::Error`], so that it can be told from failures elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(super) struct StdoutFailed(#[source] io::Error);

/// Buffered standard output. Flush it: what a drop would write cannot be reported.
#[derive(Debug)]
pub(super) struct Data(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(super) fn new(color: ColorChoice, quiet: bool, json: bool) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let width = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        Self {
            terminal: stdout.is_terminal(),
            width: if width < MIN_WIDTH { DEFAULT_WIDTH } else { width },
            paint: Paint::choose(color, stdout.is_terminal(), |name| std::env::var(name).ok()),
            talk_paint: Paint::choose(color, stderr.is_terminal(), |name| std::env::var(name).ok()),
            quiet,
            json,
            log_json: false,
            pager: true,
            paging: false,
        }
    }

    /// The same, with standard error as the log has it.
    pub(super) fn logging(self, format: LogFormat) -> Self {
        match format {
            LogFormat::Text => self,
            LogFormat::Json => Self { log_json: true, talk_paint: Paint::Plain, ..self },
        }
    }

    /// Standard output for many writes.
    pub(super) fn data(&self) -> Data {
        Data(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one line of data at once.
    ///
    /// # Errors
    /// If standard output is closed or full.
    pub(super) fn data_line(&self, line: &str) -> io::Result<()> {
        let mut data = self.data();
        writeln!(data, "{line}")?;
        data.flush()
    }

    /// Whether nobody reads standard output any more: a pipe whose other end is closed, a terminal that is gone.
    pub(super) fn is_closed(&self) -> bool {
        let stdout = io::stdout();
        let mut wanted = [PollFd::new(&stdout, PollFlags::empty())];
        let polled = rustix::event::poll(&mut wanted, Some(&Timespec::default()));
        polled.is_ok() && wanted[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// Says something that is neither data nor an error, unless it should be quiet. Commands in it are written in full.
    pub(super) fn talk(&self, line: &str) {
        if !self.quiet {
            self.say(&given::in_full(line));
        }
    }

    /// Whether a person is there who wants to know how far things are, at a terminal that can take a line back.
    pub(super) fn shows_progress(&self) -> bool {
        let is_dumb = || std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let is_for_people = !self.quiet && !self.json && !self.log_json && !self.paging;
        is_for_people && io::stderr().is_terminal() && !is_dumb()
    }

    /// Puts `line`, cut to one line, in the place of the terminal's last one; an empty one takes it away.
    pub(super) fn status(&self, line: &str) {
        let mut terminal = io::stderr().lock();
        let width = rustix::termios::tcgetwinsize(&terminal).map_or(0, |size| usize::from(size.ws_col));
        let width = if width < MIN_WIDTH { DEFAULT_WIDTH } else { width };
        // In the last column, some terminals go on to the next line.
        let line = text::truncate(line, width - 1);
        // Nobody is left to be told that standard error is closed.
        let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }

    /// Says something that has to be said even when quiet: warnings, errors, readiness.
    pub(super) fn say(&self, line: &str) {
        if self.log_json {
            let (level, line) = match line.strip_prefix("warning: ") {
                Some(line) => ("WARN", line),
                None => ("INFO", line),
            };
            return self.say_json(level, line.trim(), None);
        }
        // Nobody is left to be told that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// An object as the log's own lines are, with what there is to say of an error.
    pub(super) fn say_json(&self, level: &str, message: &str, error: Option<serde_json::Value>) {
        let mut object = serde_json::json!({
            "timestamp": jiff::Timestamp::now().to_string(), "level": level, "message": message, "target": "manent",
        });
        if let Some(error) = error {
            object["error"] = error;
        }
        // As above.
        let _ = writeln!(io::stderr().lock(), "{object}");
    }
}

impl Paint {
    fn choose(color: ColorChoice, terminal: bool, env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        let forced = env("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let colored = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => forced || (terminal && env("TERM").is_none_or(|term| term != "dumb")),
        };
        if colored { Self::Colored } else { Self::Plain }
    }

    pub(super) fn red(self, text: &str) -> String {
        self.sgr("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.sgr("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.sgr("33", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.sgr("36", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        match self {
            Paint::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
            Paint::Plain => text.to_owned(),
        }
    }
}

impl Write for Data {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf).map_err(tag)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(tag)
    }
}

fn tag(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted {
        return error; // `write_all` tries again on this one
    }
    io::Error::new(error.kind(), StdoutFailed(error))
}

/// What a terminal that does not know its size is taken for.
const DEFAULT_WIDTH: usize = 100;

/// Narrower than this, columns cannot be told apart; it is rather a terminal that lies (0 or 1 column).
const MIN_WIDTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        let choose = |color, terminal, vars: &[(&str, &str)]| {
            let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            Paint::choose(color, terminal, env) == Paint::Colored
        };
        assert!(choose(ColorChoice::Auto, true, &[]));
        assert!(!choose(ColorChoice::Auto, false, &[]));
        assert!(!choose(ColorChoice::Auto, true, &[("NO_COLOR", "1")]));
        assert!(choose(ColorChoice::Auto, true, &[("NO_COLOR", "")]));
        assert!(!choose(ColorChoice::Auto, true, &[("TERM", "dumb")]));
        assert!(choose(ColorChoice::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!choose(ColorChoice::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!choose(ColorChoice::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(choose(ColorChoice::Always, false, &[("NO_COLOR", "1")]));
        assert!(!choose(ColorChoice::Never, true, &[("CLICOLOR_FORCE", "1")]));
    }
}
