//! Why a stage of an exchange did not go on.

use bytes::Bytes;

use crate::exchange::Live;
use crate::flow::{ServerConn, Side, Stage, State};

/// What kind of failure it is: the key of the table in `answer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request cannot be read, or not in one way only.
    BadRequest,
    /// Its head exceeds a limit.
    HeadTooLarge,
    /// The client took too long over its request.
    ClientTimeout,
    /// It names another origin than this connection is for.
    Misdirected,
    /// It is aimed at ourselves.
    Loop,
    /// The origin cannot be reached, trusted or understood.
    BadGateway,
    /// The origin took too long.
    GatewayTimeout,
    /// The client is gone: there is nobody to answer.
    ClientGone,
    /// We end the connection: there is nothing to be told.
    Ended,
    /// Recording is required and does not work.
    NotRecording,
    /// The client has not said who it is, or is nobody that we know (RFC 9110 §11.7).
    Unauthorized,
    /// The client gets no answer on purpose: its connection is cut.
    Cut,
    /// A rule of the user's wants it to get this status.
    Blocked(u16),
}

/// A failure, with all that the client, the record and the log need to know of it.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) kind: Kind,
    pub(super) side: Side,
    pub(super) stage: Stage,
    pub(super) message: String,
    /// What came from the origin and could not be taken for a response.
    pub(super) received: Option<Bytes>,
    /// The connection to the origin, as far as it came.
    pub(super) server: Option<Box<ServerConn>>,
    /// Whether the request may be sent again on another connection.
    pub(super) retry: Retry,
    /// What the system said of connecting, where that was one thing.
    pub(super) io: Option<std::io::ErrorKind>,
    /// The code with which the origin reset its stream: a client that speaks HTTP/2 gets the same.
    pub(super) code: Option<u32>,
}

/// Whether a request that failed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It may have been acted upon.
    Never,
    /// Nothing of an answer came on a connection that had been used before (RFC 9112 §9.3.1).
    IfIdempotent,
    /// The origin said that it did not look at it (RFC 9113 §8.7).
    Always,
}

impl Error {
    pub(super) fn new(kind: Kind, side: Side, stage: Stage, message: impl Into<String>) -> Self {
        Self {
            kind,
            side,
            stage,
            message: message.into(),
            received: None,
            server: None,
            retry: Retry::Never,
            io: None,
            code: None,
        }
    }

    pub(super) fn bad_request(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, Side::Client, stage, message)
    }

    pub(super) fn client_gone(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(Kind::ClientGone, Side::Client, stage, message)
    }

    pub(super) fn bad_gateway(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(Kind::BadGateway, Side::Server, stage, message)
    }

    /// Writes it into the flow.
    pub(super) fn record(&self, live: &Live) {
        let response_begun = live.with(|flow| flow.response.is_some());
        let state = match self.kind {
            Kind::BadRequest
            | Kind::HeadTooLarge
            | Kind::ClientTimeout
            | Kind::Misdirected
            | Kind::Loop
            | Kind::NotRecording
            | Kind::Unauthorized
            | Kind::Cut
            | Kind::Blocked(_) => State::Refused,
            Kind::ClientGone => State::ClientAborted,
            Kind::BadGateway | Kind::GatewayTimeout if response_begun => State::ServerAborted,
            Kind::BadGateway | Kind::GatewayTimeout | Kind::Ended => State::Failed,
        };
        live.fail(state, self.side, self.stage, self.message.clone());
        if let Some(server) = &self.server {
            live.with(|flow| {
                if flow.server.is_none() {
                    flow.server = Some(std::sync::Arc::new(ServerConn::clone(server)));
                }
            });
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.side.as_str(), self.stage.as_str(), self.message)
    }
}
