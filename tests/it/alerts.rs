//! Rules, dashboards and the page for the pager belong together: no alert without what to do, nothing
//! to do without an alert, no query of a metric that nobody exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const RULES: &str = "config/prometheus/alerts.yml";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("a folder of the project");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let found: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == ending)).collect();
    assert!(!found.is_empty(), "no .{ending} in {}", folder.display());
    found
}

/// The alerts of the rules, each with the text of its rule.
fn alerts() -> BTreeMap<String, String> {
    let text = read(RULES);
    let rules = text.split("- alert: ").skip(1);
    let found: BTreeMap<_, _> = rules
        .map(|rule| (rule.lines().next().unwrap_or_default().to_owned(), rule.to_owned()))
        .collect();
    assert!(found.len() > 20, "the rules were not read");
    found
}

#[test]
fn every_alert_has_its_heading_in_the_page_for_the_pager_and_every_heading_its_alert() {
    let page = read("docs/OPERATING.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### Bascule"));
    let headings: BTreeSet<String> = headings.map(|name| format!("Bascule{name}")).collect();
    let alerts: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(headings, alerts);
}

#[test]
fn every_alert_says_how_urgent_it_is_and_leads_to_its_heading() {
    for (name, rule) in alerts() {
        let anchor = format!("runbook: docs/OPERATING.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&anchor), "{name}: {anchor}");
        for part in ["summary: \"", "description: \""] {
            assert_eq!(rule.matches(part).count(), 1, "{name}: {part}");
        }
        let said = |severity: &str| rule.contains(&format!("{{ severity: {severity} }}"));
        let count = ["page", "ticket", "notice"].into_iter().filter(|one| said(one)).count();
        assert_eq!(count, 1, "{name}");
    }
}

#[test]
fn every_heading_says_what_it_means_what_to_look_at_and_what_to_do() {
    let page = read("docs/OPERATING.md");
    for section in page.split("\n### Bascule").skip(1) {
        let section = section.split("\n#").next().unwrap_or_default();
        for part in ["\n**Means**", "\n**Look**", "\n**Do**"] {
            assert!(section.contains(part), "Bascule{section}: {part}");
        }
    }
}

#[test]
fn every_alert_is_shown_to_fire_and_not_to_fire() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("config/prometheus/tests", "yml") {
        let text = fs::read_to_string(&file).expect("a file of tests");
        for case in text.split("        alertname: ").skip(1) {
            let name = case.lines().next().unwrap_or_default().to_owned();
            let found = if case.contains("exp_alerts: []") { &mut silent } else { &mut fires };
            found.insert(name);
        }
    }
    let alerts: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(fires, alerts, "each fires");
    assert_eq!(silent, alerts, "each has a near miss");
}

#[test]
fn what_the_routes_name_are_alerts() {
    let routes = read("config/prometheus/alertmanager.yml");
    let names: Vec<&str> = routes.split(|c: char| !c.is_alphanumeric()).collect();
    let alerts = alerts();
    for name in names.iter().filter(|name| name.starts_with("Bascule")) {
        let is_one = alerts.keys().any(|alert| alert == name);
        // `BasculeErrorBudgetBurns.*` stands for two.
        let is_beginning = routes.contains(&format!("{name}.*"))
            && alerts.keys().any(|alert| alert.starts_with(*name));
        assert!(is_one || is_beginning, "{name}");
    }
}

#[test]
fn rules_and_dashboards_ask_for_metrics_that_are_exported() {
    let golden = read("tests/golden/metrics.txt");
    let mut known: BTreeSet<String> = BTreeSet::new();
    for line in golden.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        known.insert(name.to_owned());
        if line.split(' ').nth(1) == Some("histogram") {
            known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
        }
    }
    let mut texts = vec![read(RULES), read("config/prometheus/recording.yml")];
    let dashboards = files("dashboards", "json");
    texts.extend(dashboards.iter().map(|file| fs::read_to_string(file).expect("a dashboard")));
    for text in &texts {
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        // A colon is in what is recorded; groups of rules are named `bascule_…` too.
        for word in words.filter(|word| word.starts_with("bascule_") && !word.contains(':')) {
            let is_group = text.contains(&format!("- name: {word}\n"));
            assert!(known.contains(word) || is_group, "{word} is not exported");
        }
    }
}
