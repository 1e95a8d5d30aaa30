//! One service's pool: who is taken out and who comes back, and whose fault it is.
//!
//! In: what its watches say. Out: transitions, and the layout from which [`super::course`] makes the
//! plan. A trip is an intention: here it meets blame, which is a comparison and needs everyone.
//!
//! Not here: what one upstream knows by itself ([`super::watch`]), the evidence of blame
//! ([`super::attribution`]), how a plan follows from beliefs ([`super::plan`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::parts::Part;
pub use self::recall::Recall;
use self::rest::Rest;
use super::case::Member;
use super::course::{Course, Occasion};
use super::drill::Drill;
use super::origin::Origin;
use super::probes;
use super::provider::Providers;
use super::watch::{Others, Standing, Watch};
use crate::model::drill::DrillStanding;
use crate::model::health::{
    Attribution, Blame, Ground, Health, HealthTag, IncidentEdge, Transition,
};
use crate::model::id::{PoolId, UpstreamKey};
use crate::model::operator::{self, Override};
use crate::model::plan::PoolPlan;
use crate::model::signal::Pair;
use crate::model::topology::{HostPattern, Pool, Topology};

mod compare;
mod drill;
mod lay;
mod pace;
mod parts;
mod recall;
mod rest;
mod trial;

/// An incident ends after so long without anything failing.
const INCIDENT_ENDS_AFTER: Duration = Duration::from_secs(60);
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
    /// Whether our own network or resolver is at fault, by what.
    pub frozen: Option<Ground>,
    /// Who is avoided by all services.
    pub providers: &'a Providers,
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
#[derive(Clone, Debug)]
pub struct PoolWatch {
    /// By place in the pool.
    pub watches: Vec<Watch>,
    /// Its origin.
    pub origin: Origin,
    /// Its plan.
    pub course: Course,
    /// From the first suspect until nothing has failed for a minute.
    pub incident: Option<Incident>,
    /// While our own network or resolver is at fault: by what, as far as it was told.
    pub frozen: Option<Ground>,
    /// What routing goes by: its own plan, with those of its parts.
    pub published: Arc<PoolPlan>,
    /// Its routes' hosts, by `HostId`.
    hosts: Vec<HostPattern>,
    parts: Vec<Part>,
    /// Of a part: what the whole pool believes of each upstream; else empty.
    ceiling: Vec<Health>,
    /// Whose watches they are.
    order: Vec<UpstreamKey>,
    members: Vec<Member>,
    pairs: Vec<Pair>,
    /// The rehearsal that is on.
    drill: Option<Drill>,
    /// The one that has ended, until somebody takes its result.
    pub drilled: Option<DrillStanding>,
    /// While all is well and nothing is heard.
    rest: Option<Rest>,
    /// Whether anything may have changed since people were last told.
    pub is_news: bool,
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
    pub fn new(watches: Vec<Watch>, pool: &Pool, hosts: Vec<HostPattern>, now: Instant) -> Self {
        let origin = Origin::new(pool.rules.failover.sensitivity, now);
        let mut new = Self {
            watches,
            origin,
            course: Course::default(),
            incident: None,
            frozen: None,
            published: Arc::default(),
            hosts,
            parts: Vec::new(),
            ceiling: Vec::new(),
            order: Vec::new(),
            members: Vec::new(),
            pairs: Vec::new(),
            drill: None,
            drilled: None,
            rest: None,
            is_news: true,
        };
        new.settle_in(pool, now);
        new
    }

    /// After a reload: goes on with these watches, in the order and under the rules of the pool as
    /// it is now. Pairs that were not weighed yet are under old numbers and lost.
    pub fn adopt(&mut self, watches: Vec<Watch>, pool: &Pool, now: Instant) {
        self.wake();
        self.drop_drill();
        self.watches = watches;
        self.origin.adopt(pool.rules.failover.sensitivity);
        self.pairs.clear();
        self.settle_in(pool, now);
    }

    /// Cases compare by place in the pool, and begin anew where those changed.
    fn settle_in(&mut self, pool: &Pool, now: Instant) {
        self.gather(&pool.upstreams);
        let order: Vec<UpstreamKey> = self.watches.iter().map(|watch| watch.key.clone()).collect();
        if order != self.order {
            for case in self.watches.iter_mut().flat_map(|watch| &mut watch.cases) {
                case.reopen(&self.members, now);
            }
        }
        self.order = order;
    }

    /// The hosts of its routes, now. Parts end where those changed.
    pub fn adopt_hosts(&mut self, hosts: Vec<HostPattern>, pool: &Pool, now: Instant) {
        let same = self.hosts == hosts;
        self.hosts = hosts;
        self.adopt_parts(pool, now, same);
    }

    /// One retried request, weighed at the next conclusion.
    fn keep_pair(&mut self, pair: &Pair) {
        if self.pairs.len() < MOST_PAIRS {
            self.pairs.push(*pair);
        }
    }

    /// Draws conclusions. Most pools of a large file are at rest at most times, and cost nothing.
    pub fn decide(&mut self, context: &Context, out: &mut Vec<Transition>) {
        if context.frozen.is_none() && self.rest.is_some_and(|rest| rest.goes_on(context.now)) {
            return;
        }
        self.wake();
        self.absorb(context);
        self.freeze_or_thaw(context, out);
        self.split();
        self.judge(context, out);
        self.tell_limits(context, out);
        self.advance(context, out);
        self.keep_incident(context, out);
        self.judge_drill(context);
        self.replan(Occasion::Decision, context, out);
        self.keep_cases(context);
        self.decide_parts(context, out);
        let is_at_rest = self.drill.is_none() && self.is_well();
        self.rest = is_at_rest.then(|| Rest::begin(context.now, self.deadline(context)));
    }

