//! One upstream's machine: what do we believe of it, after this event?
//!
//! In: conclusions of the detector, each with its instant. Out: the next [`Health`]. Pure and total.
//!
//! ```text
//!              Doubt               Eject
//!   Healthy ───────────▶ Suspect ─────────▶ Ejected ◀──────────────────────┐
//!    ▲   ▲ ◀───────────            ┌────────▶ │                            │
//!    │   │    Settled              │ Eject    │ HoldOver                   │ Eject
//!    │   │                         │          ▼                            │
//!    │   │                         └─────── HalfOpen ──▶ Ramping ──────────┘
//!    │   └─ Eject from Healthy: probes        Clean ×20     │ Clean ×20/60/150/300/300,
//!    │                                        in a row, or  │ in a step, or Quiet,
//!    │                                        Acquitted     │ step by step
//!    └──────────────────────────────────────────────────────┘ after the last step
//! ```
//! Through a wide gate half-open leads to Healthy at once.
//!
//! Not here: when to eject ([`super::pool`]), for how long ([`super::hold`]).

use std::time::{Duration, Instant};

use crate::model::health::{Health, Verdict};
use crate::model::unit::Permille;

/// Clean answers in a row that half-open takes.
pub const PASSES_TO_RAMP: u32 = 20;

/// Share of each step, and clean answers that it takes.
pub(super) const STEPS: [(u16, u32); 5] = [(10, 20), (50, 60), (150, 150), (350, 300), (700, 300)];

/// What moves the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A score passed half of its threshold.
    Doubt,
    /// Every score is below half of its threshold.
    Settled,
    /// It is taken out.
    Eject {
        /// Earliest instant of half-open.
        until: Instant,
        /// How many ejections count, this one included.
        ejections: u32,
    },
    /// The hold is over and the up-time rule holds.
    HoldOver,
    /// So many clean answers came in a row.
    Clean(u32),
    /// An attempt failed.
    Failed,
    /// Probes speak for it, where requests are too few to.
    Acquitted,
    /// Traffic is thin, and nothing failed in this step for as long as a thin step takes.
    Quiet,
    /// Time passed.
    Tick,
}

/// What the machine goes by.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first step of the ramp to the full share.
    pub ramp: Duration,
    /// Whether the ramp may begin, or go on to its next step.
    pub gate: Gate,
}

/// Whether a proven upstream may take over more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// It may take over all at once, as a standby does: it waited for nothing but `min_stay`, for as long as a
    /// ramp takes, and who served meanwhile has failed.
    Wide,
    /// It may.
    Open,
    /// The pool is to stay where it is for now: for `min_stay`, or because it is better there.
    /// `min_stay` closes it to nobody in the EU whom `prefer-eu` wants back.
    Closed,
}

impl Gate {
    fn is_closed(self) -> bool {
        self == Self::Closed
    }

    /// Where half-open leads to.
    fn after_half_open(self, ejections: u32, now: Instant) -> Health {
        match self {
            Self::Wide => Health::Healthy,
            Self::Open | Self::Closed => {
                Health::Ramping { since: now, step: 0, passes: 0, ejections }
            }
        }
    }
}

impl Pace {
    /// How long each step takes at least.
    pub fn step(&self) -> Duration {
        self.ramp / STEPS.len() as u32
    }

    /// How long a step takes where too few answers come to count: a quarter longer (30 s of the
    /// default ramp).
    pub fn quiet_step(&self) -> Duration {
        self.ramp / 4
    }
}

