//! Ways in: how the target of a request is found. One file a mode.

pub(super) mod explicit;
