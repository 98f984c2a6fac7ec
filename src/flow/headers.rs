//! Header fields as they came: bytes, in their order and case, duplicates kept.

use bytes::Bytes;

/// A list of header or trailer fields.
///
/// Names and values are bytes: a value may hold any octet that the peer sent, except CR, LF and NUL on HTTP/1.
/// Nothing is folded, joined or sorted. All bytes live in one shared buffer, so a clone copies no text.
#[derive(Clone, Default)]
pub struct Headers {
    text: Bytes,
    fields: Vec<Span>,
}

/// Where one field stands in `text`. Heads are limited to far less than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    name: u32,
    name_len: u32,
    value: u32,
    value_len: u32,
}

impl Headers {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fields that lie inside `text`, as `(name, value)` byte ranges in their order.
    ///
    /// # Panics
    /// If a range does not lie inside `text`, or `text` is 4 GiB or longer: ranges come from a parser of this very text.
    #[must_use]
    pub fn from_ranges(
        text: Bytes,
        ranges: impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)>,
    ) -> Self {
        let mut headers = Self { fields: Vec::with_capacity(ranges.size_hint().0), text };
        for (name, value) in ranges {
            headers.place(name, value);
        }
        headers
    }

    /// No fields yet, and room for `count` that lie inside `text`: see [`Headers::place`].
    pub(crate) fn inside(text: Bytes, count: usize) -> Self {
        Self { text, fields: Vec::with_capacity(count) }
    }

    /// Adds a field that lies inside the text.
    ///
    /// # Panics
    /// As [`Headers::from_ranges`].
    pub(crate) fn place(&mut self, name: std::ops::Range<usize>, value: std::ops::Range<usize>) {
        let at = |i: usize| u32::try_from(i).expect("a head is far shorter than 4 GiB");
        assert!(name.end <= self.text.len() && value.end <= self.text.len(), "field outside of its text");
        self.fields.push(Span {
            name: at(name.start),
            name_len: at(name.len()),
            value: at(value.start),
            value_len: at(value.len()),
        });
    }

    /// Adds a field at the end. Copies the text: meant for building, not for the path of each request.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        let mut text = Vec::with_capacity(self.text.len() + name.len() + value.len());
        text.extend_from_slice(&self.text);
        let at = text.len();
        text.extend_from_slice(name);
        text.extend_from_slice(value);
        let ranges: Vec<_> = self
            .fields
            .iter()
            .map(|f| {
                let (n, v) = (f.name as usize, f.value as usize);
                (n..n + f.name_len as usize, v..v + f.value_len as usize)
            })
            .chain([(at..at + name.len(), at + name.len()..at + name.len() + value.len())])
            .collect();
        *self = Self::from_ranges(Bytes::from(text), ranges.into_iter());
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Each field as `(name, value)`, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|f| (self.slice(f.name, f.name_len), self.slice(f.value, f.value_len)))
    }

    /// The values of all fields called `name` (ASCII case ignored, RFC 9110 §5.1), in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.fields.iter().filter(|f| self.is_called(f, name)).map(|f| self.slice(f.value, f.value_len))
    }

    /// The value of the first field called `name` (ASCII case ignored).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|field| self.is_called(field, name))?;
        Some(self.slice(field.value, field.value_len))
    }

    /// Whether some field called `name` lists `token` (comma-separated, ASCII case ignored, over repeated fields).
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The members of the comma-separated lists in all fields called `name`, trimmed; empty members are left out
    /// (RFC 9110 §5.6.1).
    pub fn tokens<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.get_all(name)
            .flat_map(|value| value.split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|token| !token.is_empty())
    }

    /// How many bytes of text the fields hold, names and values together.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.fields.iter().map(|f| f.name_len as usize + f.value_len as usize).sum()
    }

    /// Its length tells most names apart, and costs no look at the text.
    fn is_called(&self, field: &Span, name: &str) -> bool {
        field.name_len as usize == name.len()
            && self.slice(field.name, field.name_len).eq_ignore_ascii_case(name.as_bytes())
    }

    fn slice(&self, at: u32, len: u32) -> &[u8] {
        &self.text[at as usize..at as usize + len as usize]
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut text = Vec::new();
        let mut ranges = Vec::new();
        for (name, value) in fields {
            let at = text.len();
            text.extend_from_slice(name.as_ref());
            let middle = text.len();
            text.extend_from_slice(value.as_ref());
            ranges.push((at..middle, middle..text.len()));
        }
        Self::from_ranges(Bytes::from(text), ranges.into_iter())
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(
                self.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii())),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_case_and_repetition() {
        let mut headers: Headers = [("B", "1"), ("a", "x, Y ,,"), ("b", "2")].into_iter().collect();
        headers.push("A", "z");
        let seen: Vec<_> = headers.iter().collect();
        assert_eq!(seen, [(&b"B"[..], &b"1"[..]), (b"a", b"x, Y ,,"), (b"b", b"2"), (b"A", b"z")]);
        assert_eq!(headers.get("B"), Some(&b"1"[..]));
        assert_eq!(headers.get_all("b").count(), 2);
        assert_eq!(headers.tokens("a").collect::<Vec<_>>(), [&b"x"[..], b"Y", b"z"]);
        assert!(headers.has_token("A", "y") && !headers.has_token("a", "x, y"));
    }
}
