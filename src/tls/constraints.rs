//! For which names an authority may sign: the name constraints of its certificate (RFC 5280 §4.2.1.10).
//!
//! Clients hold it to them, so a leaf for any other name would be refused by all of them: such a name is better left
//! alone, and [`Constraints::permit`] says which. What constrains names that no leaf of ours carries (mail addresses,
//! URIs, directories) is not looked at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use rustls::pki_types::ServerName;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::name::server_name;

/// A domain with all below it, or a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subtree {
    /// In small letters, ASCII. With a dot in front, only what is below it; empty, every name.
    Dns(String),
    /// Address and mask.
    Net(CidrSubnet),
}

/// Why a text is no [`Subtree`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubtreeError {
    /// Neither domain nor range.
    #[error("neither a domain (example.com) nor a range of addresses (10.0.0.0/8)")]
    Malformed,
    /// The prefix of a range is too long, or no number.
    #[error("the prefix of a range is a number up to {0}")]
    Prefix(u8),
    /// An address inside of a range, where its first was expected.
    #[error("the range that this address is in is written {0}")]
    HostBits(String),
}

/// What the constraints of one authority come to: nothing but what is permitted, and nothing of what is excluded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Constraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

impl Constraints {
    /// Those by which an authority may sign for these alone. A kind of name of which none is listed is excluded as a
    /// whole, since §4.2.1.10 leaves a kind alone that is not mentioned.
    #[must_use]
    pub fn only(permitted: Vec<Subtree>) -> Self {
        let excluded = EVERYTHING.iter().filter_map(|text| {
            let all = Subtree::all(text)?;
            (!permitted.iter().any(|subtree| subtree.is_of_kind(&all))).then_some(all)
        });
        Self { excluded: excluded.collect(), permitted }
    }

    /// Those of a certificate; none if it has no such extension.
    ///
    /// # Errors
    /// When the extension cannot be read.
    pub(super) fn of(cert: &X509Certificate<'_>) -> Result<Self, String> {
        let found = cert.name_constraints().map_err(|_| "its name constraints cannot be read".to_owned())?;
        let Some(found) = found else { return Ok(Self::default()) };
        let read = |subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>>| -> Vec<Subtree> {
            subtrees.iter().flatten().filter_map(|subtree| Subtree::read(&subtree.base)).collect()
        };
        Ok(Self {
            permitted: read(&found.value.permitted_subtrees),
            excluded: read(&found.value.excluded_subtrees),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }

    /// Whether a certificate for `host` would be accepted: a host name or IP literal, in any spelling. A text that is
    /// neither is permitted: what is wrong with it is told where a certificate for it is made.
    #[must_use]
    pub fn permit(&self, host: &str) -> bool {
        self.is_empty() || server_name(host).ok().is_none_or(|name| self.permit_name(&name))
    }

    pub(super) fn permit_name(&self, name: &ServerName<'_>) -> bool {
        if self.excluded.iter().any(|subtree| subtree.holds(name)) {
            return false;
        }
        let is_address = matches!(name, ServerName::IpAddress(_));
        let mut of_its_kind = self
            .permitted
            .iter()
            .filter(|subtree| matches!(subtree, Subtree::Net(_)) == is_address)
            .peekable();
        of_its_kind.peek().is_none() || of_its_kind.any(|subtree| subtree.holds(name))
    }

    /// The names that are permitted, in the certificate's order.
    #[must_use]
    pub fn permitted(&self) -> &[Subtree] {
        &self.permitted
    }

    /// As the extension wants them; `None` if there are none.
    pub(super) fn to_extension(&self) -> Option<NameConstraints> {
        let subtrees = |subtrees: &[Subtree]| subtrees.iter().map(Subtree::to_general).collect();
        (!self.is_empty()).then(|| NameConstraints {
            permitted_subtrees: subtrees(&self.permitted),
            excluded_subtrees: subtrees(&self.excluded),
        })
    }
}

/// `example.com, 10.0.0.0/8`, and what is excluded of them after `without`.
impl fmt::Display for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let everything: Vec<_> = EVERYTHING.iter().filter_map(|text| Subtree::all(text)).collect();
        // That nothing but what is listed is permitted need not be said.
        let named = |subtree: &&Subtree| self.permitted.is_empty() || !everything.contains(subtree);
        let list = |subtrees: &mut dyn Iterator<Item = &Subtree>| -> String {
            subtrees.map(Subtree::to_string).collect::<Vec<_>>().join(", ")
        };
        let excluded = list(&mut self.excluded.iter().filter(named));
        match (self.permitted.is_empty(), excluded.is_empty()) {
            (true, true) => f.write_str("any host"),
            (true, false) => write!(f, "any host without {excluded}"),
            (false, true) => f.write_str(&list(&mut self.permitted.iter())),
            (false, false) => write!(f, "{} without {excluded}", list(&mut self.permitted.iter())),
        }
    }
}

