//! Values of the kinds that our own members have, read off an archive one by one, straight into what they stand for.
//!
//! A value of another kind says nothing, as if it were not there: a person may have edited it. Of what is larger than the budget
//! nothing is kept: it is passed over, and told by [`Typed::whole`].

use std::io::Read;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::flow::{Headers, Value};
use crate::format::json::{JsonError, Kind, Reader};

use super::fields::{Fields, NAME_BYTES, VALUE_BYTES};
use super::foreign;

type Result<T> = std::result::Result<T, JsonError>;

/// Reads values, each of which is the next in the archive.
#[derive(Debug)]
pub(super) struct Typed<'a, R> {
    json: &'a mut Reader<R>,
    memory: &'a mut Memory,
    /// Bytes of text that may still be kept.
    budget: &'a mut usize,
    /// Where in the archive the budget ends, while a value of any length is read.
    limit: u64,
}

/// What names and words are read into, again and again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    name: String,
    word: String,
}

impl<'a, R: Read> Typed<'a, R> {
    /// Reads what comes next in `json`. Each byte of a value that is kept takes one of `budget`.
    pub(super) fn new(json: &'a mut Reader<R>, memory: &'a mut Memory, budget: &'a mut usize) -> Self {
        Self { json, memory, budget, limit: u64::MAX }
    }

    /// The reader itself.
    pub(super) fn json(&mut self) -> &mut Reader<R> {
        self.json
    }

