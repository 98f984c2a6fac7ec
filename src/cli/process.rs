//! What a process that captures or sends asks of the system: no core dumps, room for many connections.

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

/// Has the kernel make room for the descriptors of many connections, before there are threads: call it before a runtime is
/// built. Where threads share the table, each time it doubles (at the 64th descriptor, the 128th, ...) whoever opens something
/// waits for an RCU grace period, 10 to 20 ms (`expand_fdtable` in Linux' fs/file.c).
pub(super) fn reserve_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let Ok(highest) = i32::try_from(DESCRIPTORS.min(limit).saturating_sub(1)) else { return };
    // It is there: the standard library opens those of the first three that are not. The copy is closed here.
    if let Err(error) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), highest) {
        tracing::debug!(%error, "no room is made for descriptors");
    }
}

/// For two thousand clients and their origins; 32 KiB of the kernel's memory.
const DESCRIPTORS: u64 = 4096;
