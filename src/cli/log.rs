//! The log: lines on standard error, off but for warnings unless asked for.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use super::args::Global;
use super::escape;

/// Starts the log. `MANENT_LOG` takes a filter such as `manent::proxy=debug` and goes before `-v`.
pub(super) fn start(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, 0) => "error",
        (false, 0) => "warn",
        (_, 1) => "manent=info,warn",
        (_, 2) => "manent=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("MANENT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Escaping);
    // No colours: the writer below could not tell them from what a peer sent. A second start keeps the first log.
    let _ =
        if global.json { log.json().with_ansi(false).try_init() } else { log.with_ansi(false).try_init() };
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
