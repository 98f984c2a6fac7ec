//! `manent ca export`: the certificate in the forms that systems and programs take. Never the key.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::errors::CliError;
use crate::cli::new_file::NewFile;
use crate::cli::output::Output;
use crate::cli::text;
use crate::tls::{CaCert, JKS_PASSWORD, jks};

/// Write the certificate, never the key
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    /// To this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// In which form
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// What a p12 file is opened with; it keeps no secret
    #[arg(long, value_name = "TEXT", default_value = JKS_PASSWORD)]
    password: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    /// Text, for curl, OpenSSL, Linux, Firefox and most programs
    #[default]
    Pem,
    /// Binary, as .cer or .crt: Android, Windows
    Der,
    /// PKCS#12 trust store, for what imports .p12 or .pfx files; also for Java
    P12,
    /// A profile for iOS, iPadOS and macOS
    Mobileconfig,
    /// Java's trust store with this system's roots and ours, for -Djavax.net.ssl.trustStore, which replaces its own
    Java,
}

pub(super) fn run(args: &ExportArgs, dir: &Path, output: &Output) -> anyhow::Result<ExitCode> {
    let cert = super::make_if_missing(dir, output)?.certificate()?;
    let bytes = match args.format {
        Form::Pem => cert.pem().into_bytes(),
        Form::Der => cert.der().to_vec(),
        Form::P12 => cert.p12(&args.password),
        Form::Mobileconfig => cert.mobileconfig().into_bytes(),
        Form::Java => java(&cert),
    };
    match &args.output {
        Some(file) => {
            let new = NewFile::create(file, args.force)?;
            let written = new.file().and_then(|mut file| file.write_all(&bytes));
            written.map_err(|source| CliError::Write { path: text::path(file), source })?;
            new.keep()?;
            if args.format == Form::P12 {
                output.talk(&format!("its password, which programs may ask for: {}", args.password));
            }
        }
        None => {
            let is_text = matches!(args.format, Form::Pem | Form::Mobileconfig);
            if output.terminal && !is_text {
                return Err(CliError::FormatToTerminal { format: name(args.format) }.into());
            }
            let mut data = output.data();
            data.write_all(&bytes)?;
            data.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The system's roots and the certificate: with ours alone, a Java would refuse every origin that is not intercepted.
fn java(cert: &CaCert) -> Vec<u8> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's roots cannot be read");
    }
    let others = system.certs.iter().map(AsRef::as_ref).filter(|der| *der != cert.der());
    let mut roots: Vec<&[u8]> = others.collect();
    roots.push(cert.der());
    jks(roots.iter().copied())
}

fn name(form: Form) -> &'static str {
    match form {
        Form::Pem => "pem",
        Form::Der => "der",
        Form::P12 => "p12",
        Form::Mobileconfig => "mobileconfig",
        Form::Java => "a Java trust store",
    }
}

const EXAMPLES: &str = "\
Examples:
  manent ca export > manent-ca.pem
  manent ca export --format der -o manent-ca.cer                   Android, Windows
  manent ca export --format mobileconfig -o manent.mobileconfig    iPhone, iPad, Mac
  manent ca export --format java -o trust.jks && java -Djavax.net.ssl.trustStore=trust.jks …";
