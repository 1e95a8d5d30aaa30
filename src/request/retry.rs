//! May this request be tried at another upstream? Method, body and what the first one may already
//! have done decide; the budget is asked by the caller, last, because asking takes from it.

use http::Method;

use crate::model::outcome::{FailureKind, Outcome, Reach};
use crate::model::topology::RetryRule;

/// How a request stands with its upstream at the moment of the question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Situation {
    /// No head came, and will not.
    Failed(Reach),
    /// A head came, and this is what it came to.
    Answered(Outcome),
    /// No head yet: it is late, or its upstream was ejected. The first attempt goes on.
    Waiting,
}

/// Whether the request's body can be sent a second time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// There is none, or all that was read of it is kept.
    Possible,
    /// More was read than is kept.
    Impossible,
}

/// Whether the request may go to the next candidate of another provider.
pub fn may_move(rule: &RetryRule, method: &Method, replay: Replay, situation: Situation) -> bool {
    if replay == Replay::Impossible {
        return false;
    }
    let repeatable = rule.methods.contains(method);
    match situation {
        Situation::Failed(Reach::Never) => true,
        Situation::Failed(Reach::Perhaps) | Situation::Waiting => repeatable,
        Situation::Answered(Outcome::Failure(kind)) => repeatable && is_worth_another_answer(kind),
        Situation::Answered(Outcome::Success | Outcome::OriginError | Outcome::Ignored(_)) => false,
    }
}

/// Failures of an answer whose request another upstream may still answer well.
const fn is_worth_another_answer(kind: FailureKind) -> bool {
    match kind {
        FailureKind::ServerError
        | FailureKind::Overloaded
        | FailureKind::EdgeLeg
        | FailureKind::MarkerMissing => true,
        // A provider that blocks a flood does its work: the flood must not be carried elsewhere.
        FailureKind::Blocked => false,
        // These have no head, or have sent part of the body to the client already.
        FailureKind::Dns
        | FailureKind::Connect
        | FailureKind::Tls
        | FailureKind::Late
        | FailureKind::BrokeOff
        | FailureKind::BodyCut
        | FailureKind::BodyStall => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Replay::{Impossible, Possible};
    use Situation::{Answered, Failed, Waiting};

    #[test]
    fn a_request_is_tried_again_only_when_that_is_safe() {
        let (get, post) = (Method::GET, Method::POST);
        let failed = |kind| Answered(Outcome::Failure(kind));
        #[rustfmt::skip]
        let table = [
            // what it shows                                  method replay      situation                    may
            ("what never arrived may go elsewhere",            &post, Possible,   Failed(Reach::Never),          true),
            ("unless its body is gone",                        &post, Impossible, Failed(Reach::Never),          false),
            ("a POST that may have arrived stays",             &post, Possible,   Failed(Reach::Perhaps),        false),
            ("a GET that may have arrived is only read again", &get,  Possible,   Failed(Reach::Perhaps),        true),
            ("a POST answered with 500 was acted on",          &post, Possible,   failed(FailureKind::ServerError), false),
            ("a GET answered with 500 may be answered better", &get,  Possible,   failed(FailureKind::ServerError), true),
            ("so may one whose page is not the origin's",      &get,  Possible,   failed(FailureKind::MarkerMissing), true),
            ("what a provider blocked is not carried elsewhere", &get, Possible,  failed(FailureKind::Blocked),  false),
            ("the origin's own 500 is the answer",             &get,  Possible,   Answered(Outcome::OriginError), false),
            ("a good answer is the answer",                    &get,  Possible,   Answered(Outcome::Success),    false),
            ("a GET does not wait for a late head",            &get,  Possible,   Waiting,                       true),
            ("a POST waits",                                   &post, Possible,   Waiting,                       false),
        ];
        for (shows, method, replay, situation, may) in table {
            assert_eq!(may_move(&RetryRule::default(), method, replay, situation), may, "{shows}");
        }
    }
}
