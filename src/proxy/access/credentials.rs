//! Users and their passwords, as they are given and as they are compared.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;

use super::htpasswd::{self, HtpasswdError};

/// Users with their passwords. `Debug` tells how many.
#[derive(Clone)]
pub struct ProxyAuth {
    users: Arc<Vec<User>>,
    /// Sums of user and password that were found right, and so need not be computed at length again. There are no more of
    /// them than users.
    known: Arc<Mutex<HashSet<[u8; 32]>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: Vec<u8>,
    pub(super) secret: Secret,
}

/// What is kept of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// Its sum, under the key of this process.
    Sum([u8; 32]),
    /// SHA-1 of it.
    Sha1([u8; 20]),
    /// As bcrypt has it: `$2y$…`.
    Bcrypt(String),
}

/// Why a text names no user with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("user:pass was expected, or @FILE for a file of htpasswd -B")]
pub struct ProxyAuthError;

impl ProxyAuth {
    /// The users of a file of Apache's `htpasswd`: bcrypt (`htpasswd -B`) or SHA-1 (`htpasswd -s`).
    ///
    /// # Errors
    /// If a line is none of these; passwords in clear are none.
    pub fn from_htpasswd(text: &str) -> Result<Self, HtpasswdError> {
        htpasswd::parse(text).map(Self::new)
    }

    fn new(users: Vec<User>) -> Self {
        Self { users: Arc::new(users), known: Arc::default() }
    }

    /// Whether there is a user with this password. How long it takes says no more than whether it was asked before: each
    /// user is looked at, and where some passwords take long, one that is nobody's takes as long.
    ///
    /// Dropping this future leaves a computation that has begun to its thread.
    pub(super) async fn verify(&self, user: &[u8], password: &[u8]) -> bool {
        let sum = sum_of(user, password);
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&sum) {
            return true;
        }
        let mut slow = None;
        let mut right = false;
        for candidate in self.users.iter() {
            let is_it = same(&sum_of(&candidate.name, b""), &sum_of(user, b""));
            match &candidate.secret {
                Secret::Sum(secret) => right |= is_it & same(secret, &sum_of(b"", password)),
                Secret::Sha1(digest) => {
                    let given = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                    right |= is_it & same(&sum_of(b"", digest), &sum_of(b"", given.as_ref()));
                }
                Secret::Bcrypt(hash) if is_it || slow.is_none() => slow = Some((is_it, hash.clone())),
                Secret::Bcrypt(_) => {}
            }
        }
        if let Some((is_it, hash)) = slow {
            right |= bcrypt(hash, password.to_vec()).await & is_it;
        }
        if right {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(sum);
        }
        right
    }
}

impl FromStr for ProxyAuth {
    type Err = ProxyAuthError;

    /// Reads `user:pass`; a colon may stand in the password.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, password) = text.split_once(':').ok_or(ProxyAuthError)?;
        if user.is_empty() || password.is_empty() {
            return Err(ProxyAuthError);
        }
        let secret = Secret::Sum(sum_of(b"", password.as_bytes()));
        Ok(Self::new(vec![User { name: user.as_bytes().to_vec(), secret }]))
    }
}

impl PartialEq for ProxyAuth {
    fn eq(&self, other: &Self) -> bool {
        self.users == other.users
    }
}

impl Eq for ProxyAuth {}

impl std::fmt::Debug for ProxyAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyAuth").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

/// Off the runtime's threads, and a few at a time: each takes tens of milliseconds of a processor, and whoever guesses
/// passwords must not have all of them.
async fn bcrypt(hash: String, password: Vec<u8>) -> bool {
    // It is never closed.
    let Ok(permit) = COMPUTING.acquire().await else { return false };
    let computed = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        bcrypt::verify(password, &hash)
    });
    matches!(computed.await, Ok(Ok(true)))
}

/// A sum of both, each with its end, under a key that nobody knows: equal sums are equal texts, and what two differing
/// sums have in common says nothing.
fn sum_of(user: &[u8], password: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(&KEY);
    hasher.update(&(user.len() as u64).to_le_bytes());
    hasher.update(user);
    hasher.update(password);
    *hasher.finalize().as_bytes()
}

/// In constant time, which [`blake3::Hash`] promises of its comparison.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*one) == blake3::Hash::from_bytes(*other)
}

static COMPUTING: Semaphore = Semaphore::const_new(2);
/// This process's own.
static KEY: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut key = [0; 32];
    // Without it the sums are still sums. The comparison stays what it is.
    let _ = SystemRandom::new().fill(&mut key);
    key
});
