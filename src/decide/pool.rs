//! One service's pool: who is taken out and who comes back, and whose fault it is.
//!
//! In: what its watches say. Out: transitions, and the layout from which [`super::course`] makes the
//! plan. A trip is an intention: here it meets blame, which is a comparison and needs everyone.
//!
//! Not here: what one upstream knows by itself ([`super::watch`]), the evidence of blame
//! ([`super::attribution`]), how a plan follows from beliefs ([`super::plan`]).

use std::time::{Duration, Instant};

use super::attribution::{
    self, Doubt, Member, ORIGIN_STILL, PROVIDER, PROVIDER_GRAY, SETTLING, Sampling, Surroundings,
};
use super::breaker::{Gate, Pace};
use super::course::{Change, Course, Occasion};
use super::origin::Origin;
use super::plan::{self, Experiment, Layout};
use super::rank::{self, Contender, Fate};
use super::share::Share;
use super::watch::{Others, PROBES_TO_VETO, Standing, Watch};
use crate::model::health::{
    Attribution, Blame, Health, HealthTag, IncidentEdge, Reason, Tier, Transition,
};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::outcome::FailureKind;
use crate::model::signal::{Pair, PairEnd};
use crate::model::topology::{Pool, Topology};
use crate::model::unit::Permille;

/// An incident ends after so long without anything failing.
const INCIDENT_ENDS_AFTER: Duration = Duration::from_secs(60);
/// A cascade or brownout of unknown blame becomes an experiment after this. A body cut short under
/// a 200 is never retried and leaves no pair: without the experiment nothing would ever say whose
/// fault it is, and after more than a second the upstream would not be left within two.
const EXPERIMENT_AFTER: Duration = Duration::from_secs(1);
/// An experiment is not worth its losses once the evidence says so much against the provider.
const EXPERIMENT_FROM: f64 = -PROVIDER;
/// A gray failure ejects only if at least this share of the attempts fails.
const GRAY_LEAST_SHARE: f64 = 0.02;
/// Safe requests a second of a half-open upstream, where that is more than 1 %.
const TRICKLE_RATE: f64 = 0.5;
/// Shares of safe requests of a half-open upstream; few, so that a change of rate seldom makes a new
/// plan. At most a quarter: a service so quiet that it would take more lets probes decide.
const TRICKLES: [u16; 6] = [10, 20, 40, 80, 160, 250];
/// Probes of two upstreams within this time are compared; twice the longest usual interval.
const PROBE_LAG: Duration = Duration::from_secs(10);
/// Pairs kept between two conclusions; more would say nothing new.
const MOST_PAIRS: usize = 1024;
/// Evidence that stands without a conclusion is weighed anew at least this often.
const REWEIGH: Duration = Duration::from_secs(1);

/// What every step of a pool needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What exists.
    pub topology: &'a Topology,
    /// Which pool.
    pub id: PoolId,
    /// Seed of jitter.
    pub seed: u64,
    /// When.
    pub now: Instant,
}

impl Context<'_> {
    /// The pool itself.
    pub fn pool(&self) -> &Pool {
        self.topology.pool(self.id)
    }
}

/// One pool.
#[derive(Debug)]
pub struct PoolWatch {
    /// By place in the pool.
    pub watches: Vec<Watch>,
    /// Its origin.
    pub origin: Origin,
    /// Its plan.
    pub course: Course,
    /// From the first suspect until nothing has failed for a minute.
    pub incident: Option<Incident>,
    members: Vec<Member>,
    pairs: Vec<Pair>,
    experiment: Option<Experiment>,
}

/// A stretch of time in which something fails.
#[derive(Clone, Copy, Debug)]
pub struct Incident {
    /// The first suspect.
    pub since: Instant,
    /// The last conclusion about blame.
    pub attribution: Option<Attribution>,
    last_failing: Instant,
}

