//! `manent env`: the variables that `run` sets for a command, for a shell and a proxy that is already running.

mod command;
mod shell;

pub(super) use command::{EnvArgs, run};
