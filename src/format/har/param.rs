//! What was posted by a form, part by part: `postData.params`.

use crate::format::json::Writer;

use super::fields::text;
use super::url;

/// Writes the array `params` of a short body of a form; nothing if it is none.
pub(super) fn write(json: &mut Writer<'_>, media_type: &[u8], body: &[u8]) {
    let media_type = text(media_type);
    let (essence, parameters) = media_type.split_once(';').unwrap_or((&media_type, ""));
    match essence.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => {
            json.name("params").open_array();
            for (name, value) in url::pairs(&text(body)) {
                json.open().name("name").text(&name).name("value").text(&value).close();
            }
            json.close_array();
        }
        "multipart/form-data" => {
            let Some(boundary) = parameter(parameters, "boundary") else { return };
            json.name("params").open_array();
            for part in parts(body, &boundary) {
                write_part(json, part);
            }
            json.close_array();
        }
        _ => {}
    }
}

/// What stands between the delimiters (RFC 2046 §5.1.1).
fn parts<'a>(body: &'a [u8], boundary: &str) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = format!("--{boundary}");
    let finder = memchr::memmem::Finder::new(&delimiter).into_owned();
    let starts: Vec<usize> = finder.find_iter(body).collect();
    let len = delimiter.len();
    let ends: Vec<usize> = starts.iter().skip(1).copied().collect();
    starts.into_iter().zip(ends).map(move |(start, end)| &body[start + len..end])
}

fn write_part(json: &mut Writer<'_>, part: &[u8]) {
    let part = part.strip_prefix(b"\r\n").unwrap_or(part);
    let Some(end) = memchr::memmem::find(part, b"\r\n\r\n") else { return };
    let head = text(&part[..end]);
    let body = &part[end + 4..];
    let body = body.strip_suffix(b"\r\n").unwrap_or(body);
    let field = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let Some(disposition) = field("content-disposition") else { return };
    json.open().name("name").text(&parameter(&disposition, "name").unwrap_or_default());
    let file = parameter(&disposition, "filename");
    match (&file, std::str::from_utf8(body)) {
        (Some(file), _) => {
            json.name("fileName").text(file);
        }
        (None, Ok(value)) => {
            json.name("value").text(value);
        }
        (None, Err(_)) => {}
    }
    if let Some(media_type) = field("content-type") {
        json.name("contentType").text(&media_type);
    }
    json.close();
}

/// The value of a parameter behind a media type or a disposition, quotes undone.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.rsplit(';').next().unwrap_or_default().trim();
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            value = &quoted[..end];
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value = after[..end].trim();
            rest = &after[end..];
        }
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(media_type: &str, body: &str) -> serde_json::Value {
        let (mut out, mut buffer) = (Vec::new(), Vec::new());
        let mut json = Writer::new(&mut out, &mut buffer);
        json.open();
        write(&mut json, media_type.as_bytes(), body.as_bytes());
        json.close().flush().unwrap();
        serde_json::from_slice::<serde_json::Value>(&out).unwrap()["params"].clone()
    }

    #[test]
    fn forms_are_taken_apart() {
        let found = params("application/x-www-form-urlencoded; charset=UTF-8", "a=1%202&b=%C3%A9");
        assert_eq!(found, serde_json::json!([{"name": "a", "value": "1 2"}, {"name": "b", "value": "é"}]));
        let body = "--XY\r\nContent-Disposition: form-data; name=\"a b\"\r\n\r\none\r\n--XY\r\n\
            content-disposition: form-data; name=f; filename=\"x;y.png\"\r\nContent-Type: image/png\r\n\r\nPNG\r\n--XY--\r\n";
        let found = params("multipart/form-data; boundary=\"XY\"", body);
        let file = serde_json::json!({"name": "f", "fileName": "x;y.png", "contentType": "image/png"});
        assert_eq!(found, serde_json::json!([{"name": "a b", "value": "one"}, file]));
        assert!(params("text/plain", "a=1").is_null());
        assert_eq!(params("multipart/form-data; boundary=XY", "--XY"), serde_json::json!([]));
    }
}