impl PoolWatch {
    /// Over these watches, in the pool's order.
    pub fn new(watches: Vec<Watch>, origin: Origin, course: Course) -> Self {
        let (incident, experiment) = (None, None);
        let (members, pairs) = (Vec::new(), Vec::new());
        Self { watches, origin, course, incident, members, pairs, experiment }
    }

    /// One retried request, weighed at the next conclusion.
    pub fn pair(&mut self, pair: &Pair) {
        if self.pairs.len() < MOST_PAIRS {
            self.pairs.push(*pair);
        }
    }

    /// Draws conclusions.
    pub fn decide(&mut self, context: &Context, out: &mut Vec<Transition>) {
        self.absorb(context);
        self.judge(context, out);
        self.advance(context, out);
        self.keep_incident(context, out);
        self.replan(Occasion::Decision, context, out);
        self.keep_cases(context);
    }

    fn absorb(&mut self, context: &Context) {
        for (place, upstream) in context.pool().upstreams.iter().enumerate() {
            let pace = self.pace(place, context);
            let serves = self.course.serves(*upstream);
            let watch = &mut self.watches[place];
            watch.sampling = if serves { Sampling::Fair } else { Sampling::Retries };
            watch.absorb(context.now, &pace);
        }
        self.origin.absorb(context.now);
        let upstreams = &context.pool().upstreams;
        self.members.clear();
        self.members.extend(
            self.watches
                .iter()
                .zip(upstreams)
                .map(|(watch, upstream)| Member { upstream: *upstream, traffic: watch.traffic }),
        );
        self.compare_pairs(context);
        self.compare_probes();
    }

    fn compare_pairs(&mut self, context: &Context) {
        let upstreams = &context.pool().upstreams;
        let place = |id: UpstreamId| upstreams.iter().position(|upstream| *upstream == id);
        for pair in std::mem::take(&mut self.pairs) {
            let (Some(first), Some(second)) = (place(pair.first), place(pair.second)) else {
                continue;
            };
            let failing = |watch: &Watch| watch.scores().failing();
            let here = failing(&self.watches[first]);
            self.watches[first].case.compare(second, pair.second_went, here);
            if pair.second_went == PairEnd::FailedToo {
                // The same two failures, seen from the other one.
                let there = failing(&self.watches[second]);
                self.watches[second].case.compare(first, PairEnd::FailedToo, there);
            }
        }
    }

    /// Each failed probe is a pair with the last probe of each sibling, if that is recent and was
    /// asked after the fault began.
    fn compare_probes(&mut self) {
        let probes: Vec<_> = self.watches.iter().map(|watch| watch.probes.last).collect();
        for (place, watch) in self.watches.iter_mut().enumerate() {
            let Some(failed) = watch.probes.uncompared.take() else { continue };
            let Some(began) = watch.fault_began() else { continue };
            for (sibling, probe) in probes.iter().enumerate().filter(|(other, _)| *other != place) {
                let Some((at, passed)) = *probe else { continue };
                if at >= began + SETTLING && at + PROBE_LAG >= failed {
                    let went = if passed { PairEnd::Succeeded } else { PairEnd::FailedToo };
                    watch.case.compare_probe(sibling, went);
                }
            }
        }
    }

    /// Meets every trip with blame: ejects, withholds, or alerts.
    fn judge(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let attributions: Vec<Option<Attribution>> =
            (0..self.watches.len()).map(|place| self.attribution(place, context)).collect();
        self.blame_origin(&attributions);
        for (place, attribution) in attributions.into_iter().enumerate() {
            let Some(attribution) = attribution else {
                self.settle(place, context, out);
                continue;
            };
            self.note_attribution(attribution, context.now);
            match self.reason_to_eject(place, attribution) {
                Some(reason) => self.eject(place, reason, context, out),
                None => self.withhold(place, attribution, context, out),
            }
        }
    }

