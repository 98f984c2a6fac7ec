//! HTTP/2 errors in words, and their codes (RFC 9113 §7).

use h2::Error;

/// The code that came with the error or that the crate chose for it; `None` for one of the connection below.
#[must_use]
pub fn code(error: &Error) -> Option<u32> {
    error.reason().map(Into::into)
}

/// What happened, as it is recorded: lower case, no full stop. `peer` is `the client` or `the origin`.
#[must_use]
pub fn explain(error: &Error, peer: &str) -> String {
    let name = error.reason().map(|reason| format!("{reason:?}")).unwrap_or_default();
    match () {
        () if error.is_reset() && error.is_remote() => format!("stream reset by {peer}: {name}"),
        () if error.is_go_away() && error.is_remote() => format!("connection ended by {peer}: {name}"),
        () if error.is_reset() && error.is_library() => {
            format!("{peer} broke the protocol on a stream: {name}")
        }
        () if error.is_go_away() && error.is_library() => {
            // The crate's own words, where it has some, stand in parentheses.
            let text = error.to_string();
            let detail = text.split_once(" (").map(|(_, detail)| format!(" ({detail}")).unwrap_or_default();
            format!("{peer} broke the protocol of the connection: {name}{detail}")
        }
        () => match error.get_io() {
            Some(io) => format!("connection to {peer} lost: {io}"),
            None => error.to_string(),
        },
    }
}

/// Whether the peer has said that it did not look at the request, so that it may be sent again whatever its method
/// (RFC 9113 §8.7): its stream is above the last one of a GOAWAY, or was refused.
#[must_use]
pub fn is_unprocessed(error: &Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused)
}
