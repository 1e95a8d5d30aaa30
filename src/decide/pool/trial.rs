//! Trips meet blame: who is ejected, who is not and why, and when the origin is at fault.
//!
//! | what happened | ejects at log-odds of | otherwise |
//! |---|---|---|
//! | cascade or brownout trips | [`PROVIDER`] | withheld, told once, weighed anew each time |
//! | gray trips | [`PROVIDER_STRONG`], and 2 % fail for certain | gray alert |
//! | three probes fail in a row, no traffic | [`PROVIDER`] | nothing |
//! | any tier trips while half-open or ramping | 0 | withheld |
//! | two probes fail in a row while half-open | 0 | nothing |
//!
//! One that is being tried out goes unless the evidence speaks for it: sending its trickle elsewhere
//! again costs nobody anything. While the origin is to blame, nobody goes without strong evidence of
//! its own: an origin that fails a little must not keep everyone with a provider that dies. The same
//! holds while our own network or resolver is at fault, and then requests must have succeeded
//! elsewhere: the plan is frozen but for what is certain in spite of it.

use super::super::attribution::{
    self, Doubt, ORIGIN_STILL, PROVIDER, PROVIDER_STRONG, Sampling, Surroundings,
};
use super::super::course::Occasion;
use super::super::hold;
use super::super::probes;
use super::super::scores::tier_index;
use super::super::share::Share;
use super::super::watch::{Others, Standing, Watch};
use super::{Context, PoolWatch};
use crate::model::health::{
    Attribution, Blame, Health, HealthTag, IncidentEdge, Reason, Tier, Transition,
};
use crate::model::id::ProviderId;
use crate::model::outcome::FailureKind;

/// A gray failure ejects only if at least this share of the attempts fails.
const GRAY_LEAST_SHARE: f64 = 0.02;

/// Requests that succeeded elsewhere, for an ejection while our own network or resolver is at fault.
const LEAST_PAIRS_FROZEN: u32 = 3;

impl PoolWatch {
    /// Meets every trip with blame: ejects, withholds, or alerts.
    pub(super) fn judge(&mut self, context: &Context, out: &mut Vec<Transition>) {
        let attributions: Vec<Option<Attribution>> =
            (0..self.watches.len()).map(|place| self.attribution(place, context)).collect();
        self.blame_origin(&attributions);
        for (place, attribution) in attributions.into_iter().enumerate() {
            let Some(attribution) = attribution else {
                self.settle(place, context, out);
                continue;
            };
            self.note_failing(context.now).attribution = Some(attribution);
            if self.is_for_want_of_capacity(place) {
                self.end_gray_alert(place, context, out);
                self.watches[place].forget_scores();
                continue;
            }
            match self.reason_to_eject(place, attribution) {
                Some(reason) => self.eject(place, reason, context, out),
                None => self.withhold(place, attribution, context, out),
            }
        }
    }

    /// Whose fault it is that the upstream at `place` is in doubt; `None` when it is not in doubt,
    /// or is out already.
    pub(super) fn attribution(&self, place: usize, context: &Context) -> Option<Attribution> {
        let watch = &self.watches[place];
        let tripped = watch.trip().is_some();
        let by_traffic = match watch.health {
            Health::Healthy | Health::Suspect => watch.level() >= 0.5,
            // Their scores begin half-way up.
            Health::HalfOpen { .. } | Health::Ramping { .. } => tripped,
            Health::Ejected { .. } => return None,
        };
        let by_probes = watch.probes.failed >= probes::TO_VETO;
        let tier = watch.worst_tier();
        let (failing, since, probe_kind) = if tripped || (by_traffic && !by_probes) {
            (watch.scores().failing(tier, &watch.yardstick()), watch.scores().began(tier)?, None)
        } else if by_probes {
            (Share::DEAD, watch.probes.failing_since?, watch.probes.kind)
        } else {
            return None;
        };
        let (case, sample) = (&watch.cases[tier_index(tier)], watch.sampling);
        let doubt = Doubt { place, case, failing, sample, since, probe_kind };
        let around = Surroundings {
            topology: context.topology,
            members: &self.members,
            origin_probe: self.origin.probe,
            now: context.now,
        };
        Some(attribution::attribute(&doubt, &around))
    }

    /// The origin is to blame from the first trip that says so until no doubt says so any more.
    fn blame_origin(&mut self, attributions: &[Option<Attribution>]) {
        let is_proven =
            |watch: &Watch| watch.trip().is_some() || watch.probes.failed >= probes::TO_EJECT;
        let found = (self.watches.iter().zip(attributions))
            .filter(|(watch, _)| is_proven(watch))
            .filter_map(|(_, attribution)| *attribution)
            .find(|attribution| attribution.blame == Blame::Origin);
        let mut known = attributions.iter().flatten();
        let still = known.any(|attribution| attribution.log_odds <= ORIGIN_STILL);
        self.origin.blamed = found.or(self.origin.blamed.filter(|_| still));
    }

