//! What a test waits for on an HTTP/2 connection: heads, data, resets, ends.

use super::conn::{Event, H2, Head};

impl H2 {
    /// An origin's next request: the head of a stream that was not asked for yet.
    pub(crate) async fn request(&mut self) -> Head {
        let begun = self.begun.clone();
        let is_new = |event: &Event| matches!(event, Event::Head(head) if !begun.contains(&head.stream));
        let Event::Head(head) = self.find("a request", is_new).await else {
            unreachable!("only heads were looked for")
        };
        self.begun.insert(head.stream);
        head
    }

    /// The next head on this stream: a response, an interim one, or trailers.
    pub(crate) async fn expect_head(&mut self, stream: u32) -> Head {
        match self.on(stream).await {
            Event::Head(head) => head,
            other => panic!("wanted a head on stream {stream}, got {other:?}"),
        }
    }

    /// The head of a response with this status.
    pub(crate) async fn expect_status(&mut self, stream: u32, status: &str) -> Head {
        let head = self.expect_head(stream).await;
        assert_eq!(head.status(), status, "{head:?}");
        head
    }

    /// Reads exactly these bytes of a body, in frames of any size; whether END_STREAM was on the last.
    pub(crate) async fn expect_data(&mut self, stream: u32, wanted: impl AsRef<[u8]>) -> bool {
        let wanted = wanted.as_ref();
        let mut seen = Vec::new();
        loop {
            let Event::Data { data, end, .. } = self.on(stream).await else {
                panic!("wanted data on stream {stream} after {} bytes", seen.len())
            };
            seen.extend(data);
            assert!(
                wanted.starts_with(&seen),
                "wanted {}, got {}",
                wanted.escape_ascii(),
                seen.escape_ascii()
            );
            if seen.len() == wanted.len() {
                return end;
            }
            assert!(!end, "an end after {} of {} bytes", seen.len(), wanted.len());
        }
    }

    /// Reads to END_STREAM: the data, and the trailers if it was on those.
    pub(crate) async fn rest_of(&mut self, stream: u32) -> (Vec<u8>, Option<Head>) {
        let mut seen = Vec::new();
        loop {
            match self.on(stream).await {
                Event::Data { data, end, .. } => {
                    seen.extend(data);
                    if end {
                        return (seen, None);
                    }
                }
                Event::Head(head) if head.end => return (seen, Some(head)),
                other => panic!("wanted the end of stream {stream}, got {other:?}"),
            }
        }
    }

    /// Waits until nothing more can come on this stream, however that is told.
    pub(crate) async fn over(&mut self, stream: u32) {
        let is_end = |event: &Event| match event {
            Event::Head(head) => head.stream == stream && head.end,
            Event::Data { stream: which, end, .. } => *which == stream && *end,
            Event::Rst { stream: which, .. } => *which == stream,
            Event::Goaway { code, .. } => *code != 0,
            Event::Other(_) => false,
            Event::End => true,
        };
        self.find("the end of a stream", is_end).await;
    }

    /// Fails unless the next thing on this stream is a reset with one of these codes.
    pub(crate) async fn expect_rst(&mut self, stream: u32, codes: &[u32]) {
        match self.on(stream).await {
            Event::Rst { code, .. } if codes.contains(&code) => {}
            other => panic!("wanted a reset of stream {stream} with one of {codes:?}, got {other:?}"),
        }
    }

    /// Reads what is left of a body up to a reset; the code.
    pub(crate) async fn cut(&mut self, stream: u32) -> u32 {
        loop {
            match self.on(stream).await {
                Event::Rst { code, .. } => return code,
                Event::Data { end: false, .. } => {}
                other => panic!("wanted stream {stream} to be cut, got {other:?}"),
            }
        }
    }

    /// Waits for a GOAWAY; the last stream that it promises to serve, and the code.
    pub(crate) async fn goaway(&mut self) -> (u32, u32) {
        match self.find("a GOAWAY", |event| matches!(event, Event::Goaway { .. })).await {
            Event::Goaway { last, code } => (last, code),
            other => unreachable!("{other:?} was not looked for"),
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&mut self) {
        self.find("the end of the connection", |event| *event == Event::End).await;
    }

    /// How the peer refuses what was done to it: a reset of the stream, a GOAWAY, or the end alone, whichever is first.
    pub(crate) async fn refusal(&mut self, stream: u32) -> Refusal {
        let is_one = |event: &Event| match event {
            Event::Rst { stream: which, .. } => *which == stream,
            Event::Goaway { code, .. } => *code != 0,
            Event::End => true,
            _ => false,
        };
        match self.find("a refusal", is_one).await {
            Event::Rst { code, .. } => Refusal::Stream(code),
            Event::Goaway { code, .. } => Refusal::Connection(code),
            _ => Refusal::Closed,
        }
    }
}

/// See [`H2::refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// RST_STREAM with this code.
    Stream(u32),
    /// GOAWAY with this code.
    Connection(u32),
    /// The end of the connection without a word.
    Closed,
}
