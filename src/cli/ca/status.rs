//! `manent ca status`: what the certificate is, and where it is trusted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{fingerprint, older, subject};
use crate::cli::errors::causes;
use crate::cli::output::Output;
use crate::cli::trust::{self, State, Store, Subject};
use crate::cli::{escape, given, text};
use crate::tls::{Ca, CaCert, CaError};

/// Tell what the certificate is and where it is trusted; exit 1 if nowhere
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// The system's and Java's stores below this directory, such as that of an image
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

pub(super) fn run(args: &StatusArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let current = subject(dir)?;
    let problem = Ca::load(dir).err();
    let stores = trust::find(&[], &std::path::absolute(&args.root)?);
    let states: Vec<State> = stores.iter().map(|store| store.state(&current)).collect();
    let mut leftovers = Vec::new();
    for old in older(dir)? {
        let trusting = stores.iter().filter(|store| store.state(&old) == State::Trusted);
        let places: Vec<(&str, String)> =
            trusting.map(|store| (store.kind().name(), store.place())).collect();
        if !places.is_empty() {
            leftovers.push((old, places));
        }
    }
    if output.json {
        output.data_line(&to_json(&current, problem.as_ref(), &stores, &states, &leftovers).to_string())?;
    } else {
        for line in facts(&current, dir) {
            output.data_line(&line)?;
        }
        for (store, state) in stores.iter().zip(&states) {
            output.data_line(&given::in_full(&told(&**store, state, output)))?;
        }
        if stores.is_empty() {
            output.data_line("  no trust store was found on this machine")?;
        }
        for (old, places) in &leftovers {
            let places: Vec<_> =
                places.iter().map(|(kind, place)| format!("{kind} {}", escape::line(place))).collect();
            let line = format!("{} is still trusted: {}", text::path(&old.path), places.join(", "));
            let line = format!("{} older    {line}   → manent ca uninstall --old", output.paint.yellow("!"));
            output.data_line(&given::in_full(&line))?;
        }
    }
    if let Some(problem) = problem {
        return Err(problem.into());
    }
    let is_trusted = states.contains(&State::Trusted);
    if !is_trusted && !output.json {
        output.talk(
            "trusted nowhere → manent ca install     or, for one command, nothing: manent run -- COMMAND",
        );
    }
    Ok(if is_trusted { ExitCode::SUCCESS } else { ExitCode::from(crate::cli::errors::NO) })
}

fn facts(subject: &Subject, dir: &Path) -> Vec<String> {
    let cert = &subject.cert;
    let left = days_left(cert);
    let left = if left < 0 {
        "it has expired".to_owned()
    } else {
        text::count(left.unsigned_abs(), "day") + " left"
    };
    vec![
        format!("subject    {}", cert.subject()),
        format!("sha256     {}", fingerprint(cert)),
        format!("valid      {} to {} ({left})", date(cert.not_before_unix()), date(cert.not_after_unix())),
        format!("hosts      {}", cert.constraints()),
        format!("path       {}", text::path(&subject.path)),
        format!("key        {}", text::path(&dir.join("manent-ca.key"))),
    ]
}

fn told(store: &dyn Store, state: &State, output: &Output) -> String {
    let kind = store.kind().name();
    let place = text::path(Path::new(&store.place()));
    let paint = output.paint;
    match state {
        State::Trusted => format!("{} {kind:<8} {place}: trusted", paint.green("✓")),
        State::Absent => {
            format!("{} {kind:<8} {place}: not trusted   → manent ca install {kind}", paint.red("✗"))
        }
        State::Useless(reason) => format!(
            "{} {kind:<8} {place}: {}   → manent ca install {kind}",
            paint.red("✗"),
            escape::line(reason)
        ),
        State::Unknown(reason) => {
            format!("{} {kind:<8} {place}: it cannot be told: {}", paint.yellow("?"), escape::line(reason))
        }
    }
}

fn to_json(
    current: &Subject,
    problem: Option<&CaError>,
    stores: &[Box<dyn Store>],
    states: &[State],
    leftovers: &[(Subject, Vec<(&str, String)>)],
) -> Value {
    let hex = |cert: &CaCert| cert.sha256().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let stores: Vec<Value> = stores
        .iter()
        .zip(states)
        .map(|(store, state)| {
            let (word, reason) = match state {
                State::Trusted => ("trusted", None),
                State::Absent => ("absent", None),
                State::Useless(reason) => ("useless", Some(reason)),
                State::Unknown(reason) => ("unknown", Some(reason)),
            };
            json!({"store": store.kind().name(), "place": store.place(), "state": word, "reason": reason})
        })
        .collect();
    let older: Vec<Value> = leftovers
        .iter()
        .map(|(old, places)| {
            let places: Vec<Value> =
                places.iter().map(|(kind, place)| json!({"store": kind, "place": place})).collect();
            json!({"certificate": old.path.to_string_lossy(), "sha256": hex(&old.cert), "trusted_by": places})
        })
        .collect();
    let cert = &current.cert;
    json!({
        "certificate": current.path.to_string_lossy(), "subject": cert.subject(), "sha256": hex(cert),
        "not_before": date(cert.not_before_unix()), "not_after": date(cert.not_after_unix()),
        "days_left": days_left(cert), "only": only(cert), "problem": problem.map(|problem| causes(problem)),
        "trusted": states.contains(&State::Trusted), "stores": stores, "older": older,
    })
}

/// For which names it may sign, as a list; nothing if for any.
pub(super) fn only(cert: &CaCert) -> Option<Vec<String>> {
    let constraints = cert.constraints();
    (!constraints.is_empty()).then(|| constraints.permitted().iter().map(ToString::to_string).collect())
}

/// The UTC date of a moment.
pub(in crate::cli) fn date(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).unwrap_or_default().strftime("%Y-%m-%d").to_string()
}

/// Whole days until it ends; below zero when it has.
pub(in crate::cli) fn days_left(cert: &CaCert) -> i64 {
    (cert.not_after_unix() - jiff::Timestamp::now().as_second()).div_euclid(86_400)
}

const EXAMPLES: &str = "\
Examples:
  manent ca status
  manent ca status --json | jq -r .sha256
  manent ca status -q > /dev/null || manent ca install";
