//! Naming flows on the command line, the same for every command: `12`, `12,15`, `40-60`, `100-`, `last`, `last:5`, `@FILE`, `-`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use super::errors::CliError;
use super::store::MidArg;
use crate::flow::{Flow, Mid};
use crate::store::{ListQuery, Order, Reader};

/// Which flows are meant, as it was given: no file was read and no store asked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mids(Vec<Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    One(Mid),
    /// From the first to the last, or to the newest. There may be gaps.
    Range(Mid, Option<Mid>),
    /// So many of the newest.
    Last(u64),
    File(PathBuf),
    Stdin,
}

impl Mids {
    /// What is meant where nothing is said: the newest.
    #[cfg(test)]
    fn last() -> Self {
        Self(vec![Item::Last(1)])
    }

    /// The one flow that is meant, if it is one.
    pub(super) fn one(&self) -> Option<MidArg> {
        match self.0[..] {
            [Item::One(mid)] => Some(MidArg::Mid(mid)),
            [Item::Last(1)] => Some(MidArg::Last),
            _ => None,
        }
    }

    /// Whether it is to be read from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.0.contains(&Item::Stdin)
    }
}

impl FromStr for Mids {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A file may have commas in its name.
        if let Some(file) = text.strip_prefix('@') {
            return match file {
                "" => Err("the name of a file is missing after `@`"),
                "-" => Ok(Self(vec![Item::Stdin])),
                file => Ok(Self(vec![Item::File(file.into())])),
            };
        }
        if text == "-" {
            return Ok(Self(vec![Item::Stdin]));
        }
        text.split(',').map(item).collect::<Result<_, _>>().map(Self)
    }
}

/// One of those between commas.
fn item(text: &str) -> Result<Item, &'static str> {
    if let Some(rest) = text.strip_prefix("last") {
        let count = match rest.strip_prefix(':') {
            Some(count) => number(count),
            None if rest.is_empty() => Some(1),
            None => None,
        };
        return count.filter(|&count| count > 0).map(Item::Last).ok_or(WANTED);
    }
    let Some((first, last)) = text.split_once('-') else { return mid(text).map(Item::One).ok_or(WANTED) };
    let first = mid(first).ok_or(WANTED)?;
    if last.is_empty() {
        return Ok(Item::Range(first, None));
    }
    match mid(last).ok_or(WANTED)? {
        last if last < first => Err("a range begins with the lower mid"),
        last => Ok(Item::Range(first, Some(last))),
    }
}

fn mid(text: &str) -> Option<Mid> {
    number(text).map(Mid)
}

/// `u64` would take `+12` too.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Flows of a store, in the order in which they were named: ranges with at least one flow each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen(Vec<(Mid, Mid)>);

impl Chosen {
    /// Reads files and standard input, and looks whether the flows are there.
    ///
    /// # Errors
    /// [`CliError::UnknownMid`] if a mid that was named alone is not there, or none of a range; [`CliError::BadMids`] if a
    /// file holds something else; else what the system or the store said.
    pub(super) fn of(mids: &[Mids], reader: &Reader) -> anyhow::Result<Self> {
        let mut chosen = Self(Vec::new());
        for item in mids.iter().flat_map(|mids| &mids.0) {
            match item {
                Item::File(path) => {
                    let name = path.display().to_string();
                    let file = File::open(path);
                    let file = file.map_err(|source| CliError::Read { path: name.clone(), source })?;
                    chosen.read(&name, BufReader::new(file), reader)?;
                }
                Item::Stdin => chosen.read("standard input", io::stdin().lock(), reader)?,
                item => chosen.add(item, reader)?,
            }
        }
        Ok(chosen)
    }

    /// All from the first to the last.
    pub(super) fn between(first: Mid, last: Mid) -> Self {
        Self(vec![(first, last)])
    }

    fn add(&mut self, item: &Item, reader: &Reader) -> anyhow::Result<()> {
        let range = match *item {
            Item::One(mid) => (mid, mid),
            Item::Range(first, Some(last)) => (first, last),
            Item::Range(first, None) => {
                (first, newest(reader, 1)?.map_or(first, |(_, newest)| newest.max(first)))
            }
            Item::Last(count) => newest(reader, count)?.ok_or(CliError::EmptyStore)?,
            // Those are read before; a file cannot name another.
            Item::File(_) | Item::Stdin => return Ok(()),
        };
        if reader.mids(range.0, range.1, 1)?.is_empty() {
            return Err(
                CliError::UnknownMid { first: range.0, last: range.1, bounds: reader.bounds()? }.into()
            );
        }
        self.0.push(range);
        Ok(())
    }

