//! Text by line, told as a unified diff.
//!
//! The shortest edit is looked for (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986) up to a bound on its
//! length, so that two large texts that have nothing in common cost no more than that; beyond it, all that lies between the
//! first and the last difference counts as replaced.

/// A unified diff with `context` lines around each change, at most `limit` lines of it; `None` for equal texts.
pub(super) fn unified(was: &str, is: &str, context: usize, limit: usize) -> Option<Vec<String>> {
    let was: Vec<&str> = was.split_inclusive('\n').collect();
    let is: Vec<&str> = is.split_inclusive('\n').collect();
    let edits = edits(&was, &is);
    if edits.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    let mut next = 0;
    while next < edits.len() {
        let mut end = next + 1;
        while end < edits.len() && edits[end].was.start - edits[end - 1].was.end <= 2 * context {
            end += 1;
        }
        hunk(&was, &is, &edits[next..end], context, &mut lines);
        next = end;
        if lines.len() > limit {
            break;
        }
    }
    if lines.len() > limit || next < edits.len() {
        lines.truncate(limit);
        lines.push("…".to_owned());
    }
    Some(lines)
}

/// Lines of one text in the place of lines of the other; one of the two ranges may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    was: std::ops::Range<usize>,
    is: std::ops::Range<usize>,
}

fn hunk(was: &[&str], is: &[&str], edits: &[Edit], context: usize, lines: &mut Vec<String>) {
    let (Some(first), Some(last)) = (edits.first(), edits.last()) else { return };
    let before = first.was.start.min(context);
    let after = (was.len() - last.was.end).min(context);
    let old = first.was.start - before..last.was.end + after;
    let new = first.is.start - before..last.is.end + after;
    // An empty range is named by the line before it, as diff(1) does.
    let range = |range: &std::ops::Range<usize>| {
        let start = if range.is_empty() { range.start } else { range.start + 1 };
        if range.len() == 1 { start.to_string() } else { format!("{start},{}", range.len()) }
    };
    lines.push(format!("@@ -{} +{} @@", range(&old), range(&new)));
    let mut at = old.start;
    for edit in edits {
        was[at..edit.was.start].iter().for_each(|line| push(lines, ' ', line));
        was[edit.was.clone()].iter().for_each(|line| push(lines, '-', line));
        is[edit.is.clone()].iter().for_each(|line| push(lines, '+', line));
        at = edit.was.end;
    }
    was[at..old.end].iter().for_each(|line| push(lines, ' ', line));
}

fn push(lines: &mut Vec<String>, sign: char, line: &str) {
    let (text, ends) = line.strip_suffix('\n').map_or((line, false), |text| (text, true));
    let mut shown = String::with_capacity(text.len().min(MAX_LINE) + 4);
    shown.push(sign);
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => {
            shown.push_str(&text[..end]);
            shown.push('…');
        }
        None => shown.push_str(text),
    }
    lines.push(shown);
    if !ends {
        lines.push("\\ No newline at end of file".to_owned());
    }
}

/// The changes that make `is` of `was`, in order, apart from each other.
fn edits(was: &[&str], is: &[&str]) -> Vec<Edit> {
    let prefix = was.iter().zip(is).take_while(|(was, is)| was == is).count();
    let (was_rest, is_rest) = (&was[prefix..], &is[prefix..]);
    let suffix = was_rest.iter().rev().zip(is_rest.iter().rev()).take_while(|(was, is)| was == is).count();
    let (was_rest, is_rest) = (&was_rest[..was_rest.len() - suffix], &is_rest[..is_rest.len() - suffix]);
    if was_rest.is_empty() && is_rest.is_empty() {
        return Vec::new();
    }
    let found = match shortest(was_rest, is_rest) {
        Some(edits) => edits,
        None => vec![Edit { was: 0..was_rest.len(), is: 0..is_rest.len() }],
    };
    let shift = |range: std::ops::Range<usize>| range.start + prefix..range.end + prefix;
    found.into_iter().map(|edit| Edit { was: shift(edit.was), is: shift(edit.is) }).collect()
}

