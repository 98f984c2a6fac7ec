//! `delay`: a request is held before it is sent on.

use std::time::Duration;

use super::error::Problem;
use super::spec;
use crate::filter::{self, Filter};

/// `TIME`, for every request, or `/FILTER/TIME`.
pub(super) fn parse(text: &str) -> Result<(Option<Filter>, Duration), Problem> {
    let (filter, time) = if spec::is_split(text) {
        let [filter, time] = spec::parts(text, "TIME or /FILTER/TIME")?;
        (spec::filter(filter)?, time)
    } else {
        (None, text)
    };
    match filter::duration(time).map_err(Problem::Duration)? {
        Duration::ZERO => Err(Problem::Duration("it must be more than zero".to_owned())),
        time if time > LONGEST => Err(Problem::Duration("at most 1d is possible".to_owned())),
        time => Ok((filter, time)),
    }
}

/// Far beyond the patience of any client.
const LONGEST: Duration = Duration::from_hours(24);
