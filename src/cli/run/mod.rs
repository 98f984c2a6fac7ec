//! `manent run`: a private proxy on a free port, and a command whose environment leads through it.

mod command;
pub(super) mod environment;
mod files;
pub(super) mod truststore;

pub(super) use command::{RunArgs, run};
