//! Why a proxy did not start: addresses, certificates, roots.

use std::io;
use std::net::SocketAddr;

use super::report::{Report, causes, plain_io};
use super::store::of_store;
use super::{NETWORK, NOT_FOUND, TLS, USAGE};
use crate::app::StartError;
use crate::cli::{busy, text, user};
use crate::tls::{CaError, RootsError};

pub(super) fn of_start(error: &StartError) -> Report {
    match error {
        StartError::Bind { addr, source } => of_bind(*addr, source),
        StartError::Store(error) => of_store(error),
        StartError::Ca(error) => of_ca(error),
        StartError::Roots(error) => of_roots(error),
        StartError::Cert(error) => Report::new("E605", TLS, causes(error))
            .hint("--cert [HOST=]PEM   takes a file with certificate and key, for clients to be shown"),
        StartError::ClientCert(error) => Report::new("E604", TLS, causes(error))
            .hint("--client-cert [HOST=]PEM   takes a file with certificate and key, for origins that ask"),
        StartError::Leaf(_) | StartError::Tls(_) => Report::new("E603", TLS, causes(error)),
    }
}

fn of_bind(addr: SocketAddr, error: &io::Error) -> Report {
    let (ip, port) = (addr.ip(), addr.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let report = Report::new("E101", NETWORK, format!("port {port} on {ip} is already in use"));
            let report = match busy::listener(addr) {
                Some(process) => {
                    let started = process.started_unix_ns.map(text::local_short);
                    let started = started.map_or_else(String::new, |at| format!(", started {at}"));
                    let owner =
                        process.uid.map_or_else(String::new, |uid| format!(" by {}", user::name(uid)));
                    let since = if started.is_empty() { String::new() } else { started + &owner };
                    report.fact(format!("by: {} (pid {}){since}", process.name, process.pid))
                }
                None => report,
            };
            let next = port.checked_add(2).unwrap_or(8082);
            report.hint(format!("manent -p {next}     or let it choose: manent -p 0"))
        }
        io::ErrorKind::PermissionDenied => {
            Report::new("E104", NETWORK, format!("not allowed to listen on {addr}"))
                .fact("Ports below 1024 belong to the system.")
                .hint("manent -p 8080")
        }
        _ => Report::new("E105", NETWORK, format!("cannot listen on {addr}: {}", plain_io(error))),
    }
}

fn of_roots(error: &RootsError) -> Report {
    Report::new("E602", TLS, causes(error))
        .hint("--upstream-ca PEM   takes a file of certificates, for origins")
}

pub(super) fn of_ca(error: &CaError) -> Report {
    let message = causes(error);
    match error {
        CaError::Missing { .. } => Report::new("E606", NOT_FOUND, message).hint("manent ca create"),
        CaError::Exists { .. } => Report::new("E607", USAGE, message)
            .fact("Nothing was changed.")
            .hint("manent ca rotate   makes a new one, and keeps this one; of `ca import`, too: --rotate"),
        CaError::Expired { path, .. } if path.ends_with("manent-ca.pem") => {
            Report::new("E601", TLS, message).hint("manent ca rotate && manent ca install")
        }
        CaError::Expired { .. } => Report::new("E601", TLS, message)
            .hint("--ca-cert FILE   takes another one; without it: manent ca rotate && manent ca install"),
        CaError::KeyBeside { .. } => Report::new("E601", TLS, message).fact("Nothing was changed."),
        _ => Report::new("E601", TLS, message)
            .hint("manent --ca-dir DIR   uses or makes another one; --ca-cert FILE   a given one"),
    }
}
