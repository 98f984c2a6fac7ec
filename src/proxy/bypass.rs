//! The two moments at which `passthrough` is asked: before TLS with the client, and right after it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Stream};
use super::detect::First;
use super::intercept::{self, Opened, Opener, Reached};
use super::mode::explicit;
use super::passthrough::{KEEP, SIDE_BY_SIDE};
use super::serve::{Scope, Tunneled};
use super::site;
use crate::flow::{self, Side, Stage, State, Target, TlsInfo};
use crate::tls;

/// Why the tunnel is to be passed through, if it is; nothing was taken from the stream then. What its ClientHello said is
/// among the client's facts.
pub(super) async fn reason(
    client: &mut Client,
    stream: &mut Stream,
    opened: &Opened,
    first: &First,
) -> Option<&'static str> {
    let shared = Arc::clone(&client.shared);
    // Where nobody is asked in the place of an origin, there is nothing to pass on to: the handshake fails, and tells why.
    let forwards = || shared.answers.as_ref().is_none_or(|answers| answers.forwards());
    let is_constrained = shared.leaves.ca().is_constrained() && forwards();
    let nothing_to_ask = matches!(first, First::Nothing) || site::is_target(&shared, &opened.opener.target);
    if !(shared.passthrough.is_active() || is_constrained) || nothing_to_ask {
        return None;
    }
    let hello = match first {
        First::Tls => tls::read_hello(stream.reader.buffer()),
        _ => None,
    };
    let sni = hello.as_ref().and_then(|hello| hello.sni.as_deref());
    let port = opened.opener.target.port;
    let by_rule = if shared.passthrough.has_rules() {
        let mut names = vec![opened.opener.target.host_port()];
        let peer = match &opened.origin {
            Reached::Pooled(connection) => connection.facts().peer.clone(),
            Reached::Dialed(dialed, _) => dialed.conn.peer.clone(),
            Reached::NotYet => None,
        };
        names.extend(peer.map(|peer| peer.to_string()));
        names.extend(sni.map(|sni| format!("{sni}:{port}")));
        if let First::Http = first {
            names.extend(host_field(client, stream, port).await);
        }
        shared.passthrough.by_rule(&names)
    } else {
        None
    };
    let by_rejection = || {
        let host = place(&opened.opener.target, sni);
        let rejected = matches!(first, First::Tls)
            && shared.passthrough.by_rejection(client.peer.ip(), &host, Instant::now());
        rejected.then_some("the client rejected our certificate")
    };
    // Every client would refuse what we could show it, and sees the origin's own certificate instead.
    let outside = || {
        let host = sni.unwrap_or(&opened.opener.target.host);
        let refused = matches!(first, First::Tls) && is_constrained && !shared.leaves.can_be_accepted(host);
        refused.then_some(OUTSIDE)
    };
    let reason = by_rule.or_else(by_rejection).or_else(outside)?;
    if let Some(hello) = hello {
        client.learn(|facts| facts.tls = Some(hello));
    }
    Some(reason)
}

/// The host and port that the first request in clear names, once its head is there.
async fn host_field(client: &mut Client, stream: &mut Stream, port: u16) -> Option<String> {
    let limits = client.shared.limits;
    let began = Instant::now();
    loop {
        let head = stream.reader.buffer();
        let lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        // Fields end with the head, and each is whole only if its line is.
        let mut whole = lines.take(head.iter().filter(|&&byte| byte == b'\n').count());
        let mut fields = whole.by_ref().skip(1).take_while(|line| !line.is_empty());
        let host = fields.find_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            line[..colon].eq_ignore_ascii_case(b"host").then(|| line[colon + 1..].trim_ascii())
        });
        if let Some(host) = host {
            let (host, port) = explicit::authority(host, Some(port)).ok()?;
            return Some(Target { host, port, ..Target::default() }.host_port());
        }
        let is_over =
            head.windows(2).any(|two| two == b"\n\n") || head.windows(4).any(|four| four == b"\r\n\r\n");
        if is_over || head.len() >= limits.head.max_bytes {
            return None;
        }
        let left = limits.head_timeout.saturating_sub(began.elapsed());
        match client.ticker.within(left, stream.reader.fill()).await {
            Ok(Ok(len)) if len > 0 => {}
            // Whatever it is, it is told where it is read.
            _ => return None,
        }
    }
}

/// How a client left that had our certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// With an alert that refuses it.
    Alert,
    /// Without a word, with or without a close_notify: what looks at certificates after the handshake leaves in either
    /// way (Node and wget without one; OkHttp, which pins so, and curl on GnuTLS with one). So does a browser that has
    /// opened a connection ahead and does not need it.
    Silently,
}

impl Left {
    /// By an error that [`tls::is_rejection`] takes for a rejection.
    pub(super) fn by(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidData { Self::Alert } else { Self::Silently }
    }
}

