//! `manent diff`: in what two flows differ.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::compared::{self, RuleFlags};
use super::errors;
use super::output::Output;
use super::store::FlowArg;
use crate::replay::compare::{Rules, Side, compare};

/// Tell in what the responses of two flows differ, or their requests
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DiffArgs {
    /// The one: 12, last; with several stores FILE:12
    first: FlowArg,
    /// The other
    second: FlowArg,
    /// Compare the requests instead of the responses
    #[arg(long)]
    request: bool,
    #[command(flatten)]
    rules: RuleFlags,
}

pub(super) fn run(args: &DiffArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let rules = Rules { requests: args.request, ..args.rules.rules() };
    let (first_reader, first, was) = args.first.find(global, output)?;
    let (second_reader, second, is) = args.second.find(global, output)?;
    let comparison = compare(
        Side { reader: &first_reader, flow: &first },
        Side { reader: &second_reader, flow: &second },
        &rules,
    );
    let mut data = output.data();
    if output.json {
        let object = json!({
            "mid": was.0, "other": is.0, "same": comparison.is_same(),
            "differences": compared::to_json(&comparison), "left_out": comparison.left_out,
        });
        writeln!(data, "{object}")?;
    } else {
        for line in compared::lines(&comparison, output.paint) {
            writeln!(data, "{line}")?;
        }
    }
    data.flush()?;
    if !output.json {
        if comparison.is_same() {
            output.talk(&format!(
                "flows {was} and {is} have the same {}",
                if args.request { "request" } else { "response" }
            ));
        }
        if let Some(left_out) = compared::left_out(&comparison) {
            output.talk(&left_out);
        }
    }
    Ok(if comparison.is_same() { ExitCode::SUCCESS } else { ExitCode::from(errors::NO) })
}

const EXAMPLES: &str = "\
Examples:
  manent diff 1041 2093
  manent diff 1041 last --ignore-header set-cookie --ignore-json '..updated_at'
  manent diff monday.db:12 tuesday.db:14
  manent diff 12 13 --request

Compared are status, header fields (in any order), trailers and bodies: JSON by value, text by line, all else byte by
byte, with content-codings undone. Left out, and named where they differ, are Date and Age, which always differ, and
Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding and Content-Length, which belong to the connection or follow
from the body. Nothing else is: --ignore-header says what a site makes anew for each answer.

Exit code 0 if they are the same, 1 if not.";
