//! permessage-deflate (RFC 7692 §7.2.1) for messages of a client, as their bytes come.

use bytes::BytesMut;
use flate2::{Compress, Compression, FlushCompress};

use super::Deflate;

/// The compressor of a client's messages. Its state is some 300 KiB, whatever it compresses.
#[derive(Debug)]
pub struct Deflater {
    raw: Compress,
    starts_anew: bool,
    /// Whether the message under way has no byte so far.
    is_empty: bool,
}

impl Deflater {
    /// One for what was agreed on; `None` where the client may not refer back as far as ours does. Its messages may then
    /// go as they are (RFC 7692 §6).
    #[must_use]
    pub fn new(agreed: Deflate) -> Option<Self> {
        (!agreed.client_window_is_small).then(|| Self {
            raw: Compress::new(Compression::default(), false),
            starts_anew: agreed.client_starts_anew,
            is_empty: true,
        })
    }

    /// Compresses some of a message behind `out`; it may keep it back for later.
    pub fn push(&mut self, data: &[u8], out: &mut BytesMut) {
        self.is_empty &= data.is_empty();
        self.run(data, FlushCompress::None, out);
    }

    /// Ends the message: all of it is in `out`, less the four bytes that are never sent.
    pub fn end(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_empty, true) {
            // RFC 7692 §7.2.3.6.
            out.extend_from_slice(&[0x00]);
            return;
        }
        self.run(&[], FlushCompress::Sync, out);
        if out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if self.starts_anew {
            self.raw.reset();
        }
    }

    fn run(&mut self, mut data: &[u8], flush: FlushCompress, out: &mut BytesMut) {
        let mut room = [0; ROOM];
        loop {
            let (before_in, before_out) = (self.raw.total_in(), self.raw.total_out());
            // It fails only on a stream that was finished, which ours never is.
            if self.raw.compress(data, &mut room, flush).is_err() {
                return;
            }
            let taken = usize::try_from(self.raw.total_in() - before_in).unwrap_or(usize::MAX);
            let gave = usize::try_from(self.raw.total_out() - before_out).unwrap_or(usize::MAX).min(ROOM);
            data = data.get(taken..).unwrap_or_default();
            out.extend_from_slice(&room[..gave]);
            if data.is_empty() && gave < ROOM {
                return;
            }
        }
    }
}

/// What a flush ends with (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Arbitrary: a few pages.
const ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Opcode;
    use crate::websocket::{Event, Extensions, FrameWriter, Tap};

    proptest! {
        // Each case deflates and inflates a good deal, slowly in a debug build.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_deflated_is_inflated_to_the_same(
            messages in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..40_000), 1..5),
            client_starts_anew: bool,
        ) {
            let deflate = Deflate { client_starts_anew, ..Deflate::default() };
            let mut deflater = Deflater::new(deflate).expect("a large window");
            let mut tap = Tap::of_client(Extensions { deflate: Some(deflate), unknown: false });
            for message in &messages {
                let (mut coded, mut out) = (BytesMut::new(), BytesMut::new());
                message.chunks(7_001).for_each(|part| deflater.push(part, &mut coded));
                deflater.end(&mut coded);
                let mut writer = FrameWriter::default();
                writer.begin(&mut out, Some(Opcode::Text), true, true, coded.len() as u64, [1, 2, 3, 4]);
                writer.payload(&mut out, &coded);
                let (mut input, mut seen) = (Bytes::from(out), Vec::new());
                while let Some(event) = tap.next(&mut input).expect("no rule is broken") {
                    if let Event::Payload(data) = event {
                        seen.extend_from_slice(&data);
                    }
                }
                prop_assert_eq!(&seen, message);
            }
        }
    }
}
