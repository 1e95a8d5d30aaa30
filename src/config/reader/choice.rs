//! A word out of several: bare, or the one key of a mapping that says more.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::{Mistake, Reader};

/// `word`, or `{ word: value }`.
pub(super) struct Choice<'a> {
    pub(super) word: &'a str,
    pub(super) value: Option<Reader<'a>>,
}

impl<'de, 'a> EnumAccess<'de> for Choice<'a> {
    type Error = Mistake;
    type Variant = More<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, More<'a>), Mistake> {
        let Self { word, value } = self;
        let name: StrDeserializer<'_, Mistake> = word.into_deserializer();
        seed.deserialize(name).map(|variant| (variant, More { word, value }))
    }
}

/// What the word says more, if anything.
pub(super) struct More<'a> {
    word: &'a str,
    value: Option<Reader<'a>>,
}

impl<'de> VariantAccess<'de> for More<'_> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.value {
            None => Ok(()),
            Some(value) => Err(value.expected("nothing", "write the word alone")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mistake> {
        match self.value {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom(format!(
                "`{0}` needs a value; write `{{ {0}: … }}`",
                self.word
            ))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Mistake> {
        Err(de::Error::custom("a list is no choice"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Mistake> {
        Err(de::Error::custom("a mapping is no choice"))
    }
}