impl Subtree {
    fn all(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Self::Dns(String::new())) } else { text.parse().ok() }
    }

    fn is_of_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(_), Self::Dns(_)) => true,
            (Self::Net(one), Self::Net(two)) => {
                matches!(one, CidrSubnet::V4(..)) == matches!(two, CidrSubnet::V4(..))
            }
            _ => false,
        }
    }

    fn holds(&self, name: &ServerName<'_>) -> bool {
        match (self, name) {
            (Self::Dns(domain), ServerName::DnsName(name)) => {
                let name = name.as_ref();
                if domain.is_empty() {
                    return true;
                }
                let Some(before) = strip_suffix(name, domain) else { return false };
                // Whole labels; with a dot in front, the domain itself is not meant (as OpenSSL and webpki have it).
                before.ends_with('.')
                    || if domain.starts_with('.') { !before.is_empty() } else { before.is_empty() }
            }
            (
                Self::Net(CidrSubnet::V4(net, mask)),
                ServerName::IpAddress(rustls::pki_types::IpAddr::V4(ip)),
            ) => lies_in(ip.as_ref(), net, mask),
            (
                Self::Net(CidrSubnet::V6(net, mask)),
                ServerName::IpAddress(rustls::pki_types::IpAddr::V6(ip)),
            ) => lies_in(ip.as_ref(), net, mask),
            _ => false,
        }
    }

    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(domain) => Some(Self::Dns(domain.to_ascii_lowercase())),
            GeneralName::IPAddress(bytes) => {
                let (net, mask) = bytes.split_at_checked(bytes.len() / 2)?;
                match bytes.len() {
                    8 => Some(Self::Net(CidrSubnet::V4(net.try_into().ok()?, mask.try_into().ok()?))),
                    32 => Some(Self::Net(CidrSubnet::V6(net.try_into().ok()?, mask.try_into().ok()?))),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn to_general(&self) -> GeneralSubtree {
        match self {
            Self::Dns(domain) => GeneralSubtree::DnsName(domain.clone()),
            Self::Net(net) => GeneralSubtree::IpAddress(*net),
        }
    }
}

/// A domain, with or without `*.` in front of it, or a range of addresses; a single address is one of its own.
impl FromStr for Subtree {
    type Err = SubtreeError;

    fn from_str(text: &str) -> Result<Self, SubtreeError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let longest = if ip.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                None => longest,
                Some(prefix) => match prefix.parse() {
                    Ok(prefix) if prefix <= longest => prefix,
                    _ => return Err(SubtreeError::Prefix(longest)),
                },
            };
            let net = Self::Net(CidrSubnet::from_addr_prefix(ip, prefix));
            let first = match &net {
                Self::Net(CidrSubnet::V4(net, mask)) => IpAddr::from(masked(*net, *mask)),
                Self::Net(CidrSubnet::V6(net, mask)) => IpAddr::from(masked(*net, *mask)),
                Self::Dns(_) => ip,
            };
            return if first == ip {
                Ok(net)
            } else {
                Err(SubtreeError::HostBits(format!("{first}/{prefix}")))
            };
        }
        let domain = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        match server_name(domain) {
            // A second dot at the end is none that a rooted name has.
            Ok(ServerName::DnsName(name)) if !name.as_ref().ends_with('.') => {
                Ok(Self::Dns(name.as_ref().to_owned()))
            }
            _ => Err(SubtreeError::Malformed),
        }
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, mask) = match self {
            Self::Dns(domain) if domain.is_empty() => return f.write_str("names"),
            Self::Dns(domain) => return f.write_str(&super::explain::readable(domain)),
            Self::Net(CidrSubnet::V4(net, mask)) => (IpAddr::from(*net), IpAddr::V4(Ipv4Addr::from(*mask))),
            Self::Net(CidrSubnet::V6(net, mask)) => (IpAddr::from(*net), IpAddr::V6(Ipv6Addr::from(*mask))),
        };
        let (bits, ones, longest) = match mask {
            IpAddr::V4(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones(), 32),
            IpAddr::V6(mask) => (mask.to_bits().count_ones(), mask.to_bits().leading_ones(), 128),
        };
        match bits {
            bits if bits != ones => write!(f, "{ip}/{mask}"),
            bits if bits == longest => write!(f, "{ip}"),
            bits => write!(f, "{ip}/{bits}"),
        }
    }
}

/// `name` without `suffix` at its end, whatever their case.
fn strip_suffix<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    let (before, end) = name.split_at_checked(name.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(before)
}

