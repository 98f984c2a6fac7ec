//! Why settings cannot be used: the file, the environment, and what excludes what.

use super::USAGE;
use super::report::{Report, plain_io, sentence};
use crate::config::FileError;
use crate::config::layers::LayerError;

pub(super) fn told(error: &LayerError) -> Report {
    let report = |exit| Report::new("E002", exit, error.to_string());
    match error {
        LayerError::File(error) => of_file(error),
        LayerError::NoFile { .. } => report(super::NOT_FOUND).hint("manent config init   writes one"),
        LayerError::Variable { name, .. } => report(USAGE)
            .hint(format!("unset {name}   does without it; manent help capture   tells its form")),
        LayerError::Together { .. } | LayerError::Usage(_) => report(USAGE),
    }
}

fn of_file(error: &FileError) -> Report {
    let report = Report::new("E002", USAGE, error.to_string());
    match error {
        FileError::Read { source, .. } => report.fact(sentence(&plain_io(source))),
        FileError::Wrong { line, quote, hint, .. } => {
            let number = line.to_string();
            let report = report.fact(format!("  {number} | {}", quote[0]));
            let report = report.fact(format!("  {} | {}", " ".repeat(number.len()), quote[1]));
            match hint {
                Some(hint) => report.hint(hint.clone()),
                None => report,
            }
        }
    }
}
