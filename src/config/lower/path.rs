//! How the paths of clients become an upstream's, and whether they always can.

use super::context::Context;
use crate::config::complaint::Place;
use crate::config::raw::RawPath;
use crate::config::tree::At;
use crate::config::values::{self, Flaw};
use crate::model::topology::{Asks, PathRule, Pool, Route};

/// Longest beginning, in bytes.
const LONGEST: usize = 256;

/// With its place; that of the upstream where it says nothing.
pub(super) fn path(
    context: &Context<'_>,
    raw: Option<At<RawPath>>,
    upstream: Place,
) -> (PathRule, Place) {
    let Some(raw) = raw else { return (PathRule::default(), upstream) };
    let place = raw.place;
    let Some(RawPath { strip, add }) = raw.value else { return (PathRule::default(), place) };
    if strip.is_none() && add.is_none() {
        let mend = "write what is taken away (`strip`), what is put there (`add`), or both; or leave it out";
        context.complaints.error(place, "`path` changes nothing", mend);
    }
    let read = |key, at: Option<At<String>>| {
        at.and_then(|at| context.parsed(key, &at, beginning)).unwrap_or_default()
    };
    (PathRule { strip: read("strip", strip), add: read("add", add) }, place)
}

/// Without its last slash, so that what follows begins with one.
fn beginning(text: &str) -> Result<Box<str>, Flaw> {
    let prefix = values::prefix(text)?;
    if prefix.len() > LONGEST {
        return Err(Flaw::new(format!("every request carries it; up to {LONGEST} bytes")));
    }
    if prefix.contains(['\\', '%', ';']) {
        return Err(Flaw::new(
            "servers differ in what they make of `\\`, `%` and `;`; write it without",
        ));
    }
    Ok(prefix.strip_suffix('/').unwrap_or(&prefix).into())
}

/// What is stripped has to be there in every request: one that lacks it would have to be refused or sent
/// to somewhere else than was asked for.
pub(super) fn refuse_strip_of_others(
    context: &Context<'_>,
    (strip, place): (&str, Place),
    routes: &[Route],
    pool: &Pool,
) {
    let begins = |path: &str| {
        let rest = path.strip_prefix(strip);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    if let Some(route) = routes.iter().find(|route| !begins(&route.prefix)) {
        let what = format!(
            "`path.strip: {strip}` cannot be taken from what begins with `{}`, as in a route of service `{}`",
            route.prefix, pool.service
        );
        let mend = format!(
            "give each route of the service a `prefix` that begins with `{strip}`, or strip less"
        );
        context.complaints.error(place, what, &mend);
    }
    let probe = &pool.rules.probe;
    if probe.asks == Asks::Page && !begins(&probe.path) {
        let what =
            format!("`path.strip: {strip}` cannot be taken from `probe.path: {}`", probe.path);
        let mend = format!(
            "probes ask as clients do; give the service a `probe` with a path that begins with `{strip}`"
        );
        context.complaints.error(place, what, &mend);
    }
}
