//! Which origins are dialled directly though there is an upstream proxy, by curl's rules.
//!
//! A list, separated by commas or blanks. `*` is every host. A name is itself and every name below it, with or without a
//! leading dot, whatever the case; dots at the end do not count. An IP address is itself; with `/BITS` it is a network.
//! Names are compared as they stand: nothing is looked up, so an address in the list says nothing of names. Ports are
//! not part of it.

use std::net::IpAddr;
use std::str::FromStr;

use crate::flow::Network;

/// See the module. Empty by default: nothing is exempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Everything,
    /// Small letters, no dot at either end.
    Name(String),
    Network(Network),
}

/// An entry that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name, IP address, network (10.0.0.0/8) or *; ports are not part of it")]
pub struct NoProxyError(String);

impl NoProxy {
    /// The entries of a list that was not made for us, such as `NO_PROXY`; those that other programs alone understand are
    /// left out.
    #[must_use]
    pub fn lenient(list: &str) -> Self {
        Self { entries: words(list).filter_map(Entry::parse).collect() }
    }

    /// Both lists in one.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.entries.extend(more.entries);
        self
    }

    /// Whether an origin called `host`, with or without brackets, is dialled directly.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let ip = bare.parse::<IpAddr>().ok();
        let name = bare.trim_end_matches('.').to_ascii_lowercase();
        self.entries.iter().any(|entry| match (entry, ip) {
            (Entry::Everything, _) => true,
            (Entry::Network(network), Some(ip)) => network.contains(ip),
            (Entry::Name(suffix), None) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
            _ => false,
        })
    }
}

impl FromStr for NoProxy {
    type Err = NoProxyError;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let entries = words(list).map(|word| Entry::parse(word).ok_or_else(|| NoProxyError(word.to_owned())));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }
}

impl Entry {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::Everything);
        }
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        if let Ok(network) = bare.parse() {
            return Some(Self::Network(network));
        }
        let name = word.trim_matches('.').to_ascii_lowercase();
        let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        (!name.is_empty() && !name.bytes().any(odd)).then_some(Self::Name(name))
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}
