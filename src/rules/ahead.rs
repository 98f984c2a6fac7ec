//! What rules can say of a tunnel before anything was asked in it.

use std::convert::Infallible;

use crate::filter::{FlowSubject, Number, Subject, Test, Text};
use crate::flow::Flow;

/// A flow of which no more than its target and its client is known: all else may come to be anything.
pub(super) struct Ahead<'a>(pub(super) &'a Flow);

impl Subject for Ahead<'_> {
    type Error = Infallible;

    fn test(&mut self, test: &Test) -> Result<Option<bool>, Infallible> {
        match test {
            Test::Everything
            | Test::Nothing(_)
            | Test::Text(Text::Host | Text::Client, _)
            | Test::Number(Number::Port, _) => FlowSubject { flow: self.0, mid: 0, notes: None }.test(test),
            _ => Ok(None),
        }
    }
}
