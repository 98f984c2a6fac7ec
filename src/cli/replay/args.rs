//! The flags of `manent replay`, and what they come to.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use crate::cli::args::Global;
use crate::cli::compared::RuleFlags;
use crate::cli::errors::CliError;
use crate::cli::flags::parse_host_cert;
use crate::cli::via::ViaFlags;
use crate::config::units::{parse_count, parse_positive_duration};
use crate::config::{Config, HostCert, Timeouts};
use crate::replay::send::{Edits, NewBody, Pace, SendOptions, ToOrigin};

/// Send recorded requests again, and record the answers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ReplayArgs {
    /// The flows: 12  12,15  40-60  100-  last  last:5  @FILE  -; or a filter, whose words are joined by blanks
    #[arg(required = true, value_name = "MIDS|FILTER")]
    pub(super) what: Vec<String>,
    #[command(flatten)]
    change: ChangeFlags,
    #[command(flatten)]
    pace: PaceFlags,
    #[command(flatten)]
    pub(super) check: CheckFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    origin: OriginFlags,
    #[command(flatten)]
    via: ViaFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What is sent")]
struct ChangeFlags {
    /// Send them all to this origin: http(s)://HOST[:PORT]. Host and the name in TLS follow
    #[arg(long, value_name = "ORIGIN")]
    to: Option<ToOrigin>,
    /// Leave Host and the name in TLS as they were recorded
    #[arg(long, requires = "to")]
    keep_host: bool,
    /// Set a header field, in place of those of its name. Repeatable
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = parse_field)]
    set_header: Vec<String>,
    /// Leave a header field out. Repeatable
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    remove_header: Vec<String>,
    /// Send the bytes of this file for a body. A Content-Encoding stays as it was recorded
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Send bodies that were not recorded whole as far as they are there
    #[arg(long)]
    allow_truncated: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "When")]
struct PaceFlags {
    /// Requests at a time [default: 1, so that each waits for the answer before it; 64 with --as-recorded]
    #[arg(short = 'j', long, value_name = "N", value_parser = parse_count)]
    concurrency: Option<usize>,
    /// Send so many, evenly: 10/s, 600/m
    #[arg(long, value_name = "N/s", conflicts_with = "as_recorded")]
    rate: Option<Rate>,
    /// Keep the recorded pauses between requests, and between the messages of a WebSocket
    #[arg(long)]
    as_recorded: bool,
    /// So many times as fast as recorded: 2x, 0.5x
    #[arg(long, value_name = "FACTOR", requires = "as_recorded")]
    speed: Option<Speed>,
    /// Send all of them so often, one round after the other
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    repeat: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What becomes of it")]
pub(super) struct CheckFlags {
    /// Send nothing; tell what would be sent, and where to
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Compare each answer with the recorded one, as `manent diff` does, and show what differs; exit code 1 if anything does
    #[arg(long)]
    pub(super) diff: bool,
    /// As --diff, and send nothing more after the first answer that differs or fails
    #[arg(long)]
    pub(super) stop_on_diff: bool,
    /// Record into this store [default: the one that the flows are from]
    #[arg(long, value_name = "STORE")]
    into: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Origins")]
struct OriginFlags {
    /// PEM file with roots to trust upstream, besides the system's. Repeatable
    #[arg(long, value_name = "PEM", env = "MANENT_UPSTREAM_CA", hide_env_values = true)]
    upstream_ca: Vec<PathBuf>,
    /// Do not verify upstream certificates
    #[arg(short = 'k', long, env = "MANENT_INSECURE")]
    insecure: bool,
    /// PEM file with a certificate and its key, for origins that ask for one: those called HOST (a name, or
    /// *.example.com for all below it), else all. Repeatable
    #[arg(long, value_name = "[HOST=]PEM", env = "MANENT_CLIENT_CERT", hide_env_values = true)]
    #[arg(value_parser = parse_host_cert)]
    client_cert: Vec<HostCert>,
    /// For a connection to an origin [default: 10s]
    #[arg(long, value_name = "TIME", env = "MANENT_CONNECT_TIMEOUT", value_parser = parse_positive_duration)]
    connect_timeout: Option<Duration>,
    /// For a TLS handshake [default: 10s]
    #[arg(long, value_name = "TIME", env = "MANENT_TLS_TIMEOUT", value_parser = parse_positive_duration)]
    tls_timeout: Option<Duration>,
    /// For the next byte of an answer [default: 10m]
    #[arg(long, value_name = "TIME", env = "MANENT_RELAY_TIMEOUT", value_parser = parse_positive_duration)]
    relay_timeout: Option<Duration>,
}

impl ReplayArgs {
    /// How the run goes.
    ///
    /// # Errors
    /// If the file of the body cannot be read.
    pub(super) fn options(&self) -> anyhow::Result<SendOptions> {
        let mut edits = Edits::default();
        edits.to.clone_from(&self.change.to);
        edits.keep_host = self.change.keep_host;
        edits.allow_truncated = self.change.allow_truncated;
        edits.body = self.change.body.as_deref().map(new_body).transpose()?;
        for field in &self.change.set_header {
            edits.set_header(field)?;
        }
        for name in &self.change.remove_header {
            edits.remove_header(name)?;
        }
        let pace = match (&self.pace.rate, self.pace.as_recorded) {
            (Some(Rate(rate)), _) => Pace::Rate(*rate),
            (None, true) => Pace::AsRecorded(self.pace.speed.as_ref().map_or(1.0, |Speed(speed)| *speed)),
            (None, false) => Pace::Free,
        };
        let default = if self.pace.as_recorded { CONCURRENCY_AS_RECORDED } else { 1 };
        let concurrency = self.pace.concurrency.unwrap_or(default);
        Ok(SendOptions { edits, concurrency, pace, in_step: self.check.stop_on_diff })
    }

