//! What decide makes and the request path reads: who takes a request, in which order.

use super::cell::{Cell, Slice};
use super::id::UpstreamId;
use super::outcome::MethodClass;
use super::unit::Permille;

/// Ordered candidates of one pool, with the reason for each place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolPlan {
    /// Normal, or what has to be done when nothing good is left.
    pub mode: PoolMode,
    /// In the order in which a request tries them; those that take nothing but a retry included.
    /// Empty only when fail-closed. What is to be avoided while something better is left is absent.
    pub candidates: Vec<Candidate>,
    /// Who is kept warm, and known to work, before it is needed.
    pub standby: Option<Standby>,
    /// Parts of the requests that are judged, and at present served, by themselves; none of them has
    /// parts of its own.
    pub parts: Vec<(Slice, PoolPlan)>,
}

/// A standby that takes a few safe requests of nobody in particular: without cookie and without
/// authorization.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standby {
    /// Its place among the candidates.
    pub place: usize,
    /// Of those requests.
    pub share: Permille,
}

/// An upstream at its place in a plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Who.
    pub upstream: UpstreamId,
    /// Of the safe requests; all candidates' shares sum to [`Permille::ALL`].
    pub safe: Permille,
    /// Of all other requests; all candidates' shares sum to [`Permille::ALL`].
    pub unsafe_: Permille,
    /// Whether a request that failed elsewhere may come here.
    pub rescue: Rescue,
    /// Why it stands here.
    pub place: Place,
}

/// Whether a candidate takes requests that failed at another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rescue {
    /// It does.
    Takes,
    /// It is itself being tried out: half-open or at the beginning of its ramp.
    Refuses,
}

/// Why a candidate stands where it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The operator's first choice, able to serve.
    Preferred,
    /// In order of preference behind the first.
    Standby,
    /// It serves because those before it cannot.
    Fallback,
    /// Before others because it is in the EU and the first choice is left.
    EuFirst,
    /// Behind others because it shares a substrate with one that failed.
    SharedFate,
    /// Being tried with a trickle.
    HalfOpen,
    /// Being admitted step by step.
    Ramping,
    /// Bad, and still the best there is.
    LeastBad,
}

impl Place {
    /// In the status and in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Standby => "standby",
            Self::Fallback => "fallback",
            Self::EuFirst => "eu_first",
            Self::SharedFate => "shared_fate",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
            Self::LeastBad => "least_bad",
        }
    }
}

/// Whether a pool can do its work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PoolMode {
    /// At least one permitted upstream is able.
    #[default]
    Normal,
    /// Every permitted upstream is bad: the best of them serves.
    FailOpen,
    /// Nothing is permitted: the page is served.
    FailClosed,
}

impl PoolMode {
    /// In the status and in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::FailOpen => "fail_open",
            Self::FailClosed => "fail_closed",
        }
    }
}

impl PoolPlan {
    /// What the requests of this cell go by.
    pub fn of_cell(&self, cell: Cell) -> &Self {
        // Nearly always empty; at most a handful.
        self.parts.iter().find(|(slice, _)| slice.holds(cell)).map_or(self, |(_, plan)| plan)
    }

    /// The part that a cell belongs to, if it has a plan of its own.
    pub fn slice_of(&self, cell: Cell) -> Option<Slice> {
        self.parts.iter().map(|(slice, _)| *slice).find(|slice| slice.holds(cell))
    }

    /// This plan and those of its parts.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.parts.iter().map(|(_, plan)| plan))
    }

    /// Place of the candidate that takes a request with this ticket, drawn evenly from `0..1000`.
    /// `None` when fail-closed.
    pub fn pick(&self, class: MethodClass, ticket: u16) -> Option<usize> {
        let mut end = 0;
        for (place, candidate) in self.candidates.iter().enumerate() {
            end += match class {
                MethodClass::Safe => candidate.safe.get(),
                MethodClass::Unsafe => candidate.unsafe_.get(),
            };
            if ticket < end {
                return Some(place);
            }
        }
        None
    }

    /// Place of the standby, if it is its turn to take a safe request of nobody in particular: the
    /// last of the tickets are its.
    pub fn aside(&self, ticket: u16) -> Option<usize> {
        let standby = self.standby?;
        (ticket >= standby.share.rest().get()).then_some(standby.place)
    }

    /// Place of the candidate that takes a request meant for the one at `place`: that one if it admits
    /// it, else the next in order that takes requests of others and admits it (spill-over). `None`:
    /// nobody can hold it.
    pub fn spill(&self, place: usize, mut admits: impl FnMut(&Candidate) -> bool) -> Option<usize> {
        if admits(&self.candidates[place]) {
            return Some(place);
        }
        let mut others = self.candidates.iter().enumerate().filter(|(other, _)| *other != place);
        let found = others.find(|(_, other)| other.rescue == Rescue::Takes && admits(other));
        found.map(|(place, _)| place)
    }

    /// The candidate with the largest share of all requests; the earlier one on a tie. This is the
    /// pool's *first*: whose change is a failover or a failback.
    pub fn first(&self) -> Option<UpstreamId> {
        let most = self.candidates.iter().map(|c| c.unsafe_).max()?;
        self.candidates.iter().find(|c| c.unsafe_ == most).map(|c| c.upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(upstream: usize, safe: u16, unsafe_: u16) -> Candidate {
        Candidate {
            upstream: UpstreamId::new(upstream),
            safe: Permille::new(safe).expect("share"),
            unsafe_: Permille::new(unsafe_).expect("share"),
            rescue: Rescue::Takes,
            place: Place::Standby,
        }
    }

    #[test]
    fn a_ticket_finds_the_candidate_whose_share_holds_it() {
        let plan = PoolPlan {
            mode: PoolMode::Normal,
            candidates: vec![candidate(0, 10, 0), candidate(1, 990, 1000)],
            ..PoolPlan::default()
        };
        assert_eq!(plan.pick(MethodClass::Safe, 9), Some(0));
        assert_eq!(plan.pick(MethodClass::Safe, 10), Some(1));
        assert_eq!(plan.pick(MethodClass::Unsafe, 0), Some(1));
        assert_eq!(plan.pick(MethodClass::Unsafe, 999), Some(1));
        assert_eq!(plan.first(), Some(UpstreamId::new(1)));
    }

    #[test]
    fn a_closed_pool_has_no_candidate() {
        let plan = PoolPlan { mode: PoolMode::FailClosed, ..PoolPlan::default() };
        assert_eq!(plan.pick(MethodClass::Safe, 0), None);
        assert_eq!(plan.first(), None);
    }

    #[test]
    fn a_standby_takes_the_last_tickets_and_no_other() {
        let share = Permille::from_fraction(0.01);
        let plan = PoolPlan {
            candidates: vec![candidate(0, 1000, 1000), candidate(1, 0, 0)],
            standby: Some(Standby { place: 1, share }),
            ..PoolPlan::default()
        };
        assert_eq!((plan.aside(989), plan.aside(990), plan.aside(999)), (None, Some(1), Some(1)));
        assert_eq!(PoolPlan { standby: None, ..plan }.aside(999), None);
    }
}
