//! Providers by name: seat, kind, and what they share; from the catalogue where the file is silent.

use std::collections::HashMap;

use super::ProviderPlaces;
use super::context::Context;
use super::provenance;
use crate::config::catalogue::{self, Known};
use crate::config::complaint::Place;
use crate::config::nearest;
use crate::config::raw::{RawProvider, RawProviderKind};
use crate::config::tree::{At, Named};
use crate::model::habit::Habits;
use crate::model::id::{Label, ProviderId};
use crate::model::place::{Area, Footing, Jurisdiction};
use crate::model::topology::{Provider, ProviderKind};

/// Providers of one configuration.
const MAX_PROVIDERS: usize = 256;
/// Substrates of one provider.
const MAX_SUBSTRATES: usize = 32;

/// Providers, and the names that upstreams call them by.
#[derive(Debug, Default)]
pub(super) struct Providers {
    pub(super) all: Vec<Provider>,
    /// Index for index.
    pub(super) places: Vec<ProviderPlaces>,
    /// `None`: named, but wrong, which is noted already.
    names: HashMap<String, (Option<ProviderId>, Place)>,
}

impl Providers {
    /// The provider of that name; `None` after a complaint.
    pub(super) fn find(&self, context: &Context<'_>, at: &At<String>) -> Option<ProviderId> {
        let name = at.value.as_ref()?;
        if let Some((found, _)) = self.names.get(name) {
            return *found;
        }
        let mut known: Vec<&str> = self.names.keys().map(String::as_str).collect();
        known.sort_unstable();
        let mend = match nearest(&at.shown, known) {
            Some(near) => format!(
                "its seat is not known, so nothing may go there; the nearest name is `{near}`"
            ),
            None => "its seat is not known, so nothing may go there; add it under `providers`"
                .to_owned(),
        };
        self.complain(context, at, &mend);
        None
    }

    fn complain(&self, context: &Context<'_>, at: &At<String>, mend: &str) {
        context.complaints.error(
            at.place,
            format_args!("there is no provider `{}`", at.shown),
            mend,
        );
    }
}

/// All `providers:` of a file and those it includes.
pub(super) fn providers(
    context: &Context<'_>,
    raw: Vec<At<Named<RawProvider>>>,
    area: &Area,
    whole: Place,
) -> Providers {
    let mut providers = Providers::default();
    let sections = raw.len();
    for (name, provider) in raw.into_iter().filter_map(|section| section.value).flat_map(|n| n.0) {
        let Some(text) = name.value.clone() else { continue };
        if let Some((_, first)) = providers.names.get(&text) {
            let mend = "one name is one organisation; rename or remove one";
            let named = context.named(*first);
            let what =
                format!("provider `{}` is defined a second time (first in {named})", name.shown);
            context.complaints.error(name.place, what, mend);
            continue;
        }
        let read = self::provider(context, &name, provider, area);
        let id = ProviderId::new(providers.all.len());
        providers.names.insert(text, (read.as_ref().map(|_| id), name.place));
        if let Some((provider, places)) = read {
            providers.all.push(provider);
            providers.places.push(places);
        }
    }
    if sections == 0 {
        let mend = "upstreams go through providers; add them with their `seat`, or by a name of the \
                    catalogue (`bascule providers`)";
        context.complaints.error(whole, "`providers` is missing", mend);
    }
    if providers.names.len() > MAX_PROVIDERS {
        let mend = format!("at most {MAX_PROVIDERS}");
        context.complaints.error(whole, "too many providers", &mend);
    }
    providers
}

fn provider(
    context: &Context<'_>,
    name: &At<String>,
    raw: At<RawProvider>,
    area: &Area,
) -> Option<(Provider, ProviderPlaces)> {
    let label = context.label("provider", name);
    let RawProvider { seat, territory, subject_to, qualifications, kind, substrate } = raw.value?;
    let kind = match kind.and_then(|at| at.value) {
        None | Some(RawProviderKind::Edge) => ProviderKind::Edge,
        Some(RawProviderKind::Origin) => ProviderKind::Origin,
        Some(RawProviderKind::Source) => ProviderKind::Source,
    };
    // Somebody's own server is nobody else's edge, whatever it is called.
    let known = match (kind, name.value.as_deref()) {
        (ProviderKind::Edge, Some(text)) => catalogue::known(text),
        (ProviderKind::Origin | ProviderKind::Source, _) | (ProviderKind::Edge, None) => None,
    };
    let places = ProviderPlaces {
        seat: seat.as_ref().map(|at| at.place),
        subject_to: subject_to.as_ref().map(|at| at.place),
        substrate: substrate.as_ref().map(|at| at.place),
    };
    let seat = match (seat, known) {
        (Some(at), _) => context.parsed("seat", &at, provenance::country),
        (None, Some(known)) => Some(known.seat),
        (None, None) => {
            let what = format!("`seat` of `{}` is missing", name.shown);
            context.complaints.error(name.place, what, &missing_seat(kind, &name.shown));
            None
        }
    };
    let substrates = match (substrate, known) {
        (Some(listed), _) => substrates(context, listed),
        (None, known) => known.map_or_else(Vec::new, |known| known.substrates.clone()),
    };
    let mut footing = Footing {
        territory: provenance::countries(context, "territory", territory),
        subject_to: match (subject_to, known) {
            (None, Some(known)) => known.subject_to.clone(),
            (said, _) => provenance::countries(context, "subject_to", said),
        },
        qualifications: provenance::qualifications(context, qualifications),
        outside: None,
    };
    let seat = seat?;
    footing.outside = area.outside(seat, &footing);
    let jurisdiction = Jurisdiction::by(footing.outside);
    let habits = known.map_or_else(Habits::default, |known| known.habits.clone());
    Some((Provider { name: label?, seat, jurisdiction, footing, kind, substrates, habits }, places))
}

fn missing_seat(kind: ProviderKind, name: &str) -> String {
    if kind == ProviderKind::Origin {
        return "whose law it is under is yours to say; add the country, as in `seat: FR`"
            .to_owned();
    }
    let names = catalogue::all().iter().map(|known: &Known| known.sheet.id.as_str());
    match nearest(name, names) {
        Some(near) => format!(
            "the catalogue does not know it, and its nearest name is `{near}`; write that, or add the \
             country of its legal entity"
        ),
        None => "the catalogue does not know it (`bascule providers` lists whom it knows); add the country \
                 of its legal entity, as in `seat: FR`"
            .to_owned(),
    }
}

fn substrates(context: &Context<'_>, listed: At<Vec<At<String>>>) -> Vec<Label> {
    let entries = listed.value.unwrap_or_default();
    if entries.len() > MAX_SUBSTRATES {
        let mend = format!("at most {MAX_SUBSTRATES}");
        context.complaints.error(listed.place, "too many substrates", &mend);
    }
    let mut substrates: Vec<Label> =
        entries.iter().filter_map(|at| context.label("substrate", at)).collect();
    substrates.sort_unstable();
    substrates.dedup();
    substrates
}
