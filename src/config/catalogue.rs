//! Known edge providers, shipped as data: where each sits, which laws may reach it, how its answers are
//! recognised and what it does with errors. `catalogue.yaml` beside this file says of every fact what it
//! rests on.
//!
//! In: a provider's name. Out: a [`Known`] one, read once a process. Facts, never orders: what a
//! configuration says itself wins, and nothing that is disputed is ever filled in.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};

use super::yaml::{self, YamlError};
use crate::model::habit::{Habits, OwnPage};
use crate::model::id::Label;
use crate::model::place::Country;

const TEXT: &str = include_str!("catalogue.yaml");

static CATALOGUE: LazyLock<Vec<Known>> =
    LazyLock::new(|| read(TEXT).expect("a test reads every entry of the text that is shipped"));

/// Every known provider, in the order of the list.
pub fn all() -> &'static [Known] {
    &CATALOGUE
}

/// The provider of that name, if it is in the list.
pub fn known(name: &str) -> Option<&'static Known> {
    CATALOGUE.iter().find(|known| known.sheet.id == name)
}

/// A provider of the list, with what code goes by beside what people read.
#[derive(Clone, Debug)]
pub struct Known {
    /// As in the list.
    pub sheet: Sheet,
    /// Country of the legal entity.
    pub seat: Country,
    /// Whose law from outside the EU reaches it; none where that is disputed.
    pub subject_to: Vec<Country>,
    /// Whose law may reach it: the group has a presence there.
    pub disputed: Vec<Country>,
    /// What it is known to share with others.
    pub substrates: Vec<Label>,
    /// What it does with errors.
    pub habits: Habits,
    marks: Vec<Mark>,
}

impl Known {
    /// Whether an answer carries anything by which this provider is recognised; `None` where nothing
    /// of the kind is known.
    pub fn recognised(&self, headers: &HeaderMap) -> Option<bool> {
        let carries = |mark: &Mark| {
            let mut values = headers.get_all(&mark.header).iter();
            values.any(|value| mark.part.is_in(&value.as_bytes().to_ascii_lowercase()))
        };
        (!self.marks.is_empty()).then(|| self.marks.iter().any(carries))
    }

    /// What both are known, or thought, to share; `None` where nothing is.
    pub fn shares_with(&self, other: &Known) -> Option<Shared<'_>> {
        if let Some(common) = self.substrates.iter().find(|s| other.substrates.contains(s)) {
            return Some(Shared::Known(common.as_str()));
        }
        let is_or_is_on = |name: &&String, other: &Known| {
            other.sheet.id == **name || other.substrates.iter().any(|s| s.as_str() == name.as_str())
        };
        let perhaps = self
            .sheet
            .perhaps_on
            .iter()
            .find(|name| is_or_is_on(name, other) || other.sheet.perhaps_on.contains(name));
        perhaps.map(|name| Shared::Perhaps(name))
    }
}

/// What two providers have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shared<'a> {
    /// By a fact of the list.
    Known(&'a str),
    /// By an inference of it.
    Perhaps(&'a str),
}

/// What a header field of its answers looks like.
#[derive(Clone, Debug)]
struct Mark {
    header: HeaderName,
    part: Part,
}

/// Of a value, in lower case.
#[derive(Clone, Debug)]
enum Part {
    Anything,
    Beginning(Vec<u8>),
    Within(Vec<u8>),
}

impl Part {
    fn is_in(&self, value: &[u8]) -> bool {
        match self {
            Self::Anything => true,
            Self::Beginning(part) => value.starts_with(part),
            Self::Within(part) => value.windows(part.len().max(1)).any(|window| window == part),
        }
    }
}

/// What a fact rests on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sure {
    /// Read for this list at the place that is named.
    Verified,
    /// A source is named, and was not read again.
    Source,
    /// From memory, or inferred.
    Unverified,
}

impl Sure {
    /// As written in the list.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Source => "source",
            Self::Unverified => "unverified",
        }
    }
}

/// One fact, and what it rests on.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fact<T> {
    /// The fact.
    pub is: T,
    /// How sure it is.
    pub sure: Sure,
    /// URL of what says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// One provider as the list has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// The name that a configuration calls it by.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// The legal entity.
    pub entity: Fact<String>,
    /// ISO 3166 country of that.
    pub seat: Fact<String>,
    /// Laws from outside the EU.
    pub reach: Reach,
    /// What it takes as the origin.
    pub origin: Fact<Origin>,
    /// Names that it gives to what it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Fact<Vec<String>>>,
    /// Fields of its answers; any one is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<Fingerprint>,
    /// What it does with errors, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
    /// What it shares with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substrate: Option<Fact<Vec<String>>>,
    /// Providers or substrates that it may run on; always unverified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perhaps_on: Vec<String>,
    /// Where it says how it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Fact<String>>,
    /// What else to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// Which laws from outside the EU reach a company.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// How.
    pub is: ReachKind,
    /// Whose laws, by ISO 3166 country.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// How sure it is.
    pub sure: Sure,
    /// URL of what says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// How a law reaches a company.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReachKind {
    /// It is incorporated or controlled under it.
    Direct,
    /// The group has a presence there.
    Disputed,
    /// Nothing of the kind was found.
    NoneKnown,
}

