//! `manent replay`: recorded requests once more.

mod args;
mod choose;
mod print;
mod run;

pub(super) use args::ReplayArgs;
pub(super) use run::run;
