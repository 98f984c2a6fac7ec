//! Which flows a command works on, where it takes mids as well as a filter.

use super::errors::CliError;
use super::mids::{Chosen, Mids};
use super::search;
use crate::filter::Filter;
use crate::flow::Mid;
use crate::store::Reader;

/// What was said.
#[derive(Debug)]
pub(super) enum Which {
    /// Nothing.
    All,
    /// Words that are all mids, ranges and the like.
    Mids(Vec<Mids>),
    /// Anything else.
    Filter(Filter),
}

impl Which {
    /// Reads words: `12 40-60` are mids, `status>=400` is a filter.
    ///
    /// # Errors
    /// If they are neither.
    pub(super) fn parse(words: &[String]) -> Result<Self, CliError> {
        if let Ok(mids) = words.iter().map(|word| word.parse()).collect::<Result<Vec<Mids>, _>>() {
            return Ok(if mids.is_empty() { Self::All } else { Self::Mids(mids) });
        }
        Ok(search::parse(words)?.map_or(Self::All, Self::Filter))
    }

    /// Goes through the flows of a store that are meant, some hundred at a time: mids in the order in which they were named,
    /// the rest from the oldest on. `work` is told how many there are in all, where that is known. Gives how many flows could
    /// not be read, so that nobody knows whether they match.
    ///
    /// # Errors
    /// Those of `work`; what the store said; if a mid is not there.
    pub(super) fn pages(
        &self,
        reader: &Reader,
        mut work: impl FnMut(&[Mid], Option<u64>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        match self {
            Self::All => match reader.bounds()? {
                None => Ok(0),
                Some((first, last, count)) => {
                    Chosen::between(first, last).pages(reader, |mids| work(mids, Some(count)))?;
                    Ok(0)
                }
            },
            Self::Mids(mids) => {
                let chosen = Chosen::of(mids, reader)?;
                let count = chosen.at_most(reader)?;
                chosen.pages(reader, |mids| work(mids, Some(count)))?;
                Ok(0)
            }
            Self::Filter(filter) => search::all(reader, filter, &mut |rows| {
                work(&rows.iter().map(|row| row.mid).collect::<Vec<_>>(), None)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_mids_if_all_of_them_are() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
            Which::parse(&words)
        };
        assert!(matches!(parse(""), Ok(Which::All)));
        assert!(matches!(parse("12 40-60 last:5"), Ok(Which::Mids(mids)) if mids.len() == 3));
        assert!(matches!(parse("12 status>=400"), Ok(Which::Filter(_))));
        assert!(matches!(parse("last:1h"), Ok(Which::Filter(_))));
        assert!(parse("( 12").is_err());
    }
}
