//! Writing protobuf's wire format (protobuf.dev/programming-guides/encoding): one method for each kind of field.
//!
//! As proto3 wants it, a field without `optional` is left out when it is zero or empty, and one with `optional` when
//! it is `None`. Every length and number takes as few bytes as it can, so a record whose fields are written in the
//! order of their numbers is the one that prost would write; the tests compare the two.

/// A message that is being written: fields are appended to it.
///
/// A nested message stands in the same buffer. Its length, which comes first on the wire, is put in when it is known.
pub(super) struct Out(Vec<u8>);

/// How a field's value is laid out; the lower three bits of its key.
#[derive(Clone, Copy)]
enum Layout {
    Varint = 0,
    Fixed64 = 1,
    Len = 2,
}

impl Out {
    /// Appends to what `buffer` holds.
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        Self(buffer)
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// `uint32`, `uint64` or `bool`.
    #[inline]
    pub(super) fn number(&mut self, field: u32, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.optional_number(field, Some(value));
        }
    }

    /// `optional uint32`, `optional uint64` or `optional bool`; also one of a `oneof`, which is never left out.
    #[inline]
    pub(super) fn optional_number(&mut self, field: u32, value: Option<impl Into<u64>>) {
        if let Some(value) = value {
            self.key(field, Layout::Varint);
            self.varint(value.into());
        }
    }

    /// An enum.
    #[inline]
    pub(super) fn choice(&mut self, field: u32, value: impl Into<i32>) {
        // A negative number is sign-extended to ten bytes, says the format. We have none.
        self.number(field, i64::from(value.into()).cast_unsigned());
    }

    /// `sfixed64`.
    #[inline]
    pub(super) fn sfixed64(&mut self, field: u32, value: i64) {
        if value != 0 {
            self.key(field, Layout::Fixed64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `double` of a `oneof`, which is never left out.
    #[inline]
    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.key(field, Layout::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `bytes` or `string`.
    #[inline]
    pub(super) fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        if !value.is_empty() {
            self.optional_bytes(field, Some(value));
        }
    }

    /// `optional bytes` or `optional string`; also one of a `repeated` or of a `oneof`, which are never left out.
    #[inline]
    pub(super) fn optional_bytes(&mut self, field: u32, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            let value = value.as_ref();
            self.key(field, Layout::Len);
            self.varint(value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }

    /// `repeated uint32` or `repeated uint64`, packed.
    pub(super) fn numbers(&mut self, field: u32, values: impl ExactSizeIterator<Item = impl Into<u64>>) {
        if values.len() > 0 {
            self.message(field, 2 * values.len(), |out| values.for_each(|value| out.varint(value.into())));
        }
    }

    /// A message within this one, also when it turns out empty.
    ///
    /// `likely_len` is a guess at its length, on which only speed depends: if the length takes more or fewer bytes than
    /// the guess does, the message has to be moved. So each byte is moved at most twice a level of nesting.
    #[inline]
    pub(super) fn message(&mut self, field: u32, likely_len: usize, write: impl FnOnce(&mut Self)) {
        self.key(field, Layout::Len);
        let guess = self.0.len();
        self.varint(likely_len as u64);
        let start = self.0.len();
        write(self);
        if self.0.len() - start != likely_len {
            self.correct_len(guess, start);
        }
    }

    /// Puts the length of the message from `start` on in place of the bytes from `guess` to `start`.
    fn correct_len(&mut self, guess: usize, start: usize) {
        let end = self.0.len();
        self.varint((end - start) as u64);
        let width = self.0.len() - end;
        if width == start - guess {
            self.0.copy_within(end.., guess);
            self.0.truncate(end);
        } else {
            self.0[start..].rotate_right(width);
            self.0.drain(guess..start);
        }
    }

    #[inline]
    fn key(&mut self, field: u32, layout: Layout) {
        self.varint(u64::from(field << 3 | layout as u32));
    }

    /// Seven bits a byte, the least first, the eighth bit saying that more follow.
    ///
    /// One `push` a byte: with a copy out of an array instead, encoding a flow took 360 ns, not 220.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

#[cfg(test)]
mod tests {
    use prost::encoding::encode_varint;

    use super::*;

    #[test]
    fn numbers_are_as_short_as_can_be() {
        for value in (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let (mut out, mut expected) = (Out::new(Vec::new()), Vec::new());
            out.varint(value);
            encode_varint(value, &mut expected);
            assert_eq!(out.into_bytes(), expected, "{value}");
        }
    }

    #[test]
    fn a_wrong_guess_at_a_length_does_not_show() {
        let lens = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152];
        for (len, guess) in lens.iter().flat_map(|len| lens.map(|guess| (*len, guess))) {
            let content: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let mut out = Out::new(b"before".to_vec());
            out.message(1, guess, |out| out.0.extend_from_slice(&content));
            out.0.extend_from_slice(b"after");

            let mut expected = b"before\x0a".to_vec();
            encode_varint(len as u64, &mut expected);
            expected.extend_from_slice(&content);
            expected.extend_from_slice(b"after");
            assert!(out.into_bytes() == expected, "{len} bytes, {guess} guessed");
        }
    }
}
