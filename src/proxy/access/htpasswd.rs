//! Files of Apache's `htpasswd`: a line a user, `name:hash`.
//!
//! bcrypt and SHA-1 are read. MD5 of Apache's own kind (`$apr1$`), DES and passwords in clear are refused: what a stolen
//! file gives away in minutes protects nothing.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::credentials::{Secret, User};

/// Why a file is not taken. No message quotes a line: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdError {
    /// There is nobody in it.
    #[error("it names no user")]
    Empty,
    /// A line has another form.
    #[error("line {line}: user:hash was expected")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A hash of another kind.
    #[error("line {line}: the password is {what}; bcrypt (htpasswd -B) and SHA-1 (htpasswd -s) are read")]
    Kind {
        /// Counted from 1.
        line: usize,
        /// What it is.
        what: &'static str,
    },
    /// bcrypt that would take too long, or is broken.
    #[error("line {line}: {what}")]
    Bcrypt {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

pub(super) fn parse(text: &str) -> Result<Vec<User>, HtpasswdError> {
    let mut users: Vec<User> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (at, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or(HtpasswdError::Line { line: at })?;
        // Apache knows further fields behind the hash, and so do files of others.
        let hash = hash.split(':').next().unwrap_or_default();
        if name.is_empty() || hash.is_empty() {
            return Err(HtpasswdError::Line { line: at });
        }
        let user = User { name: name.as_bytes().to_vec(), secret: secret(hash, at)? };
        // The first of several lines counts, as with Apache.
        if users.iter().all(|known| known.name != user.name) {
            users.push(user);
        }
    }
    if users.is_empty() { Err(HtpasswdError::Empty) } else { Ok(users) }
}

fn secret(hash: &str, line: usize) -> Result<Secret, HtpasswdError> {
    let kind = |what| Err(HtpasswdError::Kind { line, what });
    if let Some(digest) = hash.strip_prefix("{SHA}") {
        let digest = BASE64_STANDARD.decode(digest).ok().and_then(|digest| digest.try_into().ok());
        return digest.map_or_else(|| kind("a broken SHA-1"), |digest| Ok(Secret::Sha1(digest)));
    }
    if ["$2y$", "$2a$", "$2b$", "$2x$"].iter().any(|prefix| hash.starts_with(prefix)) {
        let parts = bcrypt::HashParts::from_str(hash);
        let Ok(parts) = parts else {
            return Err(HtpasswdError::Bcrypt { line, what: "the bcrypt hash is broken" });
        };
        if parts.get_cost() > MAX_COST {
            let what = "bcrypt with a cost of more than 15 takes seconds for each new client";
            return Err(HtpasswdError::Bcrypt { line, what });
        }
        return Ok(Secret::Bcrypt(hash.to_owned()));
    }
    kind(match hash {
        _ if hash.starts_with("$apr1$") => "MD5 of Apache's own kind",
        _ if hash.starts_with('$') => "hashed in another way",
        _ => "in clear, or DES",
    })
}

/// 2^15 rounds take two or three seconds.
const MAX_COST: u32 = 15;