    /// Whose fault it is that the upstream at `place` is in doubt; `None` when it is not, or is out
    /// already.
    fn attribution(&self, place: usize, context: &Context) -> Option<Attribution> {
        let watch = &self.watches[place];
        let by_traffic = watch.level() >= 0.5;
        let by_probes = watch.probes.failed >= PROBES_TO_VETO;
        let (failing, since, probe_kind) = match watch.health {
            Health::Ejected { .. } => return None,
            Health::Healthy
            | Health::Suspect
            | Health::HalfOpen { .. }
            | Health::Ramping { .. } => {
                if by_traffic && watch.trip().is_some() || !by_probes {
                    (watch.scores().failing(), watch.scores().since()?, None)
                } else {
                    (Share::DEAD, watch.probes.failing_since?, watch.probes.kind)
                }
            }
        };
        if !by_traffic && !by_probes {
            return None;
        }
        let (case, sample) = (&watch.case, watch.sampling);
        let doubt = Doubt { place, case, failing, sample, since, probe_kind };
        let around = Surroundings {
            topology: context.topology,
            members: &self.members,
            origin_probe: self.origin.probe,
            now: context.now,
        };
        Some(attribution::attribute(&doubt, &around))
    }

    fn blame_origin(&mut self, attributions: &[Option<Attribution>]) {
        let found = attributions.iter().flatten().find(|a| a.blame == Blame::Origin);
        let holds = |a: &&Attribution| a.log_odds <= ORIGIN_STILL;
        let still = attributions.iter().flatten().find(holds).and(self.origin.blamed);
        self.origin.blamed = found.copied().or(still);
    }

    fn note_attribution(&mut self, attribution: Attribution, now: Instant) {
        let incident = self.incident.get_or_insert(Incident {
            since: now,
            attribution: None,
            last_failing: now,
        });
        incident.last_failing = now;
        incident.attribution = Some(attribution);
    }

    fn reason_to_eject(&self, place: usize, attribution: Attribution) -> Option<Reason> {
        if self.origin.blamed.is_some() {
            return None;
        }
        let watch = &self.watches[place];
        // One that is being tried out goes unless the evidence speaks for it: sending its trickle
        // elsewhere again costs nobody anything.
        let tried = matches!(watch.health, Health::HalfOpen { .. } | Health::Ramping { .. });
        let least = if tried { 0.0 } else { PROVIDER };
        if let Some(tier) = watch.trip() {
            let enough = match tier {
                Tier::Cascade | Tier::Brownout => attribution.log_odds >= least,
                Tier::Gray if tried => attribution.log_odds >= least,
                Tier::Gray => {
                    attribution.log_odds >= PROVIDER_GRAY
                        && watch.scores().gray_failing().least >= GRAY_LEAST_SHARE
                }
            };
            let evidence = || watch.scores().evidence(tier, &watch.yardstick(), attribution);
            return enough.then(|| Reason::Trip(tier, evidence()));
        }
        let kind = watch.probes.kind.unwrap_or(FailureKind::ServerError);
        let failed = watch.probes.failed;
        let half_open = matches!(watch.health, Health::HalfOpen { .. });
        if half_open && failed >= PROBES_TO_VETO && attribution.log_odds >= least {
            return Some(Reason::ProbeVeto(kind));
        }
        let condemned = watch.probes_trip() && attribution.log_odds >= least;
        condemned.then_some(Reason::Probes { failed, kind })
    }

    fn eject(
        &mut self,
        place: usize,
        reason: Reason,
        context: &Context,
        out: &mut Vec<Transition>,
    ) {
        self.end_gray_alert(place, context, out);
        let watch = &mut self.watches[place];
        watch.failing_since = match reason {
            Reason::Trip(_, evidence) => Some(evidence.since),
            _ => watch.probes.failing_since,
        };
        let from = watch.health.tag();
        let (seed, key) = (context.seed, watch.key.clone());
        let hold = watch.eject(&context.pool().rules.failover, |n| jitter(seed, &key, n));
        watch.last = Some((context.now, reason));
        out.push(Transition::Health {
            upstream: context.pool().upstreams[place],
            from,
            to: HealthTag::Ejected,
            at: context.now,
            reason,
            hold: Some(hold),
        });
    }

