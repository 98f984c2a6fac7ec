//! One end of an HTTP/2 connection, driven by the test frame by frame.
//!
//! It answers SETTINGS and PING and gives back flow-control credit by itself, unless told not to; nothing else is done
//! for the test, and nothing is checked that a test does not ask for, so that it can break every rule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::{self, ACK, END_HEADERS, END_STREAM, Frame, number, setting};
use super::hpack::{self, Decoder, Field};
use crate::harness::peer::Io;
use crate::harness::{Peer, soon};

/// What every connection begins with on the client's side (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client or an origin that speaks HTTP/2.
pub(crate) struct H2 {
    io: Box<dyn Io>,
    buffer: Vec<u8>,
    decoder: Decoder,
    /// A header block whose end has not come.
    block: Option<(Frame, Vec<u8>)>,
    /// What came and was not asked for yet.
    aside: VecDeque<Event>,
    /// Whether the peer's preface is still to come.
    preface_due: bool,
    /// Streams whose first head was asked for, of an origin.
    pub(super) begun: BTreeSet<u32>,
    /// What we may send: on the connection (0) and on each stream that was used.
    credit: BTreeMap<u32, i64>,
    pings: u64,
    /// `:scheme` and `:authority` of the requests of [`H2::ask`].
    pub(crate) origin: (&'static str, String),
    /// Whether SETTINGS and PING are answered.
    pub(crate) answers: bool,
    /// Whether credit is given back for all DATA at once.
    pub(crate) grants: bool,
    /// The peer's settings, as they came.
    pub(crate) settings: Vec<(u16, u32)>,
    /// How often the peer has acknowledged ours.
    pub(crate) acks: usize,
    /// The answers to our PINGs.
    pub(crate) pongs: Vec<[u8; 8]>,
    /// Type, flags and stream of each frame that came, in order.
    pub(crate) log: Vec<(u8, u8, u32)>,
}

/// What came, and does not concern the connection alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Head(Head),
    Data {
        stream: u32,
        data: Vec<u8>,
        end: bool,
    },
    Rst {
        stream: u32,
        code: u32,
    },
    Goaway {
        last: u32,
        code: u32,
    },
    /// PRIORITY, PUSH_PROMISE, ALTSVC and what has no name.
    Other(Frame),
    /// The connection has ended.
    End,
}

/// A decoded HEADERS frame with what continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) stream: u32,
    pub(crate) fields: Vec<Field>,
    /// END_STREAM was on it.
    pub(crate) end: bool,
}

impl Head {
    /// The value of the one field called so; an empty one where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {self:?}");
        all.first().copied().unwrap_or_default()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| &value[..]).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(crate) fn status(&self) -> &str {
        self.get(":status")
    }
}

impl Event {
    fn stream(&self) -> Option<u32> {
        match self {
            Event::Head(head) => Some(head.stream),
            Event::Data { stream, .. } | Event::Rst { stream, .. } => Some(*stream),
            Event::Goaway { .. } | Event::Other(_) | Event::End => None,
        }
    }
}

impl H2 {
    /// A client that has sent preface and SETTINGS.
    pub(crate) async fn client(peer: Peer) -> Self {
        Self::client_with(peer, &[]).await
    }

    pub(crate) async fn client_with(peer: Peer, settings: &[(u16, u32)]) -> Self {
        let mut this = Self::new(peer, false);
        this.send_bytes([PREFACE, &Frame::settings(settings).bytes()].concat()).await;
        this
    }

    /// An origin that has sent SETTINGS. The peer's preface is looked at when something of it is read.
    pub(crate) async fn server(peer: Peer) -> Self {
        Self::server_with(peer, &[]).await
    }

    pub(crate) async fn server_with(peer: Peer, settings: &[(u16, u32)]) -> Self {
        let mut this = Self::new(peer, true);
        this.send(Frame::settings(settings)).await;
        this
    }

    /// An end that has sent nothing.
    pub(crate) fn new(peer: Peer, preface_due: bool) -> Self {
        Self {
            io: peer.into_io(),
            buffer: Vec::new(),
            decoder: Decoder::new(),
            block: None,
            aside: VecDeque::new(),
            preface_due,
            begun: BTreeSet::new(),
            credit: BTreeMap::from([(0, INITIAL_WINDOW)]),
            pings: 0,
            origin: ("https", String::new()),
            answers: true,
            grants: true,
            settings: Vec::new(),
            acks: 0,
            pongs: Vec::new(),
            log: Vec::new(),
        }
    }

    // Sending.

