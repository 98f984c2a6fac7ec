//! Asking the index, block by block, which flows may have a body in which a pattern matches.

use std::collections::HashMap;

use super::gather::Grain;
use super::head::{self, Classes};
use super::{DOCS, Docs, PLACES, build};
use crate::filter::{Part, Pattern, Required, Test, Text};
use crate::flow::Mid;
use crate::store::zone::BLOCK_BITS;
use crate::store::{Reader, StoreError};

/// One bit for each mid of a block.
pub(in crate::store) type Places = [u64; PLACES / 64];

/// The questions of a search, and the block that was asked last.
#[derive(Debug)]
pub(in crate::store) struct Ask<'a> {
    reader: &'a Reader,
    questions: Vec<Question>,
    /// Whether the store can have an index at all.
    exists: bool,
    block: Option<Block>,
}

/// What bodies are asked for.
#[derive(Debug)]
struct Question {
    part: Part,
    pattern: Pattern,
    required: Required,
}

/// What was read of a block.
#[derive(Debug)]
struct Block {
    number: u64,
    /// `None` if it has no index.
    classes: Option<Classes>,
    /// By question, if it was asked: the flows that may match.
    answers: Vec<Option<Places>>,
    /// Sides by trigram.
    found: HashMap<u32, Docs>,
}

impl<'a> Ask<'a> {
    /// For the tests of a filter that ask bodies; others are left out, and so are those of which no index can know.
    pub(in crate::store) fn new<'t>(
        reader: &'a Reader,
        tests: impl Iterator<Item = &'t Test>,
    ) -> Result<Self, StoreError> {
        let fail = |e| StoreError::sqlite(&reader.paths.db, "reading the schema", e);
        let mut questions = Vec::new();
        for test in tests {
            if let Test::Text(Text::Body(part), pattern) = test {
                let required = pattern.required();
                if required != Required::Nothing {
                    questions.push(Question { part: *part, pattern: pattern.clone(), required });
                }
            }
        }
        let exists = !questions.is_empty() && head::exists(&reader.conn).map_err(fail)?;
        Ok(Self { reader, questions, exists, block: None })
    }

    /// Whether a flow may have a body that matches; `false` is sure.
    ///
    /// # Errors
    /// What SQLite said.
    pub(in crate::store) fn may_match(
        &mut self,
        mid: Mid,
        part: Part,
        pattern: &Pattern,
    ) -> Result<bool, StoreError> {
        let place = build::place_of(mid.0);
        let places = self.places(mid, part, pattern)?;
        Ok(places.is_none_or(|places| places[place / 64] >> (place % 64) & 1 == 1))
    }

    /// The flows of the block of `mid` that may have a body that matches; `None` if nothing is known.
    ///
    /// # Errors
    /// What SQLite said.
    pub(in crate::store) fn places(
        &mut self,
        mid: Mid,
        part: Part,
        pattern: &Pattern,
    ) -> Result<Option<Places>, StoreError> {
        let asked = |question: &Question| question.part == part && question.pattern == *pattern;
        let Some(at) = self.questions.iter().position(asked).filter(|_| self.exists) else { return Ok(None) };
        let fail = |e| StoreError::sqlite(&self.reader.paths.db, "asking the index of bodies", e);
        let number = mid.0 >> BLOCK_BITS;
        let mut block = match self.block.take().filter(|block| block.number == number) {
            Some(block) => block,
            None => Block {
                number,
                classes: head::classes(&self.reader.conn, number).map_err(fail)?,
                answers: vec![None; self.questions.len()],
                found: HashMap::new(),
            },
        };
        if block.answers[at].is_none() && block.classes.is_some() {
            match block.answer(self.reader, &self.questions[at]).map_err(fail)? {
                Some(places) => block.answers[at] = Some(places),
                None => {
                    tracing::warn!(block = number, "the index of bodies is damaged here, and not used");
                    block.classes = None;
                }
            }
        }
        let answer = block.answers[at].filter(|_| block.classes.is_some());
        self.block = Some(block);
        Ok(answer)
    }
}

impl Block {
    /// `None` if what would tell is damaged.
    fn answer(&mut self, reader: &Reader, question: &Question) -> rusqlite::Result<Option<Places>> {
        let Some(classes) = &self.classes else { return Ok(None) };
        let unknown = classes.docs(0);
        let of_grains = Grain::ALL.map(|grain| (grain, classes.docs(grain as u8)));
        let mut asking = Asking { reader, number: self.number, found: &mut self.found, of_grains, unknown };
        let Some(docs) = asking.required(&question.required)? else { return Ok(None) };
        let mut places = [0; PLACES / 64];
        for place in 0..PLACES {
            let sides = docs[2 * place / 64] >> (2 * place % 64) & 3;
            let wanted = match question.part {
                Part::Request => 1,
                Part::Response => 2,
                Part::Either => 3,
            };
            if sides & wanted != 0 {
                places[place / 64] |= 1 << (place % 64);
            }
        }
        Ok(Some(places))
    }
}

struct Asking<'a> {
    reader: &'a Reader,
    number: u64,
    found: &'a mut HashMap<u32, Docs>,
    of_grains: [(Grain, Docs); 3],
    /// Sides of which nothing is known: they may have anything.
    unknown: Docs,
}

impl Asking<'_> {
    /// The sides that may have what is required; `None` if the index is damaged.
    fn required(&mut self, required: &Required) -> rusqlite::Result<Option<Docs>> {
        let mut docs = match required {
            Required::Nothing | Required::All(_) => [u64::MAX; DOCS / 64],
            Required::Bytes(bytes) => return self.bytes(bytes),
            Required::Any(_) => self.unknown,
        };
        let (Required::All(parts) | Required::Any(parts)) = required else { return Ok(Some(docs)) };
        for part in parts {
            let Some(of_part) = self.required(part)? else { return Ok(None) };
            for (word, of_part) in docs.iter_mut().zip(of_part) {
                match required {
                    Required::All(_) => *word &= of_part,
                    _ => *word |= of_part,
                }
            }
        }
        Ok(Some(docs))
    }

    fn bytes(&mut self, bytes: &[u8]) -> rusqlite::Result<Option<Docs>> {
        let mut all = self.unknown;
        for (grain, mut docs) in self.of_grains {
            for trigram in grain.of_literal(bytes).into_iter().take(ASKED) {
                if docs.iter().all(|&word| word == 0) {
                    break;
                }
                let Some(found) = self.trigram(trigram)? else { return Ok(None) };
                docs.iter_mut().zip(found).for_each(|(word, found)| *word &= found);
            }
            all.iter_mut().zip(docs).for_each(|(word, found)| *word |= found);
        }
        Ok(Some(all))
    }

    fn trigram(&mut self, trigram: u32) -> rusqlite::Result<Option<Docs>> {
        if let Some(docs) = self.found.get(&trigram) {
            return Ok(Some(*docs));
        }
        let found = head::find(&self.reader.conn, self.number, trigram)?;
        if let Some(docs) = found
            && self.found.len() < REMEMBERED
        {
            self.found.insert(trigram, docs);
        }
        Ok(found)
    }
}

/// Trigrams of a run of bytes that are asked for: more would hardly leave out more.
const ASKED: usize = 24;

/// Trigrams of a block that are remembered, in 256 bytes each.
const REMEMBERED: usize = 512;
