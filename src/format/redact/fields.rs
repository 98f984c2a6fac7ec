//! Secrets in fields of heads, and in URLs.

use bytes::Bytes;

use crate::flow::Headers;

use super::names::{is_secret, is_secret_in_url};
use super::{MASK, Masked};

/// The fields with their secrets masked.
pub(super) fn headers(headers: &Headers, masked: &mut Masked) -> Headers {
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        headers.iter().map(|(name, value)| (name.to_vec(), field(name, value, masked))).collect();
    fields.into_iter().collect()
}

fn field(name: &[u8], value: &[u8], masked: &mut Masked) -> Vec<u8> {
    let word = String::from_utf8_lossy(name).to_ascii_lowercase();
    match word.as_str() {
        "authorization" | "proxy-authorization" => {
            masked.count(&word);
            // The scheme is no secret, and tells what went wrong.
            let scheme = value.split(|&b| b == b' ').next().filter(|scheme| scheme.len() < value.len());
            match scheme {
                Some(scheme) => [scheme, b" ", MASK.as_bytes()].concat(),
                None => MASK.into(),
            }
        }
        "cookie" => {
            let cookies: Vec<Vec<u8>> =
                value.split(|&b| b == b';').map(|one| cookie(one, "cookie", masked)).collect();
            cookies.join(&b';')
        }
        "set-cookie" => {
            let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
            [&cookie(&value[..end], "set-cookie", masked)[..], &value[end..]].concat()
        }
        "referer" | "location" | "content-location" => url(value, masked).to_vec(),
        _ if is_secret(&word) => {
            masked.count(&word);
            MASK.into()
        }
        _ => value.to_vec(),
    }
}

/// `name=value`, the name kept; without a name, nothing is.
fn cookie(cookie: &[u8], field: &str, masked: &mut Masked) -> Vec<u8> {
    if cookie.trim_ascii().is_empty() {
        return cookie.to_vec();
    }
    masked.count(field);
    match cookie.iter().position(|&b| b == b'=') {
        Some(at) => [&cookie[..=at], MASK.as_bytes()].concat(),
        None => MASK.into(),
    }
}

/// A URL, or a part of one, with user, password and secret parameters masked.
pub(super) fn url(url: &[u8], masked: &mut Masked) -> Bytes {
    let end = url.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(url.len());
    let mut out = without_user(&url[..end], masked);
    let mut rest = &url[end..];
    // Query and fragment: OAuth's implicit answers carry tokens in the latter.
    while let Some((mark, parameters)) = rest.split_first() {
        let end = parameters.iter().position(|&b| b == b'#').unwrap_or(parameters.len());
        out.push(*mark);
        out.extend_from_slice(&parameters_masked(&parameters[..end], is_secret_in_url, masked));
        rest = &parameters[end..];
    }
    out.into()
}

fn without_user(base: &[u8], masked: &mut Masked) -> Vec<u8> {
    let Some(at) = memchr::memmem::find(base, b"://").map(|at| at + 3) else { return base.to_vec() };
    let end = base[at..].iter().position(|&b| b == b'/').map_or(base.len(), |len| at + len);
    match base[at..end].iter().rposition(|&b| b == b'@') {
        Some(len) => {
            masked.count("url user");
            [&base[..at], MASK.as_bytes(), &base[at + len..]].concat()
        }
        None => base.to_vec(),
    }
}

/// `a=b&c=d` with the values of secrets masked. Names are compared decoded.
pub(super) fn parameters_masked(text: &[u8], is_secret: fn(&str) -> bool, masked: &mut Masked) -> Vec<u8> {
    let pairs: Vec<Vec<u8>> = text
        .split(|&b| b == b'&')
        .map(|pair| {
            let Some(at) = pair.iter().position(|&b| b == b'=') else { return pair.to_vec() };
            let name = percent_decoded(&pair[..at]);
            if at + 1 == pair.len() || !is_secret(&name) {
                return pair.to_vec();
            }
            masked.count(&name);
            [&pair[..=at], MASK.as_bytes()].concat()
        })
        .collect();
    pairs.join(&b'&')
}

fn percent_decoded(name: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(name.len());
    let mut at = 0;
    while let Some(&byte) = name.get(at) {
        let digit = |at: usize| name.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (byte, len) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high << 4 | low).unwrap_or(b'%'), 3),
            (other, ..) => (other, 1),
        };
        decoded.push(byte);
        at += len;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
