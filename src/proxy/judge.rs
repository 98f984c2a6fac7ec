//! Everything that can be said of a request before an origin is asked: is it well formed, where does it go, may it go there.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::answer;
use super::error::{Error, Kind};
use super::mode::explicit::{self, Route};
use super::redact::recorded;
use super::serve::{Scope, Tunneled};
use super::shared::Shared;
use super::site::{self, Way};
use crate::exchange::Live;
use crate::flow::{self, ClientConn, Request, Scheme, Side, Stage, Target, Version};
use crate::http1::{BodyLength, FramingError, upgrade_tokens};

/// What is to be done with a request that was found good.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) route: Route,
    pub(super) length: BodyLength,
    /// `Host` as it goes on, where it is not the client's.
    pub(super) host: Option<Bytes>,
    pub(super) max_forwards: Option<u64>,
    /// Whether its connection may come to carry something else than HTTP, which no proxy between can forward.
    pub(super) tunnel: bool,
    /// We are the last hop for it (RFC 9110 §7.6.2).
    pub(super) own_answer: Option<Box<flow::Response>>,
    /// It is for the proxy itself, and so no flow.
    pub(super) way: Option<Way>,
}

/// Admits a request other than a plain `CONNECT` and judges it: the flow has begun, and says what is known so far.
pub(super) async fn admit(
    shared: &Shared,
    facts: &Arc<ClientConn>,
    scope: &Scope,
    request: &Request,
    length: Result<BodyLength, FramingError>,
    started: Instant,
) -> (Live, Result<Plan, Error>) {
    // To a client that speaks TLS to us, a path alone is of an https URL: it must not leave in clear.
    let scheme = if facts.proxy_tls.is_some() { Scheme::Https } else { Scheme::Http };
    let judged = judge(shared, scope, scheme, facts, request, length);
    let target = match (&judged, scope) {
        (Ok(plan), _) => plan.route.target.clone(),
        (Err(_), Scope::Tunnel(tunneled)) => tunneled.target().clone(),
        (Err(_), Scope::Explicit) => Target::default(),
    };
    let way = judged.as_ref().ok().and_then(|plan| plan.way);
    // Inside a tunnel it was asked before. Of an origin, which it takes us for that opens us, nobody expects to be asked
    // (RFC 9110 §11.7.1).
    let is_asked = matches!(scope, Scope::Explicit) && way != Some(Way::Opened);
    // What is for ourselves is recorded only if it is refused, which has to be known before.
    let shown = match way {
        Some(_) if is_asked => Some(shared.access.check(&request.headers).await),
        Some(_) => Some(Ok(())),
        None => None,
    };
    let recorder = shared.recorder.as_ref().filter(|_| !matches!(shown, Some(Ok(()))));
    let live = Live::begin(recorder, started, flow::Kind::Http, Arc::clone(facts)).await;
    // A request that is malformed is told so, whoever sent it.
    let judged = match (judged, shown) {
        (Ok(plan), Some(shown)) => shown.map(|()| plan),
        (Ok(plan), None) if is_asked => shared.access.check(&request.headers).await.map(|()| plan),
        (judged, _) => judged,
    };
    let length = judged.as_ref().ok().map_or(length.ok(), |plan| Some(plan.length));
    let now = live.now_us();
    live.with(|flow| {
        flow.timing.request_head_us = Some(now);
        // Where there is no body, the head is all of it.
        flow.timing.request_end_us = (length == Some(BodyLength::None)).then_some(now);
        flow.target = target;
        flow.request = Some(recorded(request, length));
    });
    (live, judged)
}

/// Everything that can be said against a request before an origin is asked.
fn judge(
    shared: &Shared,
    scope: &Scope,
    default_scheme: Scheme,
    facts: &ClientConn,
    request: &Request,
    length: Result<BodyLength, FramingError>,
) -> Result<Plan, Error> {
    let bad = |message: String| Error::bad_request(Stage::RequestHead, message);
    let length = length.map_err(|error| bad(error.to_string()))?;
    if request.version == Version::Http2 && request.headers.len() > shared.limits.head.max_fields {
        let message = format!("more than {} fields", shared.limits.head.max_fields);
        return Err(Error::new(Kind::HeadTooLarge, Side::Client, Stage::RequestHead, message));
    }
    if request.headers.get_all("host").count() > 1 {
        return Err(bad("more than one Host field".into()));
    }
    if request.version == Version::Http11 && request.headers.get("host").is_none() {
        // RFC 9112 §3.2: also where an absolute-form target would tell the host.
        return Err(bad("no Host field in an HTTP/1.1 request".into()));
    }
    let route = match scope {
        Scope::Explicit => explicit::route(request, default_scheme)?,
        Scope::Tunnel(tunneled) => inside(tunneled, request)?,
    };
    let way = site::way(shared, scope, request, &route, facts);
    if way.is_none() {
        recording_works(shared)?;
    }
    let host = replaced_host(request, &route);
    let (max_forwards, own_answer) = count_down(request);
    let own_answer = own_answer.or_else(|| revocations(shared, request, &route));
    let own_answer = own_answer.or_else(|| site::answer(shared, way?, request, &route, facts));
    let tunnel = upgrade_tokens(request).is_some() || request.protocol.is_some();
    Ok(Plan { route, length, host, max_forwards, tunnel, own_answer: own_answer.map(Box::new), way })
}

