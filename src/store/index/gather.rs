//! The trigrams of one side of a flow, each once.

use super::TRIGRAM_BITS;
use crate::filter::fold;

/// What is noted of a text, by the number that a block's classes have for it. 0 is for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grain {
    /// Every trigram.
    All = 1,
    /// Those of runs of at least 5 printable characters.
    Runs = 2,
    /// Those of runs of at least 10.
    LongRuns = 3,
}

impl Grain {
    /// From the finest to the coarsest.
    pub(super) const ALL: [Self; 3] = [Self::All, Self::Runs, Self::LongRuns];

    /// Bytes of the shortest run of which the trigrams are noted.
    fn least(self) -> usize {
        match self {
            Self::All => 3,
            Self::Runs => 5,
            Self::LongRuns => 10,
        }
    }

    /// The trigrams that are noted of every text of this grain in which `bytes` occur.
    pub(super) fn of_literal(self, bytes: &[u8]) -> Vec<u32> {
        let mut all = Vec::new();
        let runs = bytes.split(|&byte| self != Self::All && !is_printable(byte));
        for run in runs.filter(|run| run.len() >= self.least()) {
            all.extend(run.windows(3).map(|three| trigram(&[three[0], three[1], three[2]])));
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Gathers, in memory that it keeps.
#[derive(Debug)]
pub(super) struct Gatherer {
    grain: Grain,
    /// One bit for each trigram that is in `found`.
    seen: Box<[u64]>,
    found: Vec<u32>,
}

/// The texts have to be gone through again, with the coarser grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooFine;

impl Gatherer {
    pub(super) fn new() -> Self {
        Self {
            grain: Grain::All,
            seen: vec![0; (1 << TRIGRAM_BITS) / 64].into_boxed_slice(),
            found: Vec::new(),
        }
    }

    /// Begins with another side of a flow, or with the same one anew.
    pub(super) fn begin(&mut self, grain: Grain) {
        for &trigram in &self.found {
            self.seen[trigram as usize / 64] = 0;
        }
        self.found.clear();
        self.grain = grain;
    }

    /// What was found since the beginning, in any order.
    pub(super) fn found(&self) -> &[u32] {
        &self.found
    }

    /// Adds a text.
    ///
    /// # Errors
    /// [`TooFine`], after which nothing that was found counts.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), TooFine> {
        // Chunks overlap by what the first trigram of each needs.
        let mut from = 0;
        let mut run = 0;
        let mut last = 0;
        while from < text.len() {
            let to = text.len().min(from + CHUNK);
            match self.grain {
                Grain::All => self.add_all(&text[from.saturating_sub(2)..to]),
                grain => (last, run) = self.add_runs(text, (from, to), grain.least(), (last, run)),
            }
            if self.found.len() > MOST_TRIGRAMS {
                return Err(TooFine);
            }
            from = to;
        }
        Ok(())
    }

    fn add_all(&mut self, text: &[u8]) {
        let Some((first, rest)) = text.split_at_checked(2) else { return };
        let mut last = first.iter().fold(0, |last, &byte| push(last, byte));
        for &byte in rest {
            last = push(last, byte);
            self.insert(last);
        }
    }

    /// Goes on in `text` with the last three bytes, and how many printable ones there were in a row; both as they are then.
    fn add_runs(
        &mut self,
        text: &[u8],
        (from, to): (usize, usize),
        least: usize,
        (mut last, mut run): (u32, usize),
    ) -> (u32, usize) {
        for (at, &byte) in text.iter().enumerate().take(to).skip(from) {
            last = push(last, byte);
            run = (run + 1) * usize::from(is_printable(byte));
            if run > least {
                self.insert(last);
            } else if run == least {
                self.add_all(&text[at + 1 - least..=at]);
            }
        }
        (last, run)
    }

    fn insert(&mut self, trigram: u32) {
        let (word, bit) = (trigram as usize / 64, 1 << (trigram % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.found.push(trigram);
        }
    }
}

/// Whether bytes are hardly text, by the first of them: then there are few runs of text in them, and many trigrams.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    if memchr::memchr(0, sample).is_some() {
        return true;
    }
    match std::str::from_utf8(sample) {
        Ok(_) => false,
        // A character that the sample's end cuts is none that is wrong. A few that are wrong make no picture.
        Err(error) if error.error_len().is_none() => false,
        Err(_) => {
            let wrong = sample.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
            wrong * 20 > sample.len()
        }
    }
}

/// The trigram of three bytes.
pub(super) fn trigram(three: &[u8; 3]) -> u32 {
    three.iter().fold(0, |last, &byte| push(last, byte))
}

fn push(last: u32, byte: u8) -> u32 {
    (last << 8 | u32::from(fold(byte))) & ((1 << TRIGRAM_BITS) - 1)
}

/// ASCII that stands on paper, blanks and ends of lines among it.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')
}

/// Trigrams of a side of a flow. A page has 2,000 to 5,000; what has more is packed or encoded, and says little.
const MOST_TRIGRAMS: usize = 32_768;

/// Bytes between two looks at how many there are.
const CHUNK: usize = 16 << 10;

/// Bytes by which text is told from other bytes.
const SAMPLE: usize = 4 << 10;
