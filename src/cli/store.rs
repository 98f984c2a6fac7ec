//! Finding flows in a store, or one in several: the `MIDS` arguments of `show`, `cat`, `mark`, `comment` and `tag`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::args::Global;
use super::errors::CliError;
use super::mids::{Chosen, Mids};
use super::output::Output;
use super::stores::{self, Opened, Stores};
use crate::flow::{Flow, Mid};
use crate::store::{ListQuery, Order, Reader, Row, StoreError};

/// Which flows are meant: of the only store, or one, of a store that is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flows {
    /// Of the only store, or one that only one of several has.
    Mids(Mids),
    /// Of a store that is named.
    Named(FlowArg),
}

impl FromStr for Flows {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mids = text.parse().map(Self::Mids);
        mids.or_else(|error| text.parse().map(Self::Named).map_err(|_: &str| error))
    }
}

impl Flows {
    /// The mids, where no store is named with any.
    pub(super) fn all_mids(flows: &[Self]) -> Option<Vec<Mids>> {
        let mids = |flows: &Self| if let Self::Mids(mids) = flows { Some(mids.clone()) } else { None };
        flows.iter().map(mids).collect()
    }

    /// The one flow that is meant, where there are several stores.
    ///
    /// # Errors
    /// If it may be more than one.
    pub(super) fn one(&self, stores: &Stores) -> Result<FlowArg, CliError> {
        match self {
            Self::Named(flow) => Ok(flow.clone()),
            Self::Mids(mids) => match mids.one() {
                Some(mid) => Ok(FlowArg { store: None, mid }),
                None => Err(CliError::MidOfMany { stores: stores.files().len() }),
            },
        }
    }

    /// Whether it is to be read from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        matches!(self, Self::Mids(mids) if mids.reads_stdin())
    }
}

/// Goes through the flows, in the order in which they are named.
///
/// # Errors
/// Those of `work`; if a flow is not there, or is in several stores; if a store cannot be read.
pub(super) fn each_flow(
    flows: &[Flows],
    global: &Global,
    output: &Output,
    mut work: impl FnMut(&Reader, Mid, &Flow) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stores = global.stores()?;
    if let Some(mids) = Flows::all_mids(flows)
        && let [file] = &stores.some_files()?[..]
    {
        let reader = Reader::open(file)?;
        return Chosen::of(&mids, &reader)?.flows(&reader, |mid, flow| work(&reader, mid, flow));
    }
    for flows in flows {
        let (reader, flow, mid) = flows.one(&stores)?.find(global, output)?;
        work(&reader, mid, &flow)?;
    }
    Ok(())
}

/// Which flow is meant, and of which store where that is not clear: `12`, `last`, `flows-20261122.db:12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlowArg {
    store: Option<String>,
    mid: MidArg,
}

/// Which flow is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MidArg {
    /// The one with this mid.
    Mid(Mid),
    /// The newest.
    Last,
}

impl FromStr for MidArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self::Last);
        }
        // `u64` would take `+12` too.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(mid) if digits => Ok(Self::Mid(Mid(mid))),
            _ => Err("a mid is a whole number, or `last`"),
        }
    }
}

impl FromStr for FlowArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once(':') {
            Some((store, mid)) if !store.is_empty() => {
                Ok(Self { store: Some(store.to_owned()), mid: mid.parse()? })
            }
            _ => Ok(Self { store: None, mid: text.parse()? }),
        }
    }
}

impl FlowArg {
    /// Finds the flow in the stores of the command line.
    ///
    /// # Errors
    /// If no store has it, or several have; if the only store, or the one that has it, cannot be read.
    pub(super) fn find(&self, global: &Global, output: &Output) -> anyhow::Result<(Reader, Flow, Mid)> {
        let (path, mid) = self.within(&global.stores()?, output)?;
        find(&path, mid)
    }

    /// Its store and its mid.
    ///
    /// # Errors
    /// As [`FlowArg::find`].
    pub(super) fn place(&self, stores: &Stores, output: &Output) -> anyhow::Result<(PathBuf, Mid)> {
        let (path, which) = self.within(stores, output)?;
        let (_, _, mid) = find(&path, which)?;
        Ok((path, mid))
    }

