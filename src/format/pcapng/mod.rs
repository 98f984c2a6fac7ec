//! pcapng, for Wireshark and tshark: what was said inside of TLS, as if it had been said in clear. Written only.
//!
//! The packets are made up: each flow is a TCP connection of its own, with a handshake, segments and an end, between the recorded
//! addresses at the recorded times. Messages of HTTP/1 are its text; those of HTTP/2 are HTTP/2's frames, on stream 1, so that
//! fields, trailers and the version are told as they were; messages of a WebSocket are its frames, inflated. What stood in TLS is
//! written with port 80 for the origin's: with 443 Wireshark would look for TLS in it. The comment of the first packet tells the
//! URL and that. There are no decryption secrets in the file: they mean something only beside the encrypted bytes, which are
//! not on record; a capture of the network and `SSLKEYLOGFILE` of the client give that.

mod encode;
mod file;
mod http2;
mod tcp;
#[cfg(test)]
mod tests;

use super::transfer::Format;

/// The row in the table of formats.
pub(super) const FORMAT: Format = Format {
    name: "pcapng",
    extensions: &["pcapng"],
    about: "packets for Wireshark, made of the recorded messages, TLS taken off",
    is_text: false,
    redacts: false,
    asks_only: false,
    encoder: Some(encode::make),
    decoder: None,
    sniff: |_| false,
};
