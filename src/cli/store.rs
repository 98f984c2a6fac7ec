//! Finding one flow in the store: the `MID` argument of `show` and `cat`.

use std::path::Path;
use std::str::FromStr;

use super::errors::CliError;
use crate::flow::{Flow, Mid};
use crate::store::Reader;

/// Which flow is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MidArg {
    /// The one with this mid.
    Mid(Mid),
    /// The newest.
    Last,
}

impl FromStr for MidArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self::Last);
        }
        // `u64` would take `+12` too.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(mid) if digits => Ok(Self::Mid(Mid(mid))),
            _ => Err("a mid is a whole number, or `last`"),
        }
    }
}

/// Opens the store at `path` and reads the flow.
///
/// # Errors
/// If the store cannot be read, or there is no such flow.
pub(super) fn find(path: &Path, which: MidArg) -> anyhow::Result<(Reader, Flow, Mid)> {
    let reader = Reader::open(path)?;
    let bounds = reader.bounds()?;
    let mid = match which {
        MidArg::Mid(mid) => mid,
        MidArg::Last => bounds.ok_or(CliError::EmptyStore)?.1,
    };
    let flow = reader.flow(mid)?.ok_or(CliError::UnknownMid { mid, bounds })?;
    Ok((reader, flow, mid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mid_is_a_number_or_last() {
        assert_eq!("12".parse(), Ok(MidArg::Mid(Mid(12))));
        assert_eq!("last".parse(), Ok(MidArg::Last));
        for bad in ["", "+1", "-1", "1.0", "1-2", "LAST", "18446744073709551616"] {
            assert!(bad.parse::<MidArg>().is_err(), "{bad}");
        }
    }
}
