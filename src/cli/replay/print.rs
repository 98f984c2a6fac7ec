//! What is told of each request: a line for people, columns for a pipe, or an object.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::kept::{Ended, Kept};
use crate::cli::json::headers;
use crate::cli::output::{Data, Output, Paint};
use crate::cli::{compared, escape, text};
use crate::flow::{Flow, FlowError, Mid, Version};
use crate::replay::compare::Comparison;
use crate::replay::send::{BodySource, Prepared, Refusal, Settled};

/// Writes what became of a request.
///
/// # Errors
/// If standard output is closed or full.
pub(super) fn reply(
    data: &mut Data,
    reply: &Settled<Kept>,
    in_full: bool,
    output: &Output,
) -> io::Result<()> {
    if output.json {
        serde_json::to_writer(&mut *data, &to_json(reply))?;
        return writeln!(data);
    }
    let kept = &reply.kept;
    let verdict = verdict(reply, output.paint);
    let mid = reply.mid.map_or_else(|| "-".to_owned(), |mid| mid.to_string());
    let status = |ended: Ended| ended.status.map_or_else(|| "ERR".to_owned(), |status| status.to_string());
    let took = |ended: Ended| ended.duration_us.map_or_else(|| "-".to_owned(), text::duration_us);
    let (was, is) = (status(kept.was), kept.is.map_or_else(|| "-".to_owned(), status));
    let (was_us, is_us) = (took(kept.was), kept.is.map_or_else(|| "-".to_owned(), took));
    let of = kept.of;
    if output.terminal {
        let sign = if was == is { "=" } else { "→" };
        writeln!(data, "{of:>6} → {mid:<6}  {was:>3} {sign} {is:<3}  {was_us:>7} → {is_us:<7}  {verdict}")?;
    } else {
        let columns = [of.to_string(), mid, was, is, was_us, is_us, verdict];
        data.write_all((columns.join("\t") + "\n").as_bytes())?;
    }
    if in_full && let Some(comparison) = &kept.comparison {
        for line in compared::lines(comparison, output.paint) {
            writeln!(data, "    {line}")?;
        }
    }
    Ok(())
}

fn verdict(reply: &Settled<Kept>, paint: Paint) -> String {
    let kept = &reply.kept;
    let failed = |text: &str| paint.red(&escape::line(text));
    if let Some(refusal) = kept.refusal() {
        return failed(&format!("not sent: {refusal}"));
    }
    if let Some((_, _, error)) = kept.failure() {
        return failed(&format!("failed: {}", why(error)));
    }
    if reply.mid.is_none() {
        return failed("answered, but not stored");
    }
    match &kept.comparison {
        Some(comparison) if !comparison.is_same() => {
            paint.yellow(&format!("different: {}", compared::brief(comparison)))
        }
        Some(_) => paint.green("same"),
        None => "sent".to_owned(),
    }
}

/// Why a flow has no whole answer.
fn why(error: &FlowError) -> String {
    format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message)
}

fn to_json(reply: &Settled<Kept>) -> Value {
    let kept = &reply.kept;
    json!({
        "mid": reply.mid.map(|mid| mid.0),
        "store": reply.store.as_deref().map(Path::to_string_lossy),
        "replay_of": kept.of.0,
        "url": kept.url,
        "was_status": kept.was.status,
        "status": kept.is.and_then(|is| is.status),
        "was_duration_us": kept.was.duration_us,
        "duration_us": kept.is.and_then(|is| is.duration_us),
        "error": kept.failure().map(|(_, _, error)| why(error)),
        "not_sent": kept.refusal().map(ToString::to_string),
        "same": kept.comparison.as_ref().map(Comparison::is_same),
        "differences": kept.comparison.as_ref().map(compared::to_json),
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
