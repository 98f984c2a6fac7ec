//! Whether what comes in pieces is UTF-8 (RFC 3629), however characters are cut.

/// Follows a text.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character.
    held: [u8; 4],
    /// How much of it; less than four.
    len: usize,
    broken: bool,
}

impl Utf8 {
    /// Looks at what comes next.
    pub(super) fn feed(&mut self, mut data: &[u8]) {
        while !self.broken
            && self.len > 0
            && let Some((&byte, rest)) = data.split_first()
        {
            self.held[self.len] = byte;
            self.len += 1;
            data = rest;
            match std::str::from_utf8(&self.held[..self.len]) {
                Ok(_) => self.len = 0,
                // No four bytes are the beginning of more.
                Err(error) => self.broken = error.error_len().is_some(),
            }
        }
        if self.broken {
            return;
        }
        if let Err(error) = std::str::from_utf8(data) {
            let rest = &data[error.valid_up_to()..];
            self.broken = error.error_len().is_some();
            if !self.broken {
                self.held[..rest.len()].copy_from_slice(rest);
                self.len = rest.len();
            }
        }
    }

    /// Whether it can become none any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether it is none, if it ends here.
    pub(super) fn would_be_broken(&self) -> bool {
        self.broken || self.len > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(data: &[u8], cuts: &[usize]) -> bool {
        let (mut utf8, mut at) = (Utf8::default(), 0);
        for cut in cuts {
            let to = (at + cut).min(data.len());
            utf8.feed(&data[at..to]);
            at = to;
        }
        utf8.feed(&data[at..]);
        assert!(!utf8.is_broken() || utf8.would_be_broken());
        !utf8.would_be_broken()
    }

    #[test]
    fn characters_may_be_cut_anywhere_but_at_the_end() {
        let text = "grüße, 日本, 🦀".as_bytes();
        for cut in 0..=text.len() {
            assert!(judge(text, &[cut]) && judge(text, &vec![1; text.len()]));
            assert_eq!(judge(&text[..cut], &[1]), std::str::from_utf8(&text[..cut]).is_ok());
        }
        // Overlong, a surrogate, above U+10FFFF, a lone continuation.
        for bad in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\x80"] {
            assert!(!judge(bad, &[1, 1, 1]), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn judges_as_the_standard_library_does(
            data in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), 0x80u8..0xc0, 0xe0u8..0xf5], 0..12),
            cuts in proptest::collection::vec(0usize..4, 0..6),
        ) {
            prop_assert_eq!(judge(&data, &cuts), std::str::from_utf8(&data).is_ok());
        }
    }
}
