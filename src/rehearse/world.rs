//! What each stand-in provider answers at a time of the outage: faults with ramps, waves, matches
//! and luck in, one answer out. Knows nothing of the proxy that asks.
//!
//! Times are spans since the beginning of the replay, which is [`LEAD`] before the outage.

pub mod band;
mod draft;
mod load;
mod track;

use std::time::Duration;

use fastrand::Rng;

use self::draft::Draft;
use self::load::Load;
use self::track::{Planned, Track};
use super::scenario::{Family, Fault, MarkerFate, Mode, Scenario, Sticky, Subject};
use super::traffic::{Demand, Request};
use crate::model::cell::Cell;
use crate::model::id::Label;
use crate::model::signal::Reply;

/// The upstream that is the origin itself, no edge in between.
pub const DIRECT: &str = "direct";
/// The fault-free time before the outage, and after it.
pub const LEAD: Duration = Duration::from_secs(3600);
/// What a dialer loses on a dead IPv6 address before it tries IPv4 (RFC 8305, section 5).
const FAMILY_DELAY: Duration = Duration::from_millis(250);
/// The mean over which a body's least rate is taken.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Connections to one upstream that `sticky: conn` tells apart.
const CONNECTIONS: u64 = 32;

/// What one attempt meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// What is seen.
    pub seen: Seen,
    /// Whose doing it is, in truth.
    pub cause: Cause,
}

/// What one attempt sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    /// No connection is ever accepted.
    Nothing,
    /// The TLS handshake fails.
    HandshakeFailed {
        /// After how long.
        after: Duration,
    },
    /// The connection breaks off before the head.
    BrokenOff {
        /// After how long.
        after: Duration,
    },
    /// An answer.
    Head {
        /// From the beginning of the attempt.
        after: Duration,
        /// Its status.
        status: u16,
        /// Whether it carries the origin's marker.
        marker: MarkerFate,
        /// How its body goes on.
        body: Body,
    },
}

/// How a body goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    /// To its end.
    Whole,
    /// It ends short.
    Cut,
    /// One byte a second.
    Trickles,
}

/// Whose doing an answer is, in truth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A good answer.
    Nobody,
    /// The upstream's: another one would have done better.
    Upstream,
    /// The origin's: nobody would have done better.
    Origin,
    /// Too much load for the origin: slower would have done better.
    Overload,
}

/// Every fault of the outage, and the load that meets it.
#[derive(Debug)]
pub struct World {
    tracks: Vec<Track>,
    /// By upstream: which tracks bear on it, its own before the origin's.
    bearing: Vec<Vec<(usize, Bearing)>>,
    /// When anything begins, ends or turns, in order.
    turns: Vec<Duration>,
    load: Load,
    /// Whether any capacity is: else nobody asks for the load.
    is_bounded: bool,
}

/// How a fault reaches an upstream.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Bearing {
    /// It is its own, or our network's.
    Own,
    /// It is the origin's, and this upstream is the origin.
    IsOrigin,
    /// It is the origin's, seen through an edge.
    BehindEdge,
}

impl World {
    /// Before the outage.
    pub fn new(scenario: &Scenario, demand: &Demand) -> Self {
        let tracks = Track::all(scenario, demand);
        let mut turns: Vec<Duration> = tracks.iter().flat_map(Track::turns).collect();
        turns.sort();
        turns.dedup();
        let bearing_on = |(upstream, name): (usize, &Label)| {
            let is_direct = name.as_str() == DIRECT;
            let of = |(track, it): (usize, &Track)| {
                bearing(it.subject, upstream, is_direct).map(|bearing| (track, bearing))
            };
            let mut list: Vec<_> = tracks.iter().enumerate().filter_map(of).collect();
            list.sort_by_key(|(_, bearing)| *bearing);
            list
        };
        let bearing = scenario.upstreams.iter().enumerate().map(bearing_on).collect();
        let is_bounded = tracks.iter().any(Track::is_about_capacity);
        let load = Load::new(scenario.upstreams.len(), demand.rate());
        Self { bearing, turns, load, is_bounded, tracks }
    }

