//! What a format has to do to be one of those that flows are exported to and imported from.
//!
//! A format is one file (or folder) here with an [`Encoder`], a [`Decoder`] or both, and a row in [`super::FORMATS`]. It knows
//! nothing of stores: what it writes it gets from an [`Item`], what it reads it hands to a [`Sink`]. Both hand bodies on in
//! pieces, so that neither their size nor the number of flows is bounded by memory.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;

use crate::flow::{Content, Flow, Message, Note};

/// Which of the byte strings of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The request's body.
    Request,
    /// The response's body.
    Response,
    /// What a tunnel carried from the client.
    FromClient,
    /// What a tunnel carried from the origin.
    FromServer,
    /// The payload of a message of a WebSocket; from the client if `true`.
    Message(bool),
}

impl Part {
    /// Where such a body of this flow is; `None` if it has none. Not for [`Part::Message`].
    pub(crate) fn content(self, flow: &Flow) -> Option<&Content> {
        Some(match self {
            Part::Request => &flow.request.as_ref()?.body.content,
            Part::Response => &flow.response.as_ref()?.body.content,
            Part::FromClient => &flow.tunnel.as_ref()?.from_client.content,
            Part::FromServer => &flow.tunnel.as_ref()?.from_server.content,
            Part::Message(_) => return None,
        })
    }
}

/// A recorded flow with all that belongs to it, as an [`Encoder`] sees it.
pub trait Item {
    /// The flow with its connections. Bodies may be elsewhere: see [`Item::body`].
    fn flow(&self) -> &Flow;

    /// What people wrote beside it.
    fn note(&self) -> &Note;

    /// The recorded bytes of a body, still in their content-coding. `None` if they were not recorded, or there is no such body
    /// in this flow. Not for [`Part::Message`].
    ///
    /// # Errors
    /// If the store cannot be read; the reader gives errors of kind [`io::ErrorKind::InvalidData`] where it is damaged.
    fn body(&self, part: Part) -> io::Result<Option<Box<dyn Read + '_>>>;

    /// The same of a body that is in memory; `None` says nothing of it.
    fn in_memory(&self, part: Part) -> Option<&Bytes> {
        match part.content(self.flow())? {
            Content::Inline(bytes) => Some(bytes),
            Content::Absent | Content::Extents(_) => None,
        }
    }

    /// Gives all messages of a WebSocket in their order, payloads not necessarily inside: see [`Item::payload`].
    ///
    /// # Errors
    /// What `each` said, and if the store cannot be read.
    fn messages(&self, each: &mut dyn FnMut(&Message) -> io::Result<()>) -> io::Result<()>;

    /// The recorded bytes of a message.
    ///
    /// # Errors
    /// As [`Item::body`].
    fn payload(&self, message: &Message) -> io::Result<Box<dyn Read + '_>>;
}

/// Writes flows in one format, one after the other.
pub trait Encoder {
    /// Writes a flow. Whether it can be written in this format is found out before the first byte.
    ///
    /// # Errors
    /// [`EncodeError::Unsuitable`] if the format has no room for such a flow, with nothing written; [`EncodeError::Io`] if
    /// the flow cannot be read or `out` not be written, after which the output is worth nothing.
    fn flow(&mut self, item: &dyn Item, out: &mut dyn Write) -> Result<(), EncodeError>;

    /// The flows that come next are of another store, which has mids of its own.
    fn next_store(&mut self) {}

    /// Writes what stands behind the last flow; also where there was none.
    ///
    /// # Errors
    /// What `out` said.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Why a flow was not written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The format has no room for it. Says what it is, such as "a tunnel has no request".
    #[error("{0}")]
    Unsuitable(String),
    /// It could not be read, or its text not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads flows of one format, one after the other.
pub trait Decoder {
    /// Reads the next flow, and hands its bodies and messages to the sink while it reads. `None` at the end of the file.
    ///
    /// # Errors
    /// After [`DecodeError::Flow`] the next call goes on with the flow behind it; after any other there is no more to get.
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Decoded>, DecodeError>;
}

/// A flow that was read. What its bodies hold is what the [`Sink`] gave for them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The flow, its connections inside, with ids that hold in the file: flows with equal ids shared a connection, 0 is one of
    /// its own. It has no mid, or that of the store which it was exported from; it will get another. A body that the file
    /// has only in part, or not at all, says so by its [`crate::flow::BodyEnd`] and [`Content::Absent`].
    pub flow: Flow,
    /// What the file has of notes.
    pub note: Note,
}

/// Why a flow was not read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// This one is damaged, and the next can be read.
    #[error("at byte {position}: {what}")]
    Flow {
        /// Where, in bytes from the beginning of the (uncompressed) file.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// From here on nothing can be read.
    #[error("at byte {position}: {what}")]
    File {
        /// As in [`DecodeError::Flow`].
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file could not be read, or the sink not be filled.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes the bodies and messages of the flow that is being read. When [`Decoder::next`] has returned an error, what was handed
/// over for that flow is thrown away.
pub trait Sink {
    /// Begins a body or the payload of a message. One at a time; but the two directions of a tunnel may take turns: to begin
    /// one that was begun and not ended goes on with it, and the other may be open meanwhile.
    fn begin(&mut self, part: Part);

    /// Takes some of its bytes.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the one that was begun last; what stands for it in the flow or message: small ones as [`Content::Inline`], large ones
    /// as extents.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn end(&mut self) -> io::Result<Content>;

    /// Takes one that is all in memory; the same as to begin it, to write it, and to end it.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn whole(&mut self, part: Part, bytes: Bytes) -> io::Result<Content> {
        self.begin(part);
        self.write(&bytes)?;
        self.end()
    }

    /// Takes a message of the flow's WebSocket, in their order, `seq` from 1.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn message(&mut self, message: &Message) -> io::Result<()>;
}

/// What is asked of an encoder. Fields that a format has no use for do nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether each request is to go to the address that was connected to, whatever its name means now: curl's `--resolve`.
    pub keep_address: bool,
}

/// Makes an encoder.
pub type MakeEncoder = fn(&EncodeOptions) -> Box<dyn Encoder>;

/// Makes a decoder of a file from its beginning. Decompressed before.
pub type MakeDecoder = fn(Box<dyn BufRead + Send>) -> Box<dyn Decoder>;

/// One of the formats of other tools, or ours.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// How it is named on the command line.
    pub name: &'static str,
    /// Endings of file names that mean it, without the dot; `.gz` behind them is no matter.
    pub extensions: &'static [&'static str],
    /// One line for the help.
    pub about: &'static str,
    /// Whether it can be looked at on a terminal.
    pub is_text: bool,
    /// Whether secrets are masked unless asked not to: so in formats that are made to be shown to others.
    pub redacts: bool,
    /// Whether it holds requests alone.
    pub asks_only: bool,
    /// Writes it; `None` for a format that is only read.
    pub encoder: Option<MakeEncoder>,
    /// Reads it; `None` for a format that is only written.
    pub decoder: Option<MakeDecoder>,
    /// Whether the first bytes of a file (up to 64 KiB of them) look like it.
    pub sniff: fn(&[u8]) -> bool,
}