impl Health {
    /// The whole machine: every state answers every event.
    #[must_use]
    pub fn next(self, event: Event, now: Instant, pace: &Pace) -> Self {
        match (self, event) {
            (Self::Ejected { .. }, Event::Eject { .. }) => self,
            (_, Event::Eject { until, ejections }) => {
                Self::Ejected { since: now, until, ejections }
            }

            (Self::Healthy, Event::Doubt) => Self::Suspect,
            (Self::Suspect, Event::Settled) => Self::Healthy,
            (Self::Ejected { ejections, .. }, Event::HoldOver) => {
                Self::HalfOpen { since: now, passes: 0, ejections }
            }

            (Self::HalfOpen { since, passes, ejections }, Event::Clean(more)) => {
                Self::HalfOpen { since, passes: passes.saturating_add(more), ejections }
            }
            (Self::HalfOpen { since, ejections, .. }, Event::Failed) => {
                Self::HalfOpen { since, passes: 0, ejections }
            }
            (Self::HalfOpen { passes, ejections, .. }, Event::Tick)
                if passes >= PASSES_TO_RAMP && !pace.gate.is_closed() =>
            {
                pace.gate.after_half_open(ejections, now)
            }
            (Self::HalfOpen { ejections, .. }, Event::Acquitted) if !pace.gate.is_closed() => {
                pace.gate.after_half_open(ejections, now)
            }

            (Self::Ramping { since, step, passes, ejections }, Event::Clean(more)) => {
                Self::Ramping { since, step, passes: passes.saturating_add(more), ejections }
            }
            (Self::Ramping { since, step, passes, ejections }, Event::Tick)
                if !pace.gate.is_closed()
                    && passes >= needed(step)
                    && now.saturating_duration_since(since) >= pace.step() =>
            {
                step_up(step, ejections, now)
            }
            (Self::Ramping { step, ejections, .. }, Event::Quiet) if !pace.gate.is_closed() => {
                step_up(step, ejections, now)
            }

            // Answers that come late, from before the ejection, say nothing about now; and doubt
            // about one that is being tried out changes nothing until it trips.
            (
                Self::Healthy | Self::Suspect | Self::Ejected { .. },
                Event::Clean(_) | Event::Failed | Event::Acquitted | Event::Quiet | Event::Tick,
            )
            | (
                Self::Suspect | Self::Ejected { .. } | Self::HalfOpen { .. } | Self::Ramping { .. },
                Event::Doubt,
            )
            | (
                Self::Healthy | Self::Ejected { .. } | Self::HalfOpen { .. } | Self::Ramping { .. },
                Event::Settled,
            )
            | (
                Self::Healthy | Self::Suspect | Self::HalfOpen { .. } | Self::Ramping { .. },
                Event::HoldOver,
            )
            | (Self::HalfOpen { .. }, Event::Acquitted | Event::Quiet | Event::Tick)
            // A failure in the ramp is the scores' business: a service in which one request of a
            // hundred fails everywhere must be able to return too.
            | (Self::Ramping { .. }, Event::Failed | Event::Acquitted | Event::Quiet | Event::Tick) => {
                self
            }
        }
    }

    /// What routing may do with it. `trickle` is the share of a half-open upstream.
    pub fn verdict(self, trickle: Permille) -> Verdict {
        match self {
            Self::Healthy | Self::Suspect => Verdict::Serve,
            Self::Ejected { .. } => Verdict::Avoid,
            Self::HalfOpen { .. } => Verdict::Trickle(trickle),
            Self::Ramping { step, .. } => Verdict::Share(share(step)),
        }
    }
}

/// Share of a step of the ramp.
pub fn share(step: u8) -> Permille {
    let thousandths = STEPS.get(usize::from(step)).map_or(1000, |(share, _)| *share);
    Permille::from_fraction(f64::from(thousandths) / 1000.0)
}

fn needed(step: u8) -> u32 {
    STEPS.get(usize::from(step)).map_or(0, |(_, answers)| *answers)
}

