//! In what two flows differ: status, header fields and trailers, and bodies, each by what it is.
//!
//! Made for a recorded session as a regression test, so the defaults are those that such a test can live with, and each is
//! named where it took effect. Two answers to one request always differ in some fields, whoever is right: the moment
//! (`Date`, `Age`) and what belongs to the connection or follows from the body (`Connection`, `Keep-Alive`,
//! `Proxy-Connection`, `Transfer-Encoding`, `Content-Length`; RFC 9110 §7.6.1). Those are left out unless [`Rules::strict`]
//! is set. All else counts: what else a site makes anew for each answer, it alone knows, and a field that is ignored
//! without a word is a regression that is not found. Names of fields are compared without their case, and their order
//! does not matter, as RFC 9110 §5.1 and §5.3 have it; HTTP's version and the reason phrase do not count.

mod body;
mod fields;
mod json;
mod lines;

use bytes::Bytes;

pub use body::BodyDifference;
pub use json::{BadJsonPath, JsonChange, JsonPath};

use crate::flow::{Body, Flow, Headers};
use crate::store::Reader;

/// What counts as a difference.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Fields that do not count, whatever their case.
    pub ignored_headers: Vec<String>,
    /// Whether fields must stand in the same order, and their names be spelled alike.
    pub header_order: bool,
    /// Whether the fields count that are left out by default.
    pub strict: bool,
    /// Parts of JSON bodies that do not count.
    pub ignored_json: Vec<JsonPath>,
    /// Whether the requests are compared, rather than the responses.
    pub requests: bool,
    /// Whether nothing but status and body counts.
    pub no_fields: bool,
}

/// A flow, and the store that has its bodies.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The store.
    pub reader: &'a Reader,
    /// The flow.
    pub flow: &'a Flow,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first.
    First,
    /// The second.
    Second,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only one of them has the message.
    Missing {
        /// Which has not.
        which: Which,
        /// Why, in words; may quote a peer.
        why: String,
    },
    /// The status.
    Status {
        /// Of the first.
        was: u16,
        /// Of the second.
        is: u16,
    },
    /// Method or target of a request.
    Line {
        /// Of the first.
        was: Bytes,
        /// Of the second.
        is: Bytes,
    },
    /// The values of the fields of one name.
    Header {
        /// The name, in the spelling of the first that has it.
        name: Bytes,
        /// Those of the first.
        was: Vec<Bytes>,
        /// Those of the second.
        is: Vec<Bytes>,
    },
    /// The same fields, in another order or spelling.
    HeaderOrder {
        /// Names in the first, from where they differ.
        was: Vec<Bytes>,
        /// Names in the second.
        is: Vec<Bytes>,
    },
    /// The values of the trailers of one name.
    Trailer {
        /// As for a header.
        name: Bytes,
        /// As for a header.
        was: Vec<Bytes>,
        /// As for a header.
        is: Vec<Bytes>,
    },
    /// The body.
    Body(BodyDifference),
}

