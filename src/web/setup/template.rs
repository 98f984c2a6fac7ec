//! Pages made of pieces of HTML that stand in files, with `{{name}}` where a value belongs.

/// A value for a place.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Escaped.
    Text(String),
    /// As it is: made by us.
    Html(String),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The text with the values in their places. A place without a value stays empty; the tests see that there is none.
pub(super) fn fill(template: &str, values: &[(&str, Value)]) -> String {
    let mut out = String::with_capacity(template.len() + 1024);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out += before;
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, Value::Text(text))) => escape(text, &mut out),
            Some((_, Value::Html(html))) => out += html,
            None => debug_assert!(false, "no value for {name}"),
        }
        rest = after;
    }
    out + rest
}

/// As text in HTML, and within quotes.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_not_looked_into() {
        let values = [("a", "<b \"x\" 'y'>&{{b}}".into()), ("b", Value::Html("<i>{{a}}</i>".into()))];
        assert_eq!(
            fill("1{{a}}2{{b}}3", &values),
            "1&lt;b &quot;x&quot; &#39;y&#39;&gt;&amp;{{b}}2<i>{{a}}</i>3"
        );
        assert_eq!(fill("plain", &[]), "plain");
    }
}
