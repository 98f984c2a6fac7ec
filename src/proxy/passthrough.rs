//! Which tunnels are left unread: by the user's rules, and where a client does not accept our certificates.
//!
//! Policy alone: no sockets, and the time is the caller's. What is learnt is bounded in entries and in time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use regex::{Regex, RegexBuilder};
use tokio::sync::Notify;

/// A regular expression that is looked for in `host:port`, unanchored and without regard to case.
///
/// The `regex` crate's syntax: no look-around and no back references, and so linear in time, whatever the pattern.
#[derive(Debug, Clone)]
pub struct HostPattern(Regex);

/// Which hosts are passed through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughOptions {
    /// Those that match one of these.
    pub ignore: Vec<HostPattern>,
    /// If there is any: those that match none of these.
    pub allow: Vec<HostPattern>,
    /// Those whose certificate, as we make it, a client has rejected twice within a minute; for that client only.
    pub automatic: bool,
}

/// The rules and what was learnt: see the module.
#[derive(Debug)]
pub(super) struct Passthrough {
    options: ArcSwap<PassthroughOptions>,
    learnt: Mutex<HashMap<Place, Learnt>>,
    /// Who has sent something on a connection with our certificate, and when last.
    accepted: Mutex<HashMap<Place, Instant>>,
    /// Somebody new has.
    acceptance: Notify,
}

