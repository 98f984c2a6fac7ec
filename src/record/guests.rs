//! Connections that outlived the store in which they got their id: here they get another one.
//!
//! Recorders that follow each other count connections on, so ids clash only where the next store was there before and has
//! connections of its own below them, as with `flows-%H.db` on the second day.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::{ConnId, Flow};

/// The ids that guests have here. As many as connections were alive when the store was opened, at most.
#[derive(Debug)]
pub(super) struct Guests {
    /// Ids below this one are taken by connections of earlier sessions of this store.
    below: u64,
    ids: Mutex<HashMap<ConnId, ConnId>>,
}

impl Guests {
    /// For a store whose first free id was this when it was opened.
    pub(super) fn new(first_free: u64) -> Self {
        Self { below: first_free, ids: Mutex::default() }
    }

    /// Whether the id of a connection that is alive means another one here. 0 is no connection.
    pub(super) fn is_guest(&self, id: ConnId) -> bool {
        (1..self.below).contains(&id.0)
    }

    /// What it is called here, if a flow of it came by.
    pub(super) fn known(&self, id: ConnId) -> Option<ConnId> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// The flow, with ids of this store for its connections; `fresh` gives one that is not in use.
    pub(super) fn at_home<'a>(&self, flow: &'a Flow, fresh: impl Fn() -> ConnId) -> Cow<'a, Flow> {
        let client = self.is_guest(flow.client.id);
        let server = flow.server.as_ref().is_some_and(|server| self.is_guest(server.id));
        if !client && !server {
            return Cow::Borrowed(flow);
        }
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let mut flow = flow.clone();
        if client {
            let conn = Arc::make_mut(&mut flow.client);
            conn.id = *ids.entry(conn.id).or_insert_with(&fresh);
        }
        if let Some(conn) = flow.server.as_mut().filter(|_| server).map(Arc::make_mut) {
            conn.id = *ids.entry(conn.id).or_insert_with(&fresh);
        }
        Cow::Owned(flow)
    }
}
