//! How soon an upstream comes back: at once where nobody else can serve, after the stay of whoever serves
//! well instead, and no further while it does worse than that one.

use std::time::Instant;

use super::{Context, PoolWatch};
use crate::decide::breaker::{Gate, Pace};
use crate::decide::share::Traffic;
use crate::decide::watch::{Others, Standing, Watch};
use crate::model::health::{Ground, Health};
use crate::model::id::UpstreamId;

impl PoolWatch {
    pub(super) fn others(&self, place: usize) -> Others {
        let able = |(place, watch): (usize, &Watch)| match (self.health(place), watch.standing) {
            _ if watch.admin.is_out() => false,
            (Health::Healthy | Health::Suspect, Standing::Nothing | Standing::Gray) => true,
            (Health::Healthy | Health::Suspect, Standing::Withheld { .. })
            | (Health::Ejected { .. } | Health::HalfOpen { .. } | Health::Ramping { .. }, _) => {
                false
            }
        };
        let mut others = self.watches.iter().enumerate().filter(|(other, _)| *other != place);
        if others.any(able) { Others::Able } else { Others::None }
    }

    pub(super) fn traffic_of_others(&self, place: usize) -> Traffic {
        let others = self.watches.iter().enumerate().filter(|(other, _)| *other != place);
        others.fold(Traffic::default(), |sum, (_, watch)| sum.plus(watch.traffic))
    }

    pub(super) fn pace(&self, place: usize, context: &Context) -> Pace {
        let watch = &self.watches[place];
        let upstream = context.pool().upstreams[place];
        let better_where_it_is = || match watch.health {
            Health::HalfOpen { .. } | Health::Ramping { .. } => {
                self.kept_until(upstream, context.now).is_some()
                    || watch.is_worse_than(self.traffic_of_others(place))
            }
            Health::Healthy | Health::Suspect | Health::Ejected { .. } => false,
        };
        let gate = match self.others(place) {
            _ if context.frozen == Some(Ground::Connections) => Gate::Closed,
            Others::Able if better_where_it_is() => Gate::Closed,
            Others::Able if self.has_waited(upstream, watch, context) => Gate::Wide,
            Others::Able | Others::None => Gate::Open,
        };
        Pace { ramp: context.pool().rules.failover.ramp, gate }
    }

    /// Whether it would have been back by now, had no stay kept it waiting: the EU is left to no step of its
    /// ramp.
    fn has_waited(&self, upstream: UpstreamId, watch: &Watch, context: &Context) -> bool {
        let ramp = context.pool().rules.failover.ramp;
        watch.kept_since.is_some_and(|since| context.now >= since + ramp)
            && self.course.layout().is_missed(upstream)
    }

    /// Whether a stay is all that keeps this one, which is at `place`, from its ramp.
    pub(super) fn is_kept(&self, place: usize, upstream: UpstreamId, context: &Context) -> bool {
        let watch = &self.watches[place];
        watch.is_proven()
            && context.frozen.is_none()
            && self.kept_until(upstream, context.now).is_some()
            && !watch.is_worse_than(self.traffic_of_others(place))
    }

    /// Until when `min_stay` keeps this upstream, which is at `place`, from taking over more, for people;
    /// `None` where it is not that which it waits for.
    pub fn stays_until(&self, place: usize, upstream: UpstreamId, now: Instant) -> Option<Instant> {
        let waits = match self.watches[place].health {
            Health::HalfOpen { .. } | Health::Ramping { .. } => self.others(place) == Others::Able,
            Health::Healthy | Health::Suspect | Health::Ejected { .. } => false,
        };
        self.kept_until(upstream, now).filter(|_| waits)
    }

    /// Until when the stay of whoever serves well now keeps this one back. A stay is for a fallback that
    /// `prefer-eu` wants; outside it nobody is to stay.
    fn kept_until(&self, upstream: UpstreamId, now: Instant) -> Option<Instant> {
        let until = self.course.stay_until().filter(|until| now < *until)?;
        (!self.course.layout().is_missed(upstream)).then_some(until)
    }
}
