//! Works out the variables, and prints them or what undoes them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::shell::Shell;
use crate::cli::args::Global;
use crate::cli::errors::CliError;
use crate::cli::output::Output;
use crate::cli::run::{
    Authority, Destination, Files, Preload, SAVED, SET, Variable, present_before, variables,
};
use crate::cli::{access, busy, flags, text};
use crate::config::DEFAULT_LISTEN;
use crate::config::units::parse_known_port;
use crate::proxy::{Listen, Mode};
use crate::tls::Ca;

/// Print the variables that lead a shell's programs through a running proxy
///
/// They are those that `manent run` sets for its command. The files that they point to are written beside the CA.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct EnvArgs {
    /// For which shell: sh (also bash, zsh, ksh), fish, powershell [default: as $SHELL says, else sh]
    #[arg(long, value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Option<Shell>,
    /// Where the proxy listens [default: 127.0.0.1:8080]
    #[arg(short, long, value_name = "[ADDR:]PORT", env = "MANENT_LISTEN", value_delimiter = ',')]
    #[arg(value_parser = Listen::parse)]
    listen: Vec<(Option<Mode>, SocketAddr)>,
    /// The proxy's port on 127.0.0.1
    #[arg(short, long, value_name = "PORT", env = "MANENT_PORT", conflicts_with = "listen")]
    #[arg(value_parser = parse_known_port)]
    port: Option<u16>,
    /// User and password, if the proxy asks for them. They stand in the variables
    #[arg(long, value_name = "USER:PASS", env = "MANENT_PROXY_AUTH", hide_env_values = true)]
    proxy_auth: Option<String>,
    /// PEM file with the CA's certificate (and key), if the proxy was given one instead of that in --ca-dir
    #[arg(long, value_name = "PEM", env = "MANENT_CA_CERT", hide_env_values = true)]
    ca_cert: Option<PathBuf>,
    /// PEM file with the key of --ca-cert
    #[arg(long, value_name = "PEM", env = "MANENT_CA_KEY", hide_env_values = true)]
    ca_key: Option<PathBuf>,
    /// Load nothing into Node.js, Python and PHP; see `manent run`
    #[arg(long)]
    no_preload: bool,
    /// Print what takes the variables away again, and gives back what was there before
    #[arg(long)]
    unset: bool,
}

pub(in crate::cli) fn run(args: &EnvArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        Some(shell) => shell,
        None => Shell::of(std::env::var_os("SHELL").as_deref()).map_err(|name| CliError::Flag {
            flag: "--shell",
            why: format!("$SHELL is {name}, whose language is none of sh, fish and powershell"),
        })?,
    };
    let changes = if args.unset { undone(output)? } else { done(args, global, output)? };
    let mut data = output.data();
    for (name, value) in &changes {
        if output.json {
            let value = value.as_deref().map(OsStr::to_string_lossy);
            writeln!(data, "{}", json!({"name": name, "value": value}))?;
        } else {
            data.write_all(&shell.statement(name, value.as_deref())?)?;
        }
    }
    if !output.json {
        writeln!(data, "{}", shell.usage(std::env::args_os().skip(1)))?;
    }
    data.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What sets the variables, and keeps what was there where it can be given back from.
fn done(args: &EnvArgs, global: &Global, output: &Output) -> anyhow::Result<Vec<Variable>> {
    let to =
        Destination { addr: address(args)?, credentials: access::credentials(args.proxy_auth.as_deref())? };
    let dir = global.ca_dir()?;
    flags::has_its_cert(args.ca_key.as_ref(), args.ca_cert.as_ref())?;
    let ca = match &args.ca_cert {
        Some(cert) => Ca::load_files(cert, args.ca_key.as_deref())?,
        None => {
            let is_new = !dir.join("manent-ca.pem").exists();
            let ca = Ca::load_or_create(&dir)?;
            if is_new {
                output.talk(&format!("made a new certificate authority in {}", text::path(&dir)));
            }
            ca
        }
    };
    if busy::is_listening(to.reachable()) == Some(false) {
        let start = match to.addr {
            addr if addr == DEFAULT_LISTEN => "manent".to_owned(),
            addr if addr.ip() == Ipv4Addr::LOCALHOST => format!("manent -p {}", addr.port()),
            addr => format!("manent -l {addr}"),
        };
        output.talk(&format!("nothing listens on {} yet: start the proxy with `{start}`", to.reachable()));
    }
    let preload = if args.no_preload { Preload::Nothing } else { Preload::Runtimes };
    // A directory for each key, so that a new CA takes nothing away from shells that are open.
    let key: String = ca.spki_sha256().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let dir = std::path::absolute(dir)?.join("env").join(key);
    let files = Files::write(&dir, &Authority::from(&ca), preload)
        .with_context(|| format!("cannot write what the variables point to into {}", text::path(&dir)))?;
    let ours = variables(to, &files, preload, present_before);
    let mut changes: Vec<Variable> = Vec::new();
    let is_first = std::env::var_os(SET).is_none();
    for name in names() {
        let before = present_before(&name);
        if is_first && let Some(before) = &before {
            changes.push((format!("{SAVED}{name}").into(), Some(before.clone())));
        }
        // What an earlier call has set, and this one would not.
        if !is_first && ours.iter().all(|(set, _)| *set != name) {
            changes.push((name, before));
        }
    }
    changes.extend(ours);
    changes.push((SET.into(), Some(to.reachable().to_string().into())));
    Ok(changes)
}

/// What takes the variables away, or gives them the values that they had.
fn undone(output: &Output) -> anyhow::Result<Vec<Variable>> {
    if std::env::var_os(SET).is_none() {
        output.talk("there is nothing to undo: `manent env` has set no variables in this shell");
        return Ok(Vec::new());
    }
    let mut changes: Vec<Variable> = Vec::new();
    for name in names() {
        let saved = format!("{SAVED}{name}");
        match std::env::var_os(&saved) {
            Some(value) => changes.extend([(name, Some(value)), (saved.into(), None)]),
            None => changes.push((name, None)),
        }
    }
    changes.push((SET.into(), None));
    Ok(changes)
}

/// All variables that may be set.
fn names() -> impl Iterator<Item = Cow<'static, str>> {
    let nowhere = Destination { addr: (Ipv4Addr::LOCALHOST, 1).into(), credentials: None };
    let files = Files::in_dir(Path::new("/"));
    variables(nowhere, &files, Preload::Runtimes, present_before).into_iter().map(|(name, _)| name)
}

/// Where the proxy listens that the variables lead to.
fn address(args: &EnvArgs) -> Result<SocketAddr, CliError> {
    if let Some(port) = args.port {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let explicit = |(mode, _): &&(Option<Mode>, SocketAddr)| matches!(mode, None | Some(Mode::Explicit));
    match args.listen.iter().find(explicit) {
        None => Err(CliError::NoExplicitListener { command: "env", example: 8080 }),
        Some((_, addr)) if addr.port() == 0 => Err(CliError::Flag {
            flag: "--listen",
            why: "port 0 is any free one: say which it has become".into(),
        }),
        Some((_, addr)) => Ok(*addr),
    }
}

const EXAMPLES: &str = "\
Examples:
  eval \"$(manent env)\"                          sh, bash, zsh
  manent env | source                           fish
  manent env | Out-String | Invoke-Expression   PowerShell
  eval \"$(manent env -p 9000)\"                  a proxy at another port
  eval \"$(manent env --unset)\"                  and back

With --json, one object a variable: name, and value or null for one that is taken away.";
