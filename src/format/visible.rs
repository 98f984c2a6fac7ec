//! Which characters a person sees as themselves, and which could hide, reorder or move text.

/// C1 controls, bidirectional controls (Unicode TR9 §2), line separators, and characters that cannot be seen.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Whether `bytes` is UTF-8 text of nothing but characters that a person sees, and those of `besides`. Such text can be
/// printed to a terminal, and pasted into one, without doing anything there.
#[must_use]
pub fn is_visible(bytes: &[u8], besides: &[char]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| text.chars().all(|c| besides.contains(&c) || !(c.is_control() || is_hidden(c))))
}
