//! Ids in the form that mitmproxy gives them.

/// An id of version 8 (RFC 9562 §5.8) from 128 bits, of which six give way to the version and the variant.
pub(super) fn text(high: u64, low: u64) -> String {
    let high = high & !0xf000 | 0x8000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_said() {
        assert_eq!(text(0, 1), "00000000-0000-8000-8000-000000000001");
        assert_eq!(text(u64::MAX, u64::MAX), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
