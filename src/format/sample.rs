//! What the tests of formats need: a flow in memory as an [`Item`], a [`Sink`] in memory, and requests by lot.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::transfer::{DecodeError, Decoded, EncodeError, EncodeOptions, Format, Item, Part, Sink};
use crate::flow::*;

/// A flow whose bodies and messages are all in place.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Sample {
    pub(super) flow: Flow,
    pub(super) note: Note,
    pub(super) messages: Vec<Message>,
}

impl Item for Sample {
    fn flow(&self) -> &Flow {
        &self.flow
    }

    fn note(&self) -> &Note {
        &self.note
    }

    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>> {
        let tunnel = self.flow.tunnel.as_ref();
        let body = match part {
            Part::Request => self.flow.request.as_ref().map(|request| &request.body),
            Part::Response => self.flow.response.as_ref().map(|response| &response.body),
            Part::FromClient => tunnel.map(|tunnel| &tunnel.from_client),
            Part::FromServer => tunnel.map(|tunnel| &tunnel.from_server),
            Part::Message(_) => None,
        };
        Ok(body.and_then(Body::as_inline).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>))
    }

    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()> {
        self.messages.iter().try_for_each(each)
    }

    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>> {
        match &message.content {
            Content::Inline(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            _ => Ok(Box::new(io::empty())),
        }
    }
}

/// Keeps what it gets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) messages: Vec<Message>,
    open: Option<(Part, Vec<u8>)>,
}

impl Sink for Kept {
    fn begin(&mut self, part: Part) {
        assert!(self.open.is_none(), "one at a time");
        self.open = Some((part, Vec::new()));
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.as_mut().expect("it was begun").1.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> io::Result<Content> {
        Ok(Content::Inline(self.open.take().expect("it was begun").1.into()))
    }

    fn message(&mut self, message: &Message) -> io::Result<()> {
        self.messages.push(message.clone());
        Ok(())
    }
}

/// The flows of a file in `format`.
pub(super) fn encoded(
    format: &Format,
    samples: &[Sample],
    options: &EncodeOptions,
) -> Result<Vec<u8>, EncodeError> {
    let mut encoder = format.encoder.expect("it is written")(options);
    let mut out = Vec::new();
    for sample in samples {
        encoder.flow(sample, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok(out)
}

/// All flows of a file, and what was wrong with others.
pub(super) fn decoded(format: &Format, file: &[u8]) -> Vec<Result<Sample, DecodeError>> {
    let mut decoder = format.decoder.expect("it is read")(Box::new(io::Cursor::new(file.to_vec())));
    let mut seen = Vec::new();
    loop {
        let mut sink = Kept::default();
        match decoder.next(&mut sink) {
            Ok(None) => return seen,
            Ok(Some(Decoded { flow, note })) => seen.push(Ok(Sample { flow, note, messages: sink.messages })),
            Err(error) => {
                let goes_on = matches!(error, DecodeError::Flow { .. });
                seen.push(Err(error));
                if !goes_on {
                    return seen;
                }
            }
        }
    }
}

/// A whole body with the framing that the fields tell.
pub(super) fn body(bytes: &[u8], framing: Framing) -> Body {
    Body { framing, ..Body::inline(bytes.to_vec()) }
}

/// A flow with this request only.
pub(super) fn asking(method: &str, url: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Sample {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let at = rest.find('/').expect("a path");
    let (host, port) = rest[..at].split_once(':').expect("a port");
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = Request {
        method: method.to_owned().into(),
        target: rest[at..].to_owned().into(),
        headers: headers.iter().copied().collect(),
        body: Body { end: BodyEnd::Whole, ..Body::inline(bytes.to_vec()) },
        ..Request::default()
    };
    let target = Target { scheme, host: host.to_owned(), port: port.parse().expect("a port") };
    let flow = Flow { target, request: Some(request), client: Arc::default(), ..Flow::default() };
    Sample { flow, ..Sample::default() }
}

/// Requests that a client can send and a proxy records, hostile in what HTTP allows.
pub(super) fn request() -> impl Strategy<Value = Sample> {
    let method = prop_oneof![Just("GET".to_owned()), Just("POST".to_owned()), "[A-Z!#$%&'*+.^_`|~a-z-]{1,8}"];
    let path = vec(prop_oneof![0x21u8..0x7f, 0x80u8..=0xff], 0..20);
    let name = "[A-Za-z!#$%&'*+.^_`|~-]{1,10}";
    let value = vec(prop_oneof![9 => 0x20u8..0x7f, 1 => Just(b'\t'), 2 => 0x80u8..=0xff], 0..12)
        .prop_map(|value| value.trim_ascii().to_vec());
    let fields = vec((name, value), 0..6);
    let bytes = prop_oneof![vec(any::<u8>(), 0..40), "[ -~\n]{0,40}".prop_map(String::into_bytes)];
    (method, path, fields, bytes, any::<[bool; 2]>()).prop_map(
        |(method, path, fields, bytes, [chunked, tls])| {
            let own =
                ["host", "content-length", "transfer-encoding", "proxy-connection", "proxy-authorization"];
            let mut fields: Vec<(Vec<u8>, Vec<u8>)> = fields
                .into_iter()
                .filter(|(name, _)| !own.contains(&&name.to_ascii_lowercase()[..]))
                .map(|(name, value)| (name.into_bytes(), value))
                .collect();
            let at = path.len() % (fields.len() + 1);
            fields.insert(at, (b"hOst".to_vec(), b"h.test:81".to_vec()));
            let framing = match (bytes.is_empty(), chunked) {
                (true, _) => Framing::None,
                (false, true) => {
                    fields.push((b"Transfer-encoding".to_vec(), b"chunked".to_vec()));
                    Framing::Chunked
                }
                (false, false) => {
                    fields.insert(0, (b"content-Length".to_vec(), bytes.len().to_string().into_bytes()));
                    Framing::Length
                }
            };
            let request = Request {
                method: method.into(),
                target: Bytes::from([b"/", &path[..]].concat()),
                headers: fields.into_iter().collect(),
                body: body(&bytes, framing),
                ..Request::default()
            };
            let scheme = if tls { Scheme::Https } else { Scheme::Http };
            let target = Target { scheme, host: "h.test".to_owned(), port: 81 };
            let flow = Flow { target, request: Some(request), ..Flow::default() };
            Sample { flow, ..Sample::default() }
        },
    )
}
