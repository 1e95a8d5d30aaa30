//! YAML text to values, within bounds: the one file that names the YAML crate.
//!
//! [`parse`] reads text into any type and stops at the first mistake. `tree` keeps everything, with
//! its places, for readers that want to name every mistake at once.
//!
//! Bounded by the budgets below: depth (10,000 levels), nodes and aliases (a bomb of references) all
//! end in an error in well under a second.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Location, Options, Spanned, UserMessageFormatter};

use super::complaint::Place;
use super::tree::{Node, Value};

/// Scalars, lists and mappings of one text, references resolved: as many as it has bytes, which is more
/// than any needs that does not multiply itself by references, but within these.
const NODES: RangeInclusive<usize> = 20_000..=500_000;
/// Lists and mappings inside one another.
const MAX_DEPTH: usize = 32;
/// References (`*name`) of one text.
const MAX_ALIASES: usize = 1_000;

/// Why a text is not the YAML that was expected, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// From 1; 0 when it concerns the text as a whole.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// Reads a text into `T`. Unknown keys are errors where `T` says `deny_unknown_fields`; duplicate
/// keys always are.
///
/// # Errors
/// The first mistake.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_yaml::from_str_with_options(text, options(text, DuplicateKeyPolicy::Error)).map_err(told)
}

/// Reads a text as it stands; duplicate keys are kept for the reader of the tree to name.
pub(super) fn tree(file: u32, text: &str) -> Result<Node, YamlError> {
    let options = options(text, DuplicateKeyPolicy::PassThrough);
    let bare: Spanned<Bare> = serde_yaml::from_str_with_options(text, options).map_err(told)?;
    Ok(Planter { file, text }.node(bare))
}

fn options(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Options {
    let nodes = text.len().clamp(*NODES.start(), *NODES.end());
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: nodes,
            max_events: 4 * nodes,
            max_depth: MAX_DEPTH,
            max_aliases: MAX_ALIASES,
            max_documents: 1,
        },
        duplicate_keys: duplicate_keys,
        // `no` stays text: it is the country code of Norway.
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn told(error: serde_yaml::Error) -> YamlError {
    let (line, column) = error.location().map_or((0, 0), start);
    let rendered = error.render_with_formatter(&UserMessageFormatter);
    // The place is kept apart from the words.
    let message = rendered.split(" at line ").next().unwrap_or_default();
    let message = if message.contains("Documents {") {
        "a second document begins here, and a file holds one".to_owned()
    } else if message.contains("limits breached") {
        format!(
            "this is too much: at most {} values (as many as it has bytes), {MAX_DEPTH} levels deep, with \
             {MAX_ALIASES} references",
            NODES.end()
        )
    } else {
        message.to_owned()
    };
    YamlError { line, column, message }
}

/// Saturating: files are bounded far below.
fn start(location: Location) -> (u32, u32) {
    (location.line() as u32, location.column() as u32)
}

/// What the parser made of a node, before it knows its file.
enum Bare {
    Null,
    Bool(bool),
    Number,
    Text(Box<str>),
    List(Vec<Spanned<Bare>>),
    Table(Vec<(Spanned<String>, Spanned<Bare>)>),
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bare, E> {
        Ok(Bare::Bool(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Bare, E> {
        Ok(Bare::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Bare, E> {
        Ok(Bare::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Bare, E> {
        Ok(Bare::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Bare, E> {
        Ok(Bare::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Bare, E> {
        Ok(Bare::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Bare, E> {
        Ok(Bare::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bare, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Bare::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Bare, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry()? {
            entries.push(entry);
        }
        Ok(Bare::Table(entries))
    }
}

/// Gives every node its file and its text as typed.
struct Planter<'a> {
    file: u32,
    text: &'a str,
}

impl Planter<'_> {
    /// As deep as the text, which the budget bounds.
    fn node(&self, Spanned { value, referenced, defined }: Spanned<Bare>) -> Node {
        let typed = self.typed(defined);
        let place = self.place(referenced, &value);
        let value = match value {
            Bare::Null => Value::Null,
            Bare::Bool(value) => Value::Bool(value),
            Bare::Number => Value::Number(typed.into()),
            Bare::Text(text) => Value::Text(text),
            Bare::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Bare::Table(entries) => {
                let entries = entries.into_iter();
                Value::Table(
                    entries.map(|(key, value)| (self.key(key), self.node(value))).collect(),
                )
            }
        };
        Node { place, value, typed: None }
    }

    fn key(&self, key: Spanned<String>) -> Node {
        let value = Bare::Text(key.value.into());
        self.node(Spanned::new(value, key.referenced, key.defined))
    }

    /// The source text of a scalar.
    fn typed(&self, location: Location) -> &str {
        let span = location.span();
        let range = span.byte_offset().zip(span.byte_len());
        let range = range.map(|(from, length)| from as usize..(from + length) as usize);
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }

    fn place(&self, location: Location, value: &Bare) -> Place {
        let (line, column) = start(location);
        let length = match value {
            Bare::List(_) | Bare::Table(_) | Bare::Null => 1,
            Bare::Bool(_) | Bare::Number | Bare::Text(_) => {
                let first_line = self.typed(location).lines().next().unwrap_or_default();
                first_line.chars().count() as u32
            }
        };
        Place { file: self.file, line, column, length }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_text_is_read_into_a_type_or_refused_with_its_place() {
        let good: BTreeMap<String, u8> = parse("a: 1\nb: 2\n").expect("good");
        assert_eq!(good.len(), 2);
        let bad = parse::<BTreeMap<String, u8>>("a: 1\nb: [\n").expect_err("unclosed");
        assert_eq!(bad.line, 2, "{bad}");
        let twice = parse::<BTreeMap<String, u8>>("a: 1\na: 2\n").expect_err("twice");
        assert_eq!((twice.line, twice.column), (2, 1), "{twice}");
    }

    #[test]
    fn bombs_end_in_an_error_and_not_in_memory() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        let stairs = (0..10_000).map(|level| format!("{}a:\n", " ".repeat(level.min(500))));
        for text in [
            bomb,
            "[".repeat(10_000),
            "{a: ".repeat(10_000),
            "- ".repeat(10_000),
            stairs.collect(),
            format!("a: [{}]", "1,".repeat(*NODES.end())),
            "a: &a [*a]".to_owned(),
        ] {
            assert!(tree(0, &text).is_err(), "{}", text.chars().take(60).collect::<String>());
        }
    }

    #[test]
    fn norway_is_not_a_boolean() {
        let table: BTreeMap<String, String> = parse("seat: NO").expect("text");
        assert_eq!(table["seat"], "NO");
    }
}
