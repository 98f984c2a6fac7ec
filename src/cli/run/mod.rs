//! `manent run`: a private proxy on a free port, and a command whose environment leads through it.

mod command;
mod environment;
mod files;
mod truststore;

pub(super) use command::{RunArgs, run};
