//! Every entry that is shipped, and what the list may never claim.

use std::collections::BTreeSet;

use http::HeaderValue;

use super::*;

fn entry(name: &str) -> &'static Known {
    known(name).expect("an entry of the list")
}

#[test]
fn every_entry_is_read_and_has_a_name_of_its_own() {
    let entries = read(TEXT).expect("the list");
    let names: BTreeSet<&str> = entries.iter().map(|known| known.sheet.id.as_str()).collect();
    assert_eq!(names.len(), entries.len(), "a name stands twice");
    assert!(entries.len() > 30, "entries are missing: {}", entries.len());
    for known in &entries {
        let again = super::known(&known.sheet.id).expect("found by its name");
        assert_eq!((again.seat, &again.habits), (known.seat, &known.habits));
    }
}

#[test]
fn whatever_is_not_unverified_names_what_says_so() {
    let rests = |sure: Sure, from: &Option<String>| {
        sure == Sure::Unverified || from.as_ref().is_some_and(|url| url.starts_with("https://"))
    };
    for Known { sheet, .. } in all() {
        let Sheet { entity, seat, reach, origin, names, fingerprints, errors, substrate, .. } =
            sheet;
        let mut facts = vec![(entity.sure, &entity.from), (seat.sure, &seat.from)];
        facts.extend([(reach.sure, &reach.from), (origin.sure, &origin.from)]);
        facts.extend(names.iter().map(|fact| (fact.sure, &fact.from)));
        facts.extend(fingerprints.iter().map(|fact| (fact.sure, &fact.from)));
        facts.extend(errors.iter().map(|fact| (fact.sure, &fact.from)));
        facts.extend(substrate.iter().map(|fact| (fact.sure, &fact.from)));
        facts.extend(sheet.status.iter().map(|fact| (fact.sure, &fact.from)));
        assert!(facts.iter().all(|(sure, from)| rests(*sure, from)), "{}", sheet.id);
    }
}

#[test]
fn the_reach_of_a_law_says_whose_and_is_never_filled_in_where_it_is_disputed() {
    for Known { sheet, subject_to, disputed, .. } in all() {
        match sheet.reach.is {
            ReachKind::Direct => assert!(!subject_to.is_empty(), "{}", sheet.id),
            ReachKind::Disputed => assert!(!disputed.is_empty(), "{}", sheet.id),
            ReachKind::NoneKnown => assert!(sheet.reach.by.is_empty(), "{}", sheet.id),
        }
        if sheet.reach.is != ReachKind::Direct {
            assert_eq!(subject_to, &[], "{}", sheet.id);
        }
    }
}

#[test]
fn no_status_stands_for_two_things() {
    for Known { sheet, habits, .. } in all() {
        let all = habits.leg.iter().chain(&habits.own).chain(&habits.replaced);
        let mut seen = BTreeSet::new();
        assert!(all.map(|status| status.as_u16()).all(|code| seen.insert(code)), "{}", sheet.id);
    }
}

#[test]
fn a_provider_is_recognised_by_its_answers() {
    let says = |name: &'static str, value: &'static str| {
        let name = HeaderName::from_static(name);
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    };
    let bunny = entry("bunny");
    assert_eq!(bunny.recognised(&says("server", "bunnycdn-DE1-722")), Some(true));
    assert_eq!(bunny.recognised(&says("server", "nginx")), Some(false));
    assert_eq!(entry("cloudfront").recognised(&says("via", "1.1 x (CloudFront)")), Some(true));
    assert_eq!(entry("ubika").recognised(&says("server", "x")), None, "nothing is known of it");
}

#[test]
fn what_two_share_is_known_or_only_thought() {
    let shared = |a, b| entry(a).shares_with(entry(b));
    assert_eq!(shared("cdn77", "varnish-cdn"), Some(Shared::Known("datapacket")));
    assert_eq!(shared("varnish-cdn", "scaleway"), Some(Shared::Known("scaleway")));
    assert_eq!(shared("stackit", "bunny"), Some(Shared::Perhaps("bunny")));
    assert_eq!(shared("vercel", "cloudfront"), Some(Shared::Perhaps("aws")));
    assert_eq!(shared("fasterize", "vercel"), Some(Shared::Perhaps("aws")));
    assert_eq!(shared("cloudflare", "bunny"), None);
}

#[test]
fn a_text_that_is_no_catalogue_is_refused_by_what_is_wrong() {
    let with = |seat: &str| {
        format!(
            "version: 1\nproviders:\n  - {{ id: x, name: X, entity: {{ is: X, sure: unverified }}, \
             seat: {{ is: {seat}, sure: unverified }}, reach: {{ is: none-known, sure: unverified }}, \
             origin: {{ is: any, sure: unverified }} }}\n"
        )
    };
    assert!(read(&with("SI")).is_ok());
    assert!(read(&with("XX")).expect_err("no country").to_string().contains("`XX`"));
    assert!(read("version: 2\nproviders: []").is_err());
    assert!(read(&with("SI, is: SI")).is_err(), "a key stands twice");
}
