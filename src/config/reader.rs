//! Reads a tree into the mirror structs of [`super::raw`] without stopping at the first mistake.
//!
//! serde stops there; this reader notes the mistake, leaves the [`At`] around it empty and reads on.
//! Unknown and repeated keys are noted too, with the nearest known one or the first.

use std::collections::HashMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::complaint::{Complaints, Place};
use super::nearest;
use super::tree::{AT, At, Node, Value};

/// Reads a tree into a mirror struct; every mistake is noted, none is returned.
pub(super) fn read<T: for<'de> Deserialize<'de>>(node: &Node, complaints: &Complaints) -> At<T> {
    let reader = Reader { node, complaints };
    At::deserialize(reader).unwrap_or(At { value: None, place: node.place, shown: "".into() })
}

/// A mistake on its way to the reader, which knows the place.
#[derive(Debug)]
enum Mistake {
    /// Noted.
    Said,
    /// Not yet.
    Unsaid(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said => f.write_str("noted"),
            Self::Unsaid(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unsaid(message.to_string())
    }
}

mod choice;

use choice::Choice;

/// serde's view of one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    complaints: &'a Complaints,
}

impl<'a> Reader<'a> {
    fn of(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    /// Notes that something else was expected here.
    fn expected(self, what: &str, mend: &str) -> Mistake {
        if matches!(self.node.value, Value::Spoiled) {
            return Mistake::Said;
        }
        let (kind, shown) = (self.node.kind(), self.node.shown());
        let found = if shown.is_empty() { kind.to_owned() } else { format!("{kind}, `{shown}`") };
        self.complaints.error(
            self.node.place,
            format_args!("{what} is expected, found {found}"),
            mend,
        );
        Mistake::Said
    }

    /// Notes what a visitor refused, unless that is done already.
    fn noted<T>(self, result: Result<T, Mistake>) -> Result<T, Mistake> {
        result.map_err(|mistake| {
            if let Mistake::Unsaid(message) = mistake {
                self.complaints.error(self.node.place, message, "it cannot be used so");
            }
            Mistake::Said
        })
    }

    fn whole_number(self) -> Result<u64, Mistake> {
        const MEND: &str = "write digits only, without sign, point or unit";
        match &self.node.value {
            Value::Number(text) => text.parse().ok(),
            // What came from `${…}` is text, and may well be digits.
            Value::Text(text) if self.node.typed.is_some() => text.trim().parse().ok(),
            Value::Null
            | Value::Bool(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Spoiled => None,
        }
        .ok_or_else(|| self.expected("a whole number", MEND))
    }

    fn number<'de, V: Visitor<'de>>(self, limit: u64, visitor: V) -> Result<V::Value, Mistake> {
        let number = self.whole_number()?;
        if number > limit {
            return Err(self.expected(&format!("at most {limit}"), "it does not fit"));
        }
        self.noted(visitor.visit_u64(number))
    }

    /// The entries of a mapping without unknown and repeated keys, each noted. `known`: which keys
    /// there are; `None`: any name.
    fn entries(self, known: Option<&[&str]>) -> Result<Vec<(&'a Node, &'a Node)>, Mistake> {
        let Value::Table(entries) = &self.node.value else {
            let mend = match known {
                Some(keys) => format!("the keys known here are {}", listed(keys)),
                None => "write `name: value` lines, indented alike".to_owned(),
            };
            return Err(self.expected("a mapping", &mend));
        };
        let mut kept: Vec<(&Node, &Node)> = Vec::with_capacity(entries.len());
        let mut seen = HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            if let Some(keys) = known.filter(|keys| !keys.contains(&key.shown())) {
                self.unknown_key(key, keys);
            } else if let Some(first) = seen.insert(key.shown(), key.place.line) {
                seen.insert(key.shown(), first);
                self.duplicate_key(key, first);
            } else {
                kept.push((key, value));
            }
        }
        Ok(kept)
    }

    fn unknown_key(self, key: &Node, known: &[&str]) {
        let what = format!("unknown key `{}`", key.shown());
        let mend = match nearest(key.shown(), known.iter().copied()) {
            Some(near) => {
                format!("nothing would follow from it; the nearest known key is `{near}`")
            }
            None => {
                format!("nothing would follow from it; the keys known here are {}", listed(known))
            }
        };
        self.complaints.error(key.place, what, &mend);
    }

    fn duplicate_key(self, key: &Node, first: u32) {
        let what = format!("`{}` is here a second time", key.shown());
        let mend = format!("only one of them could count; the first is in line {first}, keep one");
        self.complaints.error(key.place, what, &mend);
    }
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} and `{last}`", first.join(", "))
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Mistake> {
        // The mirror names every type; a new one has to be added below.
        Err(self
            .expected("another kind of value", "this is a mistake in the program, not in the file"))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.node.scalar() {
            Some(text) => self.noted(visitor.visit_str(text)),
            None => Err(self.expected("text", "write a word, or text in quotes")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.number(u8::MAX.into(), visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.number(u16::MAX.into(), visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.number(u32::MAX.into(), visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        // A key that is left out never gets here. One with nothing behind it would stand for its default,
        // which is seldom what was meant.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        if name == AT {
            visitor.visit_seq(Parts { reader: self, next: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::List(items) => {
                self.noted(visitor.visit_seq(Items { reader: self, items: items.iter() }))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Table(_)
            | Value::Spoiled => {
                Err(self
                    .expected("a list", "put `- ` before each item, or the items in [brackets]"))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let entries = self.entries(None)?;
        self.noted(visitor.visit_map(Entries {
            reader: self,
            entries: entries.into_iter(),
            value: None,
        }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let entries = self.entries(Some(known))?;
        self.noted(visitor.visit_map(Entries {
            reader: self,
            entries: entries.into_iter(),
            value: None,
        }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let (word, value) = match &self.node.value {
            Value::Table(entries) if let [(key, value)] = entries.as_slice() => {
                (key.scalar().unwrap_or_default(), Some(self.of(value)))
            }
            _ => (self.node.scalar().unwrap_or_default(), None),
        };
        if !known.contains(&word) {
            let near = nearest(self.node.shown(), known.iter().copied());
            let mend = near.map_or_else(String::new, |near| format!("the nearest one is `{near}`"));
            let mend = if mend.is_empty() { "choose one of them".to_owned() } else { mend };
            return Err(self.expected(&format!("one of {}", listed(known)), &mend));
        }
        self.noted(visitor.visit_enum(Choice { word, value }))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct ignored_any
    }
}

/// The three parts of an [`At`]: place, what may be shown, the value.
struct Parts<'a> {
    reader: Reader<'a>,
    next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        self.next += 1;
        let node = self.reader.node;
        match self.next {
            1 => {
                let Place { file, line, column, length } = node.place;
                let numbers = [file, line, column, length].into_iter();
                seed.deserialize(de::value::SeqDeserializer::new(numbers)).map(Some)
            }
            2 => seed.deserialize(StrDeserializer::new(node.shown())).map(Some),
            3 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        self.items.next().map(|node| seed.deserialize(self.reader.of(node))).transpose()
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    entries: std::vec::IntoIter<(&'a Node, &'a Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mistake> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(self.reader.of(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        match self.value.take() {
            Some(node) => seed.deserialize(self.reader.of(node)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}
