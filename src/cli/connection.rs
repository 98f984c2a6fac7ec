//! The two connections of a flow in words, a line a fact.
//!
//! The lines quote peers: the caller escapes them.

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::text;
use crate::flow::{Addr, ClientAuth, ClientConn, Flow, ServerConn, TlsInfo};

/// What there is to say about the client's connection and the origin's.
pub(super) fn describe(flow: &Flow) -> Vec<String> {
    let mut lines = Vec::new();
    client(&flow.client, &mut lines);
    if let Some(conn) = &flow.server {
        server(conn, flow.server_reused, &mut lines);
    }
    lines
}

fn client(conn: &ClientConn, lines: &mut Vec<String>) {
    let (peer, local) = (address(conn.peer.as_ref()), address(conn.local.as_ref()));
    lines.push(format!("client  {peer} to {local}, connection {}", conn.id.0));
    if let Some(info) = &conn.proxy_tls {
        lines.push("        TLS with the proxy itself:".to_owned());
        tls(info, "presented", lines);
    }
    if let Some(connect) = &conn.connect {
        lines.push(format!("        CONNECT {}", String::from_utf8_lossy(&connect.authority)));
    }
    if let Some(info) = &conn.tls {
        tls(info, "presented", lines);
    }
    error(conn.error.as_deref(), conn.tls.as_ref(), lines);
}

fn server(conn: &ServerConn, reused: bool, lines: &mut Vec<String>) {
    let peer = conn.peer.as_ref().map(|peer| format!(" at {peer}")).unwrap_or_default();
    let via =
        conn.via.as_ref().map(|via| format!(" via {}://{}", via.scheme, via.address)).unwrap_or_default();
    let reused = if reused { ", reused" } else { "" };
    lines.push(format!("server  {}{peer}{via}, connection {}{reused}", conn.address, conn.id.0));
    let steps = [("dns", conn.dns_us), ("connect", conn.connect_us), ("tls", conn.tls_us)];
    let steps: Vec<_> =
        steps.iter().filter_map(|(name, us)| Some(format!("{name} {}", text::duration_us((*us)?)))).collect();
    if !steps.is_empty() {
        lines.push(format!("        {}", steps.join(", ")));
    }
    if let Some(info) = &conn.tls {
        tls(info, "certificate", lines);
        if !info.verified && info.error.is_none() {
            lines.push("        NOT verified (--insecure)".to_owned());
        }
    }
    error(conn.error.as_deref(), conn.tls.as_ref(), lines);
}

/// What ended the connection, unless it was TLS: that has told it already.
fn error(error: Option<&str>, tls: Option<&TlsInfo>, lines: &mut Vec<String>) {
    if let Some(error) = error
        && tls.and_then(|tls| tls.error.as_deref()) != Some(error)
    {
        lines.push(format!("        error: {error}"));
    }
}

fn tls(info: &TlsInfo, what: &str, lines: &mut Vec<String>) {
    let facts: Vec<String> = [
        info.version.clone(),
        info.cipher.clone(),
        info.group.clone(),
        info.sni.as_ref().map(|name| format!("SNI {name}")),
        info.alpn.as_ref().map(|name| format!("ALPN {}", String::from_utf8_lossy(name))),
        info.resumed.then(|| "resumed".to_owned()),
        (info.client_auth != ClientAuth::NotAsked)
            .then(|| format!("client certificate: {}", info.client_auth.as_str())),
    ]
    .into_iter()
    .flatten()
    .collect();
    lines.push(format!("        {}", if facts.is_empty() { "TLS".to_owned() } else { facts.join(", ") }));
    if let Some(leaf) = info.chain.first() {
        lines.push(format!("        {what} {}", certificate(leaf)));
    }
    if let Some(error) = &info.error {
        lines.push(format!("        TLS error: {error}"));
    }
}

/// Who it is for, who signed it, until when it holds.
fn certificate(der: &[u8]) -> String {
    match X509Certificate::from_der(der) {
        Ok((_, leaf)) => {
            let until = text::utc(leaf.validity().not_after.timestamp().saturating_mul(1_000_000_000));
            let day = until.split('T').next().unwrap_or_default();
            format!("{}, issued by {}, valid until {day}", leaf.subject(), leaf.issuer())
        }
        Err(_) => format!("that cannot be read ({} bytes)", der.len()),
    }
}

fn address(addr: Option<&Addr>) -> String {
    addr.map_or_else(|| "?".to_owned(), Addr::to_string)
}
