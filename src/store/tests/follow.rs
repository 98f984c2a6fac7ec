//! Following a store: nothing is missed, nothing is given twice, in whatever order flows are stored.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::store::Follower;

/// A store, and one who follows it.
struct Watch {
    dir: tempfile::TempDir,
    writer: Option<Writer>,
}

impl Watch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = Some(open(&dir.path().join("flows.db")));
        Self { dir, writer }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("flows.db")
    }

    /// Stores flows, or what is known of open ones, in one transaction.
    fn store(&mut self, flows: &[(u64, State)]) {
        let mut group = Group::default();
        for &(mid, state) in flows {
            let (flow, mut bytes) = (flow(Mid(mid), state, Content::Absent), Vec::new());
            group.push(Draft::new(Mid(mid), &flow, true, &mut bytes), &bytes);
            group.next_mid = group.next_mid.max(mid + 1);
        }
        self.writer.as_mut().unwrap().commit(&mut group).unwrap();
    }
}

/// All that is news.
fn news(follower: &mut Follower) -> Vec<(u64, State)> {
    let mut all = Vec::new();
    loop {
        let rows = follower.news().unwrap();
        if rows.is_empty() {
            return all;
        }
        all.extend(rows.iter().map(|row| (row.mid.0, row.state)));
    }
}

use State::{Complete, Open};

#[test]
fn flows_that_are_stored_late_are_not_missed() {
    let mut watch = Watch::new();
    watch.store(&[(2, Complete), (5, Open)]);
    let mut follower = Follower::from_now(&watch.path()).unwrap();
    assert_eq!(news(&mut follower), []);
    // 1, 3 and 4 were under way.
    watch.store(&[(3, Open), (7, Complete)]);
    assert_eq!(news(&mut follower), [(3, Open), (7, Complete)]);
    watch.store(&[(1, Complete), (3, Complete), (6, Complete)]);
    assert_eq!(news(&mut follower), [(1, Complete), (3, Complete), (6, Complete)]);
    watch.store(&[(4, Complete), (5, Complete)]);
    assert_eq!(news(&mut follower), [(4, Complete), (5, Complete)]);
    assert_eq!(news(&mut follower), []);
}

#[test]
fn a_row_that_was_shown_otherwise_is_not_news() {
    let mut watch = Watch::new();
    watch.store(&[(1, Complete), (4, Open)]);
    let mut follower = Follower::from_now(&watch.path()).unwrap();
    watch.store(&[(2, Complete), (4, Complete), (6, Open)]);
    let rows = Reader::open(&watch.path()).unwrap().list(&ListQuery::default()).unwrap();
    // A list of the two newest, made after the follower began: the third is news.
    rows.iter().take(2).for_each(|row| follower.note(row));
    assert_eq!(news(&mut follower), [(2, Complete)]);
    watch.store(&[(6, Complete)]);
    assert_eq!(news(&mut follower), [(6, Complete)]);
}

#[test]
fn a_store_that_comes_goes_and_is_replaced_is_followed() {
    let mut watch = Watch::new();
    let mut follower = Follower::from_first(&watch.dir.path().join("flows.db"));
    watch.store(&[(1, Complete), (2, Open)]);
    assert_eq!(news(&mut follower), [(1, Complete), (2, Open)]);
    // A capture that is killed, and another one on the same store.
    watch.writer = None;
    watch.writer = Some(open(&watch.path()));
    assert_eq!(news(&mut follower), [(2, State::Interrupted)]);
    watch.store(&[(3, Complete)]);
    assert_eq!(news(&mut follower), [(3, Complete)]);
    // Moved away with a flow that was not seen yet; another one comes in its place.
    watch.store(&[(4, Complete)]);
    watch.writer.take().unwrap().close().unwrap();
    for name in ["flows.db", "flows.db-wal", "flows.db-shm"] {
        let (from, to) = (watch.dir.path().join(name), watch.dir.path().join(format!("old-{name}")));
        std::fs::rename(from, to).unwrap();
    }
    watch.writer = Some(open(&watch.path()));
    watch.store(&[(1, Complete)]);
    assert_eq!(news(&mut follower), [(4, Complete), (1, Complete)]);
    // Something else comes in its place, and goes again.
    let away = watch.dir.path().join("away");
    std::fs::rename(watch.path(), &away).unwrap();
    assert_eq!(news(&mut follower), []);
    std::fs::write(watch.path(), "no store, but more than a hundred bytes ".repeat(9)).unwrap();
    assert!(matches!(follower.news(), Err(StoreError::NotAStore { .. })));
    std::fs::remove_file(watch.path()).unwrap();
    assert_eq!(news(&mut follower), []);
}

/// Mids in an order that is not theirs, each open first or not; some never come.
fn histories() -> impl Strategy<Value = (Vec<Vec<(u64, State)>>, usize)> {
    let mids = prop::collection::btree_set(1..120_u64, 1..60);
    let shuffled = mids.prop_flat_map(|mids| {
        let all = mids.len();
        let mids: Vec<u64> = mids.into_iter().collect();
        (Just(mids).prop_shuffle(), prop::collection::vec((any::<bool>(), 1..8_usize), all))
    });
    shuffled.prop_flat_map(|(mids, how)| {
        let mut events = Vec::new();
        for (at, (mid, (open, later))) in mids.into_iter().zip(how).enumerate() {
            if open {
                events.push((at, (mid, Open)));
            }
            events.push((at + later, (mid, Complete)));
        }
        events.sort_by_key(|&(at, (_, state))| (at, state != Open));
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
        let groups: Vec<Vec<_>> = events.chunks(3).map(<[_]>::to_vec).collect();
        let count = groups.len();
        (Just(groups), 0..=count)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whenever one begins to follow, and however often one looks: each flow is given when it ends, or was there when it
    /// began; and at most once before that.
    #[test]
    fn each_flow_is_given_once_and_once_more_if_it_was_open((groups, begin) in histories(), every in 1..4_usize) {
        let mut watch = Watch::new();
        for group in &groups[..begin] {
            watch.store(group);
        }
        let mut follower = Follower::from_now(&watch.path()).unwrap();
        let mut seen = Vec::new();
        // So much later each time that no gap is left for the next look.
        let mut hours = std::time::Instant::now();
        let mut news = |follower: &mut Follower| {
            hours += std::time::Duration::from_secs(3600);
            let mut all = Vec::new();
            loop {
                let rows = follower.news_at(hours).unwrap();
                if rows.is_empty() {
                    return all;
                }
                all.extend(rows.iter().map(|row| (row.mid.0, row.state)));
            }
        };
        for (at, group) in groups[begin..].iter().enumerate() {
            watch.store(group);
            if at % every == 0 {
                seen.extend(news(&mut follower));
            }
        }
        seen.extend(news(&mut follower));
        let ended: Vec<u64> = seen.iter().filter(|(_, state)| *state == Complete).map(|(mid, _)| *mid).collect();
        let mut expected: Vec<u64> = groups[begin..].iter().flatten().filter(|(_, s)| *s == Complete).map(|(m, _)| *m).collect();
        expected.sort_unstable();
        let mut sorted = ended;
        sorted.sort_unstable();
        prop_assert_eq!(sorted, expected);
        for (at, (mid, state)) in seen.iter().enumerate() {
            let before = seen[..at].iter().filter(|(m, _)| m == mid).map(|(_, s)| *s).collect::<Vec<_>>();
            prop_assert!(before.is_empty() || (*state == Complete && before == [Open]), "{mid}: {before:?}");
        }
    }
}
