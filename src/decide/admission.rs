//! How much can one upstream hold?
//!
//! Most failures have nothing to do with how much is asked for: leaving helps. An upstream that is
//! asked for more than it can hold fails too, often late or with 503, and then leaving is wrong: all it
//! did hold goes to the next one, which cannot hold it either, and so on in circles (metastable
//! failure, Bronson et al. 2021). So what fails that way when the load has risen is first taken for a
//! lack of capacity, and that is *tried*: the upstream gets as much as it answered well, and no more.
//!
//! ```text
//!          trips by 503 or late heads, not wholly, and the load rose
//!   Open ───────────────────────────────────────────────────────────▶ Limited
//!    ▲  ▲      holds all it is asked for                                │  │
//!    │  └───────────────────────────────────────────────────────────────┘  │
//!    │ a minute later                                                      │
//!   Faulty ◀───────────────────────────────────────────────────────────────┘
//!          halved three times in vain: a fault after all
//! ```
//!
//! While it is limited its overload failures enter no score. The limit is a rate, not a number of
//! requests in flight: what a service of a hundred requests a second has in flight is five, and between
//! five and four lies a fifth of everything. It begins at half of the load and is halved again while
//! that does not halve the failing share; then it grows until a few fail, falls to what was answered
//! well, and stays near there. It is put into force as the share of the offered requests that is
//! admitted.
//!
//! Not here: where the excess goes (`proxy`), whose fault it is ([`super::attribution`]).

use std::time::{Duration, Instant};

use crate::model::outcome::FailureKind;
use crate::model::unit::Permille;

/// Intervals in which a limit is judged: short while the edge is sought, long near it, where a per cent
/// is to be told from chance. Fewer than [`ENOUGH`] attempts say nothing: then it takes the long one.
const SEEKING: Duration = Duration::from_secs(1);
const STAYING: Duration = Duration::from_secs(5);
const ENOUGH: f64 = 30.0;
/// A lower limit is not judged before this: what was sent before is still being answered, late, and
/// queues empty slowly.
const SETTLES: Duration = Duration::from_secs(5);
const SETTLES_NEAR_THE_EDGE: Duration = Duration::from_secs(10);
/// The usual load is a mean of about this long.
const USUAL: f64 = 60.0;
/// The load rose if it is this much more than usual.
const ROSE: f64 = 1.2;
/// Of the failures of a claim, at least this share is by overload; of the attempts, at most this
/// share fails. What fails wholly holds nothing.
const LEAST_BY_OVERLOAD: f64 = 0.9;
const MOST_FAILING: f64 = 0.75;
/// What fails more than this while it is limited fails wholly, and not for want of capacity.
const WHOLLY: f64 = 0.9;
/// A limit that fails more than this is too high; below half of it, it may be too low.
const MOST_OVERLOADED: f64 = 0.05;
/// By what a limit grows after a clean interval: quickly until it fails for the first time, then slowly,
/// so that the excess by which it finds the edge stays small, and faster once that seems gone.
const QUICKLY: f64 = 1.15;
const SLOWLY: f64 = 1.01;
const FASTER: f64 = 1.03;
const CLEAN_FOR_LONG: Duration = Duration::from_secs(50);
/// A limit that allows all that is asked for ends after so long without a failure.
const ENDS_AFTER: Duration = Duration::from_secs(60);
/// Of means over the last few intervals.
const WEIGHT_OF_THE_LAST: f64 = 0.3;
/// Halvings in a row that did not halve the failing share, until it is a fault after all.
const LIMITS_IN_VAIN: u8 = 3;
/// The same, once a limit was seen to help: it may fail for a while because the edge moved.
const LIMITS_IN_VAIN_LATER: u8 = 8;
/// For so long after that nothing is taken for a lack of capacity.
const FAULTY_FOR: Duration = Duration::from_secs(60);

