//! The operator's word over HTTP: an order given or taken back, as the steering loop takes it, and
//! what came of it, as JSON.

use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::realm_words;
use crate::exchange::commands::{CommandSender, Disobeyed, Obeyed, Unheard, Word};
use crate::model::id::Label;
use crate::model::operator::{Order, Target};
use crate::model::realm::Charter;

/// Shortest and longest time of an order that lapses by itself.
const LASTS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(90 * 24 * 60 * 60));
/// A reason is a sentence, not a file.
pub(super) const MOST_REASON: usize = 500;

/// An order as it is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// `PROVIDER` or `SERVICE/PROVIDER`.
    #[schemars(
        example = &"bunny",
        example = &"portal/bunny",
        regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}(/[A-Za-z0-9][-A-Za-z0-9_.]{0,62})?$")
    )]
    pub target: String,
    /// `drain`, `force_out` or `force_in`.
    pub order: OrderName,
    /// How long it stands, as `30m`, `1h30m` or `90s`, from a second to 90 days; none: until it is
    /// taken back.
    #[schemars(regex(
        pattern = r"^([1-9][0-9]{0,2}h([1-9][0-9]?m)?|[1-9][0-9]{0,3}m|[1-9][0-9]{0,5}s)$"
    ))]
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Why, for the journal: one line.
    #[schemars(length(max = 500), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What can be ordered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderName {
    /// See [`Order::Drain`].
    Drain,
    /// See [`Order::ForceOut`].
    #[serde(alias = "force-out")]
    ForceOut,
    /// See [`Order::ForceIn`].
    #[serde(alias = "force-in")]
    ForceIn,
}