/// A client, by its address, and a host with its port.
type Place = (IpAddr, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learnt {
    /// Rejected once, then.
    Rejected(Instant),
    /// Passes through.
    Passing {
        since: Instant,
        /// Because connections were left without a word, which also has other reasons.
        silently: bool,
    },
}

impl Passthrough {
    pub(super) fn new(options: PassthroughOptions) -> Self {
        Self {
            options: ArcSwap::from_pointee(options),
            learnt: Mutex::default(),
            accepted: Mutex::default(),
            acceptance: Notify::new(),
        }
    }

    /// Goes by these rules from now on; what was learnt stays, unless nothing is to be learnt any more.
    pub(super) fn change(&self, options: PassthroughOptions) {
        if !options.automatic {
            self.learnt().clear();
        }
        self.options.store(Arc::new(options));
    }

    /// Whether any connection may be passed through at all: nothing has to be found out about it otherwise.
    pub(super) fn is_active(&self) -> bool {
        self.has_rules() || !self.learnt().is_empty()
    }

    /// Whether the user has named hosts.
    pub(super) fn has_rules(&self) -> bool {
        let options = self.options.load();
        !(options.ignore.is_empty() && options.allow.is_empty())
    }

    /// The rule by which a connection is passed through. `names` are all that its host is known by, each `host:port`:
    /// one that is to be ignored is, whatever the others are; one that is allowed allows the connection.
    pub(super) fn by_rule(&self, names: &[String]) -> Option<&'static str> {
        let any = |patterns: &[HostPattern]| {
            patterns.iter().any(|pattern| names.iter().any(|name| pattern.0.is_match(name)))
        };
        let options = self.options.load();
        let PassthroughOptions { ignore, allow, .. } = &**options;
        match () {
            () if any(ignore) => Some("--ignore-host"),
            () if !allow.is_empty() && !any(allow) => Some("not in --allow-host"),
            () => None,
        }
    }

    /// Whether this client has rejected our certificate for `host` (`name:port`) so often that it is passed through.
    pub(super) fn by_rejection(&self, client: IpAddr, host: &str, now: Instant) -> bool {
        let mut learnt = self.learnt();
        let place = place(client, host);
        match learnt.get(&place) {
            Some(Learnt::Passing { since, .. }) if now.duration_since(*since) < KEEP => true,
            Some(Learnt::Passing { .. }) => {
                learnt.remove(&place);
                false
            }
            Some(Learnt::Rejected(_)) | None => false,
        }
    }

    /// Notes that this client has rejected our certificate for `host`, `silently` if it has only left. `true` if it is passed
    /// through from now on.
    pub(super) fn rejected(&self, client: IpAddr, host: &str, silently: bool, now: Instant) -> bool {
        if !self.options.load().automatic {
            return false;
        }
        let mut learnt = self.learnt();
        let place = place(client, host);
        let (next, begins) = match learnt.get(&place) {
            Some(&Learnt::Rejected(at)) if now.duration_since(at) <= WITHIN => {
                (Learnt::Passing { since: now, silently }, true)
            }
            // A handshake that had begun before says nothing new.
            Some(&Learnt::Passing { since, .. }) if now.duration_since(since) < KEEP => return false,
            _ => (Learnt::Rejected(now), false),
        };
        if learnt.len() >= PLACES && !learnt.contains_key(&place) {
            make_room(&mut learnt, now);
        }
        learnt.insert(place, next);
        begins
    }

    /// Notes that this client has accepted our certificate for `host`: an earlier rejection had another reason. What
    /// passes through already goes on doing so, because several programs may share one address; unless that is because of
    /// connections that were just left without a word: a browser opens several side by side, and uses one.
    pub(super) fn accepted(&self, client: IpAddr, host: &str, now: Instant) {
        let place = place(client, host);
        let mut learnt = self.learnt();
        match learnt.get(&place) {
            Some(Learnt::Rejected(_)) => drop(learnt.remove(&place)),
            Some(&Learnt::Passing { since, silently: true }) if now.duration_since(since) < SIDE_BY_SIDE => {
                learnt.remove(&place);
            }
            Some(Learnt::Passing { .. }) | None => {}
        }
        drop(learnt);
        let mut accepted = self.acceptances();
        if accepted.len() >= PLACES && !accepted.contains_key(&place) {
            accepted.retain(|_, at| now.duration_since(*at) < KEEP);
            let oldest = accepted.iter().min_by_key(|(_, at)| **at).map(|(place, _)| place.clone());
            if let Some(oldest) = oldest.filter(|_| accepted.len() >= PLACES) {
                accepted.remove(&oldest);
            }
        }
        let before = accepted.insert(place, now);
        // One that is too old to count is none: who waits has to hear of this one.
        let is_new = before.is_none_or(|before| now.duration_since(before) >= KEEP);
        drop(accepted);
        if is_new {
            self.acceptance.notify_waiters();
        }
    }

    /// Whether this client has accepted our certificate for `host` not long ago: if it leaves a connection without a
    /// word, that has another reason.
    pub(super) fn has_accepted(&self, client: IpAddr, host: &str, now: Instant) -> bool {
        let at = self.acceptances().get(&place(client, host)).copied();
        at.is_some_and(|at| now.duration_since(at) < KEEP)
    }

    /// Waits until this client accepts our certificate for `host`, if it has not yet. Cancel-safe.
    pub(super) async fn acceptance(&self, client: IpAddr, host: &str) {
        loop {
            let mut news = std::pin::pin!(self.acceptance.notified());
            news.as_mut().enable();
            if self.has_accepted(client, host, Instant::now()) {
                return;
            }
            news.await;
        }
    }

    fn acceptances(&self) -> MutexGuard<'_, HashMap<Place, Instant>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learnt(&self) -> MutexGuard<'_, HashMap<Place, Learnt>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is over, or else what is oldest.
fn make_room(learnt: &mut HashMap<Place, Learnt>, now: Instant) {
    learnt.retain(|_, learnt| match *learnt {
        Learnt::Rejected(at) => now.duration_since(at) <= WITHIN,
        Learnt::Passing { since, .. } => now.duration_since(since) < KEEP,
    });
    if learnt.len() < PLACES {
        return;
    }
    let since = |learnt: &Learnt| match *learnt {
        Learnt::Rejected(at) | Learnt::Passing { since: at, .. } => at,
    };
    let oldest = learnt.iter().min_by_key(|(_, learnt)| since(learnt)).map(|(place, _)| place.clone());
    if let Some(oldest) = oldest {
        learnt.remove(&oldest);
    }
}

fn place(client: IpAddr, host: &str) -> Place {
    (client.to_canonical(), host.to_ascii_lowercase())
}

impl Default for PassthroughOptions {
    fn default() -> Self {
        Self { ignore: Vec::new(), allow: Vec::new(), automatic: true }
    }
}

/// Why a text is not a pattern of hosts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HostPatternError {
    /// It would match every host, and is what an empty variable leaves.
    #[error("it is empty; `.` matches every host")]
    Empty,
    /// It is not a regular expression, or one that is too large.
    #[error("{0}")]
    Regex(#[from] regex::Error),
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text.is_empty() {
            return Err(HostPatternError::Empty);
        }
        Ok(Self(RegexBuilder::new(text).case_insensitive(true).build()?))
    }
}