    /// What fails while our own network does says nothing about any upstream: at the thaw every score
    /// begins anew.
    fn freeze_or_thaw(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let (pool, at) = (context.id, context.now);
        let edge = match (self.frozen, context.frozen) {
            (None, Some(_)) => IncidentEdge::Raised,
            (Some(_), None) => IncidentEdge::Ended,
            (Some(_), Some(_)) | (None, None) => return,
        };
        let Some(ground) = self.frozen.or(context.frozen) else { return };
        self.frozen = context.frozen;
        if edge == IncidentEdge::Ended && ground == Ground::Connections {
            self.watches.iter_mut().for_each(Watch::forget);
        }
        out.push(Transition::CommonCause { pool, edge, ground, at });
    }

    fn absorb(&mut self, context: &Context) {
        for (place, upstream) in context.pool().upstreams.iter().enumerate() {
            let pace = self.pace(place, context);
            let watch = &mut self.watches[place];
            watch.sampling = self.course.sampling(*upstream);
            watch.absorb(context.now, &pace);
        }
        self.origin.absorb(context.now);
        self.gather(&context.pool().upstreams);
        self.compare_pairs(context);
        self.compare_probes();
    }

    /// Makes the moves that need no one else's word.
    fn advance(&mut self, context: &Context, out: &mut Vec<Transition>) {
        for place in 0..self.watches.len() {
            let pace = self.pace(place, context);
            let (others, traffic) = (self.others(place), self.traffic_of_others(place));
            let upstream = context.pool().upstreams[place];
            let provider = context.topology.upstream(upstream).provider;
            // For the next time: what it goes by now was so before whoever served has failed.
            let kept = self.is_kept(place, upstream, context);
            let before = self.watches[place].kept_since;
            self.watches[place].kept_since = kept.then(|| before.unwrap_or(context.now));
            let watch = &mut self.watches[place];
            let waits = matches!(watch.health, Health::Ejected { .. })
                && others == Others::Able
                && context.providers.holds_back(provider, &context.pool().service);
            if waits {
                continue;
            }
            let Some((event, reason)) = watch.due(&pace, others) else { continue };
            let from = watch.health.tag();
            watch.make(event, &pace, traffic);
            let to = watch.health.tag();
            if from != to {
                watch.last = Some((context.now, reason));
                let at = context.now;
                out.push(Transition::Health { upstream, from, to, at, reason, hold: None });
            }
        }
    }

    /// What is believed of an upstream; what is out for the whole pool is out for its parts.
    fn health(&self, place: usize) -> Health {
        let own = self.watches[place].health;
        let whole = self.ceiling.get(place).copied();
        let taken = |health: Health| match health {
            Health::Healthy | Health::Suspect => 0,
            Health::Ramping { .. } => 1,
            Health::HalfOpen { .. } => 2,
            Health::Ejected { .. } => 3,
        };
        whole.filter(|whole| taken(*whole) > taken(own)).unwrap_or(own)
    }

    /// Takes in what the operator's orders make of each upstream, and plans anew if that changed.
    pub fn obey(&mut self, overrides: &[Override], context: &Context, out: &mut Vec<Transition>) {
        self.wake();
        let (at, before) = (context.now, out.len());
        for (watch, upstream) in self.watches.iter_mut().zip(&context.pool().upstreams) {
            let to = operator::state_of(overrides, &watch.key, at);
            let from = std::mem::replace(&mut watch.admin, to);
            if from != to {
                out.push(Transition::Ordered { upstream: *upstream, from, to, at });
            }
        }
        if out.len() > before {
            self.replan(Occasion::Order, context, out);
        }
        self.obey_parts(overrides, context);
    }

    /// Something fails: opens an incident, or keeps the open one.
    fn note_failing(&mut self, now: Instant) -> &mut Incident {
        let fresh = Incident { since: now, attribution: None, last_failing: now };
        let incident = self.incident.get_or_insert(fresh);
        incident.last_failing = now;
        incident
    }

    fn keep_incident(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let now = context.now;
        if self.watches.iter().any(is_failing) {
            self.note_failing(now);
        }
        self.incident = self.incident.filter(|i| now < i.last_failing + INCIDENT_ENDS_AFTER);
        if let Some((edge, attribution)) = self.origin.announce(now) {
            // Whoever looks is told what the journal is.
            let of_origin = |incident: &&mut Incident| {
                incident.attribution.is_some_and(|known| known.blame == Blame::Origin)
            };
            if let (IncidentEdge::Ended, Some(incident)) =
                (edge, self.incident.as_mut().filter(of_origin))
            {
                incident.attribution = Some(attribution);
            }
            out.push(Transition::OriginIncident { pool: context.id, edge, at: now, attribution });
        }
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self, context: &Context) -> Option<Instant> {
        let now = context.now;
        if let Some(rest) = self.rest {
            return rest.due();
        }
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
        due.extend(self.drill.as_ref().map(|drill| drill.until));
        due.extend(self.parts.iter().filter_map(|part| part.deadline(context)));
        due.into_iter().filter(|at| *at > now).min()
    }
}

fn is_failing(watch: &Watch) -> bool {
    let by_probes = watch.probes.failed >= probes::TO_VETO;
    match watch.health {
        _ if watch.is_limited() => true,
        Health::Suspect => true,
        Health::Healthy | Health::Ramping { .. } => by_probes,
        // What is out, or half-way back, fails while its probes do.
        Health::Ejected { .. } | Health::HalfOpen { .. } => watch.probes.failed > 0,
    }
}
