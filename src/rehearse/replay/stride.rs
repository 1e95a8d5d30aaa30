//! Time in which nothing happens: requests are counted by the hundred, and time passes in strides
//! that grow with how long it has been quiet.

use std::sync::Arc;
use std::time::Duration;

use super::{Event, Replay};
use crate::model::cell::Cell;
use crate::model::id::UpstreamId;
use crate::model::outcome::{Marker, MethodClass, Outcome};
use crate::model::plan::{Candidate, PoolPlan};
use crate::model::signal::{Counts, DURATION_BUCKETS, Sample};
use crate::model::unit::Permille;
use crate::rehearse::tally::series;
use crate::rehearse::traffic::{Demand, HOSTS, NOBODYS, ORIGIN_ERRORS, SAFE_SHARE};
use crate::request::witness::client_prefix;

/// Shortest and longest stride.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// Longest stride while traffic is shared: an upstream is being tried out.
const LONGEST_ON_TRIAL: Duration = Duration::from_secs(1);
/// A stride is this part of the time that has been quiet.
const PART: u32 = 20;

/// What strides remember from one to the next.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Duration,
    /// When the last stride ended, if no request has come by itself since.
    ended: Option<Duration>,
    /// How quickly heads come, for each way in which answers are slower.
    paces: Vec<Pace>,
    /// Fractions of requests left over, by upstream and class, so that none is lost by rounding.
    requests: Vec<[f64; 2]>,
    heads: Vec<[f64; DURATION_BUCKETS]>,
    origin_errors: f64,
}

/// How quickly heads come while answers are so much slower.
#[derive(Debug)]
struct Pace {
    slower: Vec<(f64, Duration)>,
    /// Share of heads in each duration bucket.
    buckets: [f64; DURATION_BUCKETS],
}

impl Pace {
    fn new(slower: Vec<(f64, Duration)>, demand: &Demand) -> Self {
        Self { buckets: demand.latency_shares(&slower, super::steer::bucket), slower }
    }
}

impl Quiet {
    pub(super) fn new(demand: &Demand, upstreams: usize) -> Self {
        Self {
            since: Duration::ZERO,
            ended: None,
            paces: vec![Pace::new(Vec::new(), demand)],
            requests: vec![[0.0; 2]; upstreams],
            heads: vec![[0.0; DURATION_BUCKETS]; upstreams],
            origin_errors: 0.0,
        }
    }

    /// Something happened.
    pub(super) fn disturbed(&mut self, at: Duration) {
        self.since = at;
    }

    /// The place of such a pace; the handful of them that an outage has is kept.
    fn pace(&mut self, slower: Vec<(f64, Duration)>, demand: &Demand) -> usize {
        let known = self.paces.iter().position(|known| known.slower == slower);
        known.unwrap_or_else(|| {
            self.paces.push(Pace::new(slower, demand));
            self.paces.len() - 1
        })
    }

    /// What an upstream counts of `wanted` good answers of each class.
    fn sample(&mut self, upstream: usize, wanted: [f64; 2], pace: usize) -> Sample {
        let mut counts = Counts::default();
        for class in [0, 1] {
            counts.successes[class] = whole(&mut self.requests[upstream][class], wanted[class]);
        }
        let served = f64::from(counts.successes[0] + counts.successes[1]);
        let heads = &mut self.heads[upstream];
        let shares = &self.paces[pace].buckets;
        let durations = std::array::from_fn(|n| whole(&mut heads[n], served * shares[n]));
        Sample { upstream: UpstreamId::new(upstream), counts, durations }
    }
}

/// The whole part of what is wanted and was left over; the rest is left for the next time.
fn whole(left_over: &mut f64, wanted: f64) -> u32 {
    let all = *left_over + wanted;
    let whole = all.floor();
    *left_over = all - whole;
    whole as u32
}

/// Requests that go by one plan.
struct Group<'a> {
    pool: usize,
    plan: &'a PoolPlan,
    /// None: all of the pool's.
    cell: Option<Cell>,
    /// Share of the pool's safe requests.
    safe: f64,
    /// Share of all others.
    unsafe_: f64,
}

/// All requests, pool by pool; cell by cell where they do not all go by the same plan.
fn groups(plans: &[Arc<PoolPlan>]) -> impl Iterator<Item = Group<'_>> {
    plans.iter().enumerate().flat_map(|(pool, plan)| {
        let whole = Group { pool, plan, cell: None, safe: 1.0, unsafe_: 1.0 };
        let is_whole = plan.parts().is_empty();
        let part = 1.0 / HOSTS.len() as f64;
        let cells = if is_whole { 0 } else { HOSTS.len() * 2 };
        let of_cell = move |index: usize| {
            let cell = Cell::at(index);
            let (safe, unsafe_) = match cell.class {
                MethodClass::Safe => (part, 0.0),
                MethodClass::Unsafe => (0.0, part),
            };
            Group { pool, plan: plan.of_cell(cell), cell: Some(cell), safe, unsafe_ }
        };
        is_whole.then_some(whole).into_iter().chain((0..cells).map(of_cell))
    })
}

