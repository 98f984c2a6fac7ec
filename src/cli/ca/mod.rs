//! `manent ca`: the certificate that clients have to trust, from its making to its end.
//!
//! What is done to trust stores is in `trust`; here it is asked for, and told.

mod export;
mod install;
mod make;
mod status;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::Global;
use super::output::Output;
use super::text;
use super::trust::Subject;
use crate::tls::{Ca, CaCert, CaError, Kept};

pub(super) use status::{date, days_left};

/// Make, hand out, install, check, replace or bring in the certificate that clients have to trust
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CaArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the path of the certificate, made now if there is none yet
    Path,
    Create(make::CreateArgs),
    Export(export::ExportArgs),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
    Status(status::StatusArgs),
    Rotate(make::RotateArgs),
    Import(make::ImportArgs),
}

pub(super) fn run(args: &CaArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let dir = global.ca_dir()?;
    match &args.verb {
        Verb::Path => {
            make_if_missing(&dir, output)?;
            let mut data = output.data();
            // The bytes of the path as they are: it goes into `$(manent ca path)`.
            data.write_all(cert_file(&dir).as_os_str().as_encoded_bytes())?;
            data.write_all(b"\n")?;
            data.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Create(args) => make::create(args, &dir, output),
        Verb::Export(args) => export::run(args, &dir, output),
        Verb::Install(args) => install::install(args, &dir, output),
        Verb::Uninstall(args) => install::uninstall(args, &dir, output),
        Verb::Status(args) => status::run(args, &dir, output),
        Verb::Rotate(args) => make::rotate(args, &dir, output),
        Verb::Import(args) => make::import(args, &dir, output),
    }
}

/// The CA of the directory, made now if there is none.
fn make_if_missing(dir: &Path, output: &Output) -> Result<Ca, CaError> {
    let is_new = !cert_file(dir).exists();
    let ca = Ca::load_or_create(dir)?;
    if is_new {
        output.talk(&format!("made a new certificate authority in {}", text::path(dir)));
    }
    Ok(ca)
}

/// The certificate alone; its key lies beside it in `manent-ca.key`.
pub(super) fn cert_file(dir: &Path) -> PathBuf {
    dir.join("manent-ca.pem")
}

/// The certificate of the directory as trust stores take it.
///
/// # Errors
/// [`CaError::Missing`] if there is none; else if it cannot be read.
pub(super) fn subject(dir: &Path) -> Result<Subject, CaError> {
    let path = cert_file(dir);
    if !path.exists() {
        return Err(CaError::Missing { dir: dir.to_owned() });
    }
    Subject::read(&path)
}

/// The certificates of CAs that were replaced, those that can be read. What a rotation has kept that was broken off then is the
/// CA that is still there, and none of them.
pub(super) fn older(dir: &Path) -> Result<Vec<Subject>, CaError> {
    let current = Subject::read(&cert_file(dir)).ok().map(|subject| subject.cert.sha256());
    let read = |path: PathBuf| match Subject::read(&path) {
        Ok(subject) => Some(subject),
        Err(error) => {
            tracing::warn!(%error, "an older certificate is left out");
            None
        }
    };
    let found = Kept::certificates(dir)?.into_iter().filter_map(read);
    Ok(found.filter(|subject| Some(subject.cert.sha256()) != current).collect())
}

/// `AB:CD:…`, as browsers and openssl show it.
fn fingerprint(cert: &CaCert) -> String {
    cert.sha256().map(|byte| format!("{byte:02X}")).join(":")
}

const EXAMPLES: &str = "\
Examples:
  curl -x 127.0.0.1:8080 --cacert \"$(manent ca path)\" https://example.com/
  manent ca install --dry-run            the commands that would make this machine trust it
  manent ca status                       where it is trusted; exit 1 if nowhere
  manent ca export -o manent.cer --format der
  manent ca create --only example.com,10.0.0.0/8     one that is worth nothing for any other host";