    fn within(&self, stores: &Stores, output: &Output) -> anyhow::Result<(PathBuf, MidArg)> {
        if let Some(name) = &self.store {
            return Ok((named(name, &stores.files())?, self.mid));
        }
        let files = stores.some_files()?;
        if let [file] = &files[..] {
            return Ok((file.clone(), self.mid));
        }
        let mut opened = Opened::new(stores, output);
        let mut having: Vec<(Row, usize)> = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let row = opened.keep(self.mid.row(file))?;
            having.extend(row.flatten().map(|row| (row, at)));
        }
        if self.mid == MidArg::Last {
            having.sort_by_key(|(row, _)| std::cmp::Reverse(row.started_unix_ns));
            having.truncate(1);
        }
        match (&having[..], self.mid) {
            ([(row, at)], _) => Ok((files[*at].clone(), MidArg::Mid(row.mid))),
            ([], MidArg::Last) => Err(CliError::EmptyStore.into()),
            ([], MidArg::Mid(mid)) => Err(CliError::InNoStore { mid, stores: files.len() }.into()),
            ([(row, _), ..], _) => {
                let names = stores::names(&files);
                let stores = having.iter().map(|(_, at)| names[*at].clone()).collect();
                Err(CliError::Ambiguous { mid: row.mid, stores }.into())
            }
        }
    }
}

impl MidArg {
    /// Its row in a store.
    fn row(self, file: &Path) -> Result<Option<Row>, StoreError> {
        let (after, before) = match self {
            MidArg::Last => (None, None),
            MidArg::Mid(Mid(mid)) => (mid.checked_sub(1).map(Mid), mid.checked_add(1).map(Mid)),
        };
        let query = ListQuery { limit: Some(1), before, after, order: Order::NewestFirst };
        Ok(Reader::open(file)?.list(&query)?.pop())
    }
}

/// The store that is called so: by the name or the path of one of these, or by any path.
fn named(name: &str, files: &[PathBuf]) -> Result<PathBuf, CliError> {
    let names = stores::names(files);
    let known =
        files.iter().zip(names).find(|(file, known)| known == name || file.as_path() == Path::new(name));
    let path = known.map_or_else(|| PathBuf::from(name), |(file, _)| file.clone());
    if path.exists() { Ok(path) } else { Err(CliError::UnknownStore { name: name.to_owned() }) }
}

/// Opens the store at `path` and reads the flow.
///
/// # Errors
/// If the store cannot be read, or there is no such flow.
pub(super) fn find(path: &Path, which: MidArg) -> anyhow::Result<(Reader, Flow, Mid)> {
    let reader = Reader::open(path)?;
    let bounds = reader.bounds()?;
    let mid = match which {
        MidArg::Mid(mid) => mid,
        MidArg::Last => bounds.ok_or(CliError::EmptyStore)?.1,
    };
    let flow = reader.flow(mid)?.ok_or(CliError::UnknownMid { first: mid, last: mid, bounds })?;
    Ok((reader, flow, mid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mid_is_a_number_or_last() {
        assert_eq!("12".parse(), Ok(MidArg::Mid(Mid(12))));
        assert_eq!("last".parse(), Ok(MidArg::Last));
        for bad in ["", "+1", "-1", "1.0", "1-2", "LAST", "18446744073709551616"] {
            assert!(bad.parse::<MidArg>().is_err() && bad.parse::<FlowArg>().is_err(), "{bad}");
        }
        let of = |store: &str, mid| Ok(FlowArg { store: Some(store.to_owned()), mid });
        assert_eq!("a:b.db:12".parse(), of("a:b.db", MidArg::Mid(Mid(12))));
        assert_eq!("x.db:last".parse(), of("x.db", MidArg::Last));
        for bad in [":12", "x.db:", "x.db:y"] {
            assert!(bad.parse::<FlowArg>().is_err(), "{bad}");
        }
    }
}
