//! A YAML text as a tree with places, and the two types in which the mirror of the file keeps them.
//!
//! [`At`] is a value with its place, empty when it was wrong; [`Named`] is a mapping whose keys are
//! the operator's. Both are filled by [`super::reader`].

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::complaint::Place;

/// One value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// The text as it stands in the file, where `${…}` in it was replaced.
    pub(super) typed: Option<Box<str>>,
}

/// What YAML knows. Numbers stay as typed: `1.2` may be meant as text.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(Box<str>),
    List(Vec<Node>),
    Table(Vec<(Node, Node)>),
    /// Was wrong, which is noted already: whoever reads it says nothing more.
    Spoiled,
}

impl Node {
    /// A scalar's text that may be shown: `${…}` as typed.
    pub(super) fn shown(&self) -> &str {
        match (&self.typed, &self.value) {
            (Some(typed), _) | (None, Value::Text(typed) | Value::Number(typed)) => typed,
            (None, Value::Bool(true)) => "true",
            (None, Value::Bool(false)) => "false",
            (None, Value::Null | Value::List(_) | Value::Table(_) | Value::Spoiled) => "",
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null | Value::Spoiled => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Table(_) => "a mapping",
        }
    }

    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Number(text) | Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Table(_) | Value::Spoiled => {
                None
            }
        }
    }
}

/// A value of the file with its place. Empty when it was wrong, and that is noted already.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    /// The value, unless it was wrong.
    pub(super) value: Option<T>,
    /// Where it stands.
    pub(super) place: Place,
    /// What may be shown of a scalar: `${…}` as typed, never what it stood for.
    pub(super) shown: Box<str>,
}

/// Name under which [`At`] asks the reader for value and place; no other type is called so.
pub(super) const AT: &str = "bascule::config::At";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
        let missing = || de::Error::custom("only the reader of trees gives places");
        let (file, line, column, length) = parts.next_element()?.ok_or_else(missing)?;
        let shown: String = parts.next_element()?.ok_or_else(missing)?;
        // The one place where an error is dropped on purpose: the reader has noted it.
        let value = parts.next_element().unwrap_or_default();
        let place = Place { file, line, column, length };
        Ok(At { value, place, shown: shown.into() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping whose keys are names that the operator chose, in the order of the file.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(pub(super) Vec<(At<String>, At<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Named<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry()? {
            entries.push(entry);
        }
        Ok(Named(entries))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": values })
    }
}
