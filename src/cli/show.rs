//! `manent show`: one flow, for a person to read. Everything captured is escaped, on a terminal and off it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::args::Global;
use super::content::{self, Message, Part};
use super::escape::{self, TextStream};
use super::messages::Wanted;
use super::output::{Data, Output, Paint};
use super::store::{self, Flows};
use super::{connection, given, grpc, json, messages, note, text};
use crate::config::units::{parse_size, parse_whole};
use crate::flow::{Applied, Flow, FlowError, Headers, Kind, Mid, Scheme, Side, Target};
use crate::format::coding::Caps;
use crate::store::{Note, Reader};

/// Show recorded flows
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShowArgs {
    /// The flows: 12  12,15  40-60  100-  last  last:5  @FILE  -; with several stores FILE:12
    #[arg(required = true)]
    mids: Vec<Flows>,
    /// How much of each body [default: 8KiB on a terminal, 64MiB else]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_body: Option<u64>,
    /// How many messages of a WebSocket [default: 100 on a terminal, else all]
    #[arg(long, value_name = "N", value_parser = parse_whole)]
    messages: Option<u64>,
    /// Only messages of a WebSocket with numbers above this
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = parse_whole, hide_default_value = true)]
    after: u64,
}

pub(super) fn run(args: &ShowArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let mut first = true;
    store::each_flow(&args.mids, global, output, |reader, mid, flow| {
        if !std::mem::take(&mut first) && !output.json {
            output.data_line("")?;
        }
        show(args, reader, mid, flow, output)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, reader: &Reader, mid: Mid, flow: &Flow, output: &Output) -> anyhow::Result<()> {
    let on_screen = output.terminal && !output.json;
    let max_body = args.max_body.unwrap_or(if on_screen { SCREEN_BODY } else { PIPE_BODY });
    let default_messages = if on_screen { SCREEN_MESSAGES } else { u64::MAX };
    let mut wanted =
        Wanted { after: args.after, limit: args.messages.unwrap_or(default_messages), max_len: max_body };
    if output.json {
        let object = json::flow(flow, mid, reader, max_body)?;
        if flow.websocket.is_none() {
            return Ok(output.data_line(&object.to_string())?);
        }
        let mut data = output.data();
        messages::write_json(&mut data, &object, reader, mid, wanted)?;
        return Ok(data.flush()?);
    }
    if on_screen {
        wanted.max_len = max_body.min(SCREEN_MESSAGE);
    }
    let listed = if on_screen { SCREEN_LIST } else { grpc::LISTED };
    let (data, paint) = (output.data(), output.paint);
    let mut page = Page { data, paint, store: reader, mid, max_body, wanted, listed, web_trailers: None };
    page.flow(flow)?;
    Ok(page.data.flush()?)
}

/// Where the flow is written, and how.
struct Page<'a> {
    data: Data,
    paint: Paint,
    store: &'a Reader,
    mid: Mid,
    max_body: u64,
    wanted: Wanted,
    /// Messages of gRPC in each direction.
    listed: usize,
    /// Trailers of gRPC-Web, once the body was shown that they end.
    web_trailers: Option<Headers>,
}

impl Page<'_> {
    fn flow(&mut self, flow: &Flow) -> anyhow::Result<()> {
        self.title(flow)?;
        self.note()?;
        self.request(flow)?;
        self.interim(flow)?;
        self.response(flow)?;
        self.tunnel(flow)?;
        self.messages(flow)?;
        self.timing(flow)?;
        for line in connection::describe(flow) {
            writeln!(self.data, "  {}", escape::line(line))?;
        }
        Ok(())
    }

    fn title(&mut self, flow: &Flow) -> io::Result<()> {
        let url = self.paint.bold(&escape::line(flow.url()));
        writeln!(self.data, "{}  {url}", self.mid)?;
        let took =
            flow.timing.end_us.map(|us| format!(", took {}", text::duration_us(us))).unwrap_or_default();
        let replay = flow.replay_of.map(|mid| format!(", replay of {mid}")).unwrap_or_default();
        let state = flow.state.as_str();
        writeln!(self.data, "  {} {state}{took}{replay}", flow.kind.as_str())?;
        writeln!(self.data, "  started {}", text::local(flow.timing.started_unix_ns))?;
        if let Some(error) = &flow.error {
            let (side, stage) = (error.side.as_str(), error.stage.as_str());
            match distrust(flow, error) {
                Some(why) => self.distrust(flow, &why)?,
                None => {
                    let what = format!("error: {side} {stage}: {}", error.message);
                    writeln!(self.data, "  {}", self.paint.red(&escape::line(what)))?;
                }
            }
        }
        self.rules(flow)
    }

    /// A client that refuses our certificate, or left as one does that would.
    fn distrust(&mut self, flow: &Flow, why: &str) -> io::Result<()> {
        let tls = flow.client.tls.as_ref();
        let host = tls.and_then(|tls| tls.sni.as_deref()).unwrap_or(&flow.target.host);
        let peer = flow.client.peer.as_ref().map_or_else(|| "a client".to_owned(), ToString::to_string);
        let what = format!("{peer} does not trust our certificate for {host} ({why})");
        let code = self.paint.red(&self.paint.bold("error[E301]"));
        writeln!(self.data, "  {code}: {}", escape::line(what))?;
        let mid = self.mid;
        writeln!(
            self.data,
            "  The request never reached us, so there is nothing to show but this row (mid {mid})."
        )?;
        let asked = Target { scheme: Scheme::Https, host: host.to_owned(), port: flow.target.port };
        let url = escape::shell_word(format!("https://{}/", asked.authority()).as_ref());
        for (lead, what) in [
            (self.paint.cyan("hint:"), format!("manent run -- curl {url}     (no installation)")),
            ("     ".to_owned(), "manent ca install     (this machine)".to_owned()),
            (
                "     ".to_owned(),
                "http://manent/ through the proxy tells how to trust it elsewhere".to_owned(),
            ),
        ] {
            writeln!(self.data, "  {lead} {}", given::in_full(&what))?;
        }
        Ok(())
    }

    fn rules(&mut self, flow: &Flow) -> io::Result<()> {
        for Applied { rule, times, .. } in &flow.rules {
            let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
            writeln!(self.data, "  rule    {}{times}", self.paint.yellow(&escape::line(rule)))?;
        }
        Ok(())
    }

    /// What people wrote beside it.
    fn note(&mut self) -> anyhow::Result<()> {
        let Note { marker, comment, tags } = note::of(self.store, self.mid)?;
        if let Some(marker) = marker {
            writeln!(self.data, "  {}", self.paint.yellow(&format!("marked {}", escape::line(marker))))?;
        }
        if !tags.is_empty() {
            let tags: Vec<_> = tags.iter().map(|tag| format!("+{}", escape::line(tag))).collect();
            writeln!(self.data, "  tags    {}", self.paint.cyan(&tags.join(" ")))?;
        }
        for (at, line) in comment.iter().flat_map(|comment| comment.lines()).enumerate() {
            writeln!(self.data, "  {} {}", if at == 0 { "comment" } else { "       " }, escape::line(line))?;
        }
        Ok(())
    }

    fn request(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let Some(request) = &flow.request else { return Ok(()) };
        let line = [&request.method[..], &request.target, request.version.as_str().as_bytes()].join(&b' ');
        // What HTTP/2 puts beside the fields, where it tells more than the title.
        let pseudo = [(":authority", &request.authority), (":protocol", &request.protocol)];
        let pseudo = pseudo.iter().filter_map(|(name, value)| Some((name.as_bytes(), value.as_deref()?)));
        let headers: Headers = pseudo.chain(request.headers.iter()).collect();
        self.head(&line, &headers, request.raw_head.as_deref())?;
        if flow.tunnel.is_none() {
            self.body(flow, Part::Request)?;
        }
        self.trailers(request.trailers.as_deref())?;
        let Some(changed) = &request.changed else { return Ok(()) };
        writeln!(self.data, "\n{}", self.paint.dim("(sent on with these fields, changed by rules)"))?;
        Ok(self.fields(changed)?)
    }

    fn interim(&mut self, flow: &Flow) -> anyhow::Result<()> {
        for interim in &flow.interim {
            let mut line = interim.status.to_string().into_bytes();
            line.push(b' ');
            line.extend_from_slice(&interim.reason);
            self.head(&line, &interim.headers, None)?;
        }
        Ok(())
    }

    fn response(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let Some(response) = &flow.response else { return Ok(()) };
        let mut line = format!("{} {} ", response.version.as_str(), response.status).into_bytes();
        line.extend_from_slice(&response.reason);
        self.head(&line, &response.headers, response.raw_head.as_deref())?;
        if response.by_proxy {
            writeln!(self.data, "{}", self.paint.dim("(made by the proxy)"))?;
        }
        if flow.tunnel.is_none() {
            self.body(flow, Part::Response)?;
        }
        self.trailers(response.trailers.as_deref())?;
        if let Some(status) = grpc::status_line(flow, self.web_trailers.as_ref()) {
            writeln!(self.data, "{}", self.paint.bold(&status))?;
        }
        Ok(())
    }

    fn head(&mut self, line: &[u8], headers: &Headers, raw: Option<&[u8]>) -> anyhow::Result<()> {
        writeln!(self.data, "\n{}", self.paint.bold(&escape::line(line)))?;
        match raw {
            Some(raw) => {
                writeln!(self.data, "{}", self.paint.dim("(not in canonical form; as it was on the wire:)"))?;
                writeln!(self.data, "{}", escape::text(raw).trim_end_matches('\n'))?;
            }
            None => self.fields(headers)?,
        }
        Ok(())
    }

    fn fields(&mut self, headers: &Headers) -> io::Result<()> {
        for (name, value) in headers.iter() {
            writeln!(self.data, "{}: {}", self.paint.cyan(&escape::line(name)), escape::line(value))?;
        }
        Ok(())
    }

    fn trailers(&mut self, trailers: Option<&Headers>) -> anyhow::Result<()> {
        let Some(trailers) = trailers else { return Ok(()) };
        writeln!(self.data, "\n{}", self.paint.dim("(trailers)"))?;
        Ok(self.fields(trailers)?)
    }

    fn tunnel(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let Some(tunnel) = &flow.tunnel else { return Ok(()) };
        let (up, down) = (text::size(tunnel.from_client.len), text::size(tunnel.from_server.len));
        let reason = escape::line(&tunnel.reason);
        writeln!(self.data, "\nrelayed unread ({reason}): {up} from the client, {down} from the origin")?;
        self.body(flow, Part::Request)?;
        self.body(flow, Part::Response)
    }

    /// A line a message: number, time, direction, what it is, size, payload.
    fn messages(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let Some(websocket) = &flow.websocket else { return Ok(()) };
        let stored = self.store.last_message(self.mid)?;
        let count = text::count(stored.max(websocket.messages()), "message");
        let ending = messages::ending(websocket).map(|end| format!(", {}", escape::line(end)));
        writeln!(self.data, "\nWebSocket: {count}{}", ending.unwrap_or_default())?;
        if let Some(bad_text) = messages::bad_text(websocket) {
            writeln!(self.data, "({bad_text})")?;
        }
        let Self { data, paint, store, mid, wanted, .. } = self;
        let mut last = wanted.after;
        let left = messages::for_each(store, *mid, *wanted, |message| {
            last = message.seq;
            Ok(writeln!(data, "{}", messages::line(message, store, wanted.max_len, *paint)?)?)
        })?;
        if left > 0 {
            let note = given::in_full(&format!("({left} more; manent show {mid} --after {last})"));
            writeln!(data, "{}", paint.dim(&note))?;
        }
        if let Some(lost) = websocket.messages().checked_sub(stored).filter(|&lost| lost > 0) {
            writeln!(data, "{}", paint.dim(&format!("({lost} more passed and could not be stored)")))?;
        }
        Ok(())
    }

    /// Text, decoded and up to the limit; of anything else, what it is.
    fn body(&mut self, flow: &Flow, part: Part) -> anyhow::Result<()> {
        let Some(message) = content::message(flow, part) else { return Ok(()) };
        let body = message.body;
        let why = content::why_not_whole(body);
        if body.len == 0 && why.is_none() {
            return Ok(());
        }
        if content::is_absent(body) {
            return self.remark(message, "not recorded");
        }
        if let (0, Some(why)) = (body.recorded_len(), &why) {
            return self.remark(message, why);
        }
        if grpc::is_framed(message) {
            return self.grpc_messages(message, why);
        }
        let mut reader = match content::decoded(self.store, message, Caps::default()) {
            Ok(reader) => reader,
            Err(error) => return self.remark(message, &error.to_string()),
        };
        let mut buffer = vec![0; BUFFER];
        let mut stream = TextStream::default();
        let mut shown = 0;
        let mut ends_line = false;
        loop {
            let room = usize::try_from(self.max_body - shown).unwrap_or(usize::MAX).min(BUFFER);
            let (filled, end) = content::fill(&mut reader, &mut buffer[..room]);
            if shown == 0 {
                if content::is_binary(&buffer[..filled]) {
                    return self.remark(message, &format!("binary; manent cat {} writes it", self.mid));
                }
                writeln!(self.data)?;
            }
            shown += filled as u64;
            let piece = stream.piece(&buffer[..filled]);
            self.data.write_all(piece.as_bytes())?;
            ends_line = piece.ends_with('\n') || (piece.is_empty() && ends_line);
            if let Err(error) = end {
                writeln!(self.data, "{}", stream.end())?;
                return self.remark(message, &why.unwrap_or_else(|| error.to_string()));
            }
            if filled < room || room == 0 {
                break;
            }
        }
        self.data.write_all(stream.end().as_bytes())?;
        if !ends_line {
            writeln!(self.data)?;
        }
        let more = shown == self.max_body && reader.read(&mut [0])? > 0;
        match (more, why) {
            (true, _) => self.remark(message, &format!("more; manent cat {} writes all", self.mid)),
            (false, Some(why)) => self.remark(message, &why),
            (false, None) => Ok(()),
        }
    }

    /// The messages of a gRPC call; their bytes say nothing to a person.
    fn grpc_messages(&mut self, message: Message<'_>, why: Option<String>) -> anyhow::Result<()> {
        let list = match grpc::list(self.store, message, self.listed) {
            Ok(list) => list,
            Err(error) => return self.remark(message, &error.to_string()),
        };
        writeln!(self.data)?;
        for line in list.lines() {
            writeln!(self.data, "{line}")?;
        }
        self.web_trailers = list.into_trailers();
        self.remark(message, &why.unwrap_or_else(|| format!("binary; manent cat {} writes it", self.mid)))
    }

    fn remark(&mut self, message: Message<'_>, what: &str) -> anyhow::Result<()> {
        let coding = message.headers.and_then(|headers| headers.get("content-encoding"));
        let coding = coding.map(|name| format!(" {}", escape::line(name))).unwrap_or_default();
        let note =
            format!("(body of {} bytes{coding}: {})", message.body.len, escape::line(given::in_full(what)));
        writeln!(self.data, "{}", self.paint.dim(&note))?;
        Ok(())
    }

    fn timing(&mut self, flow: &Flow) -> io::Result<()> {
        let har = flow.timing.har(flow.server.as_deref().filter(|_| !flow.server_reused));
        let phases = [
            ("blocked", har.blocked),
            ("dns", har.dns),
            ("connect", har.connect),
            ("tls", har.ssl),
            ("send", flow.timing.send_end_us.map(|_| har.send)),
            ("wait", flow.timing.response_head_us.map(|_| har.wait)),
            ("receive", flow.timing.response_end_us.map(|_| har.receive)),
        ];
        let phases =
            phases.iter().filter_map(|(name, us)| Some(format!("{name} {}", text::duration_us((*us)?))));
        writeln!(self.data, "\n  timing  {}", phases.collect::<Vec<_>>().join(", "))
    }
}