    /// How many upstreams there are.
    pub fn size(&self) -> usize {
        self.bearing.len()
    }

    /// When the next thing begins, ends or turns after `at`.
    pub fn next_turn(&self, at: Duration) -> Option<Duration> {
        self.turns.get(self.turns.partition_point(|turn| *turn <= at)).copied()
    }

    /// How an upstream's answers to requests of a cell, or to all, are slower at `at`, as shares and by
    /// how much; empty where they are not. `None` where anything else is wrong, or differs from request to request.
    pub fn slowness(
        &self,
        upstream: usize,
        cell: Option<Cell>,
        at: Duration,
    ) -> Option<Vec<(f64, Duration)>> {
        let felt = self.faults(upstream, at).filter(|(planned, ..)| {
            let touches = |cell| planned.filter.touches(cell);
            planned.fault.is_felt() && cell.is_none_or(touches)
        });
        let slower = |(planned, fraction, ..): (&Planned, f64, Bearing, usize)| {
            let Fault { mode, fraction: full, sticky, .. } = planned.fault;
            match mode {
                // Neither some requests only, nor more and more of them.
                Mode::Latency(more)
                    if planned.filter.is_everything()
                        && sticky == Sticky::None
                        && fraction >= full =>
                {
                    Some((fraction, more))
                }
                _ => None,
            }
        };
        felt.map(slower).collect()
    }

    /// What is wrong with an upstream, for people; rounded to a tenth while it ramps.
    pub fn words(&self, upstream: usize, at: Duration) -> Option<String> {
        let felt = self.faults(upstream, at).filter(|(planned, ..)| planned.fault.is_felt());
        let words = felt.map(|(planned, fraction, ..)| {
            let full = planned.fault.fraction;
            let shown = if fraction < full { (fraction * 10.0).floor() / 10.0 } else { full };
            super::report::fault_words(&planned.fault.mode, shown)
        });
        let all: Vec<String> = words.collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// What a request meets at an upstream.
    pub fn answer(&mut self, ask: Ask<'_>, demand: &Demand, rng: &mut Rng) -> Answer {
        if self.is_bounded {
            self.load.count(ask.upstream, ask.at);
        }
        let mut draft = Draft::new(demand.latency(rng));
        for (planned, fraction, bearing, track) in self.faults(ask.upstream, ask.at) {
            let share = self.striking_share(&planned.fault, fraction, ask.upstream, bearing);
            if ask.request.is_matched(&planned.filter)
                && luck(&planned.fault, ask.request, track as u64, rng) < share
            {
                draft.strike(&planned.fault, bearing);
            }
        }
        draft.finish(ask.request)
    }

    /// Whether any name ever fails to resolve.
    pub fn has_name_faults(&self) -> bool {
        self.tracks.iter().any(Track::is_about_names)
    }

    /// What looking up an upstream's name comes to.
    pub fn look_up(&self, upstream: usize, at: Duration, rng: &mut Rng) -> Reply {
        let own = Subject::Provider(upstream);
        let bears = |track: &&Track| track.subject == Subject::Resolver || track.subject == own;
        let bearing = self.tracks.iter().filter(bears).filter_map(|track| track.now(at));
        let names = bearing.filter(|(planned, _)| matches!(planned.fault.mode, Mode::Dns(_)));
        let spared: f64 = names.map(|(_, fraction)| 1.0 - fraction).product();
        if rng.f64() < spared { Reply::Came } else { Reply::Missing }
    }

    /// Each upstream served this many requests since the last ones, without anything worth telling.
    pub fn serve(&mut self, requests: &[f64], at: Duration) {
        if self.is_bounded {
            self.load.count_many(requests, at);
        }
    }

    /// Share of the demand, or of one request's luck, that an upstream spoils by its own faults.
    pub fn harm(&self, upstream: usize, at: Duration, request: Option<&Request>) -> f64 {
        let spared = |(planned, fraction, bearing, _): (&Planned, f64, Bearing, usize)| {
            let fault = &planned.fault;
            if bearing != Bearing::Own || !fault.mode.harms() || planned.filter.family.is_some() {
                return 1.0;
            }
            let matching = match request {
                Some(request) => f64::from(u8::from(request.is_matched(&planned.filter))),
                None => planned.filter.share,
            };
            let fraction = match fault.mode {
                // Everything comes here, as far as this question goes.
                Mode::Capacity(..) => 1.0 - fraction,
                _ => fraction,
            };
            1.0 - fraction * matching
        };
        1.0 - self.faults(upstream, at).map(spared).product::<f64>()
    }

    fn faults(
        &self,
        upstream: usize,
        at: Duration,
    ) -> impl Iterator<Item = (&Planned, f64, Bearing, usize)> {
        self.bearing[upstream].iter().filter_map(move |(track, bearing)| {
            let (planned, fraction) = self.tracks[*track].now(at)?;
            Some((planned, fraction, *bearing, *track))
        })
    }

    /// The fraction of matching requests that a fault strikes; for a capacity, what exceeds it.
    fn striking_share(
        &self,
        fault: &Fault,
        fraction: f64,
        upstream: usize,
        bearing: Bearing,
    ) -> f64 {
        match (fault.mode, bearing) {
            (Mode::Capacity(..), Bearing::Own) => over(self.load.of(upstream), fraction),
            (Mode::Capacity(..), Bearing::BehindEdge | Bearing::IsOrigin) => {
                over(self.load.of_origin(), fraction)
            }
            _ => fraction,
        }
    }
}

/// One question to the world.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whom.
    pub upstream: usize,
    /// What.
    pub request: &'a Request,
    /// When.
    pub at: Duration,
}

