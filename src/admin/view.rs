//! The shapes of the admin API's answers, as structs of their own, so that what the planes share can
//! change without breaking anyone's script. Shares are fractions of one, spans are seconds, moments
//! are RFC 3339.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything, as of one moment.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct Status {
    /// Of bascule.
    pub version: String,
    /// RFC 3339.
    pub at: String,
    /// Number of the routing snapshot in force.
    pub generation: u64,
    /// In the order of the file.
    pub providers: Vec<ProviderView>,
    /// In the order of the file.
    pub services: Vec<ServiceView>,
    /// What the operator ordered, in the order in which it was.
    pub overrides: Vec<OrderView>,
    /// The latest transitions, newest first.
    pub recent: Vec<TransitionView>,
}

/// One provider.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ProviderView {
    /// Key in the file.
    pub name: String,
    /// Country of the legal entity.
    pub seat: String,
    /// `eu` or `non_eu`.
    #[schemars(extend("enum" = ["eu", "non_eu"]))]
    pub jurisdiction: String,
    /// `edge` or `origin`.
    #[schemars(extend("enum" = ["edge", "origin"]))]
    pub kind: String,
    /// What it shares with others.
    pub substrates: Vec<String>,
    /// Services that can go through it.
    pub services: Vec<String>,
    /// Services that would now: those whose first candidate it is.
    pub first_for: Vec<String>,
    /// Whether every service avoids it, because it failed for several.
    #[serde(default)]
    pub demoted: bool,
}

/// One service.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ServiceView {
    /// Key in the file.
    pub name: String,
    /// `any`, `prefer-eu` or `eu-only`.
    #[schemars(extend("enum" = ["any", "prefer-eu", "eu-only"]))]
    pub residency: String,
    /// `normal`, `fail_open` or `fail_closed`: the worst by which any of its requests goes, but for those
    /// of `parts`.
    #[schemars(extend("enum" = ["normal", "fail_open", "fail_closed"]))]
    pub mode: String,
    /// Provider of the first candidate; none when fail-closed.
    pub first: Option<String>,
    /// `enforce` or `observe`.
    #[schemars(extend("enum" = ["enforce", "observe"]))]
    pub failover: String,
    /// Who would be first if decisions moved traffic; only where that is somebody else.
    pub would_be_first: Option<String>,
    /// Parts of its requests that are served by others than the rest.
    pub parts: Vec<PartView>,
    /// The open incident, if any.
    pub incident: Option<IncidentView>,
    /// By preference.
    pub upstreams: Vec<UpstreamView>,
    /// What the file lists and policy forbids.
    pub barred: Vec<BarredView>,
    /// Whether the first candidate stands behind the first choice of the file.
    #[serde(default)]
    pub on_fallback: bool,
    /// Whether `prefer-eu` is served from outside the EU, and not by the first choice.
    #[serde(default)]
    pub fallback_outside_eu: bool,
    /// Whether our own network or resolver is at fault.
    #[serde(default)]
    pub common_cause: bool,
    /// Whether the origin itself is at fault, by its own word or through every provider. Where it says
    /// so itself nothing fails that could be an upstream's fault, and there is no `incident`.
    #[serde(default)]
    pub origin_incident: bool,
    /// Its routes by who may carry them, where they differ in that; else none.
    #[serde(default)]
    pub realms: Vec<RealmView>,
}

/// The routes of a service that the same providers may carry.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct RealmView {
    /// `any`, `prefer-eu` or `eu-only`.
    #[schemars(extend("enum" = ["any", "prefer-eu", "eu-only"]))]
    pub residency: String,
    /// Qualifications that a provider must have.
    pub require: Vec<String>,
    /// `normal`, `fail_open` or `fail_closed`.
    #[schemars(extend("enum" = ["normal", "fail_open", "fail_closed"]))]
    pub mode: String,
    /// Provider of the first candidate; none when fail-closed.
    pub first: Option<String>,
    /// Providers that may carry them, by preference.
    pub permitted: Vec<String>,
}

impl RealmView {
    /// Which routes, in words: `eu-only, require A and B`.
    pub fn words(&self) -> String {
        realm_words(&self.residency, &self.require)
    }
}

/// Routes by what they go by, in words.
pub(super) fn realm_words(residency: &str, require: &[String]) -> String {
    match require {
        [] => residency.to_owned(),
        all => format!("{residency}, require {}", all.join(" and ")),
    }
}

