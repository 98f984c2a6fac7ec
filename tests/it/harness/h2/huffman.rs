//! HPACK's Huffman code (RFC 7541 §5.2, appendix B). It is canonical, so the lengths of the codes are all that is needed.

use std::sync::LazyLock;

/// Decodes a string literal: padding is less than a byte of ones.
pub(super) fn decode(coded: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut text = Vec::new();
    let (mut code, mut len) = (0u32, 0u8);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, len) = (code << 1 | u32::from(bit), len + 1);
        if let Ok(at) = CODES.binary_search_by_key(&(len, code), |&(len, code, _)| (len, code)) {
            text.push(u8::try_from(CODES[at].2).map_err(|_| "EOS in a string")?);
            (code, len) = (0, 0);
        } else if len > 30 {
            return Err("no Huffman code");
        }
    }
    if len > 7 || code + 1 != 1 << len {
        return Err("wrong padding of a Huffman-coded string");
    }
    Ok(text)
}

/// Length, code and symbol, shortest and smallest first.
static CODES: LazyLock<Vec<(u8, u32, usize)>> = LazyLock::new(|| {
    let mut symbols: Vec<usize> = (0..LENGTHS.len()).collect();
    symbols.sort_by_key(|&symbol| (LENGTHS[symbol], symbol));
    let (mut code, mut len) = (0, LENGTHS[symbols[0]]);
    let mut codes = Vec::new();
    for symbol in symbols {
        code <<= LENGTHS[symbol] - len;
        len = LENGTHS[symbol];
        codes.push((len, code, symbol));
        code += 1;
    }
    codes
});

/// Bits of the code of each byte, and of EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