/// The shortest edit; `None` if it is longer than [`MAX_EDIT`].
fn shortest(was: &[&str], is: &[&str]) -> Option<Vec<Edit>> {
    let most = (was.len() + is.len()).min(MAX_EDIT);
    // `furthest[k]`: how far into `was` an edit of `d` steps comes on the diagonal of `k - most` more lines of `was` than
    // of `is`. `trace[d]` is what it was before step `d`, as far as that step looks.
    let mut furthest = vec![0_usize; 2 * most + 3];
    let mut trace: Vec<Vec<usize>> = Vec::new();
    let middle = most + 1;
    for d in 0..=most {
        trace.push(furthest[middle - d - 1..=middle + d + 1].to_vec());
        for k in (0..=2 * d).step_by(2) {
            let at = middle + k - d;
            let down = k == 0 || k != 2 * d && furthest[at - 1] < furthest[at + 1];
            let mut x = if down { furthest[at + 1] } else { furthest[at - 1] + 1 };
            // Where it leads out of the texts, it leads nowhere.
            let Some(mut y) = (x + middle).checked_sub(at) else { continue };
            while x < was.len() && y < is.len() && was[x] == is[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[at] = x;
            if x == was.len() && y == is.len() {
                return Some(back(&trace, was.len(), is.len()));
            }
        }
    }
    None
}

/// Follows the way back from the ends of both texts.
fn back(trace: &[Vec<usize>], mut x: usize, mut y: usize) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    for (d, furthest) in trace.iter().enumerate().rev() {
        if d == 0 {
            break;
        }
        // In `furthest`, the diagonal 0 stands at `d + 1`.
        let at = x + d + 1 - y;
        let down = at == 1 || at != 2 * d + 1 && furthest[at - 1] < furthest[at + 1];
        let (from_x, from_at) = if down { (furthest[at + 1], at + 1) } else { (furthest[at - 1], at - 1) };
        let from_y = from_x + d + 1 - from_at;
        let step = if down {
            Edit { was: from_x..from_x, is: from_y..from_y + 1 }
        } else {
            Edit { was: from_x..from_x + 1, is: from_y..from_y }
        };
        match edits.last_mut() {
            // Steps that touch are one change.
            Some(next) if next.was.start == step.was.end && next.is.start == step.is.end => {
                next.was.start = step.was.start;
                next.is.start = step.is.start;
            }
            _ => edits.push(step),
        }
        (x, y) = (from_x, from_y);
    }
    edits.reverse();
    edits
}

/// Lines taken away and added, up to which the shortest edit is looked for: some 8 MiB of trace.
const MAX_EDIT: usize = 1000;

/// Characters of a line that are shown: text that is one long line is no help.
const MAX_LINE: usize = 2000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn diff(was: &str, is: &str) -> String {
        unified(was, is, 1, 100).map(|lines| lines.join("\n")).unwrap_or_default()
    }

    #[test]
    fn changes_are_told_as_diff_does() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), "");
        assert_eq!(diff("a\nb\nc\nd\ne\nf\n", "a\nb\nX\nd\ne\n"), "@@ -2,5 +2,4 @@\n b\n-c\n+X\n d\n e\n-f");
        assert_eq!(
            diff("1\n2\n3\n4\n5\n6\n", "0\n1\n2\n3\n4\n5\n"),
            "@@ -1 +1,2 @@\n+0\n 1\n@@ -5,2 +6 @@\n 5\n-6"
        );
        assert_eq!(diff("", "a"), "@@ -0,0 +1 @@\n+a\n\\ No newline at end of file");
        assert_eq!(diff("a\n", "a"), "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file");
    }

    #[test]
    fn texts_without_a_common_line_are_replaced_as_a_whole() {
        let text = |from: u32| (from..from + 3000).map(|n| format!("{n}\n")).collect::<String>();
        let lines = unified(&text(0), &text(10_000), 3, 10).unwrap();
        assert_eq!((&lines[0][..], lines.len(), &lines[10][..]), ("@@ -1,3000 +1,3000 @@", 11, "…"));
    }

    proptest! {
        #[test]
        fn the_edits_lead_from_one_text_to_the_other(
            was in proptest::collection::vec(0_u8..4, 0..40),
            is in proptest::collection::vec(0_u8..4, 0..40),
        ) {
            let names = ["a", "b", "c", "d"];
            let of = |text: &[u8]| text.iter().map(|&n| names[usize::from(n)]).collect::<Vec<_>>();
            let (was, is) = (of(&was), of(&is));
            let (mut made, mut at) = (Vec::new(), 0);
            for edit in edits(&was, &is) {
                prop_assert!(!(edit.was.is_empty() && edit.is.is_empty()) && edit.was.start >= at);
                made.extend_from_slice(&was[at..edit.was.start]);
                prop_assert_eq!(made.len(), edit.is.start);
                made.extend_from_slice(&is[edit.is.clone()]);
                at = edit.was.end;
            }
            made.extend_from_slice(&was[at..]);
            prop_assert_eq!(made, is);
        }
    }
}