    pub(crate) async fn send(&mut self, frame: Frame) {
        assert!(self.try_send(frame).await, "the peer has gone");
    }

    /// Sends to a peer that may have gone; `false` if it has.
    pub(crate) async fn try_send(&mut self, frame: Frame) -> bool {
        if frame.kind == frame::DATA {
            let len = i64::try_from(frame.payload.len()).unwrap();
            *self.credit_of(0) -= len;
            *self.credit_of(frame.stream) -= len;
        }
        self.try_send_bytes(frame.bytes()).await
    }

    pub(crate) async fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send_bytes(bytes).await, "the peer has gone");
    }

    pub(crate) async fn try_send_bytes(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = soon("room to send", async {
            self.io.write_all(bytes.as_ref()).await?;
            self.io.flush().await
        });
        sent.await.is_ok()
    }

    /// A request to the origin that this client is for.
    pub(crate) async fn ask(&mut self, stream: u32, flags: u8, line: (&str, &str), fields: &[(&str, &str)]) {
        let (scheme, authority) = (self.origin.0, self.origin.1.clone());
        let pseudo =
            [(":method", line.0), (":scheme", scheme), (":authority", &authority), (":path", line.1)];
        self.head(stream, flags, &[&pseudo[..], fields].concat()).await;
    }

    /// The plainest request.
    pub(crate) async fn get(&mut self, stream: u32, path: &str) {
        self.ask(stream, END_STREAM, ("GET", path), &[]).await;
    }

    /// The plainest response.
    pub(crate) async fn ok(&mut self, stream: u32) {
        self.head(stream, frame::MORE, &[(":status", "200")]).await;
        self.data(stream, END_STREAM, "ok").await;
    }

    /// Fails unless the plainest response is next on this stream, whole.
    pub(crate) async fn expect_ok(&mut self, stream: u32) {
        self.expect_status(stream, "200").await;
        assert_eq!(self.rest_of(stream).await, (b"ok".to_vec(), None));
    }

    /// A head, or trailers, or an interim response: HEADERS with these fields.
    pub(crate) async fn head<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        stream: u32,
        flags: u8,
        fields: &[(N, V)],
    ) {
        self.send(Frame::headers(stream, flags, hpack::encode(fields))).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, flags: u8, data: impl AsRef<[u8]>) {
        self.send(Frame::data(stream, flags, data)).await;
    }

    /// Sends `data` in frames of the default size, as the peer gives credit.
    pub(crate) async fn body(&mut self, stream: u32, flags: u8, mut data: &[u8]) {
        while !data.is_empty() {
            let credit = (*self.credit_of(stream)).min(*self.credit_of(0));
            let Some(len) = usize::try_from(credit).ok().filter(|&len| len > 0) else {
                self.fetch("credit").await;
                continue;
            };
            let len = len.min(data.len()).min(MAX_FRAME_SIZE);
            let (piece, rest) = data.split_at(len);
            data = rest;
            self.data(stream, if data.is_empty() { flags } else { frame::MORE }, piece).await;
        }
    }

    // Receiving.

    /// Waits until the peer has read all that we have sent, as far as frames go.
    pub(crate) async fn fence(&mut self) {
        self.pings += 1;
        let payload = self.pings.to_be_bytes();
        self.send(Frame::ping(0, payload)).await;
        self.until("the answer to a PING", |this| this.pongs.contains(&payload)).await;
    }

    /// Reads on until something is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            assert!(!self.aside.contains(&Event::End), "the end before {what}; {:?}", self.aside);
            self.fetch(what).await;
        }
    }

    /// The same, or to the end.
    pub(crate) async fn until_or_end(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) && !self.aside.contains(&Event::End) {
            self.fetch(what).await;
        }
    }

    /// The next thing on this stream.
    pub(crate) async fn on(&mut self, stream: u32) -> Event {
        let what = format!("something on stream {stream}");
        self.find(&what, |event| event.stream() == Some(stream)).await
    }

    /// The first thing that is so; what came before it stays for later.
    pub(crate) async fn find(&mut self, what: &str, is_so: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(at) = self.aside.iter().position(&is_so) {
                return self.aside.remove(at).unwrap();
            }
            assert!(!self.aside.contains(&Event::End), "the end before {what}; {:?}", self.aside);
            self.fetch(what).await;
        }
    }

    /// Reads one frame more, or the end.
    pub(crate) async fn step(&mut self, what: &str) {
        self.fetch(what).await;
    }

    /// Reads whatever comes, and does not end: beside something that does.
    pub(crate) async fn read_on(&mut self) {
        while !self.aside.contains(&Event::End) {
            self.advance().await;
        }
        std::future::pending().await
    }

    /// What has come and was not asked for.
    pub(crate) fn aside(&self) -> impl Iterator<Item = &Event> {
        self.aside.iter()
    }

    /// Reads the next frame and sets what it says aside.
    async fn fetch(&mut self, what: &str) {
        soon(what, self.advance()).await;
    }

    async fn advance(&mut self) {
        let frame = loop {
            if self.preface_due && self.buffer.len() >= PREFACE.len() {
                let preface: Vec<u8> = self.buffer.drain(..PREFACE.len()).collect();
                assert!(preface == PREFACE, "no preface: {}", preface.escape_ascii());
                self.preface_due = false;
            }
            if !self.preface_due
                && let Some(frame) = Frame::take(&mut self.buffer)
            {
                break frame;
            }
            self.buffer.reserve(1 << 16);
            if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
                return self.aside.push_back(Event::End);
            }
        };
        self.log.push((frame.kind, frame.flags, frame.stream));
        self.take(frame).await;
    }

    async fn take(&mut self, frame: Frame) {
        let stream = frame.stream;
        match frame.kind {
            frame::DATA => {
                let by = u32::try_from(frame.payload.len()).unwrap();
                if self.grants && by > 0 {
                    self.try_send(Frame::window_update(0, by)).await;
                    if !frame.has(END_STREAM) {
                        self.try_send(Frame::window_update(stream, by)).await;
                    }
                }
                let (data, end) = (frame.content().to_vec(), frame.has(END_STREAM));
                self.aside.push_back(Event::Data { stream, data, end });
            }
            frame::HEADERS | frame::CONTINUATION => self.take_block(frame),
            frame::RST_STREAM => {
                self.aside.push_back(Event::Rst { stream, code: number(&frame.payload) });
            }
            frame::SETTINGS if frame.has(ACK) => self.acks += 1,
            frame::SETTINGS => {
                self.take_settings(&frame.payload);
                if self.answers {
                    self.try_send(Frame::settings_ack()).await;
                }
            }
            frame::PING if frame.has(ACK) => self.pongs.push(frame.payload.try_into().unwrap()),
            frame::PING if self.answers => {
                self.try_send(Frame::ping(ACK, frame.payload.try_into().unwrap())).await;
            }
            frame::GOAWAY => {
                let (last, code) = (number(&frame.payload), number(&frame.payload[4..]));
                self.aside.push_back(Event::Goaway { last, code });
            }
            frame::WINDOW_UPDATE => *self.credit_of(stream) += i64::from(number(&frame.payload)),
            _ => self.aside.push_back(Event::Other(frame)),
        }
    }

    fn take_block(&mut self, frame: Frame) {
        let content = frame.content().to_vec();
        let ends = frame.has(END_HEADERS);
        let (first, block) = match self.block.take() {
            None => (frame, content),
            Some((first, block)) => (first, [block, content].concat()),
        };
        if !ends {
            self.block = Some((first, block));
            return;
        }
        let fields = self.decoder.decode(&block).unwrap();
        let (stream, end) = (first.stream, first.has(END_STREAM));
        self.aside.push_back(Event::Head(Head { stream, fields, end }));
    }

    fn take_settings(&mut self, payload: &[u8]) {
        for one in payload.chunks_exact(6) {
            let (id, value) = (u16::from_be_bytes([one[0], one[1]]), number(&one[2..]));
            if id == setting::INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.initial_window();
                self.credit.iter_mut().filter(|(stream, _)| **stream != 0).for_each(|(_, c)| *c += change);
            }
            self.settings.push((id, value));
        }
    }

    /// What the peer has set last; `None` if it never did.
    pub(crate) fn setting(&self, id: u16) -> Option<u32> {
        self.settings.iter().rev().find(|(set, _)| *set == id).map(|(_, value)| *value)
    }

    /// What we may send on a stream, or on the connection (0), in bytes.
    pub(crate) fn credit_of(&mut self, stream: u32) -> &mut i64 {
        let initial = if stream == 0 { INITIAL_WINDOW } else { self.initial_window() };
        self.credit.entry(stream).or_insert(initial)
    }

    fn initial_window(&self) -> i64 {
        self.setting(setting::INITIAL_WINDOW_SIZE).map_or(INITIAL_WINDOW, i64::from)
    }
}

/// RFC 9113 §6.9.2.
const INITIAL_WINDOW: i64 = 65_535;
/// The default (RFC 9113 §6.5.2).
const MAX_FRAME_SIZE: usize = 16_384;
