//! `manent index`: the index of bodies, which makes searches in them quick.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::output::Output;
use super::progress::Progress;
use super::{given, text};
use crate::store::{BodyIndexer, IndexProgress, IndexState, Indexing, Reader};

/// Make an index of bodies, so that `~b` finds quickly; or say what there is of one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct IndexArgs {
    /// Make it of what is stored, and keep it up from now on
    #[arg(long)]
    bodies: bool,
    /// Drop it, and make none from now on
    #[arg(long, conflicts_with = "bodies")]
    off: bool,
    /// Say what there is of it, as without any flag
    #[arg(long, conflicts_with_all = ["bodies", "off"])]
    status: bool,
}

pub(super) fn run(args: &IndexArgs, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
    let path = global.store()?;
    let status = args.status || !(args.bodies || args.off);
    if !status {
        let mut indexer = BodyIndexer::open(&path, args.bodies)?;
        if indexer.is_beside_writer() {
            output.talk("The running capture does it; this waits for it, and may be stopped.");
        }
        work(&mut indexer, output)?;
        indexer.close()?;
    }
    let state = Reader::open(&path)?.index_state()?;
    match output.json {
        true => output.data_line(&to_json(&state))?,
        false if status => output.data_line(&given::in_full(&told(&state)))?,
        false => output.talk(&told(&state)),
    }
    if args.off && !output.json {
        output.talk("Its space is used again by what is recorded; `manent vacuum` makes the file smaller.");
    }
    Ok(ExitCode::SUCCESS)
}

fn work(indexer: &mut BodyIndexer, output: &Output) -> anyhow::Result<()> {
    let progress = Progress::new(output, "blocks of 1024 mids");
    loop {
        if output.shows_progress() {
            let IndexProgress { done, total } = indexer.progress()?;
            progress.at(done, total);
        }
        match indexer.step()? {
            Indexing::More => {}
            Indexing::Done => return Ok(()),
            Indexing::Elsewhere => std::thread::sleep(LOOK),
        }
    }
}

fn told(state: &IndexState) -> String {
    let IndexState { is_on, flows, covered, blocks, indexed_blocks, bytes } = *state;
    if !is_on && indexed_blocks == 0 {
        return "no index of bodies: `manent index --bodies` makes one".to_owned();
    }
    let mut told = format!(
        "index of bodies: {covered} of {} covered, {}",
        text::count(flows, "flow"),
        text::size(bytes)
    );
    if bytes > 0 && covered > 0 {
        told += &format!(" ({} a flow)", text::size(bytes / covered));
    }
    if indexed_blocks < blocks {
        told += &format!("; {} of 1024 mids to come", text::count(blocks - indexed_blocks, "block"));
    }
    if !is_on {
        told += "; it is being dropped";
    }
    told
}

fn to_json(state: &IndexState) -> String {
    let IndexState { is_on, flows, covered, blocks, indexed_blocks, bytes } = *state;
    json!({
        "on": is_on, "flows": flows, "covered": covered, "blocks": blocks, "indexed_blocks": indexed_blocks,
        "bytes": bytes,
    })
    .to_string()
}

/// How often the work of another process is looked at.
const LOOK: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  manent index --bodies         of all that is stored, and of all that will be
  manent index                  how far it is, and its size
  manent ls --explain '~b key'  whether a filter can make use of it
  manent index --off            no more

It tells of each body which runs of three bytes it has. A filter that looks for at least three bytes in a row (~b, ~bq, ~bs)
then reads only bodies that may have them; what it finds is the same. For bodies that are no text, pictures for example, it
takes five printable characters in a row. Not covered, and so always read: flows that have not ended, bodies of more than
4 MiB once decoded, those with more than 32768 different runs, and the newest flows for some seconds.

Made while a capture runs, it is made by the capture, which is not held up by it. Without one, no capture can begin until it
is made; it may be stopped and begun again at any time, and a capture goes on with it. Each store has its own; packed stores have none.
With --store 'flows-%Y%m%d.db' a new one has an index if the one before has.";