    /// What `read` makes of a value of any length, within the budget; `None` if it is larger. It is not for values inside of one.
    ///
    /// # Errors
    /// What `read` said.
    pub(super) fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        self.json.peek()?;
        let begin = self.json.position();
        self.limit = begin.saturating_add(*self.budget as u64);
        let value = read(self)?;
        let is_within = self.is_within();
        if is_within {
            *self.budget -= usize::try_from(self.json.position() - begin).unwrap_or(*self.budget);
        }
        self.limit = u64::MAX;
        Ok(is_within.then_some(value))
    }

    fn is_within(&self) -> bool {
        self.json.position() <= self.limit
    }

    /// Reads any value and forgets it.
    ///
    /// # Errors
    /// If it is no JSON, or cannot be read; so for all that follow.
    pub(super) fn skip(&mut self) -> Result<()> {
        self.json.skip()
    }

    /// Whether a value of this kind is next; any other is passed over.
    fn is(&mut self, kind: Kind) -> Result<bool> {
        let is = self.json.peek()? == kind;
        if !is {
            self.json.skip()?;
        }
        Ok(is)
    }

    /// An object: `member` is called with the name of each member, and reads its value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        if !self.is(Kind::Object)? {
            return Ok(());
        }
        self.json.enter_object()?;
        // Objects inside of this one make do with another.
        let mut name = std::mem::take(&mut self.memory.name);
        while self.json.next_member(&mut name)? {
            member(self, &name)?;
        }
        self.memory.name = name;
        Ok(())
    }

    /// An array: `item` reads each of its values.
    pub(super) fn each(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if !self.is(Kind::Array)? {
            return Ok(());
        }
        self.json.enter_array()?;
        while self.json.next_value()? {
            if self.is_within() { item(self)? } else { self.json.skip()? }
        }
        Ok(())
    }

    /// A list of what `item` reads.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.each(|typed| {
            items.push(item(typed)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// The same of what can be missing, without what is.
    pub(super) fn some<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<Option<T>>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        self.each(|typed| {
            items.extend(item(typed)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// A whole number within the bounds of its type, which is one of integers.
    pub(super) fn int<T: FromStr>(&mut self) -> Result<Option<T>> {
        if !self.is(Kind::Number)? {
            return Ok(None);
        }
        self.json.number(&mut self.memory.word)?;
        Ok(self.memory.word.parse().ok())
    }

    /// The same; 0 where there is none.
    pub(super) fn count<T: FromStr + Default>(&mut self) -> Result<T> {
        Ok(self.int()?.unwrap_or_default())
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self) -> Result<Option<bool>> {
        if self.is(Kind::Bool)? { self.json.literal() } else { Ok(None) }
    }

    /// That of `all` which is called as the text says.
    pub(super) fn word<T: Copy>(
        &mut self,
        all: &[T],
        as_str: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>> {
        if !self.is(Kind::String)? || !self.json.text(MAX_WORD, &mut self.memory.word)? {
            return Ok(None);
        }
        Ok(all.iter().copied().find(|one| as_str(*one) == self.memory.word))
    }

    /// A text.
    pub(super) fn text(&mut self) -> Result<Option<String>> {
        if !self.is(Kind::String)? {
            return Ok(None);
        }
        let mut text = String::new();
        self.json.text(self.room(), &mut text)?;
        Ok(Some(text))
    }

    /// Bytes, as text or as `{"base64": …}`.
    pub(super) fn bytes(&mut self) -> Result<Option<Bytes>> {
        if self.json.peek()? == Kind::String {
            return Ok(self.text()?.map(Bytes::from));
        }
        let mut bytes = None;
        self.object(|typed, name| {
            match name {
                "base64" => bytes = typed.base64()?,
                _ => typed.skip()?,
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Bytes as text in base64.
    pub(super) fn base64(&mut self) -> Result<Option<Bytes>> {
        if !self.is(Kind::String)? {
            return Ok(None);
        }
        self.json.text(self.room(), &mut self.memory.word)?;
        Ok(STANDARD.decode(&self.memory.word).ok().map(Bytes::from))
    }

    /// Fields, as [`super::fields::write`] writes them.
    pub(super) fn headers(&mut self) -> Result<Headers> {
        let mut fields = Fields::new();
        self.each(|typed| {
            let (mut text, mut exact) = ([None, None], [None, None]);
            typed.object(|typed, name| {
                match name {
                    "name" => text[0] = typed.text()?,
                    "value" => text[1] = typed.text()?,
                    NAME_BYTES => exact[0] = typed.base64()?,
                    VALUE_BYTES => exact[1] = typed.base64()?,
                    _ => typed.skip()?,
                }
                Ok(())
            })?;
            let of = |at: usize| {
                exact[at].as_deref().or(text[at].as_deref().map(str::as_bytes)).unwrap_or_default()
            };
            fields.push(of(0), of(1));
            Ok(())
        })?;
        Ok(fields.into())
    }

    /// A value of another tool's file, as `extra.rs` writes it. The reader limits the depth.
    pub(super) fn value(&mut self) -> Result<Value> {
        Ok(match self.json.peek()? {
            Kind::Null | Kind::Bool => self.json.literal()?.map_or(Value::Null, Value::Bool),
            Kind::Number => {
                self.json.number(&mut self.memory.word)?;
                let number = self.memory.word.parse().ok().filter(|number: &f64| number.is_finite());
                Value::Float(number.unwrap_or_default())
            }
            Kind::String => Value::Text(self.text()?.unwrap_or_default()),
            Kind::Array => Value::List(self.list(Self::value)?),
            Kind::Object => self.marked_value()?,
        })
    }

    /// One of those that an object stands for, whose member says which; a dictionary where it says nothing.
    fn marked_value(&mut self) -> Result<Value> {
        let (mut int, mut float, mut bytes, mut dict) = (None, None, None, Vec::new());
        self.object(|typed, name| {
            match name {
                "int" => int = typed.text()?.filter(|digits| foreign::is_int(digits)),
                "float" => float = typed.text()?.and_then(|number| number.parse().ok()),
                "base64" => bytes = typed.base64()?,
                "dict" => dict = typed.list(Self::value)?,
                _ => typed.skip()?,
            }
            Ok(())
        })?;
        let marked = int.map(Value::Int).or(float.map(Value::Float)).or(bytes.map(Value::Bytes));
        Ok(marked.unwrap_or_else(|| {
            let mut pairs = Vec::with_capacity(dict.len() / 2);
            let mut items = dict.into_iter();
            while let (Some(key), Some(of)) = (items.next(), items.next()) {
                pairs.push((key, of));
            }
            Value::Dict(pairs)
        }))
    }

    /// How long a text may be.
    fn room(&self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.json.position())).unwrap_or(usize::MAX)
    }
}

/// None of ours is half as long.
const MAX_WORD: usize = 64;
