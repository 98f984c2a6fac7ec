//! Which flows are meant: mids, or a filter, as they are in the store before the first request goes out.

use std::cell::RefCell;
use std::ops::ControlFlow;

use crate::cli::errors::CliError;
use crate::cli::mids::{Chosen, Mids};
use crate::cli::search;
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::{Order, Reader, Search};

/// The flows that are meant.
#[derive(Debug)]
pub(super) enum Chosens {
    Mids(Chosen),
    /// What matches up to this mid: answers are flows too, and may match.
    Filter(Filter, Mid),
}

impl Chosens {
    /// Reads the words: all of them mids, or all of them a filter. Standard input is read here.
    ///
    /// # Errors
    /// If they are neither; if a mid is not there; if the store cannot be read.
    pub(super) fn of(words: &[String], reader: &Reader) -> anyhow::Result<Self> {
        if let Ok(mids) = words.iter().map(|word| word.parse()).collect::<Result<Vec<Mids>, _>>() {
            return Ok(Self::Mids(Chosen::of(&mids, reader)?));
        }
        if words.iter().any(|word| word.parse::<Mids>().is_ok()) {
            let why = "mids and a filter do not go together; a number in a filter needs quotes, as `\"12\"`";
            return Err(CliError::Flag { flag: "MIDS|FILTER", why: why.to_owned() }.into());
        }
        let newest = reader.bounds()?.ok_or(CliError::EmptyStore)?.1;
        let filter = search::parse(words)?.ok_or(CliError::EmptyStore)?;
        Ok(Self::Filter(filter, newest))
    }

    /// How many there are, where that is known.
    ///
    /// # Errors
    /// What the store said.
    pub(super) fn count(&self, reader: &Reader) -> anyhow::Result<Option<u64>> {
        match self {
            Chosens::Mids(chosen) => chosen.at_most(reader).map(Some),
            Chosens::Filter(..) => Ok(None),
        }
    }

    /// Goes through them some hundred at a time, in the order in which they were named, or from the oldest on.
    ///
    /// # Errors
    /// Those of `work`, and of the store.
    pub(super) fn each(
        &self,
        reader: &Reader,
        work: &mut dyn FnMut(&[Mid]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (filter, newest) = match self {
            Chosens::Mids(chosen) => {
                return chosen.pages(reader, work);
            }
            Chosens::Filter(filter, newest) => (filter, *newest),
        };
        let search = Search {
            order: Order::OldestFirst,
            before: Some(Mid(newest.0.saturating_add(1))),
            ..Search::new(filter)
        };
        let page = RefCell::new(Vec::new());
        let mut failed = None;
        let mut found = |row: crate::store::Row| {
            page.borrow_mut().push(row.mid);
            ControlFlow::Continue(())
        };
        // A step finds no more than a few hundred.
        let mut step_is_over =
            |_: &crate::store::Progress| match work(&std::mem::take(&mut *page.borrow_mut())) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            };
        reader.search(&search, &mut found, &mut step_is_over)?;
        failed.map_or(Ok(()), Err)
    }
}