fn step_up(step: u8, ejections: u32, now: Instant) -> Health {
    let next = step.saturating_add(1);
    if usize::from(next) < STEPS.len() {
        Health::Ramping { since: now, step: next, passes: 0, ejections }
    } else {
        Health::Healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::start;
    use crate::model::health::HealthTag;

    const RAMP: Duration = Duration::from_secs(120);

    #[test]
    fn health_moves_as_drawn() {
        use Event::{Acquitted, Clean, Doubt, Eject, Failed, HoldOver, Quiet, Settled, Tick};
        use Health::{Healthy, Suspect};
        let begin = start();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let eject = |seconds, ejections| Eject { until: at(seconds), ejections };
        let ejected = |since, until, ejections| Health::Ejected {
            since: at(since),
            until: at(until),
            ejections,
        };
        let half_open = |passes| Health::HalfOpen { since: at(30), passes, ejections: 2 };
        let ramping =
            |since, step, passes| Health::Ramping { since: at(since), step, passes, ejections: 2 };

        #[rustfmt::skip]
        let table = [
            // what it shows                            from               event         at   becomes
            ("half a threshold raises doubt",           Healthy,           Doubt,         0,  Suspect),
            ("doubt that settles leaves no trace",      Suspect,           Settled,       0,  Healthy),
            ("a suspect is taken out",                  Suspect,           eject(30, 1),  0,  ejected(0, 30, 1)),
            ("dead probes take out the healthy",        Healthy,           eject(30, 1),  0,  ejected(0, 30, 1)),
            ("an ejection is not renewed",              ejected(0, 30, 1), eject(99, 2),  5,  ejected(0, 30, 1)),
            ("the hold ends in a trickle",              ejected(0, 30, 2), HoldOver,     30,  half_open(0)),
            ("late answers do not readmit",             ejected(0, 30, 1), Clean(99),     5,  ejected(0, 30, 1)),
            ("clean answers add up",                    half_open(3),      Clean(4),     31,  half_open(7)),
            ("one failure and they begin again",        half_open(19),     Failed,       31,  half_open(0)),
            ("nineteen are not enough",                 half_open(19),     Tick,         31,  half_open(19)),
            ("twenty begin the ramp",                   half_open(20),     Tick,         40,  ramping(40, 0, 0)),
            ("probes begin it where traffic is thin",   half_open(0),      Acquitted,    90,  ramping(90, 0, 0)),
            ("failing half-open ejects for longer",     half_open(5),      eject(100, 3), 40, ejected(40, 100, 3)),
            ("answers count within a step",             ramping(40, 1, 5), Clean(9),     41,  ramping(40, 1, 14)),
            ("a failure in the ramp is for the scores", ramping(40, 1, 5), Failed,       41,  ramping(40, 1, 5)),
            ("a step takes its answers",                ramping(40, 0, 19), Tick,        90,  ramping(40, 0, 19)),
            ("and its time",                            ramping(40, 0, 99), Tick,        63,  ramping(40, 0, 99)),
            ("then comes the next",                     ramping(40, 0, 20), Tick,        64,  ramping(64, 1, 0)),
            ("thin traffic takes a longer step",        ramping(40, 1, 0), Quiet,        70,  ramping(70, 2, 0)),
            ("a trip in the ramp ejects for longer",    ramping(40, 3, 9), eject(200, 3), 80, ejected(80, 200, 3)),
            ("the last step ends in health",            ramping(40, 4, 300), Tick,       64,  Healthy),
        ];
        let pace = Pace { ramp: RAMP, gate: Gate::Open };
        for (shows, from, event, seconds, becomes) in table {
            assert_eq!(from.next(event, at(seconds), &pace), becomes, "{shows}");
        }
    }

    #[test]
    fn a_closed_gate_stops_every_step_up_and_nothing_else() {
        let now = start();
        let pace = Pace { ramp: RAMP, gate: Gate::Closed };
        let half_open = Health::HalfOpen { since: now, passes: 20, ejections: 1 };
        let ramping = Health::Ramping { since: now, step: 2, passes: 500, ejections: 1 };
        let later = now + Duration::from_secs(600);
        for stays in [half_open, ramping] {
            for event in [Event::Tick, Event::Acquitted, Event::Quiet] {
                assert_eq!(stays.next(event, later, &pace), stays, "{event:?}");
            }
        }
        let ejected = Health::Ejected { since: now, until: now, ejections: 1 };
        assert_eq!(ejected.next(Event::HoldOver, later, &pace).tag(), HealthTag::HalfOpen);
    }

    #[test]
    fn a_wide_gate_skips_the_ramp_of_one_that_is_proven_and_of_nobody_else() {
        let now = start();
        let pace = Pace { ramp: RAMP, gate: Gate::Wide };
        let half_open = |passes| Health::HalfOpen { since: now, passes, ejections: 1 };
        assert_eq!(half_open(20).next(Event::Tick, now, &pace), Health::Healthy);
        assert_eq!(half_open(0).next(Event::Acquitted, now, &pace), Health::Healthy);
        assert_eq!(half_open(19).next(Event::Tick, now, &pace), half_open(19));
        let ramping = Health::Ramping { since: now, step: 0, passes: 99, ejections: 1 };
        let next = ramping.next(Event::Tick, now + RAMP, &pace);
        assert!(matches!(next, Health::Ramping { step: 1, .. }), "{next:?}");
    }

    #[test]
    fn a_verdict_says_what_each_step_may_take() {
        let now = start();
        let trickle = Permille::from_fraction(0.02);
        let ramping = |step| Health::Ramping { since: now, step, passes: 0, ejections: 1 };
        let shares: Vec<Verdict> = (0..5).map(|step| ramping(step).verdict(trickle)).collect();
        let of = |percent: f64| Verdict::Share(Permille::from_fraction(percent / 100.0));
        assert_eq!(shares, [of(1.0), of(5.0), of(15.0), of(35.0), of(70.0)]);
        let half_open = Health::HalfOpen { since: now, passes: 0, ejections: 1 };
        assert_eq!(half_open.verdict(trickle), Verdict::Trickle(trickle));
        assert_eq!(Health::Suspect.verdict(trickle), Verdict::Serve);
    }
}
