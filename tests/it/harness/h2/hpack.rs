//! HPACK (RFC 7541): an encoder that writes literals alone, so that anything can be sent, and a decoder that is complete,
//! as the proxy's encoder uses all there is.

use std::collections::VecDeque;

use super::huffman;
use super::static_table::STATIC;

/// A field as it stands in a block: bytes without rules, one character a byte.
pub(crate) type Field = (String, String);

/// `fields` as literals without indexing (RFC 7541 §6.2.2), neither indexed nor Huffman-coded.
pub(crate) fn encode<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, &latin(name.as_ref()));
        string(&mut block, &latin(value.as_ref()));
    }
    block
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1), below what `first` has set.
pub(crate) fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
    let most = (1 << prefix) - 1;
    if value < most {
        return block.push(first | u8::try_from(value).unwrap());
    }
    block.push(first | u8::try_from(most).unwrap());
    value -= most;
    while value >= 128 {
        block.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    block.push(u8::try_from(value).unwrap());
}

/// The decoding side of a connection: its dynamic table goes on from block to block.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: VecDeque<Field>,
    limit: usize,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: VecDeque::new(), limit: 4096 }
    }

    /// The fields of a block, or what is wrong with it.
    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, &'static str> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut block, 7)?;
                fields.push(self.entry(index)?);
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut block, 6)?;
                self.insert(field.clone());
                fields.push(field);
            } else if first & 0x20 != 0 {
                self.limit = take_integer(&mut block, 5)?;
                self.evict();
            } else {
                fields.push(self.literal(&mut block, 4)?);
            }
        }
        Ok(fields)
    }

    /// Bytes that the dynamic table holds (RFC 7541 §4.1).
    pub(crate) fn size(&self) -> usize {
        self.table.iter().map(|(name, value)| name.chars().count() + value.chars().count() + 32).sum()
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Field, &'static str> {
        let index = take_integer(block, prefix)?;
        let name = if index == 0 { take_string(block)? } else { self.entry(index)?.0 };
        Ok((name, take_string(block)?))
    }

    fn entry(&self, index: usize) -> Result<Field, &'static str> {
        let at = index.checked_sub(1).ok_or("index 0")?;
        match STATIC.get(at) {
            Some((name, value)) => Ok(((*name).to_owned(), (*value).to_owned())),
            None => self.table.get(at - STATIC.len()).cloned().ok_or("an index beyond the table"),
        }
    }

    fn insert(&mut self, field: Field) {
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size() > self.limit {
            self.table.pop_back();
        }
    }
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 0, 7, text.len());
    block.extend_from_slice(text);
}

fn take_integer(block: &mut &[u8], prefix: u32) -> Result<usize, &'static str> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(take(block)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = take(block)?;
        value += usize::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Ok(value);
        }
    }
    Err("an integer that is too long")
}

fn take_string(block: &mut &[u8]) -> Result<String, &'static str> {
    let coded = block.first().ok_or("no string")? & 128 != 0;
    let len = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(len).ok_or("a string that is cut")?;
    *block = rest;
    let text = if coded { huffman::decode(text)? } else { text.to_vec() };
    Ok(text.into_iter().map(char::from).collect())
}

fn take(block: &mut &[u8]) -> Result<u8, &'static str> {
    let (&first, rest) = block.split_first().ok_or("a block that is cut")?;
    *block = rest;
    Ok(first)
}

/// One byte a character: what a test writes as `\u{e9}` is the byte 0xe9 on the wire.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}
