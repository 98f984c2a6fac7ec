//! What is told of each request: a line for people, columns for a pipe, or an object.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::json::headers;
use crate::cli::output::{Data, Output, Paint};
use crate::cli::{compared, escape, text};
use crate::flow::{Flow, Mid, Version};
use crate::replay::compare::Comparison;
use crate::replay::send::{BodySource, Prepared, Refusal, Reply};

/// Writes what became of a request.
///
/// # Errors
/// If standard output is closed or full.
pub(super) fn reply(
    data: &mut Data,
    reply: &Reply,
    comparison: Option<&Comparison>,
    in_full: bool,
    output: &Output,
) -> io::Result<()> {
    if output.json {
        serde_json::to_writer(&mut *data, &to_json(reply, comparison))?;
        return writeln!(data);
    }
    let verdict = verdict(reply, comparison, output.paint);
    let new = reply.outcome.as_ref().ok();
    let mid = new.and_then(|new| new.mid).map_or_else(|| "-".to_owned(), |mid| mid.to_string());
    let (was, is) = (status(&reply.source), new.map_or_else(|| "-".to_owned(), |new| status(&new.flow)));
    let took = |flow: &Flow| flow.timing.end_us.map_or_else(|| "-".to_owned(), text::duration_us);
    let (was_us, is_us) = (took(&reply.source), new.map_or_else(|| "-".to_owned(), |new| took(&new.flow)));
    if output.terminal {
        let (of, sign) = (reply.of, if was == is { "=" } else { "→" });
        writeln!(data, "{of:>6} → {mid:<6}  {was:>3} {sign} {is:<3}  {was_us:>7} → {is_us:<7}  {verdict}")?;
    } else {
        writeln!(data, "{}\t{mid}\t{was}\t{is}\t{was_us}\t{is_us}\t{verdict}", reply.of)?;
    }
    if in_full && let Some(comparison) = comparison {
        for line in compared::lines(comparison, output.paint) {
            writeln!(data, "    {line}")?;
        }
    }
    Ok(())
}

fn verdict(reply: &Reply, comparison: Option<&Comparison>, paint: Paint) -> String {
    let failed = |text: &str| paint.red(&escape::line(text));
    match (&reply.outcome, comparison) {
        (Err(refusal), _) => failed(&format!("not sent: {refusal}")),
        (Ok(new), _) if new.flow.error.is_some() => failed(&format!("failed: {}", why(&new.flow))),
        (Ok(new), _) if new.mid.is_none() => failed("answered, but not stored"),
        (Ok(_), Some(comparison)) if !comparison.is_same() => {
            paint.yellow(&format!("different: {}", compared::brief(comparison)))
        }
        (Ok(_), Some(_)) => paint.green("same"),
        (Ok(_), None) => "sent".to_owned(),
    }
}

/// Why a flow has no whole answer.
pub(super) fn why(flow: &Flow) -> String {
    let error = flow.error.as_ref();
    error
        .map(|error| format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message))
        .unwrap_or_default()
}

fn status(flow: &Flow) -> String {
    let answered = flow.response.as_ref().filter(|response| !response.by_proxy);
    answered.map_or_else(|| "ERR".to_owned(), |response| response.status.to_string())
}

fn to_json(reply: &Reply, comparison: Option<&Comparison>) -> Value {
    let new = reply.outcome.as_ref().ok();
    let status = |flow: &Flow| flow.response.as_ref().filter(|response| !response.by_proxy).map(|r| r.status);
    let refused = reply.outcome.as_ref().err().map(ToString::to_string);
    json!({
        "mid": new.and_then(|new| new.mid).map(|mid| mid.0),
        "store": new.and_then(|new| new.store.as_deref()).map(Path::to_string_lossy),
        "replay_of": reply.of.0,
        "url": new.map_or_else(|| reply.source.url(), |new| new.flow.url()),
        "was_status": status(&reply.source),
        "status": new.and_then(|new| status(&new.flow)),
        "was_duration_us": reply.source.timing.end_us,
        "duration_us": new.and_then(|new| new.flow.timing.end_us),
        "error": new.filter(|new| new.flow.error.is_some()).map(|new| why(&new.flow)),
        "not_sent": refused,
        "same": comparison.map(Comparison::is_same),
        "differences": comparison.map(compared::to_json),
    })
}

/// Writes what would be sent.
///
/// # Errors
/// If standard output is closed or full.
pub(super) fn plan(
    data: &mut Data,
    mid: Mid,
    flow: &Flow,
    planned: &Result<Prepared, Refusal>,
    output: &Output,
) -> io::Result<()> {
    let prepared = match planned {
        Ok(prepared) => prepared,
        Err(refusal) if output.json => {
            let object = json!({"mid": mid.0, "url": flow.url(), "not_sent": refusal.to_string()});
            return writeln!(data, "{object}");
        }
        Err(refusal) => {
            let why = output.paint.red(&escape::line(format!("not sent: {refusal}")));
            return writeln!(data, "{mid}\t{}\t{why}", escape::line(flow.url()));
        }
    };
    let sent =
        Flow { target: prepared.target.clone(), request: Some(prepared.request.clone()), ..Flow::default() };
    let len = match &prepared.body {
        BodySource::Empty => 0,
        BodySource::Stored(_, len) => *len,
        BodySource::New(new) => new.len(),
    };
    let (method, version) = (escape::line(&prepared.request.method), version(prepared.request.version));
    let (address, url) = (prepared.dial.host_port(), sent.url());
    if output.json {
        let fields = headers(&prepared.request.headers);
        let object = json!({
            "mid": mid.0, "method": method, "url": url, "version": version, "address": address,
            "headers": fields, "body_len": len, "websocket": prepared.is_websocket,
            "credentials_elsewhere": prepared.credentials,
        });
        return writeln!(data, "{object}");
    }
    let what = if prepared.is_websocket { "a WebSocket".to_owned() } else { format!("{len} bytes of body") };
    writeln!(data, "{mid}\t{method} {}\t{version} to {}, {what}", escape::line(url), escape::line(address))
}

fn version(version: Version) -> &'static str {
    if version == Version::Http2 { "HTTP/2" } else { "HTTP/1.1" }
}
