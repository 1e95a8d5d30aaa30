//! `bascule status`: what a running proxy thinks, read from its admin API and laid out for people.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;

use super::api::{Where, plain};
use crate::admin::view::{OrderView, ServiceView, Status, UpstreamView};

mod screen;
mod watch;

/// Transitions shown; the log has them all.
const RECENT: usize = 10;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Prints the answer as it came.
    #[arg(long)]
    json: bool,
    /// Goes on showing it, each second; q ends it. Where no terminal is, a line for each change.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    at: Where,
}

/// Runs the verb.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { json, watch: goes_on, at } = arguments;
    if goes_on {
        return watch::run(&at);
    }
    let body = at.get("/v1/status")?;
    let text = if json { body } else { table(&at.read(&body)?).into() };
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

/// The whole answer for people.
fn table(status: &Status) -> String {
    let Status { version, at, generation, providers, services, overrides, recent } = status;
    let mut out = format!("bascule {version}, snapshot {generation}, {at}\n\n");
    let mut rows = vec![row(["PROVIDER", "SEAT", "LAW", "KIND", "FIRST FOR"])];
    for provider in providers {
        let first_for = or_dash(provider.first_for.join(", "));
        let law = law(&provider.jurisdiction);
        rows.push(row([&provider.name, &provider.seat, law, &provider.kind, &first_for]));
    }
    align(&mut out, "", &rows);
    for service in services {
        out.push('\n');
        service_table(&mut out, service);
    }
    if !overrides.is_empty() {
        out.push_str("\nORDERS\n");
        let rows: Vec<_> = overrides.iter().map(order_row).collect();
        align(&mut out, "  ", &rows);
    }
    if !recent.is_empty() {
        out.push_str("\nRECENT\n");
        let rows: Vec<_> = recent
            .iter()
            .take(RECENT)
            .map(|entry| row([&entry.at, &entry.service, &entry.text]))
            .collect();
        align(&mut out, "  ", &rows);
    }
    out
}

fn order_row(order: &OrderView) -> Vec<String> {
    let OrderView { target, order, since, until, reason } = order;
    let until =
        until.as_ref().map_or_else(|| "until taken back".to_owned(), |u| format!("until {u}"));
    row([target, &order.replace('_', "-"), &format!("since {since}"), &until, reason])
}

fn service_table(out: &mut String, service: &ServiceView) {
    let first = service.first.as_deref().unwrap_or("nobody");
    let mut head = format!("{} ({}): served through {first}", service.name, service.residency);
    append(&mut head, format_args!("{}", mode(service)));
    if service.failover == "observe" {
        head.push_str(", observe only");
        if let Some(other) = &service.would_be_first {
            append(&mut head, format_args!(" (decided for {other})"));
        }
    }
    if let Some(incident) = &service.incident {
        let blame = incident.blame.as_deref().unwrap_or("unknown");
        let seconds = incident.seconds;
        append(&mut head, format_args!(", incident for {seconds:.0} s, blame {blame}"));
    }
    for words in flags(service) {
        append(&mut head, format_args!(", {words}"));
    }
    for realm in &service.realms {
        let first = realm.first.as_deref().unwrap_or("nobody");
        let words = realm.words();
        append(
            &mut head,
            format_args!("\n  {words}: served through {first}{}", mode_words(&realm.mode)),
        );
    }
    for part in &service.parts {
        let first = part.first.as_deref().unwrap_or("nobody");
        let slice = &part.slice;
        append(
            &mut head,
            format_args!("\n  {slice}: served through {first}{}", mode_words(&part.mode)),
        );
    }
    append(out, format_args!("{head}\n"));
    let titles = ["UPSTREAM", "LAW", "HEALTH", "SHARE", "RATE", "FAILING", "PROBE", "WHY"];
    let mut rows = vec![row(titles)];
    rows.extend(service.upstreams.iter().map(upstream_row));
    rows.extend(service.barred.iter().map(|barred| {
        let law = law(&barred.jurisdiction);
        row([&barred.provider, law, "barred", "-", "-", "-", "-", &barred.because])
    }));
    align(out, "  ", &rows);
}

/// What somebody who was woken up has to know first.
fn flags(service: &ServiceView) -> impl Iterator<Item = &'static str> {
    let flags = [
        (service.fallback_outside_eu, "outside the EU"),
        (service.origin_incident, "the origin itself fails"),
        (service.common_cause, "common cause"),
    ];
    flags.into_iter().filter(|(holds, _)| *holds).map(|(_, words)| words)
}

/// Behind who serves, where all is not well; of a service that is not so as a whole, only in part.
fn mode(service: &ServiceView) -> String {
    let whole = service.realms.iter().all(|realm| realm.mode == service.mode);
    mode_words(&service.mode) + if whole { "" } else { " in part" }
}

fn mode_words(mode: &str) -> String {
    match mode {
        "normal" => String::new(),
        mode => format!(", {}", mode.replace('_', "-")),
    }
}

