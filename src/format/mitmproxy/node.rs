//! The state of a flow: a value whose large parts are elsewhere, and how two of them differ.

use std::borrow::Cow;

use bytes::Bytes;

use super::frames::Frames;
use super::messages::Messages;
use super::{schema, value};
use crate::flow::{Content, Headers, Value};
use crate::format::transfer::Part;

/// A value in a flow's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// One that is here.
    Value(Value),
    /// A dict of known keys.
    Dict(Dict),
    /// The bytes of a body.
    Body(BodyNode),
    /// The messages of a WebSocket, or of a TCP or UDP flow.
    Messages(Messages),
    /// Header fields: a list of pairs of bytes.
    Fields(Headers),
    /// A dict as it stands in a file.
    Written(Bytes),
}

/// Where the bytes of a body are.
#[derive(Debug, Clone)]
pub(super) struct BodyNode {
    pub(super) part: Part,
    pub(super) len: u64,
    /// Of a body that was read, what the sink gave for it.
    pub(super) content: Content,
}

impl PartialEq for BodyNode {
    fn eq(&self, other: &Self) -> bool {
        (self.part, self.len) == (other.part, other.len)
    }
}

/// Keys and values in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Dict(pub(super) Vec<(Cow<'static, str>, Node)>);

impl Node {
    pub(super) const NULL: Node = Node::Value(Value::Null);

    pub(super) fn text(text: impl Into<String>) -> Node {
        Node::Value(Value::Text(text.into()))
    }

    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Node {
        Node::Value(Value::Bytes(bytes.into()))
    }

    pub(super) fn bool(truth: bool) -> Node {
        Node::Value(Value::Bool(truth))
    }

    pub(super) fn int(number: impl ToString) -> Node {
        Node::Value(Value::Int(number.to_string()))
    }

    /// What `value` gives, or null.
    pub(super) fn or_null<T>(value: Option<T>, node: impl FnOnce(T) -> Node) -> Node {
        value.map_or(Node::NULL, node)
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Node::NULL
    }

    pub(super) fn as_value(&self) -> Option<&Value> {
        if let Node::Value(value) = self { Some(value) } else { None }
    }

    pub(super) fn as_dict(&self) -> Option<&Dict> {
        if let Node::Dict(dict) = self { Some(dict) } else { None }
    }

    pub(super) fn as_dict_mut(&mut self) -> Option<&mut Dict> {
        if let Node::Dict(dict) = self { Some(dict) } else { None }
    }

    /// The same with dicts opened: those whose keys are all words, `levels` deep.
    pub(super) fn open(value: Value, levels: usize) -> Node {
        match value {
            Value::Dict(pairs) if levels > 0 && pairs.iter().all(|(key, _)| word(key).is_some()) => {
                let open = |(key, value): (Value, Value)| {
                    Some((schema::name(word(&key)?), Node::open(value, levels - 1)))
                };
                Node::Dict(Dict(pairs.into_iter().filter_map(open).collect()))
            }
            value => Node::Value(value),
        }
    }

    /// The same as a plain value. `None` if a part of it is elsewhere.
    pub(super) fn closed(&self) -> Option<Value> {
        match self {
            Node::Value(value) => Some(value.clone()),
            Node::Dict(Dict(pairs)) => {
                let pair = |(key, node): &(Cow<'static, str>, Node)| {
                    Some((Value::Text(key.clone().into_owned()), node.closed()?))
                };
                pairs.iter().map(pair).collect::<Option<_>>().map(Value::Dict)
            }
            Node::Fields(fields) => {
                let bytes = |bytes: &[u8]| Value::Bytes(Bytes::copy_from_slice(bytes));
                let pair = |(name, value): (&[u8], &[u8])| Value::List(vec![bytes(name), bytes(value)]);
                Some(Value::List(fields.iter().map(pair).collect()))
            }
            Node::Body(_) | Node::Messages(_) | Node::Written(_) => None,
        }
    }

    /// How many bytes it has in a file.
    pub(super) fn encoded_len(&self) -> u64 {
        match self {
            Node::Value(value) => value::encoded_len(value),
            Node::Dict(dict) => value::framed_len(dict.payload_len()),
            Node::Body(body) => value::framed_len(body.len),
            Node::Messages(messages) => value::framed_len(messages.payload_len),
            Node::Fields(fields) => {
                let len = |bytes: &[u8]| value::framed_len(bytes.len() as u64);
                value::framed_len(fields.iter().map(|(n, v)| value::framed_len(len(n) + len(v))).sum())
            }
            Node::Written(bytes) => bytes.len() as u64,
        }
    }

    /// Writes it, with gaps for what is elsewhere.
    pub(super) fn write<'n>(&'n self, out: &mut Frames<'n>) {
        match self {
            Node::Value(value) => value::write(value, out),
            Node::Dict(dict) => dict.write(out),
            Node::Body(body) => out.gap(body.len, b',', self),
            Node::Messages(messages) => out.gap(messages.payload_len, b']', self),
            Node::Fields(fields) => out.framed(b']', |out| {
                for (name, value) in fields.iter() {
                    out.framed(b']', |out| {
                        out.scalar(name, b',');
                        out.scalar(value, b',');
                    });
                }
            }),
            Node::Written(bytes) => out.bytes.extend_from_slice(bytes),
        }
    }
}

