//! URLs as they stand in HAR: taken apart into where a request went and what it asked for.

use crate::flow::{Scheme, Target};

/// Parts of a URL of HTTP or of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) target: Target,
    /// Path and query, without the fragment: what a request to the origin has as its target (RFC 9112 §3.2.1).
    pub(super) path: String,
}

impl Url {
    /// Takes `url` apart. Of one that is not absolute, or of another scheme, says what it is.
    pub(super) fn parse(url: &str) -> Result<Url, String> {
        let shown = || url.chars().take(60).collect::<String>();
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(format!("`{}` is no URL", shown()));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Scheme::Http,
            "https" | "wss" => Scheme::Https,
            _ => return Err(format!("`{}` is no URL of HTTP", shown())),
        };
        let Some(rest) = rest.strip_prefix("//") else { return Err(format!("`{}` names no host", shown())) };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (_, authority) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = split_port(authority).ok_or_else(|| format!("`{}` has a bad port", shown()))?;
        let port = port.unwrap_or(scheme.default_port());
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let target = Target { scheme, host: host.to_owned(), port };
        Ok(Url { target, path: format!("{slash}{path}") })
    }
}

/// Host without brackets, and the port if one is named. `None` where that is no port.
pub(super) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Some((host, None)),
            Some("") => Some((host, None)),
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => None,
        };
    }
    match authority.split_once(':') {
        None | Some((_, "")) => Some((authority.trim_end_matches(':'), None)),
        // An IPv6 address without brackets.
        Some((_, port)) if port.contains(':') => Some((authority, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Names and values of a query or a form (`application/x-www-form-urlencoded`), percent-decoded, `+` being a blank. What is no
/// UTF-8 then is replaced.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (byte, len) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high << 4 | low).unwrap_or(b'%'), 3),
            (b'+', ..) => (b' ', 1),
            (other, ..) => (other, 1),
        };
        decoded.push(byte);
        at += len;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parse = |url: &str| Url::parse(url).map(|url| (url.target.authority(), url.path));
        let ok = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(parse("https://a.example/x?y=1#z"), ok("a.example", "/x?y=1"));
        assert_eq!(parse("HTTP://u:p@A.example:8080"), ok("A.example:8080", "/"));
        assert_eq!(parse("wss://[::1]:444?q"), ok("[::1]:444", "/?q"));
        assert_eq!(parse("http://a.example:80/"), ok("a.example", "/"));
        assert_eq!(Url::parse("https://a.example:444/").unwrap().target.port, 444);
        for bad in
            ["", "x", "data:text/plain,x", "http:/a", "http://a:99999/", "http://[::1/", "http://[::1]x/"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_are_decoded() {
        let found: Vec<_> = pairs("a=1+2&b&=c&%zz=%C3%A9%").collect();
        let expected = [("a", "1 2"), ("b", ""), ("", "c"), ("%zz", "é%")];
        assert!(found.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(expected), "{found:?}");
    }
}
