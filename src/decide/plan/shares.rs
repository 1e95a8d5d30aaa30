//! How much each member of a pool takes: those that are tried out first, the able ones the rest.
//!
//! From the first in order down to the one that serves, each that is tried out takes its part of what
//! those before it leave. Giving it to the first alone was too little: while the first choice was
//! tried and failed, an EU fallback that was well again had no request to prove it by.
//!
//! In: the members in their order, and who of them can carry the pool. Out: thousandths that sum to
//! exactly one, of the safe and of the unsafe requests. Not here: the order ([`super::super::rank`]).

use super::super::breaker;
use super::{Layout, Loan, Member};
use crate::model::health::Health;

/// Share of the safe requests of all half-open ones together, at most.
pub const MOST_TRICKLE: u16 = 250;

/// In thousandths, by place.
pub(super) struct Shares {
    pub(super) safe: Vec<u16>,
    pub(super) unsafe_: Vec<u16>,
}

impl Shares {
    pub(super) fn new(layout: &Layout, members: &[Member], serving: &[usize]) -> Self {
        let order = layout.order();
        let rank = |place: &usize| order.rank(&members[*place].contender);
        let leading = serving.iter().map(rank).min();
        // In order, as the members are.
        let asked: Vec<usize> = (0..members.len())
            .filter(|place| !matches!(members[*place].health, Health::Ejected { .. }))
            .filter(|place| Some(rank(place)) <= leading)
            .collect();
        let is_half_open =
            |place: &&usize| matches!(members[**place].health, Health::HalfOpen { .. });
        let half_open = asked.iter().filter(is_half_open).count().max(1);
        let trickle = layout.trickle.get().min(MOST_TRICKLE / half_open as u16);
        // Half-open takes safe requests only.
        let [safe, unsafe_] = [trickle, 0].map(|trickle| {
            let mut shares = vec![0; members.len()];
            let mut left = 1000;
            for equals in asked.chunk_by(|a, b| rank(a) == rank(b)) {
                let wanted = lead(layout, members, equals, left);
                for place in equals.iter().filter(|place| !serving.contains(place)) {
                    shares[*place] = tried(members[*place].health, wanted[*place], trickle);
                }
                left = 1000 - shares.iter().sum::<u16>();
            }
            for (place, share) in lead(layout, members, serving, left).into_iter().enumerate() {
                shares[place] += share;
            }
            shares
        });
        Self { safe, unsafe_ }
    }

    /// Moves a share from one that is present to another that is.
    pub(super) fn lend(&mut self, loan: Option<Loan>, members: &[Member]) {
        let Some(Loan { from, to, share }) = loan else { return };
        let present = |m: &Member| !matches!(m.health, Health::Ejected { .. });
        let place = |who| members.iter().position(|m| m.contender.upstream == who && present(m));
        let (Some(from), Some(to)) = (place(from), place(to)) else { return };
        for shares in [&mut self.safe, &mut self.unsafe_] {
            let lent = shares[from].min(share.get());
            shares[from] -= lent;
            shares[to] += lent;
        }
    }
}

/// What one that is being tried out takes of what it would have if it were healthy.
fn tried(health: Health, wanted: u16, trickle: u16) -> u16 {
    match health {
        Health::HalfOpen { .. } => wanted.min(trickle),
        Health::Ramping { step, .. } => {
            (u32::from(wanted) * u32::from(breaker::share(step).get()) / 1000) as u16
        }
        Health::Healthy | Health::Suspect | Health::Ejected { .. } => 0,
    }
}

/// Spreads `whole` by weight over those of `places` that have the best rank.
fn lead(layout: &Layout, members: &[Member], places: &[usize], whole: u16) -> Vec<u16> {
    let order = layout.order();
    let rank = |place: usize| order.rank(&members[place].contender);
    let best = places.iter().map(|place| rank(*place)).min();
    let leads = |place: &usize| best == Some(rank(*place));
    let leaders: Vec<usize> = places.iter().copied().filter(leads).collect();
    let weights: Vec<u16> = leaders.iter().map(|place| members[*place].contender.weight).collect();
    let mut shares = vec![0; members.len()];
    for (place, share) in leaders.into_iter().zip(spread(whole, &weights)) {
        shares[place] = share;
    }
    shares
}

/// Cuts `whole` in proportion to the weights, exactly: each part ends where the weights so far end.
pub(super) fn spread(whole: u16, weights: &[u16]) -> Vec<u16> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum::<u64>().max(1);
    let mut sum = 0;
    let mut cut = 0;
    let mut part = |weight: &u16| {
        sum += u64::from(*weight);
        let end = (u64::from(whole) * sum / total) as u16;
        let part = end - cut;
        cut = end;
        part
    };
    weights.iter().map(&mut part).collect()
}