impl Dict {
    pub(super) fn of<const N: usize>(pairs: [(&'static str, Node); N]) -> Dict {
        Dict(pairs.into_iter().map(|(key, node)| (Cow::Borrowed(key), node)).collect())
    }

    /// Writes it, with gaps for what is elsewhere.
    pub(super) fn write<'n>(&'n self, out: &mut Frames<'n>) {
        out.framed(b'}', |out| {
            for (key, node) in &self.0 {
                out.scalar(key.as_bytes(), b';');
                node.write(out);
            }
        });
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find_map(|(name, node)| (name == key).then_some(node))
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find_map(|(name, node)| (name == key).then_some(node))
    }

    pub(super) fn dict(&self, key: &str) -> Option<&Dict> {
        self.get(key).and_then(Node::as_dict)
    }

    pub(super) fn dict_mut(&mut self, key: &str) -> Option<&mut Dict> {
        self.get_mut(key).and_then(Node::as_dict_mut)
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.get(key).and_then(Node::as_value)
    }

    /// The text there; `None` also of another type.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        if let Some(Value::Text(text)) = self.value(key) { Some(text) } else { None }
    }

    pub(super) fn bytes(&self, key: &str) -> Option<&Bytes> {
        if let Some(Value::Bytes(bytes)) = self.value(key) { Some(bytes) } else { None }
    }

    pub(super) fn truth(&self, key: &str) -> Option<bool> {
        if let Some(Value::Bool(truth)) = self.value(key) { Some(*truth) } else { None }
    }

    /// The whole number there, if it is one of `T`.
    pub(super) fn int<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        if let Some(Value::Int(text)) = self.value(key) { text.parse().ok() } else { None }
    }

    /// The number there, of either kind.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.value(key).and_then(as_number)
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Puts `node` there: in its place, or at the end.
    pub(super) fn set(&mut self, key: &str, node: Node) {
        match self.get_mut(key) {
            Some(place) => *place = node,
            None => self.0.push((schema::name(key), node)),
        }
    }

    pub(super) fn payload_len(&self) -> u64 {
        let pair = |(key, node): &(Cow<'static, str>, Node)| {
            value::framed_len(key.len() as u64) + node.encoded_len()
        };
        self.0.iter().map(pair).sum()
    }
}

/// The number of either kind.
pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(float) => Some(*float),
        Value::Int(text) => text.parse().ok(),
        _ => None,
    }
}

/// A key as a word; old files have them as bytes.
pub(super) fn word(key: &Value) -> Option<&str> {
    let text = match key {
        Value::Text(text) => text,
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?,
        _ => return None,
    };
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_word.then_some(text)
}

/// What has to be changed in `made` so that it is `wanted`: values by their path, and, under a path that ends in `*`, the keys
/// of a dict where they are others or in another order. What is elsewhere is not compared.
pub(super) fn differences(made: &Dict, wanted: &Dict) -> Vec<(String, Value)> {
    differences_at("", made, wanted)
}

/// The same of two dicts at a path, which ends in a dot.
pub(super) fn differences_at(path: &str, made: &Dict, wanted: &Dict) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    differences_below(path, made, wanted, &mut found);
    found
}

fn differences_below(path: &str, made: &Dict, wanted: &Dict, found: &mut Vec<(String, Value)>) {
    for (key, wanted) in &wanted.0 {
        match (made.get(key), wanted) {
            (Some(Node::Dict(made)), Node::Dict(wanted)) => {
                differences_below(&format!("{path}{key}."), made, wanted, found);
            }
            (Some(made), wanted) if same(made, wanted) => {}
            (_, wanted) => found.extend(wanted.closed().map(|value| (format!("{path}{key}"), value))),
        }
    }
    if !made.0.iter().map(|(key, _)| key).eq(wanted.0.iter().map(|(key, _)| key)) {
        let keys = wanted.0.iter().map(|(key, _)| Value::Text(key.clone().into_owned()));
        found.push((format!("{path}*"), Value::List(keys.collect())));
    }
}

/// Whether both are written alike: two floats that are no number are.
fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Value(Value::Float(a)), Node::Value(Value::Float(b))) => {
            a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
        }
        _ => a == b,
    }
}

/// Makes the changes that [`differences`] found.
pub(super) fn change<'a>(made: &mut Dict, differences: impl Iterator<Item = &'a (String, Value)>) {
    for (path, value) in differences {
        let mut dict = &mut *made;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            if steps.peek().is_none() {
                match (step, value) {
                    ("*", Value::List(keys)) => reorder(dict, keys),
                    _ => dict.set(step, Node::open(value.clone(), 1)),
                }
                break;
            }
            let Some(next) = dict.dict_mut(step) else { break };
            dict = next;
        }
    }
}

/// Keeps the pairs with these keys, in their order.
fn reorder(dict: &mut Dict, keys: &[Value]) {
    let mut left = std::mem::take(dict);
    for key in keys {
        if let Value::Text(key) = key
            && let Some(node) = left.remove(key)
        {
            dict.0.push((schema::name(key), node));
        }
    }
}
