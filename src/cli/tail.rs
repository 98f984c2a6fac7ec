//! `manent tail`: the newest flows, and with `-f` those that come, whoever records them.
//!
//! The stores are asked every twentieth of a second whether anything was committed, which costs microseconds; what is read
//! then is news alone ([`Follower`]). The asking is done by a thread that may block; the signals are waited for elsewhere,
//! so that a terminal that takes nothing cannot hold up the end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::args::Global;
use super::columns::{ColumnFlags, Lines};
use super::errors;
use super::merged::Found;
use super::output::Output;
use super::signals::Signals;
use super::stores::{self, Opened, Stores};
use super::{ls, search};
use crate::config::units::parse_limit;
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{Follower, Row, StoreError};

/// Show the newest flows, and follow what is recorded
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TailArgs {
    /// How many of those that are there
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = parse_limit)]
    limit: usize,
    /// Then go on with what comes, until told to stop. A flow that is not over is shown, and once more when it is. A store
    /// that is not there is waited for
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    columns: ColumnFlags,
    /// Only flows that match; words are joined by blanks, `manent filter` tells the language
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

pub(super) fn run(args: &TailArgs, global: &Global, output: Output) -> anyhow::Result<ExitCode> {
    let filter = search::parse(&args.filter)?;
    let stores = global.stores()?;
    let mut lines = Lines::new(&args.columns, &output);
    let mut opened = Opened::new(&stores, &output);
    if !args.follow {
        let parts = ls::parts(stores.some_files()?, &stores, filter);
        let mut show = |page: &[Found]| Ok(lines.write(page)?);
        let any = ls::newest(&parts, args.limit, &mut opened, &mut show)?;
        return Ok(opened.exit_code(any));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let (stop, stopped) = sync_channel(1);
        let (watched, folders) = (VecDeque::new(), Vec::new());
        let tail = Tail { stores, filter, output, lines, opened, watched, folders };
        let limit = args.limit;
        let mut task = tokio::task::spawn_blocking(move || tail.follow(limit, &stopped));
        tokio::select! {
            ended = &mut task => return ended?,
            _ = signals.next() => drop::<std::sync::mpsc::SyncSender<()>>(stop),
        }
        match tokio::time::timeout(LAST_PRINT, task).await {
            Ok(ended) => ended?,
            Err(_) => Ok(ExitCode::SUCCESS), // standard output holds it up
        }
    });
    runtime.shutdown_background();
    result
}

/// What is followed.
#[derive(Debug)]
struct Tail {
    stores: Stores,
    filter: Option<Filter>,
    output: Output,
    lines: Lines,
    opened: Opened,
    /// The oldest first.
    watched: VecDeque<Watched>,
    /// Folders of patterns, as they were when they were last looked through.
    folders: Vec<(PathBuf, Option<SystemTime>)>,
}

/// A store that is followed.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    name: Option<Arc<str>>,
    follower: Follower,
    /// News of which it is not known whether they match: the store could not be read just then.
    unjudged: Vec<Row>,
    trouble: Option<Trouble>,
}

/// A store that cannot be read, now.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    told: bool,
}

