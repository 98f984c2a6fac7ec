//! What other tools' files hold and we have no field for, kept so that it can be given back unchanged.

use bytes::Bytes;

/// A value of any shape that mitmproxy's flow files know (tnetstrings).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number of any size, as decimal text.
    Int(String),
    /// A floating-point number.
    Float(f64),
    /// Raw bytes.
    Bytes(Bytes),
    /// UTF-8 text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// Key and value pairs in their order; keys are text or bytes.
    Dict(Vec<(Value, Value)>),
}

/// The part of an imported flow that is not ours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Where it came from: `mitmproxy 21`, `har 1.2`, ….
    pub format: String,
    /// The flow's id in that file.
    pub id: String,
    /// Its free metadata.
    pub metadata: Option<Value>,
    /// Fields of the file that we do not know.
    pub unknown: Option<Value>,
    /// Fields whose exact number kind or value the record alone would not give back (int or float, times in seconds),
    /// by their path in the file.
    pub exact: Vec<(String, Value)>,
    /// The flow as it was before it was edited.
    pub backup: Option<Box<super::Flow>>,
}