/// What one upstream can hold.
#[derive(Clone, Debug)]
pub struct Admission {
    state: State,
    /// Attempts a second at which nothing was overloaded.
    usual: f64,
    window: Window,
    /// The one before.
    last: Window,
    told: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Limited(Limit),
    Faulty { until: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Attempts a second.
    rate: f64,
    /// What it would be asked for, a second.
    offered: f64,
    /// Of the offered requests, `0..=1`.
    admits: f64,
    /// Failing share when it began.
    first_share: f64,
    /// Attempts a second that were answered well.
    held: f64,
    in_vain: u8,
    /// Since when nothing is overloaded.
    clean_since: Instant,
    /// Whether any limit was seen to help.
    helped: bool,
    /// Whether the edge was found: a limit that had helped failed a little.
    found: bool,
    settles_at: Instant,
}

/// What happened in one interval.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    lasted: f64,
    attempts: f64,
    successes: f64,
    overloads: f64,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, lasted: 0.0, attempts: 0.0, successes: 0.0, overloads: 0.0 }
    }

    fn share(&self) -> f64 {
        self.overloads / self.attempts.max(1.0)
    }
}

/// Whether a kind of failure may be for want of capacity.
pub const fn is_overload(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Overloaded | FailureKind::Late)
}

impl Admission {
    /// Holds whatever it is asked for.
    pub fn new(now: Instant) -> Self {
        let (window, last) = (Window::new(now), Window::new(now));
        Self { state: State::Open, usual: 0.0, window, last, told: false }
    }

    /// Attempts came to an end, so many of them well.
    pub fn count(&mut self, attempts: u64, successes: u64) {
        self.window.attempts += attempts as f64;
        self.window.successes += successes as f64;
    }

    /// One failed by overload.
    pub fn overloaded(&mut self) {
        self.window.overloads += 1.0;
    }

    /// Forgets a limit: it is asked for nothing now.
    pub fn open(&mut self) {
        self.state = State::Open;
    }

    /// Lets time pass.
    pub fn pass(&mut self, now: Instant) {
        let lasted = now.saturating_duration_since(self.window.began);
        let near = matches!(self.state, State::Limited(limit) if limit.found);
        let is_over = !near && lasted >= SEEKING && self.window.attempts >= ENOUGH;
        if !is_over && lasted < STAYING {
            return;
        }
        let window = Window { lasted: lasted.as_secs_f64(), ..self.window };
        let rate = window.attempts / window.lasted;
        match &mut self.state {
            State::Open => {
                if window.share() <= MOST_OVERLOADED {
                    self.usual += (rate - self.usual) * (1.0 - (-window.lasted / USUAL).exp());
                }
            }
            State::Limited(limit) => self.state = limit.judged(&window, now),
            State::Faulty { until } => {
                if now >= *until {
                    self.state = State::Open;
                }
            }
        }
        self.last = window;
        self.window = Window::new(now);
    }

    /// Takes a trip for a lack of capacity, if it looks like one. `by_overload`: share of the failures that
    /// it stands on.
    pub fn claim(&mut self, by_overload: f64, now: Instant) -> bool {
        let State::Open = self.state else { return false };
        let lasted = now.saturating_duration_since(self.window.began).as_secs_f64();
        let over = (self.last.lasted + lasted).max(0.5);
        let of = |part: fn(&Window) -> f64| (part(&self.last) + part(&self.window)) / over;
        let (attempts, successes) = (of(|w| w.attempts), of(|w| w.successes));
        let failing = of(|w| w.overloads) / attempts.max(f64::MIN_POSITIVE);
        let is_like_it = by_overload >= LEAST_BY_OVERLOAD
            && failing <= MOST_FAILING
            && attempts > self.usual * ROSE
            && successes > 0.0;
        if is_like_it {
            let rate = (attempts / 2.0).min(successes);
            self.state = State::Limited(Limit {
                rate,
                offered: attempts,
                admits: rate / attempts,
                first_share: failing,
                held: successes,
                in_vain: 0,
                clean_since: now,
                helped: false,
                found: false,
                settles_at: now + SETTLES,
            });
            self.window = Window::new(now);
        }
        is_like_it
    }

