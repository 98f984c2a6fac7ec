//! What a process that captures asks of the system: no core dumps, room for many connections.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Keeps keys and captured secrets out of core dumps, and other users' debuggers out of this process.
pub(super) fn forbid_core_dumps() {
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!(%error, "core dumps stay possible");
    }
}

/// Raises the limit of open files to what the system allows: two a connection are needed, and the usual 1024 is soon
/// reached. A child that is started later inherits it, so `run` calls this after the start: programs exist that
/// close every possible descriptor one by one.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
