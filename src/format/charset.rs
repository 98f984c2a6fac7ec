//! Charsets: what a `Content-Type` says of its text, and that text in UTF-8.
//!
//! Labels and decoders are those of the WHATWG's Encoding Standard, as in browsers. A byte that is not of the charset becomes
//! U+FFFD.

use encoding_rs::{CoderResult, Encoding, UTF_8};

use crate::flow::Headers;

/// A charset other than UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(&'static Encoding);

impl Charset {
    /// What a message's `Content-Type` names (RFC 9110 §8.3.2); `None` if it names none, UTF-8, or one that is not known.
    #[must_use]
    pub fn of(headers: &Headers) -> Option<Self> {
        let media_type = headers.get("content-type")?;
        let label = media_type.split(|&b| b == b';').skip(1).find_map(|parameter| {
            let parameter = parameter.trim_ascii();
            let (name, value) = parameter.split_at_checked(b"charset=".len())?;
            name.eq_ignore_ascii_case(b"charset=").then_some(value)
        })?;
        let label = label.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(label);
        Encoding::for_label_no_replacement(label).filter(|&encoding| encoding != UTF_8).map(Self)
    }

    /// Whether ASCII text is the same bytes in it.
    #[must_use]
    pub fn is_ascii_compatible(self) -> bool {
        self.0.is_ascii_compatible()
    }

    /// What turns text into it; `None` for UTF-16, which browsers never send.
    #[must_use]
    pub fn encoder(self) -> Option<Encoder> {
        let can = self.0.output_encoding() == self.0;
        can.then(|| Encoder { inner: self.0.new_encoder(), is_finished: false })
    }

    /// Puts `bytes` into `text` in UTF-8, in place of what was there: at most `max` bytes of it, whole characters.
    pub fn decode(self, bytes: &[u8], max: usize, text: &mut String) {
        let mut decoder = self.0.new_decoder();
        text.clear();
        let most = decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(usize::MAX);
        // It writes into what is reserved, and stops where that is full.
        text.reserve_exact(most.min(max));
        let (result, _, _) = decoder.decode_to_string(bytes, text, true);
        debug_assert!(result == CoderResult::InputEmpty || most > max);
    }
}

/// Turns text into a charset, piece by piece.
pub struct Encoder {
    inner: encoding_rs::Encoder,
    is_finished: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("encoding", &self.inner.encoding().name()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Puts `text` behind `out` in the charset. A character that it has not becomes `&#…;`.
    pub fn encode(&mut self, text: &str, is_last: bool, out: &mut Vec<u8>) {
        let mut rest = text;
        loop {
            // Room for what it needs at most if all can be encoded; what cannot makes it come back for more.
            let most =
                self.inner.max_buffer_length_from_utf8_if_no_unmappables(rest.len()).unwrap_or(rest.len());
            out.reserve(most.max(16));
            let (result, read, _) = self.inner.encode_from_utf8_to_vec(rest, out, is_last);
            rest = &rest[read..];
            if result == CoderResult::InputEmpty {
                break;
            }
        }
        self.is_finished |= is_last;
    }

    /// Whether the last of it was encoded.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(media_type: &str) -> Option<Charset> {
        Charset::of(&[("Content-Type", media_type)].into_iter().collect())
    }

    #[test]
    fn charsets_are_those_of_browsers() {
        let decoded = |media_type: &str, bytes: &[u8]| {
            let mut text = "old".to_owned();
            of(media_type).unwrap().decode(bytes, 1000, &mut text);
            text
        };
        assert_eq!(decoded("text/html; charset=ISO-8859-1", b"caf\xe9 \x80"), "café €");
        assert_eq!(decoded("text/html;a=b; Charset=\"shift_jis\"", b"\x93\xfa\x96\x7b"), "日本");
        assert_eq!(decoded("text/plain; charset=utf-16le", b"a\0b\0\x3d"), "ab\u{fffd}");
        for none in
            ["text/html", "text/html; charset=UTF-8", "text/html; charset=nosuch", "text/html; charset=", ";"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn text_is_encoded_piece_by_piece() {
        let mut encoder = of("text/html; charset=iso-8859-1").unwrap().encoder().unwrap();
        let mut out = Vec::new();
        encoder.encode("café €", false, &mut out);
        encoder.encode(&"日".repeat(3), true, &mut out);
        assert_eq!(out, b"caf\xe9 \x80&#26085;&#26085;&#26085;");
        assert!(encoder.is_finished() && of("text/plain; charset=utf-16le").unwrap().encoder().is_none());
    }

    #[test]
    fn decoding_stops_at_its_bound() {
        let mut text = String::new();
        of("a/b; charset=latin1").unwrap().decode(&[0xe9; 10_000], 101, &mut text);
        assert!(text.len() <= 101 && text.len() > 90 && text.chars().all(|c| c == 'é'));
    }
}
