//! What rows hold: each what its own flow says, whatever the one before it said.

use super::*;
use crate::flow::{FlowError, ServerConn, Side, Stage, Target};

/// Of any two in a row, each field is the same in both, or in one of them alone, or different.
fn varied(n: u64) -> Flow {
    let pick = |of: u64| usize::try_from(n / of % 3).unwrap();
    let headers = [vec![], vec![("Content-Type", "text/plain")], vec![("content-type", "text/html")]];
    let mut flow = flow(Mid(n), State::Complete, Content::Absent);
    flow.target = Target { host: ["a.example", "b.example", ""][pick(2)].into(), ..Target::default() };
    flow.timing.end_us = [None, Some(1), Some(2)][pick(1)];
    flow.replay_of = [None, Some(Mid(1)), Some(Mid(2))][pick(3)];
    flow.server = [None, Some(7), Some(8)][pick(1)]
        .map(|id| Arc::new(ServerConn { id: ConnId(id), ..ServerConn::default() }));
    flow.error = [None, Some("reset"), Some("")][pick(2)].map(|message| FlowError {
        side: Side::Server,
        stage: Stage::ResponseBody,
        message: message.into(),
        at_us: n,
    });
    if let Some(request) = &mut flow.request {
        request.target = ["/", "/a", "/\u{e4}"][pick(3)].into();
        request.headers = headers[pick(1)].iter().copied().collect();
    }
    match &mut flow.response {
        Some(response) if pick(4) > 0 => response.headers = headers[pick(1)].iter().copied().collect(),
        response => *response = None,
    }
    flow
}

#[test]
fn rows_of_one_group_are_as_those_of_groups_of_one() {
    let rows_of = |per_group: usize| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flows.db");
        let mut writer = open(&path);
        let flows: Vec<Flow> = (1..=60).map(varied).collect();
        for group in flows.chunks(per_group) {
            commit(&mut writer, group.to_vec()).unwrap();
        }
        Reader::open(&path).unwrap().list(&ListQuery::default()).unwrap()
    };
    let rows = rows_of(60);
    assert_eq!(rows.len(), 60);
    assert_eq!(rows, rows_of(1));
}
