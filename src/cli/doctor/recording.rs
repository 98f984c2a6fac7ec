//! The store: whether it opens, reads and can be written, and how much room is left.

use std::path::Path;

use rustix::fs::Access;

use super::Finding;
use crate::cli::disk::LITTLE;
use crate::cli::errors::causes;
use crate::cli::{busy, disk, text};
use crate::config::Config;
use crate::flow::Mid;
use crate::store::{NameFormat, Reader, StoreError, StoreInfo};

/// What was found out about it.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) findings: Vec<Finding>,
    /// When the newest flow began.
    pub(super) newest_unix_ns: Option<i64>,
}

impl Recording {
    pub(super) fn of(config: &Config) -> Self {
        let mut recording = Self::default();
        if !config.record {
            recording.findings.push(Finding::good("store", "nothing is recorded (--no-record)"));
            return recording;
        }
        let path = match NameFormat::of(&config.store) {
            Ok(Some(_)) => {
                let shown = text::path(&config.store);
                recording.findings.push(Finding::good("store", format!("{shown}, which follows the clock")));
                None
            }
            Ok(None) => Some(&config.store),
            Err(error) => {
                recording.findings.push(Finding::bad("store", causes(&error), "manent -s FILE"));
                None
            }
        };
        if let Some(path) = path {
            recording.look_at(path);
        }
        let folder = config.store.parent().filter(|folder| !folder.as_os_str().is_empty());
        recording.findings.push(space(folder.unwrap_or(Path::new("."))));
        recording
    }

    fn look_at(&mut self, path: &Path) {
        let shown = text::path(path);
        let reader = match Reader::open(path) {
            Ok(reader) => reader,
            Err(StoreError::NotFound { .. }) => {
                let message = format!("none yet at {shown}; the first capture makes it");
                return self.findings.push(writable(path).unwrap_or_else(|| Finding::good("store", message)));
            }
            Err(error) => {
                return self.findings.push(Finding::bad("store", causes(&error), "manent -s other.db"));
            }
        };
        let facts = match self.read(&reader) {
            Ok(facts) => facts,
            Err(error) => return self.findings.push(Finding::bad("store", causes(&error), "manent check")),
        };
        if reader.is_packed() {
            let mend =
                format!("manent store unpack {shown} FILE     or record elsewhere: manent -s other.db");
            return self.findings.push(Finding::bad(
                "store",
                format!("{shown} is packed: it is only read"),
                mend,
            ));
        }
        let writers = busy::writers_listeners(path);
        let writer =
            writers.first().map_or(String::new(), |addr| format!("; the recorder at {addr} writes it"));
        let good = Finding::good("store", format!("{shown}: {facts}{writer}"));
        self.findings.push(writable(path).unwrap_or(good));
    }

    /// Asks for its size, and reads the newest flow with its bodies. `manent check` reads all.
    fn read(&mut self, reader: &Reader) -> Result<String, StoreError> {
        let info = StoreInfo::of(reader)?;
        let size = text::size(info.db_bytes.saturating_add(info.segment_bytes));
        let Some((_, last, count)) = info.flows else { return Ok(format!("no flow yet, {size}")) };
        let newest = reader.load(Mid(last.0), BODY)?;
        self.newest_unix_ns = newest.map(|flow| flow.timing.started_unix_ns);
        Ok(format!("{}, {size}, the newest (mid {last}) reads well", text::count(count, "flow")))
    }
}

/// Why nothing can be written there, if so.
fn writable(path: &Path) -> Option<Finding> {
    let exists = |path: &&Path| path.symlink_metadata().is_ok();
    let folder = path.ancestors().skip(1).find(|path| path.as_os_str().is_empty() || exists(path))?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let refused = [path, folder]
        .into_iter()
        .filter(exists)
        .find_map(|path| Some((path, rustix::fs::access(path, Access::WRITE_OK).err()?)));
    let (path, error) = refused?;
    let message = format!("{} cannot be written: {}", text::path(path), std::io::Error::from(error).kind());
    Some(Finding::bad("store", message, "manent -s FILE   records elsewhere"))
}

fn space(folder: &Path) -> Finding {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let free = match disk::free(there) {
        Ok(free) => free,
        Err(error) => {
            let message = format!("{}: {}", text::path(there), error.kind());
            return Finding::warning("space", message, "df -h");
        }
    };
    let message = format!("{} free for {}", text::size(free), text::path(there));
    let mend = "manent prune --max-age 7d && manent vacuum     or keep within a limit: manent --max-size 10G";
    match free {
        ..LITTLE => Finding::bad("space", message, mend),
        LITTLE..ENOUGH => Finding::warning("space", message, mend),
        ENOUGH.. => Finding::good("space", message),
    }
}

/// Bytes of one body that are read on trial.
const BODY: u64 = 16 << 20;
/// An afternoon of browsing.
const ENOUGH: u64 = 1_000_000_000;