/// Notes that the client rejected our certificate for the host, unless it left silently and has accepted it not long ago:
/// `false` then. `sni` is the name that it asked for.
pub(super) fn rejected(client: &Client, target: &Target, sni: Option<&str>, left: Left) -> bool {
    let (host, now) = (place(target, sni), Instant::now());
    let peer = client.peer.ip();
    if site::is_target(&client.shared, target) {
        // There is no origin to be seen instead.
        return true;
    }
    if left == Left::Silently && client.shared.passthrough.has_accepted(peer, &host, now) {
        return false;
    }
    if client.shared.passthrough.rejected(peer, &host, left == Left::Silently, now) {
        tracing::warn!(
            client = %peer,
            host = %host,
            "the client rejected our certificate twice: its connections to this host now pass through unread \
             for {} minutes (--no-auto-passthrough switches that off)",
            KEEP.as_secs() / 60
        );
    }
    true
}

/// Notes that the client has sent something in TLS with our certificate.
pub(super) fn accepted(client: &Client, tunneled: &Tunneled) {
    if let Some(tls) = &client.facts.tls {
        let host = place(tunneled.target(), tls.sni.as_deref());
        client.shared.passthrough.accepted(client.peer.ip(), &host, Instant::now());
    }
}

/// Waits a moment for the first byte inside TLS. `true`: the client left without one, because it does not trust our
/// certificate, as it seems; that is recorded. Some clients look at certificates only after the handshake (GnuTLS,
/// Node, OkHttp), and some close without an alert.
pub(super) async fn distrusts(client: &mut Client, stream: &mut Stream, scope: &mut Scope) -> bool {
    let Scope::Tunnel(tunneled) = scope else { return false };
    if tunneled.is_broken() {
        // That is what will be recorded. Also, the client may know of it in other ways.
        return false;
    }
    let Some(opener) = tunneled.opened_by.take() else { return false };
    // Who resumes a session of TLS 1.3 has read on after its handshake, and so has accepted the certificate before.
    let accepted_before = |tls: &TlsInfo| tls.resumed && tls.version.as_deref() == Some("TLSv1.3");
    if client.facts.tls.as_ref().is_none_or(accepted_before) {
        return false;
    }
    let stop = client.entry.token();
    let arrived = tokio::select! {
        biased;
        arrived = client.ticker.within(FIRST_BYTE_TIME, stream.reader.wait_for_message()) => arrived,
        () = stop.cancelled() => return false,
    };
    let (left, message) = match arrived {
        Ok(Ok(true)) => {
            accepted(client, tunneled);
            return false;
        }
        // Connections that are opened for later use are as silent.
        Err(_) => return false,
        Ok(Ok(false)) => (Left::Silently, LEFT.to_owned()),
        Ok(Err(error)) if tls::is_rejection(&error) => match Left::by(&error) {
            Left::Alert => (Left::Alert, tls::explain_client(&error)),
            Left::Silently => (Left::Silently, LEFT.to_owned()),
        },
        Ok(Err(_)) => return false,
    };
    let target = tunneled.target();
    if !rejected(client, target, tls_name(client).as_deref(), left) {
        // Nothing was asked on a connection that was not needed.
        return false;
    }
    if left == Left::Silently {
        let host = place(target, tls_name(client).as_deref());
        let acceptance = client.shared.passthrough.acceptance(client.peer.ip(), &host);
        let used_another = tokio::select! {
            accepted = client.ticker.within(SIDE_BY_SIDE, acceptance) => accepted.is_ok(),
            () = stop.cancelled() => false,
        };
        if used_another {
            return false;
        }
    }
    client.learn(|facts| {
        if let Some(tls) = &mut facts.tls {
            tls.error = Some(message.clone());
        }
    });
    let opener = Opener { target: target.clone(), ..opener };
    let live = intercept::begin(client, flow::Kind::Tls, opener).await;
    live.fail(State::Failed, Side::Client, Stage::Tls, message);
    true
}

fn tls_name(client: &Client) -> Option<String> {
    client.facts.tls.as_ref().and_then(|tls| tls.sni.clone())
}

/// What a rejection is remembered for: the name that the leaf was for, and the port.
fn place(target: &Target, sni: Option<&str>) -> String {
    let host = sni.unwrap_or(&target.host).to_owned();
    Target { host, ..target.clone() }.host_port()
}

const OUTSIDE: &str = "the CA may not sign for this host (name constraints)";

const LEFT: &str = "client closed the connection right after the handshake, without a request; perhaps it does not trust our CA";

/// Longer than a client that has seen our certificate thinks about it, shorter than one waits that opens connections for
/// later use.
const FIRST_BYTE_TIME: Duration = Duration::from_secs(1);