impl PartialEq for HostPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for HostPattern {}

/// Two rejections within this time are no accident. A program that pins its certificates tries again at once.
const WITHIN: Duration = Duration::from_mins(1);
/// How long a host is then passed through. Long enough for a program that pins to work in peace: each trial costs it two
/// failed connections. Short enough that somebody who has just made it trust our CA need not start the proxy anew.
pub(super) const KEEP: Duration = Duration::from_mins(10);
/// How long after connections that were left without a word another one of the same client shows why: it was opened at the
/// same time.
pub(super) const SIDE_BY_SIDE: Duration = Duration::from_secs(1);
/// Some 100 bytes each; a client that rejects certificates of ever new hosts pushes out what is oldest.
const PLACES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const HOST: &str = "pinned.test:443";

    fn rules(ignore: &[&str], allow: &[&str]) -> Passthrough {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a pattern")).collect();
        let (ignore, allow) = (patterns(ignore), patterns(allow));
        Passthrough::new(PassthroughOptions { ignore, allow, automatic: true })
    }

    fn rule(ignore: &[&str], allow: &[&str], names: &[&str]) -> Option<&'static str> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        rules(ignore, allow).by_rule(&names)
    }

    #[test]
    fn ignored_hosts_are_passed_through_by_any_of_their_names() {
        let ignored = Some("--ignore-host");
        for (pattern, name, reason) in [
            ("example.com", "www.EXAMPLE.com:443", ignored),
            (r"^example\.com:443$", "example.com:443", ignored),
            (r"^example\.com:443$", "example.com.test:443", None),
            ("example.com:123", "example.com:443", None),
            ("192.0.2.1", "192.0.2.1:443", ignored),
            (r"^\[2001:db8::1\]:443$", "[2001:db8::1]:443", ignored),
            ("2001:db8::1", "[2001:db8::1]:443", ignored),
        ] {
            assert_eq!(rule(&[pattern], &[], &["other.test:443", name]), reason, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_not_allowed_is_passed_through_and_ignored_wins() {
        let not_allowed = Some("not in --allow-host");
        assert_eq!(rule(&[], &[], &["a.test:1"]), None);
        assert_eq!(rule(&[], &["a.test"], &["b.test:1"]), not_allowed);
        assert_eq!(rule(&[], &["a.test"], &["192.0.2.1:1", "a.test:1"]), None);
        assert_eq!(rule(&["a.test"], &["a.test"], &["a.test:1"]), Some("--ignore-host"));
        assert_eq!(rule(&["b.test"], &["a.test"], &["c.test:1"]), not_allowed);
    }

    #[test]
    fn patterns_that_cannot_be_used_are_refused_with_the_reason() {
        assert_eq!("".parse::<HostPattern>(), Err(HostPatternError::Empty));
        let error = "a(b".parse::<HostPattern>().expect_err("an open group").to_string();
        assert!(error.contains("a(b") && error.contains("unclosed group"), "{error}");
        assert!(r"(?=a)".parse::<HostPattern>().is_err());
        assert!(r"(\w{1000}){1000}".parse::<HostPattern>().is_err(), "too large");
    }

    #[test]
    fn two_rejections_within_a_minute_pass_a_client_through_to_a_host() {
        let (policy, start) = (rules(&[], &[]), Instant::now());
        assert!(!policy.is_active());
        assert!(!policy.rejected(ONE, HOST, false, start));
        assert!(policy.is_active() && !policy.by_rejection(ONE, HOST, start));
        assert!(policy.rejected(ONE, "Pinned.test:443", false, start + WITHIN));
        assert!(policy.by_rejection(ONE, HOST, start + WITHIN));
        let mapped = "::ffff:192.0.2.1".parse().expect("an address");
        assert!(policy.by_rejection(mapped, HOST, start + WITHIN));
        for (client, host) in [(TWO, HOST), (ONE, "pinned.test:444"), (ONE, "other.test:443")] {
            assert!(!policy.by_rejection(client, host, start + WITHIN), "{client} {host}");
        }
        assert!(!policy.rejected(ONE, HOST, false, start + WITHIN), "told once");
    }

    #[test]
    fn rejections_far_apart_or_with_an_acceptance_between_count_for_nothing() {
        let (policy, start) = (rules(&[], &[]), Instant::now());
        let later = start + WITHIN + Duration::from_millis(1);
        assert!(!policy.rejected(ONE, HOST, false, start));
        assert!(!policy.rejected(ONE, HOST, false, later));
        policy.accepted(ONE, HOST, later);
        assert!(!policy.rejected(ONE, HOST, false, later));
        assert!(policy.rejected(ONE, HOST, false, later), "and the count begins anew");
    }

    #[test]
    fn passing_through_ends_with_its_time_and_not_with_another_program_s_success() {
        let (policy, start) = (rules(&[], &[]), Instant::now());
        policy.rejected(ONE, HOST, false, start);
        policy.rejected(ONE, HOST, false, start);
        policy.accepted(ONE, HOST, start);
        assert!(policy.by_rejection(ONE, HOST, start + KEEP - Duration::from_millis(1)));
        assert!(!policy.by_rejection(ONE, HOST, start + KEEP));
        assert!(!policy.rejected(ONE, HOST, false, start + KEEP), "two more are needed");
        assert!(policy.rejected(ONE, HOST, false, start + KEEP));
    }

    #[test]
    fn connections_left_silently_beside_one_that_is_used_count_for_nothing() {
        let start = Instant::now();
        for (silently, after, passes) in
            [(true, SIDE_BY_SIDE / 2, false), (true, SIDE_BY_SIDE, true), (false, SIDE_BY_SIDE / 2, true)]
        {
            let policy = rules(&[], &[]);
            policy.rejected(ONE, HOST, silently, start);
            assert!(policy.rejected(ONE, HOST, silently, start), "at once, until more is known");
            policy.accepted(TWO, HOST, start);
            assert!(policy.by_rejection(ONE, HOST, start));
            policy.accepted(ONE, HOST, start + after);
            assert_eq!(policy.by_rejection(ONE, HOST, start + after), passes, "{silently} {after:?}");
        }
    }

    #[test]
    fn acceptance_is_remembered_for_its_time_and_place() {
        let (policy, start) = (rules(&[], &[]), Instant::now());
        assert!(!policy.has_accepted(ONE, HOST, start));
        policy.accepted(ONE, HOST, start);
        assert!(!policy.is_active(), "nothing has to be found out about connections for it");
        assert!(policy.has_accepted(ONE, "PINNED.test:443", start + KEEP - Duration::from_millis(1)));
        assert!(!policy.has_accepted(ONE, HOST, start + KEEP));
        assert!(!policy.has_accepted(TWO, HOST, start) && !policy.has_accepted(ONE, "other.test:443", start));
        for n in 0..PLACES {
            policy.accepted(ONE, &format!("h{n}.test:443"), start + Duration::from_secs(1));
        }
        assert_eq!(policy.acceptances().len(), PLACES);
        assert!(!policy.has_accepted(ONE, HOST, start), "it was the oldest");
    }

    #[test]
    fn who_waits_hears_of_an_acceptance_that_comes_long_after_another() {
        let (policy, now) = (rules(&[], &[]), Instant::now());
        policy.accepted(ONE, HOST, now.checked_sub(KEEP).expect("a clock with a past"));
        let mut waits = std::pin::pin!(policy.acceptance(ONE, HOST));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut cx).is_pending(), "the old one is none");
        policy.accepted(ONE, HOST, now);
        assert!(waits.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn nothing_is_learnt_where_it_is_switched_off() {
        let policy = Passthrough::new(PassthroughOptions { automatic: false, ..Default::default() });
        let now = Instant::now();
        assert!(!policy.rejected(ONE, HOST, false, now) && !policy.rejected(ONE, HOST, false, now));
        assert!(!policy.is_active() && !policy.by_rejection(ONE, HOST, now));
    }

    #[test]
    fn places_are_bounded_and_the_oldest_go_first() {
        let (policy, start) = (rules(&[], &[]), Instant::now());
        let host = |n: usize| format!("h{n}.test:443");
        let at = |n: usize| start + Duration::from_millis(u64::try_from(n).expect("small"));
        for n in 0..=PLACES {
            policy.rejected(ONE, &host(n), false, at(n));
        }
        assert_eq!(policy.learnt().len(), PLACES);
        assert!(!policy.rejected(ONE, &host(0), false, at(PLACES)), "it was forgotten");
        assert!(policy.rejected(ONE, &host(PLACES), false, at(PLACES)));
    }
}