fn upstream_row(upstream: &UpstreamView) -> Vec<String> {
    let probe = upstream.probe.map(|probe| {
        let word = if probe.passed { "passed" } else { "failed" };
        format!("{word} {:.0} s ago", probe.seconds_ago)
    });
    row([
        &upstream.provider,
        law(&upstream.jurisdiction),
        &upstream.health.replace('_', "-"),
        &percent(upstream.share),
        &format!("{:.1}/s", upstream.rate),
        &percent(upstream.failing),
        &or_dash(probe.unwrap_or_default()),
        &why(upstream),
    ])
}

fn why(upstream: &UpstreamView) -> String {
    let mut parts = Vec::new();
    if upstream.admin != "auto" {
        parts.push(format!("{} by order", upstream.admin.replace('_', " ")));
    }
    if let Some(place) = &upstream.place {
        parts.push(place.replace('_', " "));
    }
    if let Some(last) = &upstream.last {
        let detail = last.detail.as_ref().map(|detail| format!(" ({detail})"));
        let reason = last.reason.replace('_', " ");
        let ago = last.seconds_ago;
        parts.push(format!("{reason}{} {ago:.0} s ago", detail.unwrap_or_default()));
    }
    if let Some(hold) = upstream.hold_seconds {
        parts.push(format!("held {hold:.0} s more"));
    }
    if let Some(at) = &upstream.stays_until {
        let what = if upstream.health == "ramping" { "take more" } else { "ramp" };
        parts.push(format!("may {what} from {at} (min_stay)"));
    }
    if upstream.gray_alert {
        parts.push("gray alert".to_owned());
    }
    or_dash(parts.join(", "))
}

fn law(jurisdiction: &str) -> &str {
    match jurisdiction {
        "eu" => "EU",
        "non_eu" => "non-EU",
        other => other,
    }
}

/// To a tenth, where there is one.
fn percent(share: f64) -> String {
    let tenths = (share * 1000.0).round();
    if tenths % 10.0 == 0.0 {
        format!("{:.0}%", tenths / 10.0)
    } else {
        format!("{:.1}%", tenths / 10.0)
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(plain).collect()
}

/// Columns two spaces apart, the last one ragged.
fn align(out: &mut String, indent: &str, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            append(&mut line, format_args!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::RealmView;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = String::new();
        align(&mut out, "  ", &[row(["A", "BB", "C"]), row(["aaa", "b", "é\u{1b}[31m x"])]);
        assert_eq!(out, "  A    BB  C\n  aaa  b   é[31m x\n");
    }

    #[test]
    fn shares_are_as_short_as_they_can_be() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.015), "1.5%");
        assert_eq!(percent(0.29), "29%");
    }

    #[test]
    fn a_status_is_laid_out_for_people() {
        let status: Status =
            serde_json::from_str(include_str!("../../tests/golden/status.json")).expect("golden");
        assert_eq!(table(&status), include_str!("../../tests/golden/status.txt"));
    }

    #[test]
    fn every_alarm_of_a_service_stands_in_its_first_line_whether_or_not_an_incident_is_open() {
        let mut status: Status =
            serde_json::from_str(include_str!("../../tests/golden/status.json")).expect("golden");
        let service = &mut status.services[0];
        service.fallback_outside_eu = true;
        service.origin_incident = true;
        service.common_cause = true;
        let alarms = ", outside the EU, the origin itself fails, common cause\n";
        let with = table(&status);
        assert!(with.contains(&format!("incident for 5 s, blame provider{alarms}")), "{with}");
        status.services[0].incident = None;
        let without = table(&status);
        assert!(without.contains(&format!("served through bunny{alarms}")), "{without}");
    }

    #[test]
    fn one_that_is_kept_by_min_stay_says_until_when() {
        let mut status: Status =
            serde_json::from_str(include_str!("../../tests/golden/status.json")).expect("golden");
        let upstream = &mut status.services[0].upstreams[0];
        (upstream.health, upstream.hold_seconds) = ("half_open".to_owned(), None);
        upstream.stays_until = Some("2025-11-18T12:09:55.000Z".to_owned());
        let text = table(&status);
        assert!(
            text.contains("5 s ago, may ramp from 2025-11-18T12:09:55.000Z (min_stay)\n"),
            "{text}"
        );
    }

    #[test]
    fn routes_that_are_closed_are_told_apart_from_those_that_are_not() {
        let mut status: Status =
            serde_json::from_str(include_str!("../../tests/golden/status.json")).expect("golden");
        let realm =
            |residency: &str, require: &[&str], mode: &str, first: Option<&str>| RealmView {
                residency: residency.to_owned(),
                require: require.iter().map(ToString::to_string).collect(),
                mode: mode.to_owned(),
                first: first.map(str::to_owned),
                permitted: Vec::new(),
            };
        let service = &mut status.services[0];
        (service.mode, service.incident) = ("fail_closed".to_owned(), None);
        service.realms = vec![
            realm("any", &[], "normal", Some("bunny")),
            realm("eu-only", &["SecNumCloud"], "fail_closed", None),
        ];
        let told = table(&status);
        let expected = "portal (prefer-eu): served through bunny, fail-closed in part\n  any: served through \
                        bunny\n  eu-only, require SecNumCloud: served through nobody, fail-closed\n";
        assert!(told.contains(expected), "{told}");
        status.services[0].realms.remove(0);
        assert!(table(&status).contains("served through bunny, fail-closed\n"), "as a whole");
    }
}
