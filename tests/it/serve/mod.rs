//! Server replay: what was captured answers again, with the origins out of reach.
//!
//! Origins keep listening, so that each test can show that nobody came.

mod bodies;
mod cli;
mod faults;
mod forwarding;
mod matching;
mod order;
mod protocols;
mod websocket;

use manent::replay::serve::{Match, OnMiss, ServeOptions};

/// A GET for a path.
fn get(path: &str) -> String {
    format!("GET http://{{addr}}{path} HTTP/1.1\r\nHost: {{addr}}\r\n\r\n")
}

/// A POST of a body with this type.
fn post(path: &str, media_type: &str, body: &str) -> String {
    format!(
        "POST http://{{addr}}{path} HTTP/1.1\r\nHost: {{addr}}\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A response with this body.
fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The defaults but for what is matched.
fn matching(change: impl FnOnce(&mut Match)) -> ServeOptions {
    let mut options = ServeOptions::default();
    change(&mut options.matching);
    options
}

/// The defaults but for what becomes of a miss.
fn on_miss(on_miss: OnMiss) -> ServeOptions {
    ServeOptions { on_miss, ..ServeOptions::default() }
}