impl Group<'_> {
    /// Upstreams that take requests of their own.
    fn serving(&self) -> impl Iterator<Item = usize> {
        let takes = |c: &&Candidate| {
            self.safe * c.safe.fraction() + self.unsafe_ * c.unsafe_.fraction() > 0.0
        };
        self.plan.candidates().iter().filter(takes).map(|c| c.upstream().index())
    }

    fn standby(&self) -> Option<usize> {
        self.plan.standby().map(|standby| self.plan.candidates()[standby.place].upstream().index())
    }

    /// Candidates, with their share of the safe requests.
    fn shares(&self) -> impl Iterator<Item = (&Candidate, f64)> {
        let plan = self.plan;
        let aside = plan.standby().map_or(0.0, |standby| NOBODYS * standby.share.fraction());
        plan.candidates().iter().enumerate().map(move |(place, candidate)| {
            let kept = candidate.safe.fraction() * (1.0 - aside);
            let is_standby = plan.standby().is_some_and(|standby| standby.place == place);
            (candidate, if is_standby { kept + aside } else { kept })
        })
    }
}

impl Replay {
    /// Up to when nothing will happen; `None` while something does.
    pub(super) fn stride_end(&mut self) -> Option<Duration> {
        if !self.courses.is_empty() || self.steer.has_evidence() || self.steer.in_doubt() {
            self.quiet.disturbed(self.now);
            return None;
        }
        let mut longest = LONGEST;
        for group in groups(self.steer.plans()) {
            let serving = || group.serving();
            let standby = group.standby().filter(|_| group.safe > 0.0);
            let cell = group.cell;
            if !serving().chain(standby).all(|upstream| self.is_quiet(upstream, cell)) {
                self.quiet.disturbed(self.now);
                return None;
            }
            match serving().count() {
                0 => return None,
                1 => {}
                _ => longest = LONGEST_ON_TRIAL,
            }
        }
        let quiet = self.now.saturating_sub(self.quiet.since);
        let wanted = self.now + (quiet / PART).clamp(SHORTEST, longest);
        let bounds = [self.world.next_turn(self.now), self.steer.deadline(), Some(self.end)];
        let end =
            bounds.into_iter().flatten().filter(|b| *b > self.now).fold(wanted, Duration::min);
        if self.world.next_turn(self.now) == Some(end) {
            self.quiet.disturbed(end);
        }
        Some(end)
    }

    /// Whether nothing is wrong with an upstream but that it is slow, and not so slow that it is late.
    fn is_quiet(&self, upstream: usize, cell: Option<Cell>) -> bool {
        if self.steer.flags(upstream).admits < Permille::ALL {
            return false;
        }
        let slower = self.world.slowness(self.places[upstream], cell, self.now);
        slower.is_some_and(|slower| {
            let by: Duration = slower.iter().map(|(_, by)| *by).sum();
            let slowest = self.demand.slowest() + by;
            slower.len() < 5
                && (slower.is_empty() || slowest < self.steer.flags(upstream).late_after)
        })
    }

    /// Lets time pass.
    pub(super) fn stride(&mut self, end: Duration) {
        let began = self.now;
        let requests = self.demand.rate() * (end - began).as_secs_f64();
        let failing = whole(&mut self.quiet.origin_errors, requests * ORIGIN_ERRORS);
        for _ in 0..failing {
            let at = began + (end - began).mul_f64(self.rng.f64());
            self.plan(at, Event::OriginFails);
        }
        self.serve(requests - f64::from(failing), end);
        self.tally.pass(began, end, self.demand.rate());
        let thin = end - began > self.rules().probe.interval * 2;
        while let Some(std::cmp::Reverse(entry)) = self.agenda.peek()
            && entry.at <= end
        {
            let event = entry.event;
            self.now = self.now.max(entry.at);
            self.agenda.pop();
            // Of many equal probes in a long stride, one tells it all.
            match event {
                Event::Probe { .. } if thin && self.now + self.rules().probe.interval < end => {
                    self.plan(end, event);
                }
                _ => self.happen(event),
            }
        }
        self.now = end;
        self.quiet.ended = Some(end);
        self.next_request = end + self.demand.gap(&mut self.rng);
        self.drain();
    }

