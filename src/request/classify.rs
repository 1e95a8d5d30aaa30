//! What an answer's head says of the attempt that brought it. Whether the origin signed it is read in
//! [`super::marker`].

use http::{HeaderMap, StatusCode};

use crate::model::habit::{Habits, OwnPage};
use crate::model::outcome::{FailureKind, Marker, Outcome};
use crate::request::proxy_status::blames_what_is_behind;

/// Whether the absence of the origin marker means something for this upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkerTrust {
    /// Seen too rarely yet.
    Unarmed,
    /// Seen on nearly every answer of the last hour.
    Armed,
}

/// Whether a client had a good answer from this service in the last ten minutes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Acquaintance {
    /// Never, or longer ago, or nobody knows.
    Stranger,
    /// It had: whoever blocks it now blocks somebody who did no harm.
    KnownGood,
}

/// Whether an answer of this status is expected to carry the marker: caches and edges make 1xx, 3xx,
/// 206 and 416 by themselves.
pub fn is_markable(status: StatusCode) -> bool {
    !(status.is_informational()
        || status.is_redirection()
        || status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::RANGE_NOT_SATISFIABLE)
}

/// What an attempt came to, as far as its head tells; the body may still turn a success into a
/// failure. 501 and 505 are the origin's word about the request, whoever relays it. `client` is asked
/// only where it matters: most answers do not need to know.
pub fn head(
    status: StatusCode,
    marker: Marker,
    trust: MarkerTrust,
    client: impl Fn() -> Acquaintance,
) -> Outcome {
    let is_armed = trust == MarkerTrust::Armed;
    match (status.as_u16(), marker) {
        (501 | 505, _) => Outcome::Success,
        (500..=599, Marker::Present) => Outcome::OriginError,
        (504 | 521..=526 | 530, _) => Outcome::Failure(FailureKind::EdgeLeg),
        (503, _) => Outcome::Failure(FailureKind::Overloaded),
        (500..=599, _) => Outcome::Failure(FailureKind::ServerError),
        (200..=299, Marker::Absent) if is_armed && is_markable(status) => {
            Outcome::Failure(FailureKind::MarkerMissing)
        }
        (403 | 429, Marker::Absent | Marker::Old)
            if is_armed && client() == Acquaintance::KnownGood =>
        {
            Outcome::Failure(FailureKind::Blocked)
        }
        _ => Outcome::Success,
    }
}

/// The same, with what the edge itself says of its failure: one that could not reach its origin names
/// the leg behind it, whatever its status.
pub fn with_reason(verdict: Outcome, headers: &HeaderMap) -> Outcome {
    match verdict {
        Outcome::Failure(FailureKind::ServerError | FailureKind::Overloaded)
            if blames_what_is_behind(headers) =>
        {
            Outcome::Failure(FailureKind::EdgeLeg)
        }
        Outcome::Success | Outcome::OriginError | Outcome::Failure(_) | Outcome::Ignored(_) => {
            verdict
        }
    }
}

/// The same, with what is known of the provider: what a failure was, and what its answer says of the
/// marker. A good answer is not looked at.
pub fn with_habits(
    (verdict, marker): (Outcome, Marker),
    status: StatusCode,
    headers: &HeaderMap,
    habits: &Habits,
) -> (Outcome, Marker) {
    let Outcome::Failure(kind) = verdict else { return (verdict, marker) };
    if !kind.is_status() {
        return (verdict, marker);
    }
    if habits.own.contains(&status) {
        return (Outcome::Failure(FailureKind::ServerError), Marker::Own);
    }
    if habits.leg.contains(&status) {
        return (Outcome::Failure(FailureKind::EdgeLeg), marker);
    }
    // Before its own word: the page that stands in place of the origin's is its own too.
    if habits.replaced.contains(&status) {
        return (verdict, Marker::Replaced);
    }
    match habits.own_page.as_ref().and_then(|page| owned(page, headers)) {
        None => (verdict, marker),
        Some(Owned::Leg) => (Outcome::Failure(FailureKind::EdgeLeg), marker),
        Some(Owned::Itself) => (verdict, Marker::Own),
    }
}

/// What a provider owns up to.
enum Owned {
    /// It could not reach the origin.
    Leg,
    /// It failed itself.
    Itself,
}

