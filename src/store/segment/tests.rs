//! Pieces: what is written is read, and nothing else is taken for a piece.

use proptest::collection::vec;
use proptest::prelude::*;

use super::piece::{Coding, Piece, good_end, read_stored};

fn piece(seq: u64, data: &[u8]) -> Vec<u8> {
    let piece =
        Piece { len: u32::try_from(data.len()).unwrap(), mid: 77, seq, side: 2, coding: Coding::Plain };
    [&piece.header(data)[..], data].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_good_end_of_a_torn_file_is_that_of_its_last_whole_piece(
        bodies in vec(vec(any::<u8>(), 1..300), 0..6),
        tail in vec(any::<u8>(), 0..100),
    ) {
        let mut file = Vec::new();
        for (seq, body) in (0..).zip(&bodies) {
            file.extend(piece(seq, body));
        }
        let whole = file.len() as u64;
        file.extend(tail);
        prop_assert_eq!(good_end(&mut &file[..], 0).unwrap(), whole);
    }

    #[test]
    fn a_changed_byte_ends_what_is_good_before_its_piece(
        body in vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let first = piece(0, &body);
        let mut file = [first.clone(), piece(1, &body)].concat();
        let at = at.index(first.len());
        file[at] ^= change;
        prop_assert_eq!(good_end(&mut &file[..], 0).unwrap(), 0);
    }

    #[test]
    fn random_bytes_never_panic(file in vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        let file = if magic { [b"MNTp\x05\0\0\0", &file[..]].concat() } else { file };
        prop_assert!(read_stored(&mut &file[..], &mut Vec::new()).unwrap().is_none());
    }
}