    /// Before a request that comes by itself: the budgets hold what strides have left in them, and
    /// every client has had good answers.
    pub(super) fn end_quiet(&mut self) {
        if let Some(end) = self.quiet.ended.take() {
            let end = self.steer.instant(end);
            self.budgets.iter().for_each(|budget| budget.refill(end));
            for client in self.demand.clients() {
                self.clients.note(client_prefix(client), end);
            }
        }
    }

    /// Many good answers at once, shared as the plan says.
    fn serve(&mut self, requests: f64, end: Duration) {
        let lost_without = self.lost_without() * requests;
        self.tally.lost_without += lost_without;
        let mut loads = vec![0.0; self.world.size()];
        let plans = self.steer.plans().to_vec();
        for group in groups(&plans) {
            let requests = requests * self.demand.share_of(group.pool);
            for (candidate, safe) in group.shares() {
                let wanted = [
                    requests * SAFE_SHARE * group.safe * safe,
                    requests * (1.0 - SAFE_SHARE) * group.unsafe_ * candidate.unsafe_.fraction(),
                ];
                let upstream = candidate.upstream().index();
                loads[self.places[upstream]] += wanted[0] + wanted[1];
                self.serve_at(upstream, group.cell, wanted);
            }
        }
        let cell = series::Cell {
            served: loads.iter().map(|load| *load as f32).collect(),
            lost: 0.0,
            lost_without: lost_without as f32,
        };
        self.tally.series.spread(self.now..end, &cell);
        self.world.serve(&loads, end);
    }

    /// Good answers of one upstream.
    fn serve_at(&mut self, upstream: usize, cell: Option<Cell>, wanted: [f64; 2]) {
        let slower = self.world.slowness(self.places[upstream], cell, self.now).unwrap_or_default();
        let pace = self.quiet.pace(slower, &self.demand);
        let mut sample = self.quiet.sample(upstream, wanted, pace);
        let served = sample.counts.successes[0] + sample.counts.successes[1];
        if self.rules().marker.is_some() {
            sample.counts.markable = served;
            sample.counts.marked = served;
        }
        let past = if self.is_first_choice(upstream) { 0.0 } else { 1.0 };
        let all = 0..HOSTS.len();
        let hosts = cell.map_or(all, |cell| cell.host.index()..cell.host.index() + 1);
        let part = (wanted[0] + wanted[1]) / hosts.len() as f64;
        for host in hosts {
            self.tally.hosts.sent(self.now, host, (part, part * past));
        }
        self.steer.add(self.now, (upstream, cell.map(|cell| cell.host)), &sample);
        self.tally.serve(upstream, u64::from(served));
        self.count_middle(self.now, upstream, u64::from(served));
        if (self.trigger.0..self.trigger.1).contains(&self.now) {
            self.tally.during.0 += u64::from(served);
            self.tally.during.1 += u64::from(served);
        }
    }

    /// One request that the origin fails, whoever asks it.
    pub(super) fn origin_fails(&mut self) {
        let request = self.demand.draw(&mut self.rng);
        let class = MethodClass::of(request.method());
        let plan = self.steer.plan(request.service());
        let plan = plan.of_cell(request.cell());
        let Some(place) = plan.pick(class, self.rng.u16(0..1000)) else { return };
        let upstream = plan.candidates()[place].upstream().index();
        let marker = self.marker(crate::rehearse::scenario::MarkerFate::Kept);
        let outcome = match marker {
            Marker::Present => Outcome::OriginError,
            // Without a marker configured nobody can tell whose error it is.
            Marker::Unconfigured
            | Marker::Old
            | Marker::Absent
            | Marker::Replaced
            | Marker::Own => Outcome::Failure(crate::model::outcome::FailureKind::ServerError),
        };
        self.conclude(upstream, &request, outcome, marker);
        self.steer.is_alone(self.now, upstream);
        self.tally.serve(upstream, 1);
        self.tally.hopeless += 1;
    }

    /// Whether an upstream is what the operator put first.
    pub(super) fn is_first_choice(&self, upstream: usize) -> bool {
        let pool = &self.topology.pools[self.topology.upstreams[upstream].pool.index()];
        pool.upstreams.first().is_some_and(|first| first.index() == upstream)
    }

    /// Counts who serves in the middle tenth of the outage.
    pub(super) fn count_middle(&mut self, at: Duration, upstream: usize, requests: u64) {
        let (from, to) = self.trigger;
        let tenth = (to - from) / 10;
        let middle = from + (to - from) / 2;
        if (middle - tenth / 2..middle + tenth / 2).contains(&at) {
            self.tally.served_in_the_middle[upstream] += requests;
        }
    }
}
