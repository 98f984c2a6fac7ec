//! Writing messages as they were on the wire.

use std::io::{self, Write};

use super::super::ask::unsuitable;
use super::super::head::{self, Delimiter, is_whole};
use super::super::transfer::{EncodeError, EncodeOptions, Encoder, Item, Part};
use crate::flow::Kind;

/// Makes the encoder.
pub(super) fn make(_: &EncodeOptions) -> Box<dyn Encoder> {
    Box::new(Raw { is_endless: false })
}

struct Raw {
    /// Whether what was written last has no end of its own.
    is_endless: bool,
}

impl Encoder for Raw {
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError> {
        let flow = item.flow();
        if matches!(flow.kind, Kind::Tunnel | Kind::Tls) {
            return Err(unsuitable("it is no HTTP message"));
        }
        if flow.request.is_none() && flow.response.is_none() {
            return Err(unsuitable("it has neither a request nor a response"));
        }
        if self.is_endless {
            return Err(unsuitable(
                "the message before it ends where its connection did: export that one by itself",
            ));
        }
        let mut method = &b""[..];
        if let Some(request) = &flow.request {
            method = &request.method;
            let (text, delimiter) = head::request(request);
            out.write_all(&text)?;
            let whole = is_whole(&request.body);
            if let Some(mut body) = item.body(Part::Request)? {
                head::body(&mut body, delimiter, whole, request.trailers.as_deref(), out)?;
            }
            if !whole || method.is_empty() {
                self.is_endless = true;
                return Ok(());
            }
        }
        for interim in &flow.interim {
            out.write_all(&head::interim(interim))?;
        }
        if let Some(response) = &flow.response {
            let (text, delimiter) = head::response(response, method);
            out.write_all(&text)?;
            let whole = is_whole(&response.body);
            if delimiter != Delimiter::None
                && let Some(mut body) = item.body(Part::Response)?
            {
                head::body(&mut body, delimiter, whole, response.trailers.as_deref(), out)?;
            }
            self.is_endless = delimiter == Delimiter::End || !whole;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
