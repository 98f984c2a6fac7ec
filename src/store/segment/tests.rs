//! Pieces: what is written is read, and nothing else is taken for a piece.

use proptest::collection::vec;
use proptest::prelude::*;

use super::piece::{Coding, Piece, good_end, read, read_stored};
use super::{DiskFiles, PIECE_BYTES, PageCache, SegmentFiles, Squeezer};

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

/// Reserved blocks are no part of the file, and go when nobody has written to them.
#[test]
fn blocks_are_reserved_behind_the_end_and_released() {
    use std::io::IoSlice;
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let paths = crate::store::paths::Paths::of(&dir.path().join("f.db"));
    let path = paths.segment(1);
    let file = DiskFiles { paths, cache: PageCache::Keep }.open(1).unwrap();
    let used = || path.metadata().map(|m| (m.len(), m.blocks() * 512)).unwrap();
    assert_eq!(file.write_at(&[IoSlice::new(&[7; 5000])], 0).unwrap(), 5000);
    file.sync().unwrap();
    let before = used();
    file.reserve(5000, 4 << 20);
    if cfg!(target_os = "linux") {
        assert!(used().0 == 5000 && used().1 >= 4 << 20, "{:?}", used());
    }
    file.release();
    assert_eq!(used(), before);
    assert_eq!(std::fs::read(&path).unwrap(), [7; 5000]);
}

fn coded(stored: &[u8], coding: Coding) -> Vec<u8> {
    let piece = Piece { len: u32::try_from(stored.len()).unwrap(), mid: 1, seq: 0, side: 2, coding };
    [&piece.header(stored)[..], stored].concat()
}

/// What a reader gets of a piece.
fn data(file: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    read(&mut &file[..], &mut Vec::new(), &mut data).unwrap().map(|_| data)
}

#[test]
fn data_that_shrink_are_stored_as_a_frame_and_come_back() {
    let mut squeezer = Squeezer::new(1).unwrap();
    for len in [100, 10_000, PIECE_BYTES] {
        let text: Vec<u8> = b"The quick brown fox. ".iter().copied().cycle().take(len).collect();
        let frame = squeezer.squeeze(&text).unwrap().to_vec();
        assert!(frame.len() < len);
        assert_eq!(data(&coded(&frame, Coding::Zstd)).unwrap(), text);
    }
    let mut noise = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.to_le_bytes()[7]
    })
    .take(50_000)
    .collect();
    assert!(squeezer.squeeze(&noise).is_none());
    assert!(squeezer.squeeze(b"").is_none() && squeezer.squeeze(b"a").is_none());
}

#[test]
fn a_frame_that_inflates_to_more_than_a_piece_or_is_none_is_damage() {
    let frame = |len: usize| zstd::bulk::compress(&vec![0; len], 1).unwrap();
    assert_eq!(data(&coded(&frame(PIECE_BYTES), Coding::Zstd)).unwrap().len(), PIECE_BYTES);
    for len in [0, PIECE_BYTES + 1, 64 << 20] {
        assert!(data(&coded(&frame(len), Coding::Zstd)).is_none(), "{len}");
    }
    let twice = [frame(PIECE_BYTES), frame(1)].concat();
    for bad in [&twice[..], b"no frame", &frame(1000)[..10]] {
        assert!(data(&coded(bad, Coding::Zstd)).is_none());
    }
    // A coding that nobody knows yet.
    let mut unknown = coded(b"data", Coding::Plain);
    unknown[25] = 2;
    assert!(data(&unknown).is_none());
}