/// Whether requests may go on unrecorded, or recording works.
pub(super) fn recording_works(shared: &Shared) -> Result<(), Error> {
    if shared.require_recording && shared.recorder.as_ref().is_none_or(|r| r.is_failing()) {
        let message = "recording does not work";
        return Err(Error::new(Kind::NotRecording, Side::Proxy, Stage::RequestHead, message));
    }
    Ok(())
}

/// The route of a request inside a tunnel: the tunnel's origin, and no other.
fn inside(tunneled: &Tunneled, request: &Request) -> Result<Route, Error> {
    if let Some(reverse) = &tunneled.reverse {
        return reverse.route(request);
    }
    let scheme = tunneled.target().scheme;
    let names_host = request.headers.get("host").is_some() || request.authority.is_some();
    let mut route = if !names_host && request.target.starts_with(b"/") {
        // HTTP/1.0, and HTTP/2 if need be: the tunnel tells the host.
        Route { target: tunneled.target().clone(), origin_form: request.target.clone(), authority: None }
    } else {
        explicit::route(request, scheme)?
    };
    let named = &route.target;
    let own_name = tunneled.identity.as_deref().unwrap_or(&tunneled.target().host);
    let same_host =
        |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(own_name.trim_end_matches('.'));
    // A Host field without a port says nothing about one on another port than the scheme's.
    let says_port = named.port != scheme.default_port();
    let same = named.scheme == scheme
        && same_host(&named.host)
        && (!says_port || named.port == tunneled.target().port);
    // HTTP/2 always names it beside the path; that is no more than `Host` is in HTTP/1.
    let absolute = route.authority.is_some() && request.version != Version::Http2;
    if !same && !tunneled.by_address && (absolute || tunneled.identity.is_some()) {
        let message = format!(
            "this connection is for {own_name}:{}, the request for {}:{}",
            tunneled.target().port,
            named.host,
            named.port
        );
        return Err(Error::new(Kind::Misdirected, Side::Client, Stage::Target, message));
    }
    let host = match route.target.host {
        host if tunneled.by_address || host == own_name => host,
        _ => own_name.to_owned(),
    };
    let &Target { scheme, port, .. } = tunneled.target();
    route.target = Target { scheme, host, port };
    Ok(route)
}

/// `Host` as it must be sent where the client's is missing or contradicts the target (RFC 9112 §3.2.2).
pub(super) fn replaced_host(request: &Request, route: &Route) -> Option<Bytes> {
    if request.version == Version::Http2 {
        // `:authority`, which becomes `Host` towards HTTP/1 (RFC 9113 §8.3.1).
        return Some(route.authority.clone().unwrap_or_else(|| route.target.authority().into()));
    }
    let Some(host) = request.headers.get("host") else { return Some(route.target.authority().into()) };
    let authority = route.authority.as_ref()?;
    let default = Some(route.target.scheme.default_port());
    let same = explicit::authority(host, default)
        .is_ok_and(|(host, port)| host.eq_ignore_ascii_case(&route.target.host) && port == route.target.port);
    (!same).then(|| authority.clone())
}

/// `Max-Forwards` of TRACE and OPTIONS (RFC 9110 §7.6.2): one less, or our own answer at 0.
pub(super) fn count_down(request: &Request) -> (Option<u64>, Option<flow::Response>) {
    let counted = request.method == b"TRACE"[..] || request.method == b"OPTIONS"[..];
    let value = request.headers.get("max-forwards").filter(|_| counted);
    let left = value.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse::<u64>().ok());
    match left {
        Some(0) => (None, Some(answer::local(200, "OK", "text/plain; charset=utf-8", Bytes::new()))),
        left => (left.map(|left| left - 1), None),
    }
}

/// The list of revoked certificates, for who follows what a leaf of ours says.
fn revocations(shared: &Shared, request: &Request, route: &Route) -> Option<flow::Response> {
    let ours = route.origin_form.ends_with(b".crl") && route.origin_form.starts_with(b"/manent-");
    if !ours || request.method != b"GET"[..] || route.origin_form != shared.leaves.ca().crl_path().as_bytes()
    {
        return None;
    }
    let list = shared.leaves.ca().crl()?;
    Some(answer::local(200, "OK", "application/pkix-crl", list.into()))
}
