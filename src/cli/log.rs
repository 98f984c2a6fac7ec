//! The log: lines on standard error, off but for warnings unless asked for.

use std::io::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::Global;
use super::escape;

/// How standard error is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people; with `--json`, the log's own lines are JSON all the same.
    #[default]
    Text,
    /// Everything is JSON, one object a line: log, talk, warnings, errors.
    Json,
}

/// What the log lets through, to be changed while it runs.
pub(super) struct Log(Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>);

/// Starts the log.
pub(super) fn start(global: &Global) -> Log {
    let log = tracing_subscriber::fmt().with_env_filter(filter(global)).with_writer(|| Escaping);
    // A second start keeps the first log.
    let log = log.with_ansi(false);
    if global.json || global.log_format == LogFormat::Json {
        let log = log.json().flatten_event(true).with_filter_reloading();
        let handle = log.reload_handle();
        let _ = log.try_init();
        Log(Box::new(move |filter| handle.reload(filter)))
    } else {
        let log = log.event_format(Lines::default()).with_filter_reloading();
        let handle = log.reload_handle();
        let _ = log.try_init();
        Log(Box::new(move |filter| handle.reload(filter)))
    }
}

impl Log {
    /// Lets through what these flags say from now on.
    pub(super) fn change(&self, global: &Global) {
        if let Err(error) = (self.0)(filter(global)) {
            tracing::error!(%error, "the log stays as it was");
        }
    }
}

fn filter(global: &Global) -> EnvFilter {
    let level = match (global.log.as_deref(), global.quiet, global.verbose) {
        (Some(level), ..) => level,
        (None, true, 0) => "error",
        (None, false, 0) => "warn",
        (None, _, 1) => "info",
        (None, _, 2) => "debug",
        _ => "trace",
    };
    EnvFilter::new(match level {
        // What libraries have to say comes a level later: it is much, and rarely the matter.
        "info" => "manent=info,warn",
        "debug" => "manent=debug,info",
        other => other,
    })
}

/// Reads `--log`. A word alone is a level: as a target, which it might be too, it would silence all else.
pub(super) fn parse_level(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let is_directive =
        |part: &str| part.split_once('=').map_or_else(|| is_level(part), |(_, level)| is_level(level));
    if text.split(',').map(str::trim).all(is_directive) && EnvFilter::try_new(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("off, error, warn, info, debug or trace was expected, or parts such as manent::proxy=debug,warn"
        .to_owned())
}

/// How an event is written for people: what is told of it, and, where it is for who looks for a mistake in this program, the
/// part of it that tells it.
#[derive(Debug)]
struct Lines {
    plain: Format,
    with_part: Format,
}

impl Default for Lines {
    fn default() -> Self {
        // No colours: the writer below could not tell them from what a peer sent.
        let with_part = Format::default().with_ansi(false);
        Self { plain: with_part.clone().with_target(false), with_part }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let format = if *event.metadata().level() > Level::INFO { &self.with_part } else { &self.plain };
        format.format_event(context, writer, event)
    }
}

/// Standard error, with everything escaped that a peer could have slipped into a log line. Each write is one event.
struct Escaping;

impl Write for Escaping {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(escape::text(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_or_parts() {
        for good in ["debug", "manent::proxy=debug", "manent=trace,h2=off,warn"] {
            assert!(parse_level(good).is_ok(), "{good}");
        }
        for bad in ["debgu", "", "manent", "manent=loud", "3"] {
            assert!(parse_level(bad).is_err(), "{bad}");
        }
    }
}
