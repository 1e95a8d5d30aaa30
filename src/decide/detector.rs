//! What is wrong, and who should serve? The one value that holds every score, machine, incident and
//! plan of one topology.
//!
//! In: [`Signal`]s, each with the instant it is handed over, and a topology now and then. Out:
//! [`Transition`]s and [`PoolPlan`]s. The same signals at the same times give the same result: no
//! clock, no randomness but the seed, no map whose order varies.
//!
//! Not here: how anything is concluded. See [`super::watch`] for one upstream, [`super::pool`] for
//! one pool, and [`super::provider`] and [`super::common_cause`] for what one pool learns of others.

use std::sync::Arc;
use std::time::Instant;

use super::admission::Admission;
use super::common_cause::CommonCause;
use super::course::Occasion;
use super::pool::{Context, PoolWatch, Recall};
use super::provider::{Presence, Providers};
use super::watch::{Standing, Watch};
use crate::model::health::{
    Blame, Health, PoolStanding, ProbePace, ProviderHealth, Reason, Retries, Transition,
    UpstreamStanding,
};
use crate::model::id::{PoolId, ProviderId, UpstreamId};
use crate::model::memory::Memory;
use crate::model::operator::Override;
use crate::model::outcome::FailureKind;
use crate::model::plan::PoolPlan;
use crate::model::signal::{ProbeResult, Signal, Subject};
use crate::model::topology::{FailoverMode, Topology, Upstream};
use crate::model::unit::Permille;

mod known;
mod rehearsal;

use known::Known;

/// Holds every score, machine and incident of one topology.
#[derive(Debug)]
pub struct Detector {
    shared: Shared,
    pools: Vec<PoolWatch>,
    /// Place of each upstream within its pool.
    places: Vec<usize>,
    /// What the operator ordered, whether or not it is about anything that exists now.
    overrides: Vec<Override>,
}

/// What every pool's step depends on.
#[derive(Debug)]
struct Shared {
    topology: Arc<Topology>,
    seed: u64,
    common_cause: CommonCause,
    providers: Providers,
    now: Instant,
}

impl Shared {
    fn context(&self, pool: usize) -> Context<'_> {
        Context {
            topology: &self.topology,
            id: PoolId::new(pool),
            seed: self.seed,
            frozen: self.common_cause.ground(),
            providers: &self.providers,
            now: self.now,
        }
    }
}

impl Detector {
    /// Knows nothing yet: every upstream is healthy. `seed` varies the jitter of holds.
    pub fn new(topology: Arc<Topology>, seed: u64, now: Instant) -> Self {
        let nothing = Arc::new(Topology::default());
        let (common_cause, providers) = (CommonCause::default(), Providers::default());
        let shared = Shared { topology: nothing, seed, common_cause, providers, now };
        let (pools, places, overrides) = (Vec::new(), Vec::new(), Vec::new());
        let mut detector = Self { shared, pools, places, overrides };
        detector.adopt(topology, now);
        detector
    }

