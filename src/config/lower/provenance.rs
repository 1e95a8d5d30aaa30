//! What a provider is, and what a service asks of it: countries, qualifications, residency.

use super::context::Context;
use crate::config::raw::RawResidency;
use crate::config::tree::At;
use crate::config::values::Flaw;
use crate::model::id::Label;
use crate::model::place::{Area, Country, Residency};
use crate::model::realm::Charter;

/// Countries or qualifications of one list.
const MOST: usize = 64;

/// The countries that count as the EU.
pub(super) fn area(context: &Context<'_>, eu_also: Option<At<Vec<At<String>>>>) -> Area {
    Area::with(countries(context, "eu_also", eu_also))
}

/// A list of countries; those that are none are left out after a complaint.
pub(super) fn countries(
    context: &Context<'_>,
    key: &str,
    listed: Option<At<Vec<At<String>>>>,
) -> Vec<Country> {
    let all = entries(context, key, listed);
    let mut found: Vec<Country> =
        all.iter().filter_map(|at| context.parsed(key, at, country)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A list of qualifications, in order, each once.
pub(super) fn qualifications(
    context: &Context<'_>,
    listed: Option<At<Vec<At<String>>>>,
) -> Vec<Label> {
    let all = entries(context, "qualifications", listed);
    let mut found: Vec<Label> =
        all.iter().filter_map(|at| context.label("qualification", at)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What may carry the requests: what is said here, over what is said above.
pub(super) fn charter(
    context: &Context<'_>,
    residency: Option<At<RawResidency>>,
    require: Option<At<Vec<At<String>>>>,
    base: &Charter,
) -> Charter {
    let residency = match residency.and_then(|at| at.value) {
        None => base.residency,
        Some(RawResidency::Any) => Residency::Any,
        Some(RawResidency::PreferEu) => Residency::PreferEu,
        Some(RawResidency::EuOnly) => Residency::EuOnly,
    };
    let require = match require {
        None => base.require.clone(),
        listed @ Some(_) => qualifications(context, listed),
    };
    Charter { residency, require }
}

fn entries(
    context: &Context<'_>,
    key: &str,
    listed: Option<At<Vec<At<String>>>>,
) -> Vec<At<String>> {
    let Some(listed) = listed else { return Vec::new() };
    let entries = listed.value.unwrap_or_default();
    if entries.len() > MOST {
        let what = format!("`{key}` holds {}", entries.len());
        context.complaints.error(listed.place, what, &format!("at most {MOST}"));
    }
    entries
}

/// A country by its two letters.
pub(super) fn country(text: &str) -> Result<Country, Flaw> {
    Country::new(text).ok_or_else(|| {
        let upper = text.trim().to_ascii_uppercase();
        Flaw::new(match upper.as_str() {
            "UK" => "the code of the United Kingdom is `GB`".to_owned(),
            "EL" => "the code of Greece is `GR`".to_owned(),
            "EU" => "the EU is no country; name the one where the legal entity sits".to_owned(),
            _ if upper != text && Country::new(&upper).is_some() => format!("write `{upper}`"),
            _ => "write the two letters of ISO 3166, as in `FR`".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_that_is_no_country_gets_the_likely_one() {
        for (text, says) in [
            ("UK", "`GB`"),
            ("fr", "write `FR`"),
            ("EU", "no country"),
            ("XX", "ISO 3166"),
            ("", "ISO 3166"),
        ] {
            assert!(country(text).expect_err(text).0.contains(says), "{text}");
        }
        assert!(country("NO").is_ok());
    }
}
