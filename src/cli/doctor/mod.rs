//! `manent doctor`: what is wrong with the setup, and how to mend it.
//!
//! Nothing is changed, and nothing is asked of any other machine. What is looked at is what a capture with the same flags
//! would use; each check is a file here, and gives findings.

mod authority;
mod environment;
mod listeners;
mod machine;
mod probe;
mod recording;

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::flags::ProxyFlags;
use super::output::Output;
use super::{errors, escape, given, process, text};

/// Look for what is wrong with the setup, and say how to mend it; exit 1 if anything is
///
/// Give the flags with which you capture, and it looks at what that would use. Nothing is changed: the request that is sent on
/// trial goes through a proxy on a free port, to an origin inside of this program, into a store that is thrown away.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    proxy: ProxyFlags,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    /// Worth a look; what was asked for works.
    Warning,
    Bad,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    /// What to do.
    mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, level: Level, message: impl Into<String>) -> Self {
        Self { check, level, message: message.into(), mend: None }
    }

    fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Level::Good, message)
    }

    fn warning(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..Self::new(check, Level::Warning, message) }
    }

    fn bad(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..Self::new(check, Level::Bad, message) }
    }
}

pub(super) fn run(args: &DoctorArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let config = args.proxy.config(global)?;
    process::forbid_core_dumps();
    let mut report = Report { output, bad: 0, warnings: 0 };
    // Each is shown as soon as it is known: a Java that is asked takes its time.
    let authority = authority::Authority::of(&config);
    report.tell(&authority.findings())?;
    report.tell(&authority.trust())?;
    report.tell(&listeners::findings(&config.listen))?;
    let recording = recording::Recording::of(&config);
    report.tell(&recording.findings)?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    report.tell(&environment::findings(variable, &config.listen, authority.cert()))?;
    report.tell(&machine::findings(config.limits.max_connections, recording.newest_unix_ns))?;
    report.tell(&[probe::finding(&config)])?;
    let Report { bad, warnings, .. } = report;
    if !output.json {
        let more = if warnings == 0 {
            String::new()
        } else {
            format!(", {} to look at", text::count(warnings, "thing"))
        };
        output.talk(&match bad {
            0 => format!("all well{more}"),
            1 => format!("1 thing is wrong{more}"),
            many => format!("{many} things are wrong{more}"),
        });
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

/// What was told so far.
struct Report<'a> {
    output: &'a Output,
    bad: u64,
    warnings: u64,
}

impl Report<'_> {
    fn tell(&mut self, findings: &[Finding]) -> std::io::Result<()> {
        for Finding { check, level, message, mend } in findings {
            let mend = mend.as_deref().map(given::in_full);
            let paint = self.output.paint;
            let (word, mark) = match level {
                Level::Good => ("ok", paint.green("✓")),
                Level::Warning => ("warning", paint.yellow("!")),
                Level::Bad => ("bad", paint.red("✗")),
            };
            self.bad += u64::from(*level == Level::Bad);
            self.warnings += u64::from(*level == Level::Warning);
            if self.output.json {
                let line = json!({"check": check, "level": word, "message": message, "mend": mend});
                self.output.data_line(&line.to_string())?;
                continue;
            }
            self.output.data_line(&format!("{mark} {check:<8} {}", escape::line(message)))?;
            if let Some(mend) = &mend {
                self.output.data_line(&format!("           → {}", escape::line(mend)))?;
            }
        }
        Ok(())
    }
}

const EXAMPLES: &str = "\
Examples:
  manent doctor
  manent doctor -p 9000 -s other.db      what a capture with these flags would use
  manent doctor --json | jq -r 'select(.level != \"ok\").mend'

Exit code: 0 if nothing is wrong, warnings or not; 1 if something is.";