fn bearing(subject: Subject, upstream: usize, is_direct: bool) -> Option<Bearing> {
    match subject {
        Subject::Provider(provider) => (provider == upstream).then_some(Bearing::Own),
        Subject::Uplink => Some(Bearing::Own),
        Subject::Origin if is_direct => Some(Bearing::IsOrigin),
        Subject::Origin => Some(Bearing::BehindEdge),
        // Last good addresses are kept: a request never notices.
        Subject::Resolver => None,
    }
}

/// The share of a load (in shares of the service's) that exceeds a capacity.
fn over(load: f64, capacity: f64) -> f64 {
    if load > capacity { 1.0 - capacity / load } else { 0.0 }
}

/// A number in `0..1` that decides whether a fault strikes.
fn luck(fault: &Fault, request: &Request, salt: u64, rng: &mut Rng) -> f64 {
    let key = match fault.sticky {
        Sticky::None => return rng.f64(),
        Sticky::Path => request.page_key(),
        Sticky::Client => request.client_key(),
        Sticky::Conn => rng.u64(0..CONNECTIONS),
    };
    Rng::with_seed(key << 8 | salt).f64()
}

impl Fault {
    /// Whether a request can notice it at all: the dialer tries IPv6 first.
    fn is_felt(&self) -> bool {
        self.mode.touches_traffic() && self.only_family() != Some(Family::V4)
    }
}

impl Mode {
    /// Whether a request can notice it.
    const fn touches_traffic(self) -> bool {
        match self {
            Self::Dns(_) | Self::ControlPlane => false,
            Self::Status(_)
            | Self::Timeout
            | Self::Reset
            | Self::Tls
            | Self::Latency(_)
            | Self::Truncate
            | Self::Slowloris(_)
            | Self::WrongContent(_)
            | Self::Capacity(..) => true,
        }
    }

    /// Whether it spoils an answer, and not only its speed.
    const fn harms(self) -> bool {
        self.touches_traffic() && !matches!(self, Self::Latency(_))
    }
}

#[cfg(test)]
mod tests;
