//! A zone: what it tells of the rows of its block.

use rusqlite::types::ValueRef;

use super::BLOCK_BITS;
use super::set::{Numbers, Texts, agree};
use crate::flow::{Kind, Mid, Scheme, State};
use crate::store::row;

/// What the rows of a block hold, as they were when the block came to rest.
///
/// Each question is answered for all of them at once: `Some(true)` if it is so of every row, `Some(false)` if of none, and
/// `None` if of some, or if the zone does not know. Rows that were deleted since may be among them.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(super) block: u64,
    kinds: i64,
    states: i64,
    schemes: i64,
    present: i64,
    absent: i64,
    measures: [Option<(i64, i64)>; MEASURES],
    sets: [Option<Vec<u8>>; SETS],
}

/// Numbers of which a zone knows the smallest and the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// When the flow began: nanoseconds since 1970, UTC.
    Started,
    /// How long it took, in microseconds. Open flows have none.
    Duration,
    /// Payload bytes of the request.
    RequestLen,
    /// Payload bytes of the response.
    ResponseLen,
    /// Payload bytes of both.
    Len,
}

/// What a row has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// A status.
    Status,
    /// A duration: it has ended.
    Duration,
    /// An error.
    Error,
    /// A `Content-Type` of the request.
    RequestType,
    /// A `Content-Type` of the response.
    ResponseType,
    /// A connection to the origin.
    Server,
    /// A flow of which it is a replay.
    ReplayOf,
    /// A request body of which a cap kept some out of the record.
    RequestTruncated,
    /// A response body of which a cap kept some out of the record.
    ResponseTruncated,
}

impl Zone {
    /// The lowest and the highest mid of its block, whether they are there or not.
    #[must_use]
    pub fn mids(&self) -> (Mid, Mid) {
        let first = self.block << BLOCK_BITS;
        (Mid(first), Mid(first + super::BLOCK - 1))
    }

    /// Whether the kind passes `test`.
    pub fn kind(&self, mut test: impl FnMut(Kind) -> bool) -> Option<bool> {
        agree(bits(self.kinds).map(|bit| Some(test(row::kind(Some(bit))))))
    }

    /// Whether the state passes `test`. A row that was open may be interrupted now.
    pub fn state(&self, mut test: impl FnMut(State) -> bool) -> Option<bool> {
        agree(bits(self.states).map(|bit| Some(test(row::state(Some(bit))))))
    }

    /// Whether the scheme passes `test`.
    pub fn scheme(&self, mut test: impl FnMut(Scheme) -> bool) -> Option<bool> {
        agree(bits(self.schemes).map(|bit| Some(test(row::scheme(Some(bit))))))
    }