    /// Whether overload failures are excused now.
    pub fn is_limited(&self) -> bool {
        matches!(self.state, State::Limited(_))
    }

    /// Attempts a second, at most.
    pub fn limit(&self) -> Option<f64> {
        match self.state {
            State::Limited(limit) => Some(limit.rate),
            State::Open | State::Faulty { .. } => None,
        }
    }

    /// Share of what it is offered that it is given.
    pub fn admits(&self) -> Permille {
        match self.state {
            State::Limited(limit) => Permille::from_fraction(limit.admits),
            State::Open | State::Faulty { .. } => Permille::ALL,
        }
    }

    /// The change of the limit that nobody was told of yet.
    pub fn untold(&mut self) -> bool {
        let limited = self.is_limited();
        std::mem::replace(&mut self.told, limited) != limited
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_limited().then_some(self.window.began + STAYING)
    }
}

impl Limit {
    /// What becomes of it after one interval.
    fn judged(&self, window: &Window, now: Instant) -> State {
        let (attempts, successes) =
            (window.attempts / window.lasted, window.successes / window.lasted);
        let mut next = *self;
        // What is admitted is drawn by lot, and one interval says little.
        next.offered += (attempts / self.admits - next.offered) * WEIGHT_OF_THE_LAST;
        next.held += (successes - next.held) * WEIGHT_OF_THE_LAST;
        let share = window.share();
        if share > WHOLLY {
            return State::Faulty { until: now + FAULTY_FOR };
        }
        if now < self.settles_at {
            // What it did before this limit is still being answered.
            next.first_share =
                if self.helped { self.first_share } else { self.first_share.max(share) };
        } else if share > MOST_OVERLOADED {
            let in_vain = share >= self.first_share / 2.0;
            next.in_vain = if in_vain { self.in_vain + 1 } else { 0 };
            let most = if self.helped { LIMITS_IN_VAIN_LATER } else { LIMITS_IN_VAIN };
            if next.in_vain == most {
                return State::Faulty { until: now + FAULTY_FOR };
            }
            let held = next.held.min(self.rate);
            next.rate = if self.helped { held } else { f64::max(self.rate, held) / 2.0 };
            (next.clean_since, next.found) = (now, self.helped);
            next.settles_at = now + if next.found { SETTLES_NEAR_THE_EDGE } else { SETTLES };
        } else {
            next.helped = true;
            next.in_vain = 0;
            if share <= MOST_OVERLOADED / 2.0 {
                next.rate = (self.rate * self.growth(now)).min(next.offered * ROSE);
            }
        }
        if now >= next.clean_since + ENDS_AFTER && next.rate >= next.offered * ROSE {
            return State::Open;
        }
        // Where almost nothing is left, one request in a while still shows whether that changed.
        next.rate = next.rate.max(1.0 / window.lasted);
        next.admits = (next.rate / next.offered).clamp(0.001, 1.0);
        State::Limited(next)
    }