fn owned(page: &OwnPage, headers: &HeaderMap) -> Option<Owned> {
    let value = headers.get(&page.header)?.as_bytes();
    let about_leg = page.leg.iter().any(|begin| value.starts_with(begin.as_bytes()));
    Some(if about_leg { Owned::Leg } else { Owned::Itself })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use MarkerTrust::{Armed, Unarmed};

    #[test]
    fn an_answer_is_judged_by_its_status_and_its_marker() {
        let failure = Outcome::Failure;
        #[rustfmt::skip]
        let table = [
            // what it shows                              status marker               trust    outcome
            ("a good answer is a success",                   200, Marker::Unconfigured, Unarmed, Outcome::Success),
            ("a client's mistake is not the upstream's",     404, Marker::Absent,       Armed,   Outcome::Success),
            ("a 5xx without marker is the upstream's",       500, Marker::Absent,       Unarmed, failure(FailureKind::ServerError)),
            ("so it is where no marker is configured",       502, Marker::Unconfigured, Unarmed, failure(FailureKind::ServerError)),
            ("503 may mean too much load",                   503, Marker::Absent,       Armed,   failure(FailureKind::Overloaded)),
            ("the marker acquits a status",                  500, Marker::Present,      Armed,   Outcome::OriginError),
            ("an old one does not",                          500, Marker::Old,          Armed,   failure(FailureKind::ServerError)),
            ("nor is it held against a good answer",         200, Marker::Old,          Armed,   Outcome::Success),
            ("52x names the leg behind the edge",            522, Marker::Absent,       Armed,   failure(FailureKind::EdgeLeg)),
            ("520 is the edge's own",                        520, Marker::Absent,       Armed,   failure(FailureKind::ServerError)),
            ("501 is the origin's word",                     501, Marker::Absent,       Armed,   Outcome::Success),
            ("an unmarked 200 means nothing at first",       200, Marker::Absent,       Unarmed, Outcome::Success),
            ("an unmarked 200 is not the origin's page",     200, Marker::Absent,       Armed,   failure(FailureKind::MarkerMissing)),
            ("a cache may answer 206 by itself",             206, Marker::Absent,       Armed,   Outcome::Success),
            ("a stranger is blocked for a reason",           403, Marker::Absent,       Armed,   Outcome::Success),
        ];
        for (shows, status, marker, trust, outcome) in table {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(head(status, marker, trust, || Acquaintance::Stranger), outcome, "{shows}");
        }
    }

    #[test]
    fn blocking_a_known_good_client_is_the_upstreams_failure_once_the_marker_is_armed() {
        let blocked = Outcome::Failure(FailureKind::Blocked);
        #[rustfmt::skip]
        let table = [
            (403, Marker::Absent,       Armed,   blocked),
            (429, Marker::Absent,       Armed,   blocked),
            (403, Marker::Old,          Armed,   blocked),
            (404, Marker::Absent,       Armed,   Outcome::Success),
            (403, Marker::Present,      Armed,   Outcome::Success),
            (403, Marker::Absent,       Unarmed, Outcome::Success),
            (403, Marker::Unconfigured, Unarmed, Outcome::Success),
        ];
        for (status, marker, trust, outcome) in table {
            let code = StatusCode::from_u16(status).expect("a status");
            let known = || Acquaintance::KnownGood;
            assert_eq!(head(code, marker, trust, known), outcome, "{status} {marker:?} {trust:?}");
        }
    }

    #[test]
    fn a_providers_habits_say_whose_an_error_is() {
        let code = |status| StatusCode::from_u16(status).expect("a status");
        let habits = Habits {
            leg: vec![code(520)],
            own: vec![code(521)],
            replaced: vec![code(502), code(503)],
            own_page: Some(OwnPage {
                header: "x-own".parse().expect("a name"),
                leg: vec!["52".into()],
            }),
        };
        let failure = Outcome::Failure;
        use FailureKind::{EdgeLeg, Overloaded, ServerError};
        #[rustfmt::skip]
        let table = [
            // what it shows                                      status own page      becomes
            ("a code for the way to the origin",                     520, None,         failure(EdgeLeg),     Marker::Absent),
            ("a code of its own, whatever it means elsewhere",       521, None,         failure(ServerError), Marker::Own),
            ("a page in place of the origin's",                      502, None,         failure(ServerError), Marker::Replaced),
            ("which is its own by its own word",                     502, Some("1101"), failure(ServerError), Marker::Replaced),
            ("one that may still mean too much load",                503, None,         failure(Overloaded),  Marker::Replaced),
            ("a page that it owns up to",                            500, Some("1101"), failure(ServerError), Marker::Own),
            ("one about the way to the origin",                      500, Some("522"),  failure(EdgeLeg),     Marker::Absent),
            ("nothing is known of the others",                       500, None,         failure(ServerError), Marker::Absent),
            ("nor of the leg by status alone",                       504, None,         failure(EdgeLeg),     Marker::Absent),
        ];
        for (shows, status, page, outcome, marker) in table {
            let page = page
                .map(|value| ("x-own".parse().expect("a name"), HeaderValue::from_static(value)));
            let headers = HeaderMap::from_iter(page);
            let verdict = head(code(status), Marker::Absent, Armed, || Acquaintance::Stranger);
            let found = with_habits((verdict, Marker::Absent), code(status), &headers, &habits);
            assert_eq!(found, (outcome, marker), "{shows}");
        }
        let good = (Outcome::OriginError, Marker::Present);
        assert_eq!(
            with_habits(good, code(502), &HeaderMap::new(), &habits),
            good,
            "the origin spoke"
        );
    }
}