    /// Takes the first word of each line, or the `mid` of a line that is JSON.
    fn read(&mut self, name: &str, mut lines: impl BufRead, reader: &Reader) -> anyhow::Result<()> {
        let bad =
            |line: usize, why: &str| CliError::BadMids { name: name.to_owned(), line, why: why.to_owned() };
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let read = lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut text);
            let len = read.map_err(|source| CliError::Read { path: name.to_owned(), source })?;
            if len == 0 {
                break;
            }
            if len as u64 == LINE_BYTES {
                return Err(bad(line, "the line is too long").into());
            }
            if self.0.len() >= MANY {
                return Err(bad(line, "these are too many: name ranges, such as 100-200").into());
            }
            let Some(word) = first_word(&text).map_err(|why| bad(line, why))? else { continue };
            for item in word.split(',') {
                let item = self::item(item).map_err(|why| bad(line, why))?;
                self.add(&item, reader)?;
            }
        }
        Ok(())
    }

    /// Adds a flow that is there.
    pub(super) fn push(&mut self, mid: Mid) {
        self.0.push((mid, mid));
    }

    /// Each flow once, by rising mid.
    pub(super) fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        self.0.dedup_by(|next, before| {
            let touches = next.0.0 <= before.1.0.saturating_add(1);
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        self
    }

    /// How many flows these are; more than there are, where some were deleted.
    ///
    /// # Errors
    /// What the store said.
    pub(super) fn at_most(&self, reader: &Reader) -> anyhow::Result<u64> {
        let newest = newest(reader, 1)?.map_or(0, |(_, newest)| newest.0);
        let count = |(first, last): &(Mid, Mid)| last.0.min(newest).saturating_add(1).saturating_sub(first.0);
        Ok(self.0.iter().map(count).sum())
    }

    /// The one flow that was named, if it was one.
    pub(super) fn only(&self) -> Option<Mid> {
        match self.0[..] {
            [(first, last)] if first == last => Some(first),
            _ => None,
        }
    }

    /// Goes through the flows that are there, some hundred at a time.
    ///
    /// # Errors
    /// Those of `work`; what the store said.
    pub(super) fn pages(
        &self,
        reader: &Reader,
        mut work: impl FnMut(&[Mid]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for &(mut first, last) in &self.0 {
            loop {
                let page = reader.mids(first, last, PAGE)?;
                let Some(end) = page.last() else { break };
                work(&page)?;
                if *end == last {
                    break;
                }
                first = Mid(end.0.saturating_add(1));
            }
        }
        Ok(())
    }

    /// As [`Chosen::pages`], each flow with its record.
    ///
    /// # Errors
    /// As [`Chosen::pages`]; also if a record cannot be read.
    pub(super) fn flows(
        &self,
        reader: &Reader,
        mut work: impl FnMut(Mid, &Flow) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.pages(reader, |mids| {
            mids.iter().try_for_each(|&mid| match reader.flow(mid)? {
                Some(flow) => work(mid, &flow),
                // It was deleted a moment ago.
                None => Ok(()),
            })
        })
    }
}

/// The range of the newest flows; `None` if there are none.
fn newest(reader: &Reader, count: u64) -> anyhow::Result<Option<(Mid, Mid)>> {
    let (mut range, mut left) = (None, count);
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
        let before = range.map(|(first, _)| first);
        let rows =
            reader.list(&ListQuery { limit: Some(limit), before, after: None, order: Order::NewestFirst })?;
        let (Some(newest), Some(oldest)) = (rows.first(), rows.last()) else { break };
        range = Some((oldest.mid, range.map_or(newest.mid, |(_, newest)| newest)));
        left -= left.min(rows.len() as u64);
    }
    Ok(range)
}

/// The mids in a line of text or JSON; `None` for an empty line.
fn first_word(line: &[u8]) -> Result<Option<String>, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "the line is no text")?.trim();
    if text.starts_with('{') {
        let object: Value = serde_json::from_str(text).map_err(|_| "the line is no JSON object")?;
        let mid = object.get("mid").and_then(Value::as_u64).ok_or("the object has no `mid`")?;
        return Ok(Some(mid.to_string()));
    }
    Ok(text.split_whitespace().next().map(ToOwned::to_owned))
}

const WANTED: &str = "mids are whole numbers or `last`: 12  12,15  40-60  100-  last:5  @FILE  -";

/// Mids in memory at a time, and flows that are changed at once: a recorder that waits for that does not notice.
const PAGE: usize = 256;

/// The most that a file may name one by one: 16 MB of memory.
const MANY: usize = 1 << 20;

/// Longer than any line that we print of a flow without its bodies.
const LINE_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_told_by_its_form() {
        let parse = |text: &str| text.parse::<Mids>().map(|mids| mids.0);
        assert_eq!(parse("12"), Ok(vec![Item::One(Mid(12))]));
        assert_eq!(
            parse("12,40-60,100-,last:5"),
            Ok(vec![
                Item::One(Mid(12)),
                Item::Range(Mid(40), Some(Mid(60))),
                Item::Range(Mid(100), None),
                Item::Last(5)
            ])
        );
        assert_eq!("last".parse(), Ok(Mids::last()));
        assert_eq!(parse("@a,b"), Ok(vec![Item::File("a,b".into())]));
        assert_eq!([parse("-"), parse("@-")], [Ok(vec![Item::Stdin]), Ok(vec![Item::Stdin])]);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "+1",
            "-1",
            "1.0",
            "LAST",
            "last:0",
            "last:",
            "last:-1",
            "lastly",
            "1,",
            ",1",
            "1,,2",
            "-2-",
            "a-b",
            "1--2",
            "60-40",
            "@",
            "18446744073709551616",
            "1 2",
            "1,-",
            "1,@f",
        ] {
            assert!(bad.parse::<Mids>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_names_a_mid_by_its_first_word_or_its_key() {
        let word = |line: &str| first_word(line.as_bytes()).map(Option::unwrap_or_default);
        assert_eq!(word("  12\thttp://a/ 13\n"), Ok("12".to_owned()));
        assert_eq!(word("{\"mid\": 12, \"url\": \"x\"}\r\n"), Ok("12".to_owned()));
        assert_eq!(word("\n"), Ok(String::new()));
        for bad in ["{\"mid\": -1}", "{\"mid\"", "{}"] {
            assert!(word(bad).is_err(), "{bad}");
        }
        assert!(first_word(b"\xff\n").is_err());
    }

    #[test]
    fn sorted_ranges_name_each_flow_once() {
        let range = |first, last| (Mid(first), Mid(last));
        let chosen =
            Chosen(vec![range(40, 60), range(12, 12), range(50, 70), range(13, 13), range(71, u64::MAX)]);
        assert_eq!(chosen.sorted(), Chosen(vec![range(12, 13), range(40, u64::MAX)]));
    }
}
