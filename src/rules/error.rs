//! Why a text is no rule.

use crate::filter::FilterError;
use crate::http1::BadField;

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag} {text:?}: {problem}")]
pub struct RuleError {
    /// The flag that it was given by, such as `--block`.
    pub flag: &'static str,
    /// The rule as it was given; of one that sets a field, without the value, which may be a secret.
    pub text: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong in a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has another form.
    #[error("its form is {form}; any sign may stand for the /")]
    Form {
        /// The right one.
        form: &'static str,
    },
    /// Its filter is none.
    #[error("in its filter, {0}")]
    Filter(Box<FilterError>),
    /// Its filter asks what is not known when a rule is asked.
    #[error("a rule is asked when the head of a request has come, and cannot depend on `{test}`: {why}")]
    TooEarly {
        /// The part of the filter.
        test: String,
        /// Why it is not known.
        why: &'static str,
    },
    /// It is no answer to a request that is blocked.
    #[error("{0:?} is neither a status from 200 to 599 nor `kill`")]
    Answer(String),
    /// It is no time.
    #[error("{0}")]
    Duration(String),
    /// It is no field that can be set or removed.
    #[error("{0}")]
    Field(BadField),
    /// It names the origin, which no rule changes.
    #[error("Host names the origin, and cannot be changed")]
    Host,
    /// It is no regular expression.
    #[error("{pattern:?} is no regular expression: {why}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names none of the ends of a WebSocket.
    #[error("{0:?} is none of {1}")]
    End(String, &'static str),
}