    /// Takes over a new topology; what is known under the same key is kept.
    pub fn adopt(&mut self, topology: Arc<Topology>, now: Instant) -> Vec<Transition> {
        self.shared.now = now;
        let mut known =
            Known::of(std::mem::take(&mut self.pools), &self.shared.topology, &topology);
        self.places = vec![0; topology.upstreams.len()];
        let hosts = topology.hosts_of_all();
        for (id, pool) in topology.pools() {
            for (place, upstream) in pool.upstreams.iter().enumerate() {
                self.places[upstream.index()] = place;
            }
            let hosts = hosts[id.index()].iter().map(|host| (*host).clone()).collect();
            self.pools.push(known.resume((pool, hosts), &topology, now));
        }
        self.shared.topology = topology;
        self.shared.common_cause.adopt(self.shared.topology.upstreams.len());
        self.shared.providers.adopt(&self.shared.topology);
        let mut transitions = Vec::new();
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let context = self.shared.context(index);
            pool.replan(Occasion::Reload, &context, &mut transitions);
            pool.obey(&self.overrides, &context, &mut transitions);
        }
        self.publish();
        transitions
    }

    /// What should still be known after a restart.
    pub fn memory(&self) -> Memory {
        let pools = self.pools.iter().enumerate();
        Memory {
            upstreams: self.pools.iter().flat_map(|p| &p.watches).map(Watch::memory).collect(),
            pools: pools.map(|(id, pool)| pool.memory(&self.shared.context(id))).collect(),
        }
    }

    /// Goes on from there; to be called before anything is observed. What is not known any more is
    /// ignored.
    pub fn resume(&mut self, memory: &Memory, now: Instant) -> Vec<Transition> {
        self.shared.now = now;
        let mut transitions = Vec::new();
        if *memory == Memory::default() {
            return transitions;
        }
        let recall = Recall::of(memory);
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let context = self.shared.context(index);
            pool.resume(&recall, &context, &mut transitions);
        }
        self.publish();
        transitions
    }

    /// Goes by these orders from now on, and by no others.
    pub fn obey(&mut self, overrides: Vec<Override>, now: Instant) -> Vec<Transition> {
        self.shared.now = now;
        self.overrides = overrides;
        let mut transitions = Vec::new();
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let context = self.shared.context(index);
            pool.obey(&self.overrides, &context, &mut transitions);
        }
        self.publish();
        transitions
    }

    fn publish(&mut self) {
        self.pools.iter_mut().for_each(PoolWatch::publish);
    }

    /// Takes in one piece of evidence; nothing is concluded before [`Detector::decide`]. Evidence
    /// about an upstream that does not exist is ignored.
    pub fn observe(&mut self, signal: &Signal, now: Instant) {
        match signal {
            Signal::Sample(sample) => {
                if sample.counts.successes != [0; 2] {
                    self.shared.common_cause.heard(sample.upstream, now);
                }
                if let Some((pool, place)) = self.find(sample.upstream) {
                    pool.sample(place, sample, now);
                }
            }
            Signal::Host(sample) => {
                if let Some((pool, place)) = self.find(sample.upstream) {
                    pool.host_sample(place, sample);
                }
            }
            Signal::Note(note) => {
                self.contact(note.upstream, note.at, kind_of(note.subject));
                if let Some((pool, place)) = self.find(note.upstream) {
                    pool.note(place, note);
                }
            }
            Signal::Pair(pair) => {
                if let Some((pool, _)) = self.find(pair.first) {
                    pool.pair(pair);
                }
            }
            Signal::Probe(report) => {
                let kind = match report.result {
                    ProbeResult::Failed(kind) => Some(kind),
                    ProbeResult::Passed | ProbeResult::OriginError => None,
                };
                self.contact(report.upstream, report.at, kind);
                if let Some((pool, place)) = self.find(report.upstream) {
                    pool.probe(place, report);
                }
            }
            Signal::Origin(report) => {
                if let Some(pool) = self.pools.get_mut(report.pool.index()) {
                    pool.wake();
                    pool.report(report);
                }
            }
            Signal::Resolution(report) => {
                self.shared.common_cause.looked_up(report.upstream, report.at, report.reply);
            }
            Signal::Control(report) => self.shared.common_cause.control(report.at, report.reply),
        }
    }

    fn contact(&mut self, upstream: UpstreamId, at: Instant, failed: Option<FailureKind>) {
        match failed {
            Some(FailureKind::Dns | FailureKind::Connect) => {
                self.shared.common_cause.shut(upstream, at)
            }
            Some(_) | None => self.shared.common_cause.heard(upstream, at),
        }
    }

    fn find(&mut self, upstream: UpstreamId) -> Option<(&mut PoolWatch, usize)> {
        let pool = self.shared.topology.upstreams.get(upstream.index())?.pool;
        let pool = self.pools.get_mut(pool.index())?;
        pool.wake();
        Some((pool, self.places[upstream.index()]))
    }

    /// Draws conclusions: moves every machine to `now`, recomputes the plans that changed.
    pub fn decide(&mut self, now: Instant) -> Vec<Transition> {
        self.shared.now = now;
        let Shared { topology, common_cause, .. } = &mut self.shared;
        common_cause.decide(topology, now);
        let mut transitions = Vec::new();
        if self.overrides.iter().any(|order| !order.stands(now)) {
            let mut standing = std::mem::take(&mut self.overrides);
            standing.retain(|order| order.stands(now));
            transitions = self.obey(standing, now);
        }
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let context = self.shared.context(index);
            pool.decide(&context, &mut transitions);
        }
        self.demote(&mut transitions);
        self.publish();
        transitions
    }

    /// Where several services left a provider at once, the others leave it too.
    fn demote(&mut self, transitions: &mut Vec<Transition>) {
        let Shared { topology, providers, now, .. } = &mut self.shared;
        for transition in transitions.iter() {
            if let Transition::Health { upstream, reason: Reason::Trip(_, evidence), .. } =
                transition
                && evidence.attribution.blame == Blame::Provider
            {
                let Upstream { provider, pool, .. } = topology.upstream(*upstream);
                providers.tripped(*provider, &topology.pool(*pool).service, *now);
            }
        }
        if !providers.is_concerned() {
            return;
        }
        let presences: Vec<Presence<'_>> = (topology.upstreams())
            .map(|(id, upstream)| {
                let watch = &self.pools[upstream.pool.index()].watches[self.places[id.index()]];
                watch.presence(&topology.pool(upstream.pool).service, upstream.provider)
            })
            .collect();
        for provider in providers.decide(&presences, *now, transitions) {
            for (index, pool) in self.pools.iter_mut().enumerate() {
                pool.leave(provider, &self.shared.context(index), transitions);
            }
        }
    }

    /// The plan of every pool, by `PoolId`. An unchanged plan is the same `Arc` as before.
    pub fn plans(&self) -> Vec<Arc<PoolPlan>> {
        self.pools.iter().map(|pool| Arc::clone(&pool.published)).collect()
    }

    /// Whether anything may have changed of a pool and its upstreams since [`Detector::told`].
    pub fn is_news(&self, id: PoolId) -> bool {
        self.pools[id.index()].is_news
    }

    /// Everybody has been told of everything.
    pub fn told(&mut self) {
        self.pools.iter_mut().for_each(|pool| pool.is_news = false);
    }

    /// One upstream, for people, the prober and the shared states.
    pub fn upstream(&self, id: UpstreamId, now: Instant) -> UpstreamStanding {
        let pool = &self.pools[self.shared.topology.upstream(id).pool.index()];
        let watch = &pool.watches[self.places[id.index()]];
        let pace = match watch.health {
            Health::HalfOpen { .. } => ProbePace::Brisk,
            Health::Healthy | Health::Suspect | Health::Ramping { .. } if pool.is_urgent() => {
                ProbePace::Urgent
            }
            Health::Healthy | Health::Suspect | Health::Ramping { .. } | Health::Ejected { .. } => {
                ProbePace::Normal
            }
        };
        let mut seconds = watch.seconds.clone();
        seconds.advance(now);
        UpstreamStanding {
            health: watch.health,
            admin: watch.admin,
            verdict: watch.health.verdict(pool.trickle()).under(watch.admin),
            levels: watch.levels().map(Permille::from_fraction),
            rate: seconds.rate(),
            failing: seconds.failing(),
            probe: watch.probes.last,
            pace,
            late_after: watch.hour.late_after(),
            marker_armed: watch.hour.marker_armed(),
            admits: watch.admission.as_ref().map_or(Permille::ALL, Admission::admits),
            gray_alert: watch.standing == Standing::Gray,
            stays_until: pool.stays_until(self.places[id.index()], id, now),
            last: watch.last,
        }
    }

    /// One pool, for people.
    pub fn pool(&self, id: PoolId) -> PoolStanding {
        let pool = &self.pools[id.index()];
        let incidents = || pool.all().filter_map(|part| part.incident);
        let watches = pool.all().flat_map(|part| &part.watches);
        PoolStanding {
            incident: incidents().map(|incident| incident.since).min(),
            failing_since: watches.filter_map(Watch::failing_since).min(),
            attribution: incidents().find_map(|incident| incident.attribution),
            origin_incident: pool.all().any(|part| part.origin.is_at_fault()),
            common_cause: pool.frozen.is_some(),
            intended: pool.course.intended.first(),
        }
    }

    /// One provider, for people.
    pub fn provider(&self, id: ProviderId) -> ProviderHealth {
        self.shared.providers.health(id)
    }

    /// How many requests of a pool may be tried a second time. Not while its origin is blamed by
    /// comparison: its word alone may be about a few pages, and a provider may die meanwhile.
    pub fn retries(&self, id: PoolId) -> Retries {
        let mode = self.shared.topology.pool(id).rules.failover.mode;
        let blamed = self.pools[id.index()].all().find_map(|part| part.origin.blamed);
        match (mode, blamed) {
            (FailoverMode::Enforce, Some(_)) => Retries::OneASecond,
            (FailoverMode::Enforce, None) | (FailoverMode::Observe, _) => Retries::Budget,
        }
    }

    /// When `decide` must be called again at the latest even if no evidence comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        let now = self.shared.now;
        let deadline =
            |(index, pool): (usize, &PoolWatch)| pool.deadline(&self.shared.context(index));
        let lapses = self.overrides.iter().filter_map(|order| order.until);
        let others = lapses.filter(|at| *at > now).chain(self.shared.common_cause.deadline(now));
        self.pools.iter().enumerate().filter_map(deadline).chain(others).min()
    }

    /// Whether anything is in doubt, so that evidence should be drained every 10 ms, not 100 ms.
    pub fn in_doubt(&self) -> bool {
        self.pools.iter().any(PoolWatch::in_doubt)
    }
}

fn kind_of(subject: Subject) -> Option<FailureKind> {
    match subject {
        Subject::Failure(kind) => Some(kind),
        Subject::OriginError => None,
    }
}

#[cfg(test)]
mod tests;
