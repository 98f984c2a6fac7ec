//! Handshakes of WebSockets, which stood in files of version 11 and before in flows of their own.

use std::collections::VecDeque;

use crate::flow::{Content, Value};
use crate::format::mitmproxy::node::{Dict, Node};

/// Handshakes whose WebSockets have not come yet: the latest, as far as they fit.
#[derive(Debug, Default)]
pub(in crate::format::mitmproxy) struct Handshakes {
    kept: VecDeque<(Value, Dict, u64)>,
    len: u64,
}

impl Handshakes {
    pub(super) fn keep(&mut self, state: &Dict) {
        let Some(id) = state.value("id").cloned() else { return };
        let mut state = state.clone();
        super::messages(&mut state, |message| {
            // A body that is not in memory belongs to the flow of the handshake.
            if let Some(content) = message.get_mut("content")
                && matches!(content, Node::Body(body) if !matches!(body.content, Content::Inline(_)))
            {
                *content = Node::NULL;
            }
        });
        // Messages that belong to it are elsewhere, too.
        state.remove("messages");
        let len = state.payload_len();
        self.len += len;
        self.kept.push_back((id, state, len));
        while self.len > MAX_LEN || self.kept.len() > MAX_COUNT {
            let Some((_, _, len)) = self.kept.pop_front() else { break };
            self.len -= len;
        }
    }

    /// The handshake with this id, which then is here no longer.
    pub(super) fn take(&mut self, id: &Value) -> Option<Dict> {
        let at = self.kept.iter().rposition(|(kept, ..)| text(kept) == text(id))?;
        let (_, state, len) = self.kept.remove(at)?;
        self.len -= len;
        Some(state)
    }
}

fn text(id: &Value) -> &[u8] {
    match id {
        Value::Text(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// Bytes that are kept; a handshake has some thousand.
const MAX_LEN: u64 = 4 << 20;

/// As many WebSockets that are open at once are few; a search goes through all.
const MAX_COUNT: usize = 512;