fn lies_in(ip: &[u8], net: &[u8], mask: &[u8]) -> bool {
    ip.iter().zip(net).zip(mask).all(|((ip, net), mask)| (ip ^ net) & mask == 0)
}

fn masked<const LEN: usize>(net: [u8; LEN], mask: [u8; LEN]) -> [u8; LEN] {
    std::array::from_fn(|at| net[at] & mask[at])
}

/// All there is of each kind of name: hosts (an empty one is a suffix of each), IPv4, IPv6.
const EVERYTHING: [&str; 3] = ["", "0.0.0.0/0", "::/0"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(texts: &[&str]) -> Constraints {
        Constraints::only(texts.iter().map(|text| text.parse().expect("a subtree")).collect())
    }

    #[test]
    fn a_domain_means_itself_and_what_is_below_it_and_nothing_else() {
        let constraints = only(&["Example.com", "*.b.test", "localhost"]);
        for host in
            ["example.com", "WWW.example.com.", "a.b.c.example.com", "b.test", "a.b.test", "localhost"]
        {
            assert!(constraints.permit(host), "{host}");
        }
        for host in ["badexample.com", "example.com.test", "com", "test", "127.0.0.1", "[::1]"] {
            assert!(!constraints.permit(host), "{host}");
        }
        assert!(constraints.permit("no name at all"), "told elsewhere");
        assert_eq!(constraints.to_string(), "example.com, b.test, localhost");
    }

    #[test]
    fn ranges_are_of_their_kind() {
        let constraints = only(&["10.0.0.0/8", "::1"]);
        for (host, permitted) in
            [("10.1.2.3", true), ("11.0.0.0", false), ("::1", true), ("::2", false), ("a.test", false)]
        {
            assert_eq!(constraints.permit(host), permitted, "{host}");
        }
        assert_eq!(constraints.to_string(), "10.0.0.0/8, ::1");
        let v4 = only(&["127.0.0.1"]);
        assert!(v4.permit("127.0.0.1") && !v4.permit("127.0.0.2") && !v4.permit("::1"));
        assert!(only(&["0.0.0.0/0"]).permit("192.0.2.1"));
    }

    #[test]
    fn others_constraints_are_read_as_clients_read_them() {
        let constraints = Constraints {
            permitted: vec![Subtree::Dns(".a.test".into())],
            excluded: vec![Subtree::Dns("x.a.test".into())],
        };
        for (host, permitted) in [
            ("b.a.test", true),
            ("a.test", false),
            ("x.a.test", false),
            ("y.x.a.test", false),
            ("10.0.0.1", true),
        ] {
            assert_eq!(constraints.permit(host), permitted, "{host}");
        }
        assert_eq!(constraints.to_string(), ".a.test without x.a.test");
        let but = Constraints { permitted: vec![], excluded: constraints.excluded };
        assert!(but.permit("a.test") && !but.permit("x.a.test"));
        assert_eq!(but.to_string(), "any host without x.a.test");
        assert!(Constraints::default().permit("anything.test") && Constraints::default().is_empty());
    }

    #[test]
    fn what_is_neither_domain_nor_range_is_refused() {
        let error = |text: &str| text.parse::<Subtree>().expect_err(text);
        for text in
            ["", "https://a.test", "a test", "*", "*.", "a.test:443", "münchen.test", "a.test/8", "a.."]
        {
            assert_eq!(error(text), SubtreeError::Malformed, "{text}");
        }
        assert_eq!(error("10.0.0.0/33"), SubtreeError::Prefix(32));
        assert_eq!(error("::/x"), SubtreeError::Prefix(128));
        assert_eq!(error("10.1.2.3/8"), SubtreeError::HostBits("10.0.0.0/8".into()));
    }

    #[test]
    fn a_certificate_says_what_it_was_made_for() {
        let key = rcgen::KeyPair::generate().expect("a key");
        for texts in [&["example.com"][..], &["10.0.0.0/8", "b.test"], &["::/0", "192.0.2.1", "c.test"], &[]]
        {
            let made = if texts.is_empty() { Constraints::default() } else { only(texts) };
            let der = crate::tls::ca::self_signed(&key, &made, crate::tls::crypto::now_unix()).expect("a CA");
            let read = crate::tls::CaCert::of(der.into()).expect("a certificate");
            assert_eq!(*read.constraints(), made);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_comes_back(text in "\\PC*|[0-9a-f.:/*]{0,20}|[a-z0-9.-]{0,20}") {
            if let Ok(subtree) = text.parse::<Subtree>() {
                prop_assert_eq!(subtree.to_string().parse(), Ok(subtree));
            }
        }

        #[test]
        fn any_bytes_are_no_certificate(bytes: Vec<u8>) {
            prop_assert!(crate::tls::CaCert::of(bytes.into()).is_err());
        }
    }
}
