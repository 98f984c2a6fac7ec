//! `manent ca install` and `uninstall`: what is to be done to each store, done or shown.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{older, subject};
use crate::cli::errors::TrustError;
use crate::cli::escape;
use crate::cli::output::Output;
use crate::cli::trust::{self, Kind, State, Step, Store, Subject};
use crate::tls::CaError;

/// Make this machine trust the certificate, made now if there is none yet
///
/// Each store is changed by its own tool; --dry-run shows the commands. What needs another right than yours is left, and told
/// as the command to run. The key never leaves its place.
#[derive(Debug, Args)]
#[command(after_help = INSTALL_EXAMPLES)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    stores: StoreFlags,
}

/// Take the certificate, and those of CAs that it replaced, out of the stores of this machine
#[derive(Debug, Args)]
#[command(after_help = UNINSTALL_EXAMPLES)]
pub(super) struct UninstallArgs {
    #[command(flatten)]
    stores: StoreFlags,
    /// Only those of CAs that were replaced
    #[arg(long, conflicts_with = "cert")]
    old: bool,
    /// This certificate instead, PEM
    #[arg(long, value_name = "PEM")]
    cert: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StoreFlags {
    /// In these stores alone [default: all that are found]
    #[arg(value_enum, value_name = "STORE")]
    kinds: Vec<Kind>,
    /// Print the commands, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The system's and Java's below this directory, such as that of an image
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

pub(super) fn install(args: &InstallArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    if !args.stores.dry_run {
        super::make_if_missing(dir, output)?;
    }
    change(Change::Install, &[subject(dir)?], &args.stores, output)
}

pub(super) fn uninstall(args: &UninstallArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let subjects = match &args.cert {
        Some(cert) => vec![Subject::read(cert)?],
        None => {
            let mut subjects = older(dir)?;
            match subject(dir) {
                _ if args.old => {}
                Ok(current) => subjects.insert(0, current),
                // What was replaced may be all that is left.
                Err(CaError::Missing { .. }) if !subjects.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
            subjects
        }
    };
    if subjects.is_empty() {
        output.talk("no CA was replaced here");
        return Ok(ExitCode::SUCCESS);
    }
    change(Change::Remove, &subjects, &args.stores, output)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Install,
    Remove,
}

/// What became of one certificate in one store.
#[derive(Debug)]
enum Outcome {
    /// It was as it should be.
    Already,
    Done,
    /// To be shown only.
    Planned(Vec<Step>),
    /// This user may not.
    NotAllowed(Vec<Step>),
    Failed(String),
}

fn change(
    what: Change,
    subjects: &[Subject],
    flags: &StoreFlags,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let root = std::path::absolute(&flags.root)?;
    let stores = trust::find(&flags.kinds, &root);
    for kind in &flags.kinds {
        if !stores.iter().any(|store| store.kind() == *kind) {
            return Err(TrustError::NoStore { kind: kind.name(), why: trust::why_none(*kind) }.into());
        }
    }
    if stores.is_empty() {
        return Err(TrustError::NoStoreAtAll.into());
    }
    let (mut not_allowed, mut failed) = (Vec::new(), 0);
    for store in &stores {
        let mut has_changed = false;
        for subject in subjects {
            let outcome = apply(what, &**store, subject, flags.dry_run);
            tell(what, &**store, subject, &outcome, output)?;
            match outcome {
                Outcome::Already | Outcome::Planned(_) => {}
                Outcome::Done => has_changed = true,
                Outcome::NotAllowed(steps) => {
                    not_allowed.extend(steps.iter().map(|step| format!("sudo {step}")));
                }
                Outcome::Failed(_) => failed += 1,
            }
        }
        if let Some(afterwards) = store.afterwards().filter(|_| has_changed && !output.json) {
            output.talk(&format!("           {afterwards}"));
        }
    }
    if not_allowed.is_empty() && failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(TrustError::NotDone { failed, not_allowed }.into())
}

fn apply(what: Change, store: &dyn Store, subject: &Subject, dry_run: bool) -> Outcome {
    let state = store.state(subject);
    match (what, &state) {
        (Change::Install, State::Trusted) | (Change::Remove, State::Absent) => return Outcome::Already,
        _ => {}
    }
    let steps = match what {
        Change::Install => store.install(subject),
        Change::Remove => store.remove(subject),
    };
    let steps = match steps {
        Ok(steps) => steps,
        Err(reason) => return Outcome::Failed(reason),
    };
    if dry_run || steps.iter().any(Step::is_elsewhere) {
        return Outcome::Planned(steps);
    }
    if !steps.iter().all(Step::is_allowed) {
        return Outcome::NotAllowed(steps);
    }
    if let Some(error) = steps.iter().find_map(|step| step.run().err()) {
        return Outcome::Failed(error.to_string());
    }
    // A tool that says yes is not asked for its word.
    match (what, store.state(subject)) {
        (Change::Install, State::Trusted) | (Change::Remove, State::Absent) => Outcome::Done,
        (Change::Remove, State::Trusted) => {
            Outcome::Failed("it is still trusted there; somebody has put it in under another name".to_owned())
        }
        (_, State::Useless(reason) | State::Unknown(reason)) => Outcome::Failed(reason),
        (Change::Install, State::Absent) => {
            Outcome::Failed("the commands ran, and it is not there".to_owned())
        }
    }
}

/// Commands that are asked for are data; what was done is talk.
fn tell(
    what: Change,
    store: &dyn Store,
    subject: &Subject,
    outcome: &Outcome,
    output: &Output,
) -> std::io::Result<()> {
    let (kind, place, name) = (store.kind().name(), escape::line(store.place()), subject.cert.name());
    if output.json {
        let (result, steps, reason) = match outcome {
            Outcome::Already => ("already", None, None),
            Outcome::Done => ("done", None, None),
            Outcome::Planned(steps) => ("planned", Some(steps), None),
            Outcome::NotAllowed(steps) => ("not_allowed", Some(steps), None),
            Outcome::Failed(reason) => ("failed", None, Some(reason)),
        };
        let commands: Vec<String> = steps.into_iter().flatten().map(command).collect();
        let sha256: String = subject.cert.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        return output.data_line(
            &json!({
                "store": kind, "place": store.place(), "name": name, "sha256": sha256, "result": result,
                "commands": commands, "reason": reason,
            })
            .to_string(),
        );
    }
    let paint = output.talk_paint;
    let line = |mark: String, words: &str| format!("{mark} {kind:<8} {place}: {name} {words}");
    match (outcome, what) {
        (Outcome::Planned(steps), _) => {
            output.data_line(&format!("# {kind}: {place}"))?;
            for step in steps {
                output.data_line(&command(step))?;
            }
        }
        (Outcome::Already, Change::Install) => output.talk(&line(paint.green("✓"), "is trusted already")),
        (Outcome::Already, Change::Remove) => output.talk(&line(paint.green("✓"), "is not there")),
        (Outcome::Done, Change::Install) => output.talk(&line(paint.green("✓"), "is trusted now")),
        (Outcome::Done, Change::Remove) => output.talk(&line(paint.green("✓"), "is removed")),
        (Outcome::NotAllowed(_), _) => output.say(&line(paint.red("✗"), "needs another right than yours")),
        (Outcome::Failed(reason), _) => {
            output.say(&line(paint.red("✗"), &format!("failed: {}", escape::line(reason))));
        }
    }
    Ok(())
}

/// As it has to be typed by this user.
fn command(step: &Step) -> String {
    if step.is_elsewhere() || step.is_allowed() { step.to_string() } else { format!("sudo {step}") }
}

const INSTALL_EXAMPLES: &str = "\
Examples:
  manent ca install --dry-run            the commands, to look at or to run: … | sh
  manent ca install
  manent ca install nss          Chromium and Firefox alone; needs no other rights
  manent ca install macos        the command for a Mac";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  manent ca uninstall
  manent ca uninstall --old              after `ca rotate`
  manent ca uninstall nss --dry-run
  manent ca uninstall --cert /usr/local/share/ca-certificates/other.crt";
