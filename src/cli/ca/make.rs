//! `manent ca create`, `rotate` and `import`: how a CA comes to be.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{cert_file, fingerprint};
use crate::cli::errors::TrustError;
use crate::cli::output::Output;
use crate::cli::text;
use crate::tls::{Ca, CaCert, Constraints, Kept, Subtree};

/// Make a CA, where there is none yet
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct CreateArgs {
    /// Sign for these alone: domains, each with all below it, and ranges of addresses (RFC 5280, name constraints). What
    /// the CA's key can do then ends there. Tunnels to other hosts are passed through unread [default: any host]
    #[arg(long, value_name = "DOMAIN|RANGE", num_args = 1.., value_delimiter = ',')]
    only: Vec<Subtree>,
}

/// Make a new CA in the place of the one that is there, which is kept under the day's name
#[derive(Debug, Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub(super) struct RotateArgs {
    /// Sign for these alone, as in `ca create` [default: what the old one was limited to]
    #[arg(long, value_name = "DOMAIN|RANGE", num_args = 1.., value_delimiter = ',')]
    only: Vec<Subtree>,
    /// Sign for any host, whatever the old one was limited to
    #[arg(long, conflicts_with = "only")]
    any_host: bool,
}

/// Bring in a CA that you have
///
/// Its certificate and key are copied into the CA directory, the key readable by you alone. To use files where they are,
/// give --ca-cert and --ca-key to the proxy instead.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct ImportArgs {
    /// PEM with its certificate, and what leads on from it to a root; with its key, too, if KEY is left out
    cert: PathBuf,
    /// PEM with its key: P-256, P-384, Ed25519 or RSA, without a passphrase
    key: Option<PathBuf>,
    /// If there is a CA already: keep it under the day's name, as `ca rotate` does
    #[arg(long)]
    rotate: bool,
}

pub(super) fn create(args: &CreateArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let only = match &args.only[..] {
        [] => Constraints::default(),
        given => Constraints::only(given.to_vec()),
    };
    let ca = Ca::create(dir, &only)?;
    tell("made a CA", &ca.certificate()?, dir, None, output)?;
    output.talk("next     manent ca install     or, for one command, nothing: manent run -- COMMAND");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn rotate(args: &RotateArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let only = match &args.only[..] {
        [] if args.any_host => Constraints::default(),
        [] => limits_of_old(dir)?,
        given => Constraints::only(given.to_vec()),
    };
    let (ca, kept) = Ca::rotate(dir, &only)?;
    tell("made a new CA", &ca.certificate()?, dir, Some(&kept), output)?;
    what_next(&kept, output);
    Ok(ExitCode::SUCCESS)
}

/// What the CA that is there is limited to. One whose certificate is damaged may have been limited: the new one is not made to
/// sign for every host just because that can no longer be told.
fn limits_of_old(dir: &Path) -> Result<Constraints, TrustError> {
    let path = cert_file(dir);
    // Not `exists`: a link that leads nowhere is a certificate that is somewhere else at the moment.
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(Constraints::default());
    }
    let unknown = |source| TrustError::LimitsUnknown { path: text::path(&path), source };
    Ok(CaCert::read(&path).map_err(unknown)?.constraints().clone())
}

pub(super) fn import(args: &ImportArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let given = Ca::load_files(&args.cert, args.key.as_deref())?;
    let (ca, kept) = match args.rotate {
        true => given.import_over(dir)?,
        false => (given.import(dir)?, Kept { cert: None, key: None }),
    };
    let is_first = kept.cert.is_none() && kept.key.is_none();
    tell("brought in a CA", &ca.certificate()?, dir, (!is_first).then_some(&kept), output)?;
    if is_first {
        output.talk("next     manent ca status     tells where it is trusted");
    } else {
        what_next(&kept, output);
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is now: to a person as talk, to a script as data.
fn tell(what: &str, cert: &CaCert, dir: &Path, kept: Option<&Kept>, output: &Output) -> std::io::Result<()> {
    let path = cert_file(dir);
    if output.json {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let sha256: String = cert.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        return output.data_line(
            &json!({
                "certificate": path.to_string_lossy(), "subject": cert.subject(), "sha256": sha256,
                "not_after": super::date(cert.not_after_unix()),
                "only": super::status::only(cert),
                "kept_certificate": kept.and_then(|kept| shown(&kept.cert)),
                "kept_key": kept.and_then(|kept| shown(&kept.key)),
            })
            .to_string(),
        );
    }
    output.talk(&format!("{what}: {}, until {}", cert.subject(), super::date(cert.not_after_unix())));
    output.talk(&format!("  path     {}", text::path(&path)));
    output.talk(&format!("  sha256   {}", fingerprint(cert)));
    if !cert.constraints().is_empty() {
        output.talk(&format!("  only     {}", cert.constraints()));
    }
    let kept =
        kept.map(|kept| kept.cert.iter().chain(&kept.key).map(|path| text::path(path)).collect::<Vec<_>>());
    if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
        output.talk(&format!("  kept     {}", kept.join(", ")));
    }
    Ok(())
}

/// What has to be done again where the old one was trusted.
fn what_next(kept: &Kept, output: &Output) {
    output.talk("next     start proxies that run again: they go on with the old CA until then");
    output.talk(
        "         manent ca install           and give the new certificate to devices that had the old one",
    );
    if kept.cert.is_some() {
        output
            .talk("         manent ca uninstall --old   takes the old one out of the stores of this machine");
    }
    if let Some(key) = &kept.key {
        output.talk(&format!("         rm {}   once nothing trusts the old one any more", text::path(key)));
    }
}

const CREATE_EXAMPLES: &str = "\
Examples:
  manent ca create
  manent ca create --only example.com --only 10.0.0.0/8
  manent ca create --only localhost,127.0.0.1,::1";

const ROTATE_EXAMPLES: &str = "\
Examples:
  manent ca rotate && manent ca install && manent ca uninstall --old
  manent ca rotate --only example.com      from now on for these hosts alone
  manent ca rotate --any-host              or for all again";

const IMPORT_EXAMPLES: &str = "\
Examples:
  manent ca import ca.pem ca.key
  manent ca import ~/.mitmproxy/mitmproxy-ca.pem      certificate and key in one file
  manent ca import ca.pem ca.key --rotate   keeps the one that is there under the day's name";
