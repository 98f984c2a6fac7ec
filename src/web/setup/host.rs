//! The name under which the page is found through the proxy.

use std::net::IpAddr;

/// `http://manent/`. No dot: what has one may be somebody's, now or later, and without the proxy a client would show a
/// stranger's page. (Names in `.test` are nobody's either; `manent.test` is one for who has proxies left out for names
/// without a dot.)
pub const DEFAULT_HOST: &str = "manent";

/// Why a text cannot be the page's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// It is no host name.
    #[error("a host name was expected: letters, digits, `-` and `.`, such as manent or manent.test")]
    Name,
    /// Names that lead to machines of their own would be taken from them.
    #[error(
        "localhost and IP addresses are machines' own: a name that nobody has was expected, such as manent or manent.test"
    )]
    Taken,
}

/// Reads a host name (RFC 1123 §2.1), in any case.
///
/// # Errors
/// If it is none, or one that means a machine.
pub fn parse_host(text: &str) -> Result<String, BadHost> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err(BadHost::Name);
    }
    // What ends in a number is read as an address by browsers (URL Standard, "ends in a number").
    let is_number =
        host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_local = host == "localhost" || host.ends_with(".localhost");
    if is_local || is_number || host.parse::<IpAddr>().is_ok() {
        return Err(BadHost::Taken);
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_has_are_taken() {
        assert_eq!(parse_host("Manent.Test."), Ok("manent.test".into()));
        assert_eq!(parse_host(DEFAULT_HOST), Ok("manent".into()));
        for bad in
            ["", ".", "a..b", "a b", "http://manent/", "manent:80", "-a", "a-", "ä", "a_b", &"a".repeat(64)]
        {
            assert_eq!(parse_host(bad), Err(BadHost::Name), "{bad}");
        }
        for bad in ["localhost", "a.localhost", "127.0.0.1", "127.1", "7"] {
            assert_eq!(parse_host(bad), Err(BadHost::Taken), "{bad}");
        }
    }
}
