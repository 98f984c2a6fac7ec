//! What a filter can be asked about a request of which no more than the head has come.
//!
//! As in mitmproxy, `~h` and `~t` then look at the request alone, and `~q` is so. What there can be no answer to yet is
//! refused, where mitmproxy takes it for "no": a rule that never acts looks like one that finds nothing.

use super::{Expr, Filter, Flag, Number, Part, Test, Text};

impl Filter {
    /// The same filter for a request whose head has come: of such a flow [`super::FlowSubject`] answers it, then and later
    /// alike.
    ///
    /// # Errors
    /// If it asks what is not known yet: the test, and why not.
    pub fn at_request(&self) -> Result<Self, (String, &'static str)> {
        at_request(&self.expr).map(Self::from)
    }
}

fn at_request(expr: &Expr) -> Result<Expr, (String, &'static str)> {
    let all = |parts: &[Expr]| parts.iter().map(at_request).collect::<Result<_, _>>();
    Ok(match expr {
        Expr::All(parts) => Expr::All(all(parts)?),
        Expr::Any(parts) => Expr::Any(all(parts)?),
        Expr::Not(inner) => Expr::negated(at_request(inner)?),
        Expr::Test(test) => Expr::Test(known(test).map_err(|why| (test.to_string(), why))?),
    })
}

/// The test as it is asked then.
fn known(test: &Test) -> Result<Test, &'static str> {
    const RESPONSE: &str = "there is no response yet";
    const END: &str = "only the end of a flow tells";
    Ok(match test {
        Test::Everything | Test::Nothing(_) => test.clone(),
        Test::Flag(flag) => Test::Flag(match flag {
            // No request has an answer then.
            Flag::Pending | Flag::Http => Flag::Http,
            Flag::Tunnel | Flag::Replay => *flag,
            Flag::Answered | Flag::Asset => return Err(RESPONSE),
            Flag::WebSocket => return Err("only its origin's answer makes it one"),
            Flag::Marked => return Err("nothing is noted about it yet"),
            Flag::Error | Flag::Truncated | Flag::TlsFailed | Flag::Open => return Err(END),
        }),
        Test::Number(number, _) => match number {
            Number::Started | Number::Mid | Number::Port => test.clone(),
            Number::Status => return Err(RESPONSE),
            Number::Size(_) | Number::Duration => return Err(END),
        },
        Test::Text(text, pattern) => {
            let text = match text {
                Text::Url | Text::Host | Text::Path | Text::Method | Text::Scheme | Text::Client => *text,
                Text::Type(Part::Either | Part::Request) => Text::Type(Part::Request),
                Text::Header(Part::Either | Part::Request) => Text::Header(Part::Request),
                Text::Type(Part::Response) | Text::Header(Part::Response) => return Err(RESPONSE),
                Text::Body(_) => return Err("no body has been read yet"),
                Text::Server => return Err("no connection to the origin has been chosen yet"),
                Text::Marker | Text::Comment | Text::Tag => return Err("nothing is noted about it yet"),
            };
            Test::Text(text, pattern.clone())
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::filter::{Filter, FlowSubject};
    use crate::flow::{Flow, Headers, Request, Response};

    fn at_request(text: &str) -> Result<Filter, String> {
        Filter::parse(text).unwrap().at_request().map_err(|(test, why)| format!("{test}: {why}"))
    }

    #[test]
    fn what_is_not_known_is_refused_and_named() {
        for text in ["~s", "status:200", "~d a & !~hs b", "~b x", "~e", "time>1s", "tag:x", "~dst a", "~a"] {
            assert!(at_request(text).is_err(), "{text}");
        }
        assert_eq!(at_request("~d a ~c 404").unwrap_err(), "status:404: there is no response yet");
    }

    #[test]
    fn an_answer_changes_nothing() {
        let headers = |name: &str| -> Headers { [(name, "x")].into_iter().collect() };
        let request = Request { method: "GET".into(), headers: headers("A"), ..Request::default() };
        let mut flow = Flow { request: Some(request), ..Flow::default() };
        let cases = [("~q", true), ("~h A: & ~m get", true), ("~h B:", false), ("!~h B: | ~http", true)];
        for answered in [false, true] {
            flow.response = answered.then(|| Response { headers: headers("B"), ..Response::default() });
            for (text, expected) in cases {
                let mut subject = FlowSubject { flow: &flow, mid: 1, notes: None };
                assert_eq!(at_request(text).unwrap().judge(&mut subject), Ok(Some(expected)), "{text}");
            }
        }
    }
}
