//! One setting as it holds, and where that comes from.

use std::fmt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::{Value, json};

use crate::rules::RuleKind;

/// Which layer has spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File {
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    Environment {
        name: String,
    },
    Flag,
}

/// See the module. Its values may hold secrets: [`Setting::shown`] does not.
#[derive(Clone)]
pub(crate) struct Setting {
    /// The flag's long name, which is the key in the file.
    pub(crate) key: String,
    pub(crate) origin: Origin,
    values: Vec<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Count,
    One,
    List,
}

impl Setting {
    /// What `matches` say of `arg`.
    pub(super) fn of(arg: &Arg, matches: &ArgMatches, origin: Origin) -> Self {
        let id = arg.get_id().as_str();
        let raw = || {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| value.to_string_lossy().into_owned()).collect()
        };
        let (kind, values) = match arg.get_action() {
            ArgAction::SetTrue => (Kind::Switch, vec![matches.get_flag(id).to_string()]),
            ArgAction::Count => (Kind::Count, vec![matches.get_count(id).to_string()]),
            ArgAction::Append => (Kind::List, raw()),
            _ => (Kind::One, raw()),
        };
        Self { key: arg.get_long().unwrap_or_default().to_owned(), origin, values, kind }
    }

    /// Its values for people, without secrets; `None` if it has none.
    pub(crate) fn shown(&self) -> Option<String> {
        let values: Vec<_> = self.values.iter().map(|value| masked(&self.key, value)).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// One object with `key`, `value`, `source`, and what belongs to the source. No secrets.
    pub(crate) fn json(&self) -> Value {
        let mut values = self.values.iter().map(|value| masked(&self.key, value));
        let value = match self.kind {
            Kind::Switch => json!(self.values == ["true"]),
            Kind::Count => json!(self.values.first().and_then(|count| count.parse::<u8>().ok())),
            Kind::One => json!(values.next()),
            Kind::List => json!(values.collect::<Vec<_>>()),
        };
        let mut object = json!({"key": self.key, "value": value});
        match &self.origin {
            Origin::Default => object["source"] = "default".into(),
            Origin::Flag => object["source"] = "flag".into(),
            Origin::Environment { name } => {
                object["source"] = "environment".into();
                object["variable"] = name.as_str().into();
            }
            Origin::File { path, line } => {
                object["source"] = "file".into();
                object["file"] = path.to_string_lossy().into();
                object["line"] = (*line).into();
            }
        }
        object
    }

    /// Whether it says the same, wherever that comes from.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// `user:***`, `http://***@proxy.test:3128`, `Authorization: ***`; what holds no secret stays.
pub(crate) fn masked(key: &str, value: &str) -> String {
    match key {
        "proxy-auth" if !value.starts_with('@') => {
            value.split_once(':').map_or_else(|| HIDDEN.to_owned(), |(user, _)| format!("{user}:{HIDDEN}"))
        }
        "via" => match (value.rsplit_once('@'), value.split_once("://")) {
            (Some((_, host)), Some((scheme, _))) => format!("{scheme}://{HIDDEN}@{host}"),
            (Some((_, host)), None) => format!("{HIDDEN}@{host}"),
            (None, _) => value.to_owned(),
        },
        "set-header" => format!("{}: {HIDDEN}", RuleKind::SetHeader.without_secret(value)),
        "ws-replace" => format!("{}{HIDDEN}", RuleKind::WsReplace.without_secret(value)),
        "ws-inject" => format!("{}{HIDDEN}", RuleKind::WsInject.without_secret(value)),
        // MODE@ADDRESS, whose mode may be a URL.
        "listen" => match value.rsplit_once('@') {
            Some((mode, address)) => format!("{}@{address}", without_user(mode)),
            None => value.to_owned(),
        },
        _ => without_user(value),
    }
}

/// A URL without user and password, where no key is for one: that is refused, but it may have been tried.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

const HIDDEN: &str = "***";

/// Keys whose values may hold a password, or another secret.
pub(super) const SECRETS: &[&str] = &["proxy-auth", "via", "set-header", "ws-replace", "ws-inject"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (key, value, shown) in [
            ("proxy-auth", "me:se:cret", "me:***"),
            ("proxy-auth", "secret", "***"),
            ("proxy-auth", "@/etc/htpasswd", "@/etc/htpasswd"),
            ("via", "http://u:p@ss@proxy.test:3128", "http://***@proxy.test:3128"),
            ("via", "u:p@proxy.test", "***@proxy.test"),
            ("via", "socks5://[::1]:1080", "socks5://[::1]:1080"),
            ("set-header", "Authorization: Bearer s", "Authorization: ***"),
            ("set-header", "|~u /a|X-Key: s:t", "|~u /a|X-Key: ***"),
            ("set-header", "Authorization=Bearer s", "Authorization: ***"),
            ("ws-replace", "//client/token/s/t", "//client/token/***"),
            ("ws-inject", "|~u /a|server||s", "|~u /a|server||***"),
            ("ws-inject", "s", "***"),
            ("max-age", "a@b", "a@b"),
            ("reverse", "https://me:s@api.test:8/x@y", "https://***@api.test:8/x@y"),
            ("reverse", "https://api.test/x@y", "https://api.test/x@y"),
            ("listen", "reverse:http://me:s@api.test@127.0.0.1:9", "reverse:http://***@api.test@127.0.0.1:9"),
            ("listen", "reverse:http://api.test@9", "reverse:http://api.test@9"),
        ] {
            assert_eq!(masked(key, value), shown);
        }
    }
}