    fn growth(&self, now: Instant) -> f64 {
        match self.found {
            false => QUICKLY,
            true if now >= self.clean_since + CLEAN_FOR_LONG => FASTER,
            true => SLOWLY,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;
    use crate::decide::world::start;

    /// An upstream that fails what is beyond `holds` a second, and `faulty` of the rest, offered so
    /// many a second; stepped by the second.
    struct Stage {
        admission: Admission,
        now: Instant,
        offered: f64,
        holds: f64,
        faulty: f64,
        good: f64,
        bad: f64,
    }

    impl Stage {
        fn new(offered: f64, holds: f64) -> Self {
            let now = start();
            let admission = Admission::new(now);
            Self { admission, now, offered, holds, faulty: 0.0, good: 0.0, bad: 0.0 }
        }

        fn seconds(&mut self, count: u32) {
            for _ in 0..count {
                let sent = self.offered * self.admission.admits().fraction();
                let good = sent.min(self.holds) * (1.0 - self.faulty);
                self.admission.count(sent.round() as u64, good.round() as u64);
                for _ in 0..(sent - good).round() as u32 {
                    self.admission.overloaded();
                }
                (self.good, self.bad) = (self.good + good, self.bad + sent - good);
                self.now += Duration::from_secs(1);
                self.admission.pass(self.now);
            }
        }
    }

    #[test]
    fn an_upstream_gets_what_it_can_hold_and_hardly_more() {
        let mut stage = Stage::new(1000.0, 600.0);
        stage.seconds(2);
        assert!(stage.admission.claim(1.0, stage.now));
        stage.seconds(40);
        (stage.good, stage.bad) = (0.0, 0.0);
        stage.seconds(200);
        assert!(stage.admission.is_limited());
        assert!(stage.good / 200.0 > 585.0, "{}", stage.good);
        assert!(stage.bad / stage.good < 0.05, "{} of {}", stage.bad, stage.good);
    }

    #[test]
    fn a_limit_ends_once_all_can_be_held_again() {
        let mut stage = Stage::new(1000.0, 600.0);
        stage.seconds(2);
        assert!(stage.admission.claim(1.0, stage.now) && stage.admission.untold());
        stage.seconds(30);
        stage.holds = f64::INFINITY;
        stage.seconds(300);
        assert!(!stage.admission.is_limited() && stage.admission.untold());
        assert_eq!(stage.admission.admits(), Permille::ALL);
    }

    #[test]
    fn a_share_that_no_limit_changes_is_a_fault() {
        let mut stage = Stage::new(1000.0, f64::INFINITY);
        stage.faulty = 0.4;
        stage.seconds(2);
        assert!(stage.admission.claim(1.0, stage.now));
        stage.seconds(20);
        assert!(!stage.admission.is_limited());
        assert!(!stage.admission.claim(1.0, stage.now), "not again for a minute");
        stage.seconds(61);
        assert!(stage.admission.claim(1.0, stage.now));
    }

    #[test]
    fn what_fails_wholly_while_it_is_limited_is_a_fault_within_moments() {
        let mut stage = Stage::new(1000.0, 600.0);
        stage.seconds(2);
        assert!(stage.admission.claim(1.0, stage.now));
        stage.faulty = 1.0;
        stage.seconds(2);
        assert!(!stage.admission.is_limited());
    }

    #[test]
    fn what_is_no_more_than_usual_or_fails_otherwise_is_never_taken_for_capacity() {
        let usual = |seconds| {
            let mut stage = Stage::new(1000.0, f64::INFINITY);
            stage.seconds(seconds);
            stage
        };
        let mut stage = usual(300);
        assert!(!stage.admission.claim(1.0, stage.now), "the load is as ever");
        let mut stage = usual(3);
        assert!(!stage.admission.claim(0.8, stage.now), "a fifth fails otherwise");
        let mut stage = Stage::new(1000.0, 200.0);
        stage.seconds(3);
        assert!(!stage.admission.claim(1.0, stage.now), "four of five fail");
        let mut stage = usual(300);
        stage.offered *= 2.0;
        stage.seconds(3);
        assert!(stage.admission.claim(1.0, stage.now), "twice as much as ever");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_comes_the_share_is_one_and_something_is_let_through(
            steps in proptest::collection::vec((0.0..5000.0_f64, 0.0..5000.0_f64, 0.0..1.0_f64), 1..60),
        ) {
            let mut stage = Stage::new(1000.0, 600.0);
            stage.seconds(2);
            stage.admission.claim(1.0, stage.now);
            for (offered, holds, faulty) in steps {
                (stage.offered, stage.holds, stage.faulty) = (offered, holds, faulty);
                stage.seconds(3);
                prop_assert!(stage.admission.admits() > Permille::ZERO);
                prop_assert!(stage.admission.limit().is_none_or(|rate| rate.is_finite() && rate > 0.0));
            }
        }
    }
}
