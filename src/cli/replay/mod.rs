//! `manent replay`: recorded requests once more.

mod args;
mod choose;
mod kept;
mod print;
mod run;

pub(super) use args::ReplayArgs;
pub(super) use run::run;
