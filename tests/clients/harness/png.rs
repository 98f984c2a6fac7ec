//! Pictures that a browser took, as far as a test wants to look at them: 8 bits a channel, not interlaced (PNG, third edition).

use std::io::Read as _;
use std::path::Path;

/// A picture, three or four bytes a pixel.
pub(crate) struct Picture {
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a file.
    ///
    /// # Panics
    /// If it is no picture of the kind that browsers make.
    pub(crate) fn read(path: &Path) -> Picture {
        let bytes = std::fs::read(path).expect("a picture was taken");
        let mut rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("PNG");
        let (mut header, mut packed) = (Vec::new(), Vec::new());
        while let [a, b, c, d, chunk @ ..] = rest {
            let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let (kind, data) = (&chunk[..4], &chunk[4..4 + len]);
            match kind {
                b"IHDR" => header = data.to_vec(),
                b"IDAT" => packed.extend_from_slice(data),
                _ => {}
            }
            rest = &chunk[4 + len + 4..];
        }
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| header[at + i])) as usize;
        let channels = match header[8..13] {
            [8, 2, 0, 0, 0] => 3,
            [8, 6, 0, 0, 0] => 4,
            ref other => panic!("a picture of another kind: {other:?}"),
        };
        let mut filtered = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut filtered).expect("zlib");
        let width = number(0);
        Picture { width, channels, pixels: unfilter(&filtered, width * channels, channels) }
    }

    /// How many pixels have exactly this colour.
    pub(crate) fn count(&self, color: [u8; 3]) -> usize {
        self.pixels.chunks(self.channels).filter(|pixel| pixel[..3] == color).count()
    }

    /// Whether a square of this side has exactly this colour.
    pub(crate) fn has_square(&self, side: usize, color: [u8; 3]) -> bool {
        let is = |x: usize, y: usize| {
            let at = (y * self.width + x) * self.channels;
            self.pixels[at..at + 3] == color
        };
        let height = self.pixels.len() / (self.width * self.channels);
        let starts = (0..height - side).flat_map(|y| (0..self.width - side).map(move |x| (x, y)));
        starts.into_iter().any(|(x, y)| (0..side * side).all(|i| is(x + i % side, y + i / side)))
    }
}

/// Undoes the filters of the lines (§9).
fn unfilter(filtered: &[u8], line: usize, channels: usize) -> Vec<u8> {
    let mut pixels: Vec<u8> = Vec::with_capacity(filtered.len());
    for filtered in filtered.chunks(line + 1) {
        let start = pixels.len();
        for (at, byte) in filtered[1..].iter().enumerate() {
            let left = if at >= channels { pixels[start + at - channels] } else { 0 };
            let above = if start > 0 { pixels[start - line + at] } else { 0 };
            let corner = if at >= channels && start > 0 { pixels[start - line + at - channels] } else { 0 };
            let guess = match filtered[0] {
                0 => 0,
                1 => left,
                2 => above,
                3 => u8::midpoint(left, above),
                4 => paeth(left, above, corner),
                other => panic!("no filter {other}"),
            };
            pixels.push(byte.wrapping_add(guess));
        }
    }
    pixels
}

fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(above) - i16::from(corner);
    [left, above, corner].into_iter().min_by_key(|value| guess.abs_diff(i16::from(*value))).unwrap_or(0)
}
