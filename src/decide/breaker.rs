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
//!
//! Not here: when to eject ([`super::pool`]), for how long ([`super::hold`]).

use std::time::{Duration, Instant};

use crate::model::health::{Health, Verdict};
use crate::model::unit::Permille;

/// Clean answers in a row that half-open takes.
pub const PASSES_TO_RAMP: u32 = 20;

/// Share of each step, and clean answers that it takes.
const STEPS: [(u16, u32); 5] = [(10, 20), (50, 60), (150, 150), (350, 300), (700, 300)];

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
    /// It may.
    Open,
    /// The pool is to stay where it is for now: for `min_stay`, or because it is better there.
    Closed,
}

impl Pace {
    /// How long each step takes at least.
    fn step(&self) -> Duration {
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
                if passes >= PASSES_TO_RAMP && pace.gate == Gate::Open =>
            {
                Self::Ramping { since: now, step: 0, passes: 0, ejections }
            }
            (Self::HalfOpen { ejections, .. }, Event::Acquitted) if pace.gate == Gate::Open => {
                Self::Ramping { since: now, step: 0, passes: 0, ejections }
            }

            (Self::Ramping { since, step, passes, ejections }, Event::Clean(more)) => {
                Self::Ramping { since, step, passes: passes.saturating_add(more), ejections }
            }
            (Self::Ramping { since, step, passes, ejections }, Event::Tick)
                if pace.gate == Gate::Open
                    && passes >= needed(step)
                    && now.saturating_duration_since(since) >= pace.step() =>
            {
                step_up(step, ejections, now)
            }
            (Self::Ramping { step, ejections, .. }, Event::Quiet) if pace.gate == Gate::Open => {
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
