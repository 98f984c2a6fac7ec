//! What is changed in recorded requests before they are sent again.

use std::path::PathBuf;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

use crate::flow::{Scheme, Target};
use crate::http1::{BadField, removable_field, settable_field};

/// Changes to requests. The default changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Where they go, in place of the recorded origins.
    pub to: Option<ToOrigin>,
    /// Whether `Host` (`:authority`), and the name in TLS, stay the recorded ones where `to` changes the origin.
    pub keep_host: bool,
    /// The body of all of them.
    pub body: Option<NewBody>,
    /// Whether bodies of which the record has a part, or nothing, are sent as far as they are there.
    pub allow_truncated: bool,
    pub(super) host: Option<Bytes>,
    pub(super) set: Vec<(Bytes, Bytes)>,
    pub(super) removed: Vec<Bytes>,
}

/// A body that takes the place of recorded ones.
#[derive(Debug, Clone)]
pub enum NewBody {
    /// These bytes.
    Bytes(Bytes),
    /// A file of this many bytes, read anew for each request.
    File(PathBuf, u64),
}

impl NewBody {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            NewBody::Bytes(bytes) => bytes.len() as u64,
            NewBody::File(_, len) => *len,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadEdit {
    /// It is no field that may be set or removed.
    #[error(transparent)]
    Field(#[from] BadField),
    /// It is no origin.
    #[error("{text:?} is no origin: {why}; http://127.0.0.1:3000 is one")]
    NotAnOrigin {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Edits {
    /// Sets a field, given as `Name: value`, in place of all of its name; at the place of the first, or at the end. `Host`
    /// is `:authority` in HTTP/2.
    ///
    /// # Errors
    /// If it is no field, or one that cannot be set.
    pub fn set_header(&mut self, field: &str) -> Result<(), BadEdit> {
        let (name, value) = settable_field(field)?;
        let value = Bytes::copy_from_slice(value.as_bytes());
        if name.eq_ignore_ascii_case("host") {
            self.host = Some(value);
        } else {
            self.set.push((Bytes::copy_from_slice(name.as_bytes()), value));
        }
        Ok(())
    }

    /// Leaves out all fields of this name.
    ///
    /// # Errors
    /// If the name is none, or of a field that has to be there.
    pub fn remove_header(&mut self, name: &str) -> Result<(), BadEdit> {
        removable_field(name)?;
        self.removed.push(Bytes::copy_from_slice(name.as_bytes()));
        Ok(())
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { to, body, host, set, removed, .. } = self;
        to.is_none() && body.is_none() && host.is_none() && set.is_empty() && removed.is_empty()
    }
}

/// An origin by its URL: scheme, host and perhaps a port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToOrigin(pub Target);

impl FromStr for ToOrigin {
    type Err = BadEdit;

    fn from_str(text: &str) -> Result<Self, BadEdit> {
        let bad = |why| BadEdit::NotAnOrigin { text: text.to_owned(), why };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some(_) => return Err(bad("its scheme is neither http nor https")),
            None => return Err(bad("it has no scheme")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(bad("it has a path"));
        }
        if authority.contains('@') {
            return Err(bad("it has user information"));
        }
        let uri: http::uri::Authority = authority.parse().map_err(|_| bad("it has no host"))?;
        let port = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, digits)) => match digits.parse::<u16>() {
                Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return Err(bad("its port is none")),
            },
            None => scheme.default_port(),
        };
        let host = uri.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(Self(Target { scheme, host: host.to_owned(), port }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_nothing_else_is() {
        let target = |text: &str| text.parse::<ToOrigin>().map(|to| (to.0.scheme, to.0.host, to.0.port));
        assert_eq!(target("http://h"), Ok((Scheme::Http, "h".into(), 80)));
        assert_eq!(target("HTTPS://h.example:8443/"), Ok((Scheme::Https, "h.example".into(), 8443)));
        assert_eq!(target("http://[::1]:3000"), Ok((Scheme::Http, "::1".into(), 3000)));
        for bad in [
            "h",
            "h:80",
            "ftp://h",
            "http://",
            "http://h/p",
            "http://u@h",
            "http://h:0",
            "http://h:x",
            "http://:1",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
