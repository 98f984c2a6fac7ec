//! Requests and responses, as HAR 1.2 has them.

use std::io;

use crate::flow::{BodyEnd, Content, Flow, Version};
use crate::format::json::Writer;

use super::content::Written;
use super::encode::Looks;
use super::{cookie, fields, foreign, param, url};

/// What was written of a body; `None` where there is none.
pub(super) type BodyText = Option<Written>;

/// Writes the object `request`.
///
/// # Errors
/// What the output said, and if the store cannot be read.
pub(super) fn request(
    json: &mut Writer<'_>,
    flow: &Flow,
    url: &str,
    looks: &Looks<'_>,
) -> io::Result<BodyText> {
    let Some(request) = &flow.request else { return Ok(None) };
    json.open().name("method").text(&fields::text(&request.method)).name("url").text(url);
    json.name("httpVersion").text(&foreign::version(flow, "request.httpVersion", request.version));
    json.name("cookies");
    cookie::write_sent(json, &request.headers);
    json.name("headers");
    fields::write(json, &request.headers);
    json.name("queryString").open_array();
    let query = url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    for (name, value) in url::pairs(query) {
        json.open().name("name").text(&name).name("value").text(&value).close();
    }
    json.close_array();
    let mut written = None;
    if let Some(look) =
        looks.request.as_ref().filter(|_| request.body.len > 0 || request.body.recorded_len() > 0)
    {
        let media_type = request.headers.get("content-type").unwrap_or_default();
        json.name("postData").open().name("mimeType").text(&fields::text(media_type));
        if let Some(short) = look.short() {
            param::write(json, media_type, short);
        }
        let text = look.write(json)?;
        if request.body.content == Content::Absent {
            // A reader of this kind of thing takes it for granted.
            json.name("text").text("");
        }
        comment(json, &text, request.body.end);
        foreign::write_unknown(json, flow, "postData");
        json.close();
        written = Some(text);
    }
    sizes(json, request.version, request.head_len, request.body.len);
    foreign::write_unknown(json, flow, "request");
    json.close();
    Ok(written)
}

/// Writes the object `response`; where there was none, with the status 0, as browsers do.
///
/// # Errors
/// As [`request`].
pub(super) fn response(json: &mut Writer<'_>, flow: &Flow, looks: &Looks<'_>) -> io::Result<BodyText> {
    let Some(response) = &flow.response else {
        json.open().name("status").int(0).name("statusText").text("").name("httpVersion").text("");
        json.name("cookies").open_array().close_array().name("headers").open_array().close_array();
        json.name("content").open().name("size").int(0).name("mimeType").text(UNKNOWN_TYPE).close();
        json.name("redirectURL").text("").name("headersSize").int(-1).name("bodySize").int(-1);
        error(json, flow);
        foreign::write_unknown(json, flow, "response");
        json.close();
        return Ok(None);
    };
    let field = |name| response.headers.get(name).map(fields::text);
    json.open().name("status").int(response.status).name("statusText").text(&fields::text(&response.reason));
    json.name("httpVersion").text(&foreign::version(flow, "response.httpVersion", response.version));
    json.name("cookies");
    cookie::write_set(json, &response.headers);
    json.name("headers");
    fields::write(json, &response.headers);
    json.name("content").open();
    json.name("mimeType").text(field("content-type").as_deref().unwrap_or(UNKNOWN_TYPE));
    let mut written = None;
    if let Some(look) = &looks.response {
        let text = look.write(json)?;
        json.name("size").int(text.len);
        if text.is_decoded {
            json.name("compression").int(i128::from(text.len) - i128::from(response.body.len));
        }
        comment(json, &text, response.body.end);
        written = Some(text);
    }
    foreign::write_unknown(json, flow, "content");
    json.close();
    json.name("redirectURL").text(field("location").as_deref().unwrap_or_default());
    sizes(json, response.version, response.head_len, response.body.len);
    json.name("_transferSize").int(i128::from(response.head_len) + i128::from(response.body.wire_len));
    error(json, flow);
    foreign::write_unknown(json, flow, "response");
    json.close();
    Ok(written)
}

/// As Chrome says why there is no response, or not all of it.
fn error(json: &mut Writer<'_>, flow: &Flow) {
    if let Some(error) = &flow.error {
        let words = format!("{} {}: {}", error.side.as_str(), error.stage.as_str(), error.message);
        json.name("_error").text(&words);
    }
}

/// HAR 1.2: -1 where it is not known, as with the compressed heads of HTTP/2.
fn sizes(json: &mut Writer<'_>, version: Version, head_len: u64, body_len: u64) {
    let is_known = head_len > 0 && version <= Version::Http11;
    json.name("headersSize").int(if is_known { i128::from(head_len) } else { -1 });
    json.name("bodySize").int(body_len);
}

fn comment(json: &mut Writer<'_>, text: &Written, end: BodyEnd) {
    let end = match end {
        BodyEnd::Open | BodyEnd::Whole => None,
        BodyEnd::CutOff => Some("the body was cut off on the wire"),
        BodyEnd::Capped => Some("the record holds only the beginning of the body"),
        BodyEnd::Lost => Some("the store could not take the rest of the body"),
    };
    if let Some(remark) = text.remark.or(end) {
        json.name("comment").text(remark);
    }
}

/// What browsers write for a response that says nothing of its type.
const UNKNOWN_TYPE: &str = "x-unknown";