    /// What counts as a difference: without `--diff`, status and body.
    pub(super) fn rules(&self) -> crate::replay::compare::Rules {
        crate::replay::compare::Rules { no_fields: !self.shows_differences(), ..self.rules.rules() }
    }

    /// Whether answers are compared in full, and what differs is shown.
    pub(super) fn shows_differences(&self) -> bool {
        self.check.diff || self.check.stop_on_diff || self.rules.any()
    }

    /// How often all of them are sent.
    pub(super) fn repeat(&self) -> usize {
        self.pace.repeat
    }

    /// The settings of the proxy that sends.
    ///
    /// # Errors
    /// If the store or the CA has no place, or the upstream proxy is none.
    pub(super) fn config(&self, global: &Global) -> anyhow::Result<Config> {
        let store = self.check.into.clone().map_or_else(|| global.store(), Ok)?;
        let timeouts = Timeouts::default();
        Ok(Config {
            upstream_ca: self.origin.upstream_ca.clone(),
            insecure: self.origin.insecure,
            client_certs: self.origin.client_cert.clone(),
            via: self.via.via()?,
            timeouts: Timeouts {
                connect: self.origin.connect_timeout.unwrap_or(timeouts.connect),
                tls: self.origin.tls_timeout.unwrap_or(timeouts.tls),
                relay_idle: self.origin.relay_timeout.unwrap_or(timeouts.relay_idle),
                ..timeouts
            },
            ..Config::new(store, global.ca_dir()?)
        })
    }
}

/// A small file is read once; a large one, for each request anew.
fn new_body(path: &Path) -> anyhow::Result<NewBody> {
    let failed = |source| CliError::Read { path: path.display().to_string(), source };
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > SMALL_BODY {
        return Ok(NewBody::File(path.to_owned(), len));
    }
    Ok(NewBody::Bytes(Bytes::from(std::fs::read(path).map_err(failed)?)))
}

fn parse_field(text: &str) -> Result<String, String> {
    Edits::default().set_header(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn parse_name(text: &str) -> Result<String, String> {
    Edits::default().remove_header(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rate(f64);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a rate is 10/s, 600/m or 100/h";
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(WANTED),
        };
        positive(count).map(|count| Self(count / seconds)).ok_or(WANTED)
    }
}

/// How many times as fast.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Speed(f64);

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        positive(text.strip_suffix('x').unwrap_or(text)).map(Self).ok_or("a speed is 2x, or 0.5x")
    }
}

/// Within what makes sense of a rate or a speed.
fn positive(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain)?;
    (1e-6..=1e9).contains(&number).then_some(number)
}

/// Bodies up to here stay in memory.
const SMALL_BODY: u64 = 1 << 20;

/// So that requests that ran side by side when they were recorded do again; as many as a browser has.
const CONCURRENCY_AS_RECORDED: usize = 64;

const EXAMPLES: &str = "\
Examples:
  manent replay 1041                               once more; the answer is a new flow
  manent replay 40-60 --to http://127.0.0.1:3000   against the server on this machine
  manent replay 'host:api.test ~m GET' --diff      a regression test: 1 if anything differs
  manent replay last -H 'X-Trace: 1' --body new.json
  manent replay 100-199 --as-recorded --speed 2x --into load.db
  manent replay - -j 64 --repeat 10 < mids.txt     a load test
  manent ls --json ~e | manent replay - --json | jq .status

The same bytes go out that the origin got the first time (over HTTP/2, the same fields), in the protocol of then, and
connections are kept from one request to the next. Redirects are not followed. Credentials that go to another origin than
recorded are told. Of a WebSocket, the client's messages are sent again.

A line for each: mid, new mid, status then and now, time then and now, and whether status and body are the same.
Exit code 0 if all were sent and answered; 1 if something differs (--diff), or cannot be sent again; 3 if there is no such
flow; 4 if the store cannot be written; 5 if an origin could not be reached or gave no answer, 6 if it was not to be trusted.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_speeds_are_read() {
        let rate = |text: &str| text.parse::<Rate>().map(|Rate(rate)| rate);
        assert_eq!(
            [rate("10/s"), rate("10"), rate("600/m"), rate("1.5/s")],
            [Ok(10.0), Ok(10.0), Ok(10.0), Ok(1.5)]
        );
        let speed = |text: &str| text.parse::<Speed>().map(|Speed(speed)| speed);
        assert_eq!([speed("2x"), speed("0.5"), speed("1x")], [Ok(2.0), Ok(0.5), Ok(1.0)]);
        for bad in ["", "0/s", "-1/s", "x", "1/y", "inf", "1e3/s", "NaN"] {
            assert!(rate(bad).is_err() && speed(bad).is_err(), "{bad}");
        }
    }
}
