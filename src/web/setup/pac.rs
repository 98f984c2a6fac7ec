//! The PAC file: which requests of a client go through the proxy.
//!
//! In the JavaScript of 1996 that every engine of it understands. Without a "DIRECT" at the end of the answer: a client that
//! went past a proxy that is not there would be one whose traffic is silently not recorded.

use std::fmt::Write as _;

use super::page::Via;

/// The file for a proxy that the client reaches so.
pub(super) fn file(via: &Via) -> String {
    let Via { host, port, socks } = via;
    let authority = via.authority();
    let through = match socks {
        false => format!("PROXY {authority}"),
        true => format!("SOCKS5 {authority}; SOCKS {authority}"),
    };
    let own = format!("\"{}\"", escaped(host));
    let through = format!("\"{}\"", escaped(&through));
    let mut text = String::new();
    // A String takes everything.
    let _ = write!(
        text,
        "// manent on port {port}: everything through it, but for this machine itself and the machine that it runs on.\n\
         function FindProxyForURL(url, host) {{\n\
         \x20 if (host == \"localhost\" || dnsDomainIs(host, \".localhost\") ||\n\
         \x20     shExpMatch(host, \"127.*\") || host == \"::1\" || host == \"[::1]\" ||\n\
         \x20     host == {own}) {{\n\
         \x20   return \"DIRECT\";\n\
         \x20 }}\n\
         \x20 return {through};\n\
         }}\n"
    );
    text
}

/// As the inside of a string in JavaScript, which also does not end a `<script>` or a comment.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | ':' | '[' | ']' | ' ' | ';' | '_' => out.push(c),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}"); // a String takes everything
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_cannot_end_its_string() {
        assert_eq!(
            escaped("a\"b\\\n</x>\u{2028}é😀"),
            "a\\u0022b\\u005c\\u000a\\u003c\\u002fx\\u003e\\u2028\\u00e9\\ud83d\\ude00"
        );
        let via = Via { host: "x\");evil(\"".into(), port: 1, socks: false };
        let text = file(&via);
        assert!(!text.contains("evil(\"") && text.contains("\\u0029;evil\\u0028"), "{text}");
    }

    #[test]
    fn addresses_stand_as_their_engines_read_them() {
        let text = |host: &str, socks| file(&Via { host: host.into(), port: 8080, socks });
        assert!(text("192.0.2.7", false).contains("return \"PROXY 192.0.2.7:8080\";"));
        assert!(text("::1", false).contains("return \"PROXY [::1]:8080\";"));
        assert!(text("127.0.0.1", true).contains("return \"SOCKS5 127.0.0.1:8080; SOCKS 127.0.0.1:8080\";"));
    }
}
