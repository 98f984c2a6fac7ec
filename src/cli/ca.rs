//! `manent ca`: the certificate that clients have to trust.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::args::Global;
use super::errors::CliError;
use super::output::Output;
use super::text;
use crate::tls::Ca;

/// Find or write out the certificate that clients have to trust
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
    /// Write the certificate, never the key
    Export {
        /// To this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// PEM, or DER for devices that want it
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    #[default]
    Pem,
    Der,
}

pub(super) fn run(args: &CaArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let dir = global.ca_dir()?;
    let is_new = !dir.join(CERT_FILE).exists();
    let ca = Ca::load_or_create(&dir)?;
    if is_new {
        output.talk(&format!("made a new certificate authority in {}", text::path(&dir)));
    }
    match &args.verb {
        Verb::Path => {
            let mut data = output.data();
            // The bytes of the path as they are: it goes into `$(manent ca path)`.
            data.write_all(dir.join(CERT_FILE).as_os_str().as_encoded_bytes())?;
            data.write_all(b"\n")?;
            data.flush()?;
        }
        Verb::Export { output: file, format } => {
            let bytes = match format {
                Format::Pem => ca.cert_pem().into_bytes(),
                Format::Der => ca.cert_der().to_vec(),
            };
            match file {
                Some(file) => write_file(file, &bytes)?,
                None => {
                    let mut data = output.data();
                    data.write_all(&bytes)?;
                    data.flush()?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_file(file: &Path, bytes: &[u8]) -> Result<(), CliError> {
    std::fs::write(file, bytes).map_err(|source| CliError::Write { path: text::path(file), source })
}

/// The certificate alone; its key lies beside it in `manent-ca.key`.
const CERT_FILE: &str = "manent-ca.pem";

const EXAMPLES: &str = "\
Examples:
  curl -x 127.0.0.1:8080 --cacert \"$(manent ca path)\" https://example.com/
  manent ca export -o manent.crt --format der";