/// A part of a service's requests that is served by others than the rest.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct PartView {
    /// In words: a method class, a host, or both.
    pub slice: String,
    /// `normal`, `fail_open` or `fail_closed`.
    #[schemars(extend("enum" = ["normal", "fail_open", "fail_closed"]))]
    pub mode: String,
    /// Provider of its first candidate.
    pub first: Option<String>,
}

/// An open incident.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct IncidentView {
    /// How long it has lasted.
    pub seconds: f64,
    /// `unknown`, `provider` or `origin`, once there is evidence.
    pub blame: Option<String>,
    /// Positive speaks against the provider.
    pub log_odds: Option<f64>,
    /// Whether the origin itself is at fault.
    pub origin: bool,
}

/// One upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct UpstreamView {
    /// Through whom.
    pub provider: String,
    /// Scheme, host and port.
    pub endpoint: String,
    /// `eu` or `non_eu`.
    #[schemars(extend("enum" = ["eu", "non_eu"]))]
    pub jurisdiction: String,
    /// Lower goes first.
    pub preference: u16,
    /// Relative to others of the same preference.
    pub weight: u16,
    /// `healthy`, `suspect`, `ejected`, `half_open` or `ramping`.
    #[schemars(extend("enum" = ["healthy", "suspect", "ejected", "half_open", "ramping"]))]
    pub health: String,
    /// Until it may be tried again, while ejected.
    pub hold_seconds: Option<f64>,
    /// Before then `min_stay` lets it take over nothing more, RFC 3339; none: that is not what it waits for.
    #[serde(default)]
    pub stays_until: Option<String>,
    /// `auto`, `draining`, `forced_out` or `forced_in`.
    #[schemars(extend("enum" = ["auto", "draining", "forced_out", "forced_in"]))]
    pub admin: String,
    /// `serve`, `share`, `trickle` or `avoid`.
    #[schemars(extend("enum" = ["serve", "share", "trickle", "avoid"]))]
    pub verdict: String,
    /// Of the safe requests.
    pub share: f64,
    /// Of all other requests.
    pub unsafe_share: f64,
    /// Why it stands where it does in the plan; none: it is not in it.
    pub place: Option<String>,
    /// Each tier's score over its threshold; 1 is a trip.
    pub scores: ScoresView,
    /// Attempts a second, mean of the last 10 s.
    pub rate: f64,
    /// Failing share of the last 10 s.
    pub failing: f64,
    /// The last probe.
    pub probe: Option<ProbeView>,
    /// From when a head counts as late.
    pub late_after_seconds: f64,
    /// Whether the absence of its origin marker means something.
    pub marker_armed: bool,
    /// Whether a gray alert stands.
    pub gray_alert: bool,
    /// The last change of health.
    pub last: Option<ChangeView>,
    /// Where it is dialled.
    pub addresses: Vec<String>,
    /// Share of what the plan would give it that it can hold; less than 1: it is limited to that.
    #[serde(default = "whole")]
    pub admits: f64,
}

/// Of an upstream that nothing limits.
fn whole() -> f64 {
    1.0
}

/// Scores over thresholds.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ScoresView {
    /// Nearly everything fails.
    pub cascade: f64,
    /// A fifth fails.
    pub brownout: f64,
    /// A few per cent fail.
    pub gray: f64,
}

/// One probe.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ProbeView {
    /// Whether it passed.
    pub passed: bool,
    /// How long ago it was.
    pub seconds_ago: f64,
}

/// One change of health.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ChangeView {
    /// Why.
    pub reason: String,
    /// In words and figures, where there is more to say.
    pub detail: Option<String>,
    /// How long ago it was.
    pub seconds_ago: f64,
}

/// An upstream that policy forbids.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct BarredView {
    /// Through whom it would have gone.
    pub provider: String,
    /// What it counts as here.
    #[schemars(extend("enum" = ["eu", "non_eu"]))]
    pub jurisdiction: String,
    /// Why not, in words.
    pub because: String,
}

/// An order that stands.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct OrderView {
    /// `PROVIDER` or `SERVICE/PROVIDER`.
    pub target: String,
    /// `drain`, `force_out` or `force_in`.
    #[schemars(extend("enum" = ["drain", "force_out", "force_in"]))]
    pub order: String,
    /// When it was given, RFC 3339.
    pub since: String,
    /// When it lapses by itself; none: when it is taken back.
    pub until: Option<String>,
    /// As the operator gave it.
    pub reason: String,
}

/// One transition.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct TransitionView {
    /// RFC 3339.
    pub at: String,
    /// Whose.
    pub service: String,
    /// As the log says it.
    pub text: String,
    /// The snapshot in force after it.
    pub generation: u64,
}