impl Difference {
    /// What differs, in a word or two: `status`, `header etag`, `body`.
    #[must_use]
    pub fn what(&self) -> String {
        let lower = |name: &Bytes| String::from_utf8_lossy(&name.to_ascii_lowercase()).into_owned();
        match self {
            Difference::Missing { .. } => "message".to_owned(),
            Difference::Status { .. } => "status".to_owned(),
            Difference::Line { .. } => "request line".to_owned(),
            Difference::Header { name, .. } => format!("header {}", lower(name)),
            Difference::HeaderOrder { .. } => "header order".to_owned(),
            Difference::Trailer { name, .. } => format!("trailer {}", lower(name)),
            Difference::Body(_) => "body".to_owned(),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// The differences; none where the two are the same by the rules.
    pub differences: Vec<Difference>,
    /// Fields that differ and were left out by default, in lower case.
    pub left_out: Vec<String>,
}

impl Comparison {
    /// Whether the two are the same by the rules.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// The message of a flow that is compared.
#[derive(Debug, Clone, Copy)]
struct Message<'a> {
    headers: &'a Headers,
    trailers: Option<&'a Headers>,
    body: &'a Body,
}

/// Compares two flows. Blocks while it reads bodies; it holds two of at most 16 MiB, larger ones are read as streams.
#[must_use]
pub fn compare(first: Side<'_>, second: Side<'_>, rules: &Rules) -> Comparison {
    let (mut found, messages) = heads(first.flow, second.flow, rules);
    if let Some((was, is)) = messages
        && !body::are_equal_in_memory(was, is)
        && let Some(difference) = body::compare((was, first.reader), (is, second.reader), rules)
    {
        found.differences.push(Difference::Body(difference));
    }
    found
}

/// The same without a store, where the bodies are known to be equal by what is in memory; `None` where they have to be read.
#[must_use]
pub fn compare_in_memory(first: &Flow, second: &Flow, rules: &Rules) -> Option<Comparison> {
    let (found, messages) = heads(first, second, rules);
    messages.is_none_or(|(was, is)| body::are_equal_in_memory(was, is)).then_some(found)
}

/// Compares what stands before the bodies, and gives the messages that have them.
fn heads<'a>(
    first: &'a Flow,
    second: &'a Flow,
    rules: &Rules,
) -> (Comparison, Option<(Message<'a>, Message<'a>)>) {
    let mut found = Comparison::default();
    let (was, is) = match (message(first, rules), message(second, rules)) {
        (Some(was), Some(is)) => (was, is),
        (None, None) => return (found, None),
        (was, _) => {
            let (which, flow) = if was.is_none() { (Which::First, first) } else { (Which::Second, second) };
            found.differences.push(Difference::Missing { which, why: why_missing(flow) });
            return (found, None);
        }
    };
    if rules.requests {
        line(first, second, &mut found);
    } else if let (Some(was), Some(is)) = (&first.response, &second.response)
        && was.status != is.status
    {
        found.differences.push(Difference::Status { was: was.status, is: is.status });
    }
    if !rules.no_fields {
        fields::compare(was.headers, is.headers, rules, &mut found);
        let none = Headers::default();
        fields::trailers(was.trailers.unwrap_or(&none), is.trailers.unwrap_or(&none), rules, &mut found);
    }
    (found, Some((was, is)))
}

fn message<'a>(flow: &'a Flow, rules: &Rules) -> Option<Message<'a>> {
    if rules.requests {
        let request = flow.request.as_ref()?;
        let (headers, trailers, body) = (&request.headers, request.trailers.as_deref(), &request.body);
        return Some(Message { headers, trailers, body });
    }
    let response = flow.response.as_ref().filter(|response| !response.by_proxy)?;
    let (headers, trailers, body) = (&response.headers, response.trailers.as_deref(), &response.body);
    Some(Message { headers, trailers, body })
}

fn line(first: &Flow, second: &Flow, found: &mut Comparison) {
    let line = |flow: &Flow| {
        let method = flow.request.as_ref().map(|request| request.method.clone()).unwrap_or_default();
        Bytes::from([&method[..], b" ", flow.path()].concat())
    };
    let (was, is) = (line(first), line(second));
    if was != is {
        found.differences.push(Difference::Line { was, is });
    }
}

fn why_missing(flow: &Flow) -> String {
    match &flow.error {
        Some(error) => format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message),
        None => format!("it ended as {}", flow.state.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{BodyEnd, Content, Response};

    fn answered(status: u16, coding: &'static str, body: Body) -> Flow {
        let headers = [("Content-Encoding", coding), ("X-A", coding)].into_iter().collect();
        Flow { response: Some(Response { status, headers, body, ..Response::default() }), ..Flow::default() }
    }

    #[test]
    fn what_is_in_memory_is_compared_as_far_as_it_is_the_same() {
        let rules = Rules { no_fields: true, ..Rules::default() };
        let differences = |first: &Flow, second: &Flow, rules: &Rules| {
            compare_in_memory(first, second, rules)
                .map(|found| found.differences.iter().map(Difference::what).collect::<Vec<_>>())
        };
        let one = answered(200, "gzip", Body::inline("a"));
        assert_eq!(differences(&one, &one, &rules), Some(vec![]));
        let two = answered(404, "gzip", Body::inline("a"));
        assert_eq!(differences(&one, &two, &rules), Some(vec!["status".to_owned()]));
        let none = Flow::default();
        assert_eq!(differences(&one, &none, &rules), Some(vec!["message".to_owned()]));
        assert_eq!(differences(&none, &none, &rules), Some(vec![]));
        let two = answered(200, "gzip", Body::inline("b"));
        assert_eq!(differences(&one, &two, &rules), None, "it may be the same JSON");
        let two = answered(200, "br", Body::inline("a"));
        assert_eq!(differences(&one, &two, &rules), None);
        assert_eq!(differences(&one, &two, &Rules::default()), None);
        for odd in [
            Body { end: BodyEnd::CutOff, ..Body::inline("a") },
            Body { len: 2, ..Body::inline("a") },
            Body { content: Content::Extents(Vec::new()), ..Body::inline("a") },
        ] {
            let odd = answered(200, "gzip", odd);
            assert_eq!(differences(&odd, &odd, &rules), None, "it has to be told why, or to be read");
        }
    }
}