impl OrderName {
    const fn order(self) -> Order {
        match self {
            Self::Drain => Order::Drain,
            Self::ForceOut => Order::ForceOut,
            Self::ForceIn => Order::ForceIn,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ObeyedView {
    /// As it was sent.
    pub target: String,
    /// What is in force for it now; `auto`: no order.
    pub order: String,
    /// The snapshot in which it is in force.
    pub generation: u64,
    /// Whether anything was ordered or taken back.
    pub changed: bool,
    /// The upstreams it is about, as `SERVICE/PROVIDER`.
    pub upstreams: Vec<String>,
    /// Services whose residency keeps the provider out, whatever is ordered.
    pub barred: Vec<String>,
    /// Services that have no upstream left now, and answer with their page.
    pub closed: Vec<String>,
    /// The same of some routes of other services: those that only such providers may carry.
    #[serde(default)]
    pub closed_routes: Vec<ClosedRoutesView>,
    /// Other targets with an order for some of these upstreams.
    pub others: Vec<String>,
}

/// Routes of a service whose clients get its page.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ClosedRoutesView {
    /// Whose.
    pub service: String,
    /// `any`, `prefer-eu` or `eu-only`.
    #[schemars(extend("enum" = ["any", "prefer-eu", "eu-only"]))]
    pub residency: String,
    /// Qualifications that a provider must have.
    pub require: Vec<String>,
}

impl ClosedRoutesView {
    fn of((service, charter): (Label, Charter)) -> Self {
        Self {
            service: service.to_string(),
            residency: charter.residency.as_str().to_owned(),
            require: charter.require.iter().map(ToString::to_string).collect(),
        }
    }

    /// Which routes, in words.
    pub fn words(&self) -> String {
        realm_words(&self.residency, &self.require)
    }
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What was sent is no order.
    #[error("The body is no order: {0}.")]
    Malformed(#[source] serde_json::Error),
    /// Neither form of a target.
    #[error("`{0}` is neither PROVIDER nor SERVICE/PROVIDER.")]
    Target(String),
    /// No duration, or one beyond its bounds.
    #[error("`for: {0}` is no duration from 1s to 90 days (2160h).")]
    Lasts(String),
    /// Too long, or not one line of text.
    #[error("`reason` has to be one line of at most {MOST_REASON} characters.")]
    Reason,
    /// It makes no sense here.
    #[error(transparent)]
    Disobeyed(#[from] Disobeyed),
    /// Nobody listened.
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

impl Refused {
    /// As an answer's status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Target(_) | Self::Lasts(_) | Self::Reason => {
                StatusCode::BAD_REQUEST
            }
            Self::Disobeyed(
                Disobeyed::NoProvider(_) | Disobeyed::NoService(_) | Disobeyed::NotThrough { .. },
            ) => StatusCode::NOT_FOUND,
            Self::Disobeyed(Disobeyed::Barred { .. } | Disobeyed::TooMany(_)) => {
                StatusCode::CONFLICT
            }
            Self::Unheard(_) | Self::Disobeyed(Disobeyed::HandingOver) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// Gives the order that a body holds; ends when it is in force.
///
/// # Errors
/// When it is none, or cannot be obeyed.
pub async fn give(commands: &CommandSender, body: &[u8]) -> Result<ObeyedView, Refused> {
    let OrderBody { target, order, lasts, reason } =
        serde_json::from_slice(body).map_err(Refused::Malformed)?;
    let (parsed, order) = (self::target(&target)?, order.order());
    let lasts = lasts.map(|text| self::lasts(&text).ok_or(Refused::Lasts(text))).transpose()?;
    if !is_reason(&reason) {
        return Err(Refused::Reason);
    }
    let word = Word::Order { order, lasts, reason: reason.into() };
    let obeyed = commands.instruct(parsed, word).await??;
    Ok(view(target, order.as_str(), obeyed))
}

/// Whether it is one line of text, not too long.
pub(super) fn is_reason(text: &str) -> bool {
    text.chars().count() <= MOST_REASON && !text.chars().any(char::is_control)
}

/// Takes the order for a target back; ends when that is in force.
///
/// # Errors
/// When the target makes no sense.
pub async fn take_back(commands: &CommandSender, target: &Target) -> Result<ObeyedView, Refused> {
    let obeyed = commands.instruct(target.clone(), Word::Auto).await??;
    Ok(view(target.to_string(), "auto", obeyed))
}

fn view(target: String, order: &str, obeyed: Obeyed) -> ObeyedView {
    let Obeyed { generation, changed, upstreams, barred, closed, closed_routes, others } = obeyed;
    let names = |labels: Vec<Label>| labels.iter().map(ToString::to_string).collect();
    ObeyedView {
        target,
        order: order.to_owned(),
        generation: generation.get(),
        changed,
        upstreams,
        barred: names(barred),
        closed: names(closed),
        closed_routes: closed_routes.into_iter().map(ClosedRoutesView::of).collect(),
        others,
    }
}

/// `PROVIDER` or `SERVICE/PROVIDER`.
fn target(text: &str) -> Result<Target, Refused> {
    let wrong = || Refused::Target(shown(text));
    match text.split_once('/') {
        None => Ok(Target::Provider(Label::new(text).ok_or_else(wrong)?)),
        Some((service, provider)) => {
            let service = Label::new(service).ok_or_else(wrong)?;
            Ok(Target::Upstream { service, provider: Label::new(provider).ok_or_else(wrong)? })
        }
    }
}

/// The target of `PROVIDER[/SERVICE]`, the order of the admin API's paths; `None` when it is none.
pub fn target_of_path(rest: &str) -> Option<Target> {
    match rest.split_once('/') {
        None => Some(Target::Provider(Label::new(rest)?)),
        Some((provider, service)) => {
            let service = Label::new(service)?;
            Some(Target::Upstream { service, provider: Label::new(provider)? })
        }
    }
}

/// A text of somebody's in an answer, as far as it helps.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(130).collect()
}

/// A span as it is typed (`30m`, `1h30m`), within its bounds.
fn lasts(text: &str) -> Option<Duration> {
    let span = span(text)?;
    (LASTS.0..=LASTS.1).contains(&span).then_some(span)
}

/// A span as it is typed.
pub fn span(text: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(signed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_typed() {
        let table = [
            ("30m", Some(1800)),
            ("1s", Some(1)),
            ("24h", Some(86_400)),
            ("1h30m", Some(5400)),
            ("90", None),
            ("0s", None),
            ("-5m", None),
            ("2161h", None),
            ("soon", None),
            ("", None),
        ];
        for (text, seconds) in table {
            assert_eq!(lasts(text), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn a_target_has_two_forms_and_a_path_says_the_provider_first() {
        let label = |text| Label::new(text).expect("a label");
        let both = Target::Upstream { service: label("portal"), provider: label("bunny") };
        assert_eq!(target("portal/bunny").expect("a target"), both);
        assert_eq!(target_of_path("bunny/portal"), Some(both));
        assert_eq!(target("bunny").expect("a target"), Target::Provider(label("bunny")));
        assert_eq!(target_of_path("bunny"), Some(Target::Provider(label("bunny"))));
        for bad in ["", "/", "a/", "/b", "a/b/c", "a b"] {
            assert!(target(bad).is_err() && target_of_path(bad).is_none(), "{bad:?}");
        }
    }
}
