//! The outages that come with the program, and which of them it claims to pass.

/// One embedded outage.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Its name; equals the file's.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
    /// Whether what it expects is promised to hold.
    pub claim: Claim,
}

/// Whether what an outage expects is promised to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It is, and a test holds us to it.
    Claimed,
    /// It needs this, which is still to come.
    Needs(&'static str),
}

use Claim::{Claimed, Needs};

macro_rules! outage {
    ($name:literal, $claim:expr) => {
        Outage {
            name: $name,
            text: include_str!(concat!("../../config/scenarios/", $name, ".yaml")),
            claim: $claim,
        }
    };
}

/// Every outage, by name.
pub const OUTAGES: [Outage; 33] = [
    outage!("afd-2025-10-09-regional-gray", Claimed),
    outage!("akamai-2021-07-22-edge-dns", Claimed),
    outage!("all-edges-refuse", Claimed),
    outage!("big-bodies-truncated", Claimed),
    outage!("bunny-2021-06-22-dns", Needs("capacity told from fault")),
    outage!("cf-2020-07-17-backbone-regions", Claimed),
    outage!("cf-2025-11-18-fl1-botscore-zero", Claimed),
    outage!("cf-2025-11-18-fl2-flap", Claimed),
    outage!("cf-2025-12-05-waf-lua", Claimed),
    outage!("cf-2026-02-20-byoip-one-host", Claimed),
    outage!("cold-cache-return", Claimed),
    outage!("fallback-holds-60pct", Needs("capacity told from fault")),
    outage!("fallback-overload-metastable", Needs("capacity told from fault")),
    outage!("fallback-waf-blocks-us", Claimed),
    outage!("fastly-2021-06-08", Claimed),
    outage!("flap-300s", Claimed),
    outage!("gcore-2026-05-13-eu-fallback-dies", Claimed),
    outage!("gray-1pct", Claimed),
    outage!("gray-5pct", Claimed),
    outage!("health-ok-traffic-5xx", Claimed),
    outage!("http-200-error-page", Claimed),
    outage!("one-bad-url-one-bad-client", Claimed),
    outage!("one-client-one-page", Claimed),
    outage!("origin-5xx-with-marker", Claimed),
    outage!("origin-down-all-providers", Claimed),
    outage!("ovh-2021-03-10-fire-permanent", Claimed),
    outage!("ovh-2021-10-13-ipv4-only", Claimed),
    outage!("post-only-500", Claimed),
    outage!("quiet-services-warned", Claimed),
    outage!("resolver-1111-2025-07-14", Claimed),
    outage!("shared-substrate", Claimed),
    outage!("slow-loris-upstream", Claimed),
    outage!("total-loss-all-edges", Claimed),
];

/// The outage of a name.
pub fn find(name: &str) -> Option<&'static Outage> {
    OUTAGES.iter().find(|outage| outage.name == name)
}

/// The names, nearest to `wanted` first.
pub fn nearest(wanted: &str) -> &'static str {
    let distance = |outage: &&Outage| strsim::damerau_levenshtein(outage.name, wanted);
    OUTAGES.iter().min_by_key(distance).map_or("", |outage| outage.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::scenario::Scenario;

    #[test]
    fn every_embedded_outage_reads_and_is_called_as_its_file() {
        for outage in &OUTAGES {
            let scenario = Scenario::read(outage.text).expect(outage.name);
            assert_eq!(scenario.name, outage.name);
        }
    }

    #[test]
    fn a_name_with_a_typing_error_finds_the_one_that_was_meant() {
        assert_eq!(nearest("cf-2025-11-18-fl2-flop"), "cf-2025-11-18-fl2-flap");
        assert!(find("cf-2025-11-18-fl2-flap").is_some());
    }
}