    /// A trip that moves nobody is told once.
    fn withhold(
        &mut self,
        place: usize,
        attribution: Attribution,
        context: &Context,
        out: &mut Vec<Transition>,
    ) {
        let (upstream, at) = (context.pool().upstreams[place], context.now);
        let watch = &mut self.watches[place];
        let Some(tier) = watch.trip() else {
            self.settle(place, context, out);
            return;
        };
        match (tier, watch.standing) {
            (Tier::Cascade | Tier::Brownout, Standing::Nothing | Standing::Gray) => {
                let evidence = watch.scores().evidence(tier, &watch.yardstick(), attribution);
                self.end_gray_alert(place, context, out);
                self.watches[place].standing = Standing::Withheld { since: at };
                out.push(Transition::Withheld { upstream, tier, evidence, at });
            }
            (Tier::Gray, Standing::Nothing) => {
                watch.standing = Standing::Gray;
                out.push(Transition::GrayAlert { upstream, edge: IncidentEdge::Raised, at });
            }
            (Tier::Cascade | Tier::Brownout, Standing::Withheld { .. })
            | (Tier::Gray, Standing::Gray | Standing::Withheld { .. }) => {}
        }
    }

    /// What stood without an ejection ends with its excursion.
    fn settle(&mut self, place: usize, context: &Context, out: &mut Vec<Transition>) {
        if self.watches[place].level() < 0.5 {
            self.end_gray_alert(place, context, out);
            self.watches[place].standing = Standing::Nothing;
        }
    }

    fn end_gray_alert(&mut self, place: usize, context: &Context, out: &mut Vec<Transition>) {
        let watch = &mut self.watches[place];
        if watch.standing == Standing::Gray {
            watch.standing = Standing::Nothing;
            let (upstream, at) = (context.pool().upstreams[place], context.now);
            out.push(Transition::GrayAlert { upstream, edge: IncidentEdge::Ended, at });
        }
    }

    /// Makes the moves that need no one else's word.
    fn advance(&mut self, context: &Context, out: &mut Vec<Transition>) {
        for place in 0..self.watches.len() {
            let pace = self.pace(place, context);
            let others = self.others(place);
            let watch = &mut self.watches[place];
            let Some((event, reason)) = watch.due(&pace, others) else { continue };
            let from = watch.health.tag();
            watch.make(event, &pace);
            let to = watch.health.tag();
            if from != to {
                watch.last = Some((context.now, reason));
                let (upstream, at) = (context.pool().upstreams[place], context.now);
                out.push(Transition::Health { upstream, from, to, at, reason, hold: None });
            }
        }
    }

    fn others(&self, place: usize) -> Others {
        let able = |watch: &Watch| matches!(watch.health, Health::Healthy | Health::Suspect);
        let mut others = self.watches.iter().enumerate().filter(|(other, _)| *other != place);
        if others.any(|(_, watch)| able(watch)) { Others::Able } else { Others::None }
    }

    fn pace(&self, place: usize, context: &Context) -> Pace {
        let stays = self.course.stay_until().is_some_and(|until| context.now < until);
        let gate = match self.others(place) {
            Others::Able if stays => Gate::Closed,
            Others::Able | Others::None => Gate::Open,
        };
        Pace { ramp: context.pool().rules.failover.ramp, gate }
    }

