//! What an origin's 101 says of extensions (RFC 6455 §9.1, RFC 7692).

use crate::flow::Headers;

/// The extensions in use on a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// permessage-deflate, if it alone was agreed on.
    pub deflate: Option<Deflate>,
    /// Whether there is one that we do not know, or parameters that we do not. What it makes of a message cannot be told,
    /// so nothing is inflated.
    pub unknown: bool,
}

/// The parameters of permessage-deflate that matter here (RFC 7692 §7.1). To one who reads, the size of the window does not:
/// an inflater with the largest one reads all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deflate {
    /// `client_no_context_takeover`: each of the client's messages is compressed by itself.
    pub client_starts_anew: bool,
    /// `server_no_context_takeover`: each of the origin's messages is.
    pub server_starts_anew: bool,
    /// `client_max_window_bits` below 15: the client may refer back less far than its deflater would.
    pub client_window_is_small: bool,
}

impl Extensions {
    /// Those that the fields of the answer to a handshake name.
    #[must_use]
    pub fn of(response: &Headers) -> Self {
        let mut all = Self::default();
        for extension in response.tokens("sec-websocket-extensions") {
            match parse_deflate(extension) {
                Some(deflate) if all.deflate.is_none() => all.deflate = Some(deflate),
                _ => all.unknown = true,
            }
        }
        if all.unknown {
            all.deflate = None;
        }
        all
    }
}

/// `None` if it is another extension, or one with parameters that RFC 7692 does not have.
fn parse_deflate(extension: &[u8]) -> Option<Deflate> {
    let mut parts = extension.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut deflate = Deflate::default();
    for parameter in parts {
        let (name, value) = match parameter.iter().position(|&b| b == b'=') {
            Some(at) => (parameter[..at].trim_ascii(), Some(parameter[at + 1..].trim_ascii())),
            None => (parameter, None),
        };
        match (name.to_ascii_lowercase().as_slice(), value) {
            (b"client_no_context_takeover", None) => deflate.client_starts_anew = true,
            (b"server_no_context_takeover", None) => deflate.server_starts_anew = true,
            (b"client_max_window_bits", Some(bits)) if is_window(bits) => {
                deflate.client_window_is_small = !bits.ends_with(b"15") && bits != b"\"15\"";
            }
            (b"server_max_window_bits", Some(bits)) if is_window(bits) => {}
            _ => return None,
        }
    }
    Some(deflate)
}

/// 8 to 15, perhaps in quotes (RFC 7692 §7.1.2).
fn is_window(bits: &[u8]) -> bool {
    let bits = bits.strip_prefix(b"\"").and_then(|bits| bits.strip_suffix(b"\"")).unwrap_or(bits);
    matches!(bits, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Extensions {
        Extensions::of(&[("Sec-WebSocket-Extensions", value)].into_iter().collect())
    }

    #[test]
    fn parameters_of_deflate_are_read() {
        let deflate = |client_starts_anew, server_starts_anew| Extensions {
            deflate: Some(Deflate { client_starts_anew, server_starts_anew, client_window_is_small: false }),
            unknown: false,
        };
        assert_eq!(of(""), Extensions::default());
        assert_eq!(of("permessage-deflate"), deflate(false, false));
        assert_eq!(of("Permessage-Deflate ; client_no_context_takeover"), deflate(true, false));
        let all = "permessage-deflate;server_no_context_takeover;client_max_window_bits=\"8\"; server_max_window_bits = 15";
        assert!(of(all).deflate.is_some_and(|d| d.server_starts_anew && d.client_window_is_small));
        for large in [
            "permessage-deflate;client_max_window_bits=15",
            "permessage-deflate;client_max_window_bits=\"15\"",
        ] {
            assert_eq!(of(large), deflate(false, false));
        }
    }

    #[test]
    fn what_is_not_known_is_told() {
        let unknown = Extensions { deflate: None, unknown: true };
        for value in [
            "x-webkit-deflate-frame",
            "permessage-deflate, x",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; level=9",
        ] {
            assert_eq!(of(value), unknown, "{value}");
        }
    }
}
