//! Keeping a client at one upstream among those that share a service's requests.
//!
//! Each client and upstream have a number together; the client goes where it is best, weighed by the
//! upstream's share. When a share changes, or an upstream is left, only those clients move that have
//! to, and they come back when it does (rendezvous hashing: Thaler and Ravishankar, 1998; weights by
//! the logarithmic method of Schindelhauer and Schomaker, 2005).

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::model::client::ClientKey;
use crate::model::id::UpstreamId;
use crate::model::outcome::MethodClass;
use crate::model::plan::PoolPlan;

/// A client, as a number that spreads well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stuck(u64);

impl Stuck {
    /// By its address: the same in every process.
    pub fn to_address(client: ClientKey) -> Self {
        let bits = client.bits();
        Self(spread(bits as u64 ^ spread((bits >> 64) as u64)))
    }

    /// By the token in its cookie.
    pub fn to_token(token: u64) -> Self {
        Self(spread(token))
    }

    /// Place of its candidate in a plan; `of` numbers upstreams. `None` when fail-closed.
    pub fn pick(
        self,
        plan: &PoolPlan,
        class: MethodClass,
        of: impl Fn(UpstreamId) -> u64,
    ) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for (place, candidate) in plan.candidates().iter().enumerate() {
            let share = match class {
                MethodClass::Safe => candidate.safe.get(),
                MethodClass::Unsafe => candidate.unsafe_.get(),
            };
            if share == 0 {
                continue;
            }
            // Evenly between 0 and 1, and neither.
            let drawn = (spread(self.0 ^ of(candidate.upstream())) >> 11) as f64 + 0.5;
            let score = -f64::from(share) / (drawn / (1_u64 << 53) as f64).ln();
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, place));
            }
        }
        best.map(|(_, place)| place)
    }
}

/// Every bit depends on every other (the finalizer of SplitMix64: Steele, Lea and Flood, 2014).
fn spread(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The number of an upstream in [`Stuck::pick`]: of its provider's name, so that it outlives restarts
/// and is the same in every process.
pub fn number_of(provider: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    spread(provider.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Our token in a client's cookies; `None` where there is none, or none that we made.
pub fn token(headers: &HeaderMap, name: &str) -> Option<u64> {
    // Another cookie's bytes beyond ASCII must not hide ours.
    let lines =
        headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    let pairs = lines.filter_map(|pair| str::from_utf8(pair).ok());
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.trim() == name)?;
    let value = value.trim();
    let is_ours = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(value, 16).ok().filter(|_| is_ours)
}

/// The cookie that holds a token: for this session, and for nobody's scripts.
pub fn cookie(name: &str, token: u64, is_tls: bool) -> Option<HeaderValue> {
    let secure = if is_tls { "; Secure" } else { "" };
    let text = format!("{name}={token:016x}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example::{self, Example};
    use crate::model::plan::{Place, PoolMode, Rescue, Wish};
    use crate::model::unit::Permille;

    fn plan(shares: &[u16]) -> PoolPlan {
        let names = ["cloudflare", "bunny", "ovh"];
        let of = |provider| Example {
            service: "portal",
            provider,
            seat: "SI",
            host: "192.0.2.1",
            port: 80,
        };
        let topology = example::topology(&names.map(of));
        let wish = |(index, share): (usize, &u16)| Wish {
            upstream: UpstreamId::new(index),
            safe: Permille::new(*share).expect("a share"),
            unsafe_: Permille::new(*share).expect("a share"),
            rescue: Rescue::Takes,
            place: Place::Preferred,
        };
        let wishes = shares.iter().enumerate().map(wish).collect();
        PoolPlan::new(topology.pools[0].realms.whole(), PoolMode::Normal, wishes)
    }

    fn places(shares: &[u16]) -> Vec<usize> {
        let plan = plan(shares);
        let of = |upstream: UpstreamId| number_of(["cloudflare", "bunny", "ovh"][upstream.index()]);
        let pick = |token| Stuck::to_token(token).pick(&plan, MethodClass::Unsafe, of);
        (0..10_000).map(|token| pick(token).expect("somebody serves")).collect()
    }

    #[test]
    fn clients_spread_as_the_shares_say() {
        let places = places(&[500, 300, 200]);
        for (place, share) in [(0, 5_000), (1, 3_000), (2, 2_000)] {
            let count = places.iter().filter(|found| **found == place).count();
            assert!(count.abs_diff(share) < 200, "{count} at {place}");
        }
    }

    #[test]
    fn only_clients_of_an_upstream_that_is_left_move_and_they_come_back() {
        let (before, without) = (places(&[400, 200, 400]), places(&[500, 0, 500]));
        for (old, new) in before.iter().zip(&without) {
            assert!(*old == 1 || old == new, "{old} to {new}");
            assert_ne!(*new, 1);
        }
        assert_eq!(before, places(&[400, 200, 400]));
    }

    #[test]
    fn an_upstream_on_its_way_back_takes_clients_and_gives_none_away() {
        let (early, late) = (places(&[900, 100]), places(&[500, 500]));
        for (old, new) in early.iter().zip(&late) {
            assert!(old == new || *new == 1, "{old} to {new}");
        }
    }

    #[test]
    fn nobody_serves_where_nothing_is_planned() {
        let closed = PoolPlan::default();
        assert_eq!(Stuck::to_token(1).pick(&closed, MethodClass::Safe, |_| 1), None);
    }

    #[test]
    fn a_token_is_read_back_and_a_foreign_value_is_not() {
        let cookie = cookie("edge", 0x1f, true).expect("a cookie");
        let text = cookie.to_str().expect("text");
        assert_eq!(text, "edge=000000000000001f; Path=/; HttpOnly; SameSite=Lax; Secure");
        let of = |line: &'static str| {
            let line = (COOKIE, HeaderValue::from_static(line));
            token(&HeaderMap::from_iter([line]), "edge")
        };
        assert_eq!(of("a=1; edge=000000000000001f; b=2"), Some(0x1f));
        for foreign in ["edge=1f", "edge=+00000000000001f", "xedge=000000000000001f", "edge", ""] {
            assert_eq!(of(foreign), None, "{foreign}");
        }
        let beside = HeaderValue::from_bytes(b"a=\xe9; edge=000000000000001f").expect("a value");
        assert_eq!(token(&HeaderMap::from_iter([(COOKIE, beside)]), "edge"), Some(0x1f));
    }
}