    /// Whether the row has it.
    #[must_use]
    pub fn has(&self, property: Property) -> Option<bool> {
        let bit = property.bit();
        match (self.present & bit != 0, self.absent & bit != 0) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    /// Whether the number is in one of `ranges`, both ends within. A row without it is in none.
    #[must_use]
    pub fn measure(&self, measure: Measure, ranges: &[(i64, i64)]) -> Option<bool> {
        let Some((min, max)) = self.measures[measure as usize] else { return Some(false) };
        if ranges.iter().all(|&(low, high)| high < min || max < low) {
            return Some(false);
        }
        let all = ranges.iter().any(|&(low, high)| low <= min && max <= high);
        let complete = measure != Measure::Duration || self.absent & Property::Duration.bit() == 0;
        (all && complete).then_some(true)
    }

    /// Whether the host passes `test`, by its id in the table `host`; see [`HostSet`](super::HostSet).
    pub fn host(&self, test: impl FnMut(i64) -> Option<bool>) -> Option<bool> {
        self.numbers(HOSTS, test)
    }

    /// Whether the port passes `test`.
    pub fn port(&self, mut test: impl FnMut(i64) -> bool) -> Option<bool> {
        self.numbers(PORTS, |port| Some(test(port)))
    }

    /// Whether the status of the final response passes `test`. A row without one does not.
    pub fn status(&self, mut test: impl FnMut(i64) -> bool) -> Option<bool> {
        self.optional(Property::Status, self.numbers(STATUSES, |status| Some(test(status))))
    }

    /// Whether the method passes `test`; it is empty where there was none.
    pub fn method(&self, test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        self.texts(METHODS, test)
    }

    /// Whether the request's `Content-Type` passes `test`. A row without one does not.
    pub fn request_type(&self, test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        self.optional(Property::RequestType, self.texts(REQUEST_TYPES, test))
    }

    /// Whether the response's `Content-Type` passes `test`. A row without one does not.
    pub fn response_type(&self, test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        self.optional(Property::ResponseType, self.texts(RESPONSE_TYPES, test))
    }

    fn numbers(&self, set: usize, mut test: impl FnMut(i64) -> Option<bool>) -> Option<bool> {
        agree(Numbers::new(self.sets[set].as_ref()?).map(|number| test(number?)))
    }

    fn texts(&self, set: usize, mut test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        agree(Texts::new(self.sets[set].as_ref()?).map(|text| text.map(&mut test)))
    }

    /// Rows without a value do not pass: if there are any, not all pass.
    fn optional(&self, property: Property, answer: Option<bool>) -> Option<bool> {
        answer.filter(|&all| !all || self.absent & property.bit() == 0)
    }

    /// Reads what [`SELECT`] gave. Lenient: what is not as the writer would have written it is not known.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let int = |at| row.get_ref(at).map(|v| if let ValueRef::Integer(n) = v { Some(n) } else { None });
        let mut measures = [None; MEASURES];
        for (i, measure) in measures.iter_mut().enumerate() {
            *measure = int(6 + 2 * i)?.zip(int(7 + 2 * i)?);
        }
        let mut sets = [const { None }; SETS];
        for (i, set) in sets.iter_mut().enumerate() {
            *set = match row.get_ref(6 + 2 * MEASURES + i)? {
                ValueRef::Blob(bytes) => Some(bytes.to_vec()),
                _ => None,
            };
        }
        Ok(Self {
            block: int(0)?.unwrap_or(0).cast_unsigned(),
            kinds: int(1)?.unwrap_or(-1),
            states: int(2)?.unwrap_or(-1),
            schemes: int(3)?.unwrap_or(-1),
            present: int(4)?.unwrap_or(-1),
            absent: int(5)?.unwrap_or(-1),
            measures,
            sets,
        })
    }
}

impl Property {
    pub(super) fn bit(self) -> i64 {
        1 << self as u32
    }
}

/// The numbers of the bits that are set.
fn bits(bits: i64) -> impl Iterator<Item = i64> {
    (0..i64::from(i64::BITS)).filter(move |bit| bits >> bit & 1 != 0)
}

pub(super) const MEASURES: usize = 5;

/// Where its sets stand.
const HOSTS: usize = 0;
const PORTS: usize = 1;
const STATUSES: usize = 2;
const METHODS: usize = 3;
const REQUEST_TYPES: usize = 4;
const RESPONSE_TYPES: usize = 5;
const SETS: usize = 6;

/// What [`Zone::read`] reads, in its order, which is also that of [`INSERT`].
pub(super) const SELECT: &str = "SELECT block, kinds, states, schemes, present, absent, started_min, started_max, \
     duration_min, duration_max, request_len_min, request_len_max, response_len_min, response_len_max, len_min, \
     len_max, hosts, ports, statuses, methods, request_types, response_types FROM zone";

pub(super) const INSERT: &str = "INSERT OR REPLACE INTO zone (block, kinds, states, schemes, present, absent, \
     started_min, started_max, duration_min, duration_max, request_len_min, request_len_max, response_len_min, \
     response_len_max, len_min, len_max, hosts, ports, statuses, methods, request_types, response_types) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
