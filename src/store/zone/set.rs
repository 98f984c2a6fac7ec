//! Sets of numbers and of texts, as a zone's row holds them: short, and read without taking them apart first.

/// Numbers, sorted and each once: LEB128 of the difference to the one before.
pub(super) fn encode_numbers(numbers: &mut Vec<i64>) -> Vec<u8> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut bytes = Vec::with_capacity(numbers.len() * 2);
    let mut before = 0_i64;
    for &number in numbers.iter() {
        put_varint(&mut bytes, number.wrapping_sub(before).cast_unsigned());
        before = number;
    }
    bytes
}

/// The numbers of a set. Where its bytes are no such set, a `None` is the last.
#[derive(Debug)]
pub(super) struct Numbers<'a> {
    rest: &'a [u8],
    before: i64,
}

impl<'a> Numbers<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, before: 0 }
    }
}

impl Iterator for Numbers<'_> {
    type Item = Option<i64>;

    fn next(&mut self) -> Option<Option<i64>> {
        if self.rest.is_empty() {
            return None;
        }
        let difference = take_varint(&mut self.rest);
        Some(difference.map(|difference| {
            self.before = self.before.wrapping_add(difference.cast_signed());
            self.before
        }))
    }
}

/// A set of texts while it is gathered. It is given up when it gets long, as with the boundaries of multipart types.
#[derive(Debug, Default)]
pub(super) struct TextSet {
    /// Each with its length before it.
    bytes: Vec<u8>,
    /// Where the text that was added last lies: nearly always it comes again.
    last: std::ops::Range<usize>,
    given_up: bool,
}

impl TextSet {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0..0;
        self.given_up = false;
    }

    pub(super) fn add(&mut self, text: &[u8]) {
        if self.given_up || (!self.last.is_empty() && &self.bytes[self.last.clone()] == text) {
            return;
        }
        let mut rest = &self.bytes[..];
        while let Some(other) = take_text(&mut rest) {
            if other == text {
                let end = self.bytes.len() - rest.len();
                self.last = end - text.len()..end;
                return;
            }
        }
        if self.bytes.len() + text.len() > MAX_TEXTS {
            self.given_up = true;
            return;
        }
        put_varint(&mut self.bytes, text.len() as u64);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        self.last = start..self.bytes.len();
    }

    /// `None` if it was given up.
    pub(super) fn encoded(&self) -> Option<&[u8]> {
        (!self.given_up).then_some(&self.bytes)
    }
}

/// The texts of a set. Where its bytes are no such set, a `None` is the last.
#[derive(Debug)]
pub(super) struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        if self.0.is_empty() {
            return None;
        }
        let text = take_text(&mut self.0);
        if text.is_none() {
            self.0 = &[];
        }
        Some(text)
    }
}

/// What all answers have in common: `None` if they differ, or if one of them is not known. No answer at all is a no.
pub(super) fn agree(answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut common = None;
    for answer in answers {
        let answer = answer?;
        if common.is_some_and(|before| before != answer) {
            return None;
        }
        common = Some(answer);
    }
    Some(common.unwrap_or(false))
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes a number off the front; of what is none, everything.
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Some(number);
        }
    }
    *rest = &[];
    None
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(text)
}

/// What a zone keeps of texts of one kind, in bytes. A browser's responses have some 20 types in a block.
const MAX_TEXTS: usize = 2048;