    fn keep_incident(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let now = context.now;
        if self.watches.iter().any(is_failing) {
            let fresh = Incident { since: now, attribution: None, last_failing: now };
            self.incident.get_or_insert(fresh).last_failing = now;
        }
        self.incident = self.incident.filter(|i| now < i.last_failing + INCIDENT_ENDS_AFTER);

        let fault = self.origin.fault();
        if fault.is_some() != self.origin.raised {
            self.origin.raised = fault.is_some();
            let edge = if self.origin.raised { IncidentEdge::Raised } else { IncidentEdge::Ended };
            let last = self.incident.and_then(|incident| incident.attribution);
            let attribution = fault.or(last).unwrap_or(NOTHING_KNOWN);
            out.push(Transition::OriginIncident { pool: context.id, edge, at: now, attribution });
        }
    }

    /// Makes the plan anew if anything that it depends on changed.
    pub fn replan(&mut self, occasion: Occasion, context: &Context, out: &mut Vec<Transition>) {
        let upstreams = &context.pool().upstreams;
        let failed: Vec<UpstreamId> = (self.watches.iter().zip(upstreams))
            .filter(|(w, _)| matches!(w.health, Health::Ejected { .. } | Health::HalfOpen { .. }))
            .map(|(_, upstream)| *upstream)
            .collect();
        let members: Vec<plan::Member> = (self.watches.iter().zip(upstreams))
            .map(|(watch, upstream)| self.member(watch, *upstream, &failed, context))
            .collect();
        self.experiment = self.experiment(&members, context);
        let serves = |m: &plan::Member| {
            !matches!(m.health, Health::Ejected { .. } | Health::HalfOpen { .. })
        };
        let least_bad = if members.iter().any(serves) {
            self.course.forget_least_bad();
            None
        } else {
            let bad: Vec<_> = upstreams.iter().copied().zip(&self.watches).collect();
            self.course.least_bad(&bad, context.now)
        };
        let layout = Layout {
            members,
            residency: context.pool().residency,
            trickle: self.trickle(),
            least_bad,
            experiment: self.experiment,
        };
        let change = Change { context, watches: &self.watches };
        self.course.set(layout, occasion, &change, out);
    }

    fn member(
        &self,
        watch: &Watch,
        upstream: UpstreamId,
        failed: &[UpstreamId],
        context: &Context,
    ) -> plan::Member {
        let topology = context.topology;
        let shares =
            |other: &UpstreamId| *other != upstream && topology.share_fate(upstream, *other);
        let doubt = if self.course.serves(upstream) { rank::Doubt::None } else { watch.doubt() };
        let contender = Contender {
            upstream,
            jurisdiction: topology.provider_of(upstream).jurisdiction,
            preference: topology.upstream(upstream).preference,
            weight: topology.upstream(upstream).weight,
            doubt,
            fate: if failed.iter().any(shares) { Fate::Shared } else { Fate::Own },
        };
        plan::Member { contender, health: watch.health }
    }

    /// max(1 %, 0.5 a second) of the safe requests.
    pub fn trickle(&self) -> Permille {
        let rate: f64 = self.watches.iter().map(|watch| watch.seconds.safe_rate()).sum();
        let wanted = 1000.0 * TRICKLE_RATE / rate.max(f64::MIN_POSITIVE);
        let enough = TRICKLES.into_iter().find(|share| f64::from(*share) >= wanted);
        Permille::new(enough.unwrap_or(TRICKLES[TRICKLES.len() - 1])).unwrap_or(Permille::ZERO)
    }

