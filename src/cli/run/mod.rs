//! `manent run`: a private proxy on a free port, and a command whose environment leads through it.

mod browser;
mod command;
pub(super) mod environment;
mod files;

pub(super) use command::{RunArgs, run};
pub(super) use environment::{Destination, SAVED, SET, Variable, present_before, variables};
pub(super) use files::{Authority, Files, Preload};
