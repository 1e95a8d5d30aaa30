//! The outages that come with the program. What each expects is promised to hold, and a test holds us
//! to it.

/// One embedded outage.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Its name; equals the file's.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! outage {
    ($name:literal) => {
        Outage {
            name: $name,
            text: include_str!(concat!("../../config/scenarios/", $name, ".yaml")),
        }
    };
}

/// Every outage, by name.
pub const OUTAGES: [Outage; 35] = [
    outage!("afd-2025-10-09-regional-gray"),
    outage!("akamai-2021-07-22-edge-dns"),
    outage!("all-edges-refuse"),
    outage!("big-bodies-truncated"),
    outage!("bunny-2021-06-22-dns"),
    outage!("cf-2020-07-17-backbone-regions"),
    outage!("cf-2025-11-18-fl1-botscore-zero"),
    outage!("cf-2025-11-18-fl2-flap"),
    outage!("cf-2025-12-05-waf-lua"),
    outage!("cf-2026-02-20-byoip-one-host"),
    outage!("cold-cache-return"),
    outage!("eu-fallback-dies-in-its-stay"),
    outage!("eu-fallback-fails-briefly"),
    outage!("fallback-holds-60pct"),
    outage!("fallback-overload-metastable"),
    outage!("fallback-waf-blocks-us"),
    outage!("fastly-2021-06-08"),
    outage!("flap-300s"),
    outage!("gcore-2026-05-13-eu-fallback-dies"),
    outage!("gray-1pct"),
    outage!("gray-5pct"),
    outage!("health-ok-traffic-5xx"),
    outage!("http-200-error-page"),
    outage!("one-bad-url-one-bad-client"),
    outage!("one-client-one-page"),
    outage!("origin-5xx-with-marker"),
    outage!("origin-down-all-providers"),
    outage!("ovh-2021-03-10-fire-permanent"),
    outage!("ovh-2021-10-13-ipv4-only"),
    outage!("post-only-500"),
    outage!("quiet-services-warned"),
    outage!("resolver-1111-2025-07-14"),
    outage!("shared-substrate"),
    outage!("slow-loris-upstream"),
    outage!("total-loss-all-edges"),
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
