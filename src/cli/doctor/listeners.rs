//! The addresses to listen at: whether they are free, and who is there if not.

use std::io::ErrorKind;
use std::net::TcpListener;

use super::Finding;
use crate::cli::busy;
use crate::proxy::Listen;

/// A finding for each. An address is tried by listening at it for a moment.
pub(super) fn findings(listen: &[Listen]) -> Vec<Finding> {
    listen.iter().map(finding).collect()
}

fn finding(listen: &Listen) -> Finding {
    let addr = listen.addr;
    let error = match TcpListener::bind(addr) {
        Ok(_) if addr.port() == 0 => return Finding::good("port", format!("any free one on {}", addr.ip())),
        Ok(_) => return Finding::good("port", format!("{addr} is free")),
        Err(error) => error,
    };
    let another = addr.port().checked_add(2).unwrap_or(8082);
    match error.kind() {
        ErrorKind::AddrInUse => match busy::listener(addr) {
            Some(process) if process.name == "manent" => {
                Finding::good("port", format!("manent (pid {}) listens at {addr} already", process.pid))
            }
            holder => {
                let who = holder.map(|process| format!(" by {} (pid {})", process.name, process.pid));
                let message = format!("{addr} is in use{}", who.unwrap_or_default());
                Finding::bad(
                    "port",
                    message,
                    format!("manent -p {another}     or let it choose: manent -p 0"),
                )
            }
        },
        ErrorKind::PermissionDenied => {
            Finding::bad("port", format!("you may not listen at {addr}"), "manent -p 8080")
        }
        ErrorKind::AddrNotAvailable => {
            let message = format!("{} is no address of this machine", addr.ip());
            Finding::bad("port", message, "manent -l 127.0.0.1:8080")
        }
        _ => Finding::bad("port", format!("{addr}: {error}"), format!("manent -p {another}")),
    }
}