    /// Where a trip has stood for a while and nothing says whose fault it is, a part of the requests
    /// goes to the next one, and what becomes of them says it.
    fn experiment(&self, members: &[plan::Member], context: &Context) -> Option<Experiment> {
        if self.origin.blamed.is_some() {
            return None;
        }
        let place = self.watches.iter().position(|watch| match watch.standing {
            Standing::Withheld { since } => context.now >= since + EXPERIMENT_AFTER,
            Standing::Nothing | Standing::Gray => false,
        })?;
        let attribution = self.attribution(place, context)?;
        let from = members[place].contender.upstream;
        if attribution.log_odds <= EXPERIMENT_FROM || !self.course.serves(from) {
            return None;
        }
        let order = Layout {
            members: members.to_vec(),
            residency: context.pool().residency,
            ..Layout::default()
        }
        .order();
        let to = (members.iter().zip(&self.watches))
            .filter(|(m, _)| m.contender.upstream != from && m.health == Health::Healthy)
            .filter(|(m, _)| m.contender.doubt == rank::Doubt::None)
            .filter(|(m, _)| !context.topology.share_fate(from, m.contender.upstream))
            .min_by_key(|(m, _)| order.rank(&m.contender))
            .map(|(m, _)| m.contender.upstream)?;
        Some(Experiment { from, to })
    }

    /// Evidence belongs to one fault: where nothing fails, what was compared is forgotten.
    fn keep_cases(&mut self, context: &Context) {
        for watch in &mut self.watches {
            match watch.fault_began() {
                None => watch.case.reopen(&self.members, context.now),
                Some(since) if context.now < since + SETTLING => {
                    watch.case.compare_from(&self.members);
                }
                Some(_) => {}
            }
        }
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self, context: &Context) -> Option<Instant> {
        let now = context.now;
        let standing = |watch: &Watch| match watch.standing {
            Standing::Withheld { .. } => true,
            Standing::Nothing | Standing::Gray => false,
        };
        let mut due: Vec<Instant> = Vec::new();
        for (place, watch) in self.watches.iter().enumerate() {
            due.extend(watch.deadline(&self.pace(place, context)));
        }
        if self.watches.iter().any(standing) || self.origin.blamed.is_some() {
            due.push(now + REWEIGH);
        }
        if self.watches.iter().any(|watch| watch.health.tag() == HealthTag::HalfOpen) {
            due.extend(self.course.stay_until());
        }
        due.extend(self.incident.map(|incident| incident.last_failing + INCIDENT_ENDS_AFTER));
        due.extend(self.origin.deadline(now));
        due.into_iter().filter(|at| *at > now).min()
    }

    /// Whether anything is in doubt.
    pub fn in_doubt(&self) -> bool {
        self.watches.iter().any(|watch| match watch.health {
            Health::Suspect => true,
            Health::Healthy | Health::HalfOpen { .. } | Health::Ramping { .. } => {
                watch.scores().is_cascade_open()
            }
            Health::Ejected { .. } => false,
        })
    }

    /// Whether one of its upstreams is so doubtful that all should be asked often.
    pub fn is_urgent(&self) -> bool {
        self.watches.iter().any(|watch| match watch.health {
            Health::Suspect => true,
            Health::Healthy | Health::Ramping { .. } => watch.probes.failed > 0,
            Health::HalfOpen { .. } | Health::Ejected { .. } => false,
        })
    }
}

/// An origin incident that ends without an attribution left to name.
const NOTHING_KNOWN: Attribution =
    Attribution { blame: Blame::Unknown, log_odds: 0.0, pairs_for: 0, pairs_against: 0 };

fn is_failing(watch: &Watch) -> bool {
    let by_probes = watch.probes.failed >= PROBES_TO_VETO;
    match watch.health {
        Health::Suspect => true,
        Health::Healthy | Health::Ramping { .. } => by_probes || watch.level() >= 0.5,
        // What is out, or half-way back, fails while its probes do.
        Health::Ejected { .. } | Health::HalfOpen { .. } => watch.probes.failed > 0,
    }
}

/// Evenly from 0 to 1, the same for the same ejection of the same upstream (splitmix64 over an
/// FNV-1a hash of its name).
fn jitter(seed: u64, key: &crate::model::id::UpstreamKey, ejections: u32) -> f64 {
    let parts = [key.service.as_str(), key.provider.as_str(), &key.endpoint];
    let hash = parts
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mut x = seed ^ hash ^ (u64::from(ejections) << 32);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
