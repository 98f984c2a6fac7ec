//! The filter language: which flows are meant, in one line of text.
//!
//! Two spellings are mixed freely: mitmproxy's operators (`~u ~d ~c …`, with `! & | ( )`; blanks between terms are an "and" that
//! binds loosest; a bare word is looked for in the URL), and fields (`status>=400 host:example.com`). `atoms` is the one
//! table of both; parser, printer and help read it.
//!
//! Nothing here reads a store. A [`Subject`] answers the tests of a filter as far as it knows: a row of a list some, the
//! flow more, its bodies the rest, so that what is cheap is asked first. Patterns are of the crate `regex`, whose search
//! takes linear time whatever the pattern and the text.

mod ast;
mod atoms;
mod error;
mod eval;
mod moment;
mod parser;
mod pattern;
mod required;
mod units;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use ast::{Expr, Flag, NoSuch, Number, Part, Ranges, Test, Text};
pub use atoms::help;
pub use error::{FilterError, Problem};
pub(crate) use error::{caret, nearest};
pub(crate) use eval::is_asset;
pub use eval::{FlowSubject, Needs, Notes, OpenSubject, Subject, url};
pub use pattern::{How, Pattern};
pub use required::{Required, fold};
pub use units::{Clock, duration};

/// A filter, read and ready to be asked.
#[derive(Debug, Clone)]
pub struct Filter {
    expr: Expr,
    /// The same, with cheap tests before costly ones.
    program: Expr,
}

impl Filter {
    /// Reads a filter. Times such as `last:1h` are of now, days begin in the system's time zone.
    ///
    /// # Errors
    /// If the text is no filter: where, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Self::parse_at(text, &Clock::system())
    }

    /// As [`Filter::parse`], with a given clock.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse_at(text: &str, clock: &Clock) -> Result<Self, FilterError> {
        parser::parse(text, clock).map(Self::from)
    }

    /// What it says.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// What has to be read of a flow to answer it in the worst case.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.expr.needs()
    }

    /// The first test that cannot be answered about a flow at its end, before it is stored, and why.
    #[must_use]
    pub fn unanswerable_at_end(&self) -> Option<(String, &'static str)> {
        let mut found = None;
        self.expr.each_test(&mut |test| {
            let why = match test {
                _ if test.needs() == Needs::Bodies => "bodies are on their way to the disk by then",
                _ if test.is_note() => "nothing is noted about a flow before it is stored",
                _ => return,
            };
            found.get_or_insert((test.to_string(), why));
        });
        found
    }

    /// Whether `subject` matches; `None` if it does not know enough to tell.
    ///
    /// # Errors
    /// What the subject failed with.
    pub fn judge<S: Subject + ?Sized>(&self, subject: &mut S) -> Result<Option<bool>, S::Error> {
        self.program.judge(&mut |test| subject.test(test))
    }
}

impl From<Expr> for Filter {
    fn from(expr: Expr) -> Self {
        let program = expr.cheapest_first();
        Self { expr, program }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expr == other.expr
    }
}

impl Eq for Filter {}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.expr.fmt(f)
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}