    /// Whether a trip is taken for a lack of capacity: only where somebody else can take the excess,
    /// and not of one whose trickle is all it gets.
    fn is_for_want_of_capacity(&mut self, place: usize) -> bool {
        let is_asked = match self.watches[place].health {
            Health::Healthy | Health::Suspect | Health::Ramping { .. } => true,
            Health::HalfOpen { .. } | Health::Ejected { .. } => false,
        };
        is_asked
            && self.frozen.is_none()
            && self.others(place) == Others::Able
            && self.watches[place].claim_capacity()
    }

    /// Tells of limits that began or ended.
    pub(super) fn tell_limits(&mut self, context: &Context, out: &mut Vec<Transition>) {
        for (watch, upstream) in self.watches.iter_mut().zip(&context.pool().upstreams) {
            let Some(admission) = &mut watch.admission else { continue };
            if admission.untold() {
                let limit = admission.limit().map(|rate| rate.ceil() as u32);
                out.push(Transition::Limit { upstream: *upstream, limit, at: context.now });
            }
        }
    }

    fn reason_to_eject(&self, place: usize, attribution: Attribution) -> Option<Reason> {
        let watch = &self.watches[place];
        let tried = match watch.health {
            Health::HalfOpen { .. } | Health::Ramping { .. } => true,
            Health::Healthy | Health::Suspect | Health::Ejected { .. } => false,
        };
        let least = match self.origin.blamed {
            Some(_) => PROVIDER_STRONG,
            None if tried && self.frozen.is_none() => 0.0,
            None if self.frozen.is_some() => PROVIDER_STRONG,
            None => PROVIDER,
        };
        let seen = self.frozen.is_none() || attribution.pairs_for >= LEAST_PAIRS_FROZEN;
        let enough = seen && attribution.log_odds >= least;
        if let Some(tier) = watch.trip() {
            let enough = match tier {
                Tier::Cascade | Tier::Brownout => enough,
                Tier::Gray if tried => enough,
                Tier::Gray => {
                    attribution.log_odds >= PROVIDER_STRONG
                        && watch.scores().fails_at_least(tier) >= GRAY_LEAST_SHARE
                }
            };
            let evidence = || watch.scores().evidence(tier, &watch.yardstick(), attribution);
            return enough.then(|| Reason::Trip(tier, evidence()));
        }
        let kind = watch.probes.kind.unwrap_or(FailureKind::ServerError);
        let failed = watch.probes.failed;
        if !enough {
            None
        } else if watch.health.tag() == HealthTag::HalfOpen && failed >= probes::TO_VETO {
            Some(Reason::ProbeVeto(kind))
        } else {
            watch.probes_trip().then_some(Reason::Probes { failed, kind })
        }
    }

    /// Leaves a provider that others found to fail, if there is anybody else.
    pub fn leave(&mut self, provider: ProviderId, context: &Context, out: &mut Vec<Transition>) {
        self.wake();
        let before = out.len();
        for (place, upstream) in context.pool().upstreams.iter().enumerate() {
            let is_there = context.topology.upstream(*upstream).provider == provider;
            let serves = match self.watches[place].health {
                Health::Healthy | Health::Suspect | Health::Ramping { .. } => true,
                Health::Ejected { .. } | Health::HalfOpen { .. } => false,
            };
            if is_there && serves && self.others(place) == Others::Able {
                self.eject(place, Reason::Demoted, context, out);
            }
        }
        if out.len() > before {
            self.replan(Occasion::Decision, context, out);
        }
    }

    fn eject(
        &mut self,
        place: usize,
        reason: Reason,
        context: &Context,
        out: &mut Vec<Transition>,
    ) {
        self.end_gray_alert(place, context, out);
        let (upstream, at) = (context.pool().upstreams[place], context.now);
        let rule = &context.pool().rules.failover;
        let watch = &mut self.watches[place];
        watch.failing_since = watch.scores().since().or(watch.probes.failing_since);
        let from = watch.health.tag();
        let (seed, key) = (context.seed, watch.key.clone());
        let held = watch.eject(rule, |ejections| hold::jitter(seed, &key, ejections));
        watch.last = Some((at, reason));
        let (to, hold) = (HealthTag::Ejected, Some(held));
        out.push(Transition::Health { upstream, from, to, at, reason, hold });
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
        let watch = &self.watches[place];
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
            // A standby's few per cent are a few per cent of what had failed elsewhere.
            (Tier::Gray, Standing::Nothing) if watch.sampling == Sampling::Fair => {
                self.watches[place].standing = Standing::Gray;
                out.push(Transition::GrayAlert { upstream, edge: IncidentEdge::Raised, at });
            }
            (Tier::Cascade | Tier::Brownout, Standing::Withheld { .. }) | (Tier::Gray, _) => {}
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
}
