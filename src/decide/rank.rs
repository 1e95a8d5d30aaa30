//! In which order are a pool's upstreams asked?
//!
//! The operator's first choice, while it serves. Then: those not in doubt; under `prefer-eu` every
//! EU upstream before any other; those that share nothing with what failed; then preference and the
//! position in the file.
//!
//! What policy forbids does not exist ([`crate::model::topology`]), so no order can bring it back.

use crate::model::id::UpstreamId;
use crate::model::place::{Jurisdiction, Residency};

/// One upstream, by what its order depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contender {
    /// Who.
    pub upstream: UpstreamId,
    /// Under which law.
    pub jurisdiction: Jurisdiction,
    /// Lower goes first.
    pub preference: u16,
    /// Among those of the same rank.
    pub weight: u16,
    /// What is held against it.
    pub doubt: Doubt,
    /// Whether it shares something with an upstream that failed.
    pub fate: Fate,
}

/// What is held against an upstream that may serve.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Doubt {
    /// Nothing.
    None,
    /// It takes no requests of its own, and a trip stands or its probes fail. Whoever does take
    /// requests is never doubted here: what moves nobody by a verdict must not do so by the order.
    Standing,
}

/// Whether an upstream shares a provider or a substrate with one that failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fate {
    /// It does not.
    Own,
    /// It does.
    Shared,
}

/// What the order goes by; smaller stands first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Rank {
    left: Left,
    doubt: Doubt,
    law: Law,
    fate: Fate,
    preference: u16,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Left {
    FirstChoice,
    Other,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Law {
    Wanted,
    Unwanted,
}

/// By what a pool orders its upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The service's rule.
    pub residency: Residency,
    /// The preference of the operator's first choice: the lowest in the pool.
    pub first_choice: u16,
}

impl Order {
    /// The rank of one upstream. Equal ranks share by weight, if they lead.
    pub fn rank(&self, contender: &Contender) -> Rank {
        let preference = contender.preference;
        if self.is_first_choice(contender) {
            let (left, law) = (Left::FirstChoice, Law::Wanted);
            return Rank { left, doubt: Doubt::None, law, fate: Fate::Own, preference };
        }
        let law = match (self.residency, contender.jurisdiction) {
            (Residency::PreferEu, Jurisdiction::NonEu) => Law::Unwanted,
            (Residency::PreferEu, Jurisdiction::Eu) | (Residency::Any | Residency::EuOnly, _) => {
                Law::Wanted
            }
        };
        let Contender { doubt, fate, .. } = *contender;
        Rank { left: Left::Other, doubt, law, fate, preference }
    }

    /// Whether the operator put it first.
    pub fn is_first_choice(&self, contender: &Contender) -> bool {
        contender.preference == self.first_choice
    }

    /// Whether it stands behind every EU upstream for its law: outside, and not put first.
    pub fn is_unwanted(&self, contender: &Contender) -> bool {
        self.rank(contender).law == Law::Unwanted
    }

    /// The rank that the upstream would have if all were well: the operator's wish, by which a
    /// change of the first candidate is a failover or a failback.
    pub fn wish(&self, contender: &Contender) -> Rank {
        self.rank(&Contender { doubt: Doubt::None, fate: Fate::Own, ..*contender })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_oneof, proptest};

    use super::*;

    fn contenders() -> impl Strategy<Value = Vec<Contender>> {
        let jurisdiction = prop_oneof![Just(Jurisdiction::Eu), Just(Jurisdiction::NonEu)];
        let doubt = prop_oneof![Just(Doubt::None), Just(Doubt::Standing)];
        let fate = prop_oneof![Just(Fate::Own), Just(Fate::Shared)];
        let one = (jurisdiction, doubt, fate, 1_u16..5);
        vec(one, 1..8).prop_map(|all| {
            let numbered = all.into_iter().enumerate();
            numbered
                .map(|(index, (jurisdiction, doubt, fate, preference))| Contender {
                    upstream: UpstreamId::new(index),
                    jurisdiction,
                    preference,
                    weight: 100,
                    doubt,
                    fate,
                })
                .collect()
        })
    }

    fn sorted(residency: Residency, mut all: Vec<Contender>) -> (Order, Vec<Contender>) {
        let first_choice = all.iter().map(|c| c.preference).min().unwrap_or(0);
        let order = Order { residency, first_choice };
        all.sort_by_key(|contender| order.rank(contender));
        (order, all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_first_choice_stands_first_whatever_is_held_against_it(all in contenders()) {
            for residency in [Residency::Any, Residency::PreferEu, Residency::EuOnly] {
                let (order, all) = sorted(residency, all.clone());
                prop_assert!(order.is_first_choice(&all[0]));
            }
        }

        #[test]
        fn under_prefer_eu_nobody_outside_stands_before_an_equal_inside(all in contenders()) {
            let (order, all) = sorted(Residency::PreferEu, all);
            let mut rest = all.iter().filter(|contender| !order.is_first_choice(contender));
            let outside = rest.by_ref().position(|c| {
                c.doubt == Doubt::None && c.jurisdiction == Jurisdiction::NonEu
            });
            let inside_behind = |c: &Contender| {
                c.doubt == Doubt::None && c.jurisdiction == Jurisdiction::Eu
            };
            prop_assert!(outside.is_none() || !rest.any(inside_behind));
        }

        #[test]
        fn preference_decides_among_equals(all in contenders()) {
            let (order, all) = sorted(Residency::Any, all);
            let alike = |a: &Contender, b: &Contender| {
                (a.doubt, a.fate) == (b.doubt, b.fate)
                    && !order.is_first_choice(a)
                    && !order.is_first_choice(b)
            };
            for pair in all.windows(2).filter(|pair| alike(&pair[0], &pair[1])) {
                prop_assert!(pair[0].preference <= pair[1].preference);
            }
        }
    }
}