impl Tail {
    /// Shows `limit` flows that are there, then follows until it is told to stop, or nobody reads on.
    fn follow(mut self, limit: usize, stopped: &Receiver<()>) -> anyhow::Result<ExitCode> {
        self.begin(limit)?;
        loop {
            self.find_new_stores();
            for at in 0..self.watched.len() {
                self.look(at)?;
            }
            if self.output.is_closed() {
                break;
            }
            match stopped.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(self.opened.exit_code(true))
    }

    /// Notes what is there in each store, then shows the newest of it. In this order: what comes in between is not missed.
    fn begin(&mut self, limit: usize) -> anyhow::Result<()> {
        // Before the files are looked for: what comes in between is found the next time.
        self.folders = self.stores.folders().into_iter().map(|folder| (folder, None)).collect();
        let files = self.stores.files();
        let mut there = Vec::new();
        for path in latest(&files) {
            let follower = match Follower::from_now(&path) {
                Err(StoreError::NotFound { .. }) => None,
                // Somebody is just making it.
                Err(StoreError::NotAStore { .. }) if is_empty(&path) => None,
                result => self.opened.keep(result)?,
            };
            there.extend(follower.is_some().then(|| path.clone()));
            let follower = follower.unwrap_or_else(|| Follower::from_first(&path));
            self.watched.push_back(Watched {
                path,
                name: None,
                follower,
                unjudged: Vec::new(),
                trouble: None,
            });
        }
        if self.watched.len() < files.len() {
            self.output
                .say(&format!("warning: only the {MAX_FOLLOWED} stores that were written last are followed"));
        }
        if there.is_empty() {
            self.output.talk(&format!("waiting for {}", self.stores.told()));
        }
        self.name_stores();
        there.sort();
        let parts = ls::parts(there, &self.stores, self.filter.clone());
        let Self { lines, opened, watched, .. } = self;
        let mut show = |page: &[Found]| {
            for found in page {
                let path = &parts[found.part].path;
                if let Some(watched) = watched.iter_mut().find(|watched| watched.path == *path) {
                    watched.follower.note(&found.row);
                }
            }
            Ok(lines.write(page)?)
        };
        ls::newest(&parts, limit, opened, &mut show)?;
        Ok(())
    }

    /// Shows what is new in a store.
    fn look(&mut self, at: usize) -> anyhow::Result<()> {
        let watched = &mut self.watched[at];
        loop {
            match watched.news(self.filter.as_ref()) {
                Ok(None) => {
                    watched.trouble = None;
                    return Ok(());
                }
                Ok(Some(page)) => self.lines.write(&page)?,
                Err(error) => {
                    let now = Instant::now();
                    let trouble = watched.trouble.get_or_insert(Trouble { since: now, told: false });
                    // A store that is just being made, or is replaced, is readable a moment later.
                    if !trouble.told && now.duration_since(trouble.since) >= PATIENCE {
                        trouble.told = true;
                        self.opened.failed = true;
                        // The exit code comes at the end.
                        let _ = errors::report(&error.into(), &self.output);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Takes in the files that patterns match by now.
    fn find_new_stores(&mut self) {
        let mut changed = false;
        for (folder, stamp) in &mut self.folders {
            let now = std::fs::metadata(&folder).and_then(|meta| meta.modified()).ok();
            // The system's clock has steps: what was changed just now may change again without another stamp.
            let is_fresh = now.is_some_and(|at| at.elapsed().is_ok_and(|since| since < PATIENCE));
            changed |= is_fresh || now != *stamp;
            *stamp = now;
        }
        if !changed {
            return;
        }
        let known = |path: &PathBuf| self.watched.iter().any(|watched| watched.path == *path);
        let new: Vec<PathBuf> = self.stores.files().into_iter().filter(|path| !known(path)).collect();
        if new.is_empty() {
            return;
        }
        for path in new {
            let follower = Follower::from_first(&path);
            self.watched.push_back(Watched {
                path,
                name: None,
                follower,
                unjudged: Vec::new(),
                trouble: None,
            });
        }
        while self.watched.len() > MAX_FOLLOWED {
            self.watched.pop_front();
        }
        self.name_stores();
    }

    fn name_stores(&mut self) {
        if self.stores.single().is_some() {
            return;
        }
        let files: Vec<_> = self.watched.iter().map(|watched| watched.path.clone()).collect();
        for (watched, name) in self.watched.iter_mut().zip(stores::names(&files)) {
            watched.name = Some(name.into());
        }
    }
}

impl Watched {
    /// What matches of what is new, `None` if nothing is.
    fn news(&mut self, filter: Option<&Filter>) -> Result<Option<Vec<Found>>, StoreError> {
        if self.unjudged.is_empty() || self.follower.reader().is_none() {
            self.unjudged.extend(self.follower.news()?);
        }
        let Some(reader) = self.follower.reader().filter(|_| !self.unjudged.is_empty()) else {
            return Ok(None);
        };
        if let Some(filter) = filter {
            let matching = search::matching(reader, filter, &self.unjudged)?;
            self.unjudged.retain(|row| matching.contains(&row.mid));
        }
        let mids: Vec<Mid> = self.unjudged.iter().map(|row| row.mid).collect();
        let mut notes = reader.notes(&mids)?;
        let rows = std::mem::take(&mut self.unjudged).into_iter().map(|row| {
            let note = notes.remove(&row.mid);
            Found::of(row, Some(reader), 0, self.name.clone(), note)
        });
        Ok(Some(rows.collect()))
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0)
}

/// Those of the files that were written last, oldest of them first.
fn latest(files: &[PathBuf]) -> Vec<PathBuf> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let written = |path: &PathBuf| {
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        modified(path).max(modified(Path::new(&log)))
    };
    let mut files = files.to_vec();
    files.sort_by_cached_key(written);
    files.split_off(files.len().saturating_sub(MAX_FOLLOWED))
}

/// How often stores are asked whether anything came: so seldom that it costs next to nothing, so often that nobody waits.
const LOOK: Duration = Duration::from_millis(50);

/// How long a store may be unreadable before that is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Long enough for any terminal that is being read.
const LAST_PRINT: Duration = Duration::from_secs(2);

/// Stores that are open at a time; each takes three files and up to some MiB. Arbitrary: a month of days.
const MAX_FOLLOWED: usize = 32;

const EXAMPLES: &str = "\
Examples:
  manent tail                             the newest 10
  manent tail -f                          and what comes, until Ctrl-C
  manent tail -f 'status>=400'            only of what fails
  manent tail -n 0 -f --json | jq .url    only what comes, an object a line
  manent tail -f -s 'flows-%Y%m%d.db'     of stores that follow the clock, also of the next one

Without -f, exit code 1 if there is no flow. 4 if a store among several could not be read.";