/// A few screens.
const SCREEN_BODY: u64 = 8 * 1024;

/// A page or two of messages, and two lines of each.
const SCREEN_MESSAGES: u64 = 100;
const SCREEN_MESSAGE: u64 = 200;

/// As much as decoding gives.
const PIPE_BODY: u64 = 64 * 1024 * 1024;

/// A screen of gRPC's messages, a line each.
const SCREEN_LIST: usize = 40;

/// Arbitrary: a few pages.
const BUFFER: usize = 16 * 1024;

/// Why a client seems not to trust us, if that is what a flow failed of.
fn distrust(flow: &Flow, error: &FlowError) -> Option<String> {
    if flow.kind != Kind::Tls || error.side != Side::Client {
        return None;
    }
    if let Some((_, alert)) = error.message.split_once("refused our certificate (") {
        return Some(format!("TLS alert: {}", alert.trim_end_matches(')')));
    }
    let left = error.message.contains("not trust our CA");
    left.then(|| "so it seems: it closed the connection without a word".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  manent show last
  manent show 12,15 40-60
  manent show 1041 --messages 20 --after 100     messages 101 to 120 of a WebSocket
  manent show 1041 --json | jq -r '.response.headers[] | .name + \": \" + (.value | tostring)'

Exit code 3 if there is no such flow.";