/// What a provider takes as the origin.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Any server.
    Any,
    /// Something else that it sells.
    OwnProducts,
}

/// A field by which its answers are recognised.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Its name.
    pub header: String,
    /// How its value begins, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<String>,
    /// What its value contains, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How sure it is.
    pub sure: Sure,
    /// URL of what says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What it does with errors, by status.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// It could not reach the origin, or got no usable answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leg: Vec<u16>,
    /// Its own failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<u16>,
    /// Its page stands in place of the origin's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<u16>,
    /// What only its own pages carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_page: Option<OwnPageSheet>,
    /// How sure it is.
    pub sure: Sure,
    /// URL of what says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// A field that only its own error pages carry.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPageSheet {
    /// Its name.
    pub header: String,
    /// Beginnings of values that are about the way to the origin.
    #[serde(default)]
    pub leg: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    version: u32,
    providers: Vec<Sheet>,
}

/// Why a text is no catalogue.
#[derive(Debug, thiserror::Error)]
enum CatalogueError {
    #[error("not the YAML that was expected")]
    Yaml(#[from] YamlError),
    #[error("version {0} is not known here")]
    Version(u32),
    #[error("{id}: `{value}` cannot be used")]
    Value { id: String, value: String },
}

fn read(text: &str) -> Result<Vec<Known>, CatalogueError> {
    let Catalogue { version, providers } = yaml::parse(text)?;
    if version != 1 {
        return Err(CatalogueError::Version(version));
    }
    providers.into_iter().map(lower).collect()
}

fn lower(sheet: Sheet) -> Result<Known, CatalogueError> {
    let id = sheet.id.as_str();
    label(id, id)?;
    let seat = country(id, &sheet.seat.is)?;
    let by: Result<Vec<Country>, _> = sheet.reach.by.iter().map(|code| country(id, code)).collect();
    let (subject_to, disputed) = match sheet.reach.is {
        ReachKind::Direct => (by?, Vec::new()),
        ReachKind::Disputed => (Vec::new(), by?),
        ReachKind::NoneKnown => (Vec::new(), Vec::new()),
    };
    let shared = sheet.substrate.iter().flat_map(|fact| &fact.is);
    let substrates: Result<Vec<Label>, _> = shared.map(|name| label(id, name)).collect();
    let marks: Result<Vec<Mark>, _> = sheet.fingerprints.iter().map(|f| mark(id, f)).collect();
    let habits = sheet.errors.as_ref().map_or(Ok(Habits::default()), |errors| habits(id, errors));
    let (substrates, marks, habits) = (substrates?, marks?, habits?);
    Ok(Known { seat, subject_to, disputed, substrates, habits, marks, sheet })
}

fn refused(id: &str, value: impl Into<String>) -> CatalogueError {
    CatalogueError::Value { id: id.to_owned(), value: value.into() }
}

fn country(id: &str, code: &str) -> Result<Country, CatalogueError> {
    Country::new(code).ok_or_else(|| refused(id, code))
}

fn label(id: &str, name: &str) -> Result<Label, CatalogueError> {
    Label::new(name).ok_or_else(|| refused(id, name))
}

fn header(id: &str, name: &str) -> Result<HeaderName, CatalogueError> {
    name.parse().map_err(|_| refused(id, name))
}

fn mark(id: &str, fingerprint: &Fingerprint) -> Result<Mark, CatalogueError> {
    let lowered = |text: &str| text.to_ascii_lowercase().into_bytes();
    let part = match (&fingerprint.begins, &fingerprint.contains) {
        (None, None) => Part::Anything,
        (Some(text), None) => Part::Beginning(lowered(text)),
        (None, Some(text)) => Part::Within(lowered(text)),
        (Some(text), Some(_)) => return Err(refused(id, text)),
    };
    Ok(Mark { header: header(id, &fingerprint.header)?, part })
}

fn habits(id: &str, errors: &Errors) -> Result<Habits, CatalogueError> {
    let statuses = |codes: &[u16]| -> Result<Vec<StatusCode>, CatalogueError> {
        let status = |code: &u16| {
            let status = StatusCode::from_u16(*code).ok().filter(StatusCode::is_server_error);
            status.ok_or_else(|| refused(id, code.to_string()))
        };
        codes.iter().map(status).collect()
    };
    let own_page = errors.own_page.as_ref().map(|page| {
        let leg = page.leg.iter().map(|begin| begin.as_str().into()).collect();
        header(id, &page.header).map(|header| OwnPage { header, leg })
    });
    Ok(Habits {
        leg: statuses(&errors.leg)?,
        own: statuses(&errors.own)?,
        replaced: statuses(&errors.replaced)?,
        own_page: own_page.transpose()?,
    })
}

#[cfg(test)]
mod tests;
