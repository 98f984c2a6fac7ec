//! Cookies as an archive lists them beside the fields that they stand in.

use crate::flow::Headers;
use crate::format::json::Writer;

use super::date;
use super::fields::text;

/// Writes those of a request (RFC 6265 §4.2.1): name and value.
pub(super) fn write_sent(json: &mut Writer<'_>, headers: &Headers) {
    json.open_array();
    for field in headers.get_all("cookie") {
        for cookie in text(field).split(';').map(str::trim).filter(|cookie| !cookie.is_empty()) {
            let (name, value) = cookie.split_once('=').unwrap_or(("", cookie));
            json.open().name("name").text(name).name("value").text(value).close();
        }
    }
    json.close_array();
}

/// Writes those of a response with their attributes (RFC 6265 §4.1.1).
pub(super) fn write_set(json: &mut Writer<'_>, headers: &Headers) {
    json.open_array();
    for field in headers.get_all("set-cookie") {
        let field = text(field);
        let mut parts = field.split(';').map(str::trim);
        let cookie = parts.next().unwrap_or_default();
        let (name, value) = cookie.split_once('=').unwrap_or(("", cookie));
        json.open().name("name").text(name.trim_end()).name("value").text(value.trim_start());
        let (mut http_only, mut secure) = (false, false);
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            match attribute.to_ascii_lowercase().as_str() {
                "httponly" => http_only = true,
                "secure" => secure = true,
                "path" => {
                    json.name("path").text(value);
                }
                "domain" => {
                    json.name("domain").text(value);
                }
                "samesite" => {
                    json.name("sameSite").text(value);
                }
                "expires" => {
                    if let Some(time) = date::cookie_expires(value) {
                        json.name("expires").text(&time);
                    }
                }
                _ => {}
            }
        }
        json.name("httpOnly").bool(http_only).name("secure").bool(secure).close();
    }
    json.close_array();
}
