//! The journal as an incident report that an auditor can read without knowing the program: what
//! failed, when it was found, what was done, when it ended, what it cost, and how much of the time
//! was served from outside the EU.
//!
//! An incident that moved nothing and blamed nobody is only counted.

use std::fmt::Write as _;
use std::time::SystemTime;

use self::incident::{End, Incident, Known, Outside, incidents};
use crate::admin::history::JournalPage;
use crate::cli::api::plain;
use crate::telemetry::journal::{self, CostLine, Event, Line};

mod incident;

/// Lines of one incident's timeline; the journal has the rest.
const MOST_LINES: usize = 200;

/// Switches of one incident that have a row of their own; its timeline has the rest.
const MOST_SWITCHES: usize = 20;

/// The whole report. What happened `before` the period is told of incidents that go on into it.
pub(super) fn markdown(page: &JournalPage, before: &[Line]) -> String {
    let since = journal::moment(&page.since).unwrap_or(SystemTime::UNIX_EPOCH);
    let entries: Vec<Line> = before.iter().chain(&page.entries).cloned().collect();
    let incidents = incidents(&entries).into_iter().filter(|incident| incident.reaches(since));
    let (grave, slight): (Vec<_>, Vec<_>) = incidents.partition(Incident::is_grave);
    let mut out = Out(String::new());
    out.line(format_args!("# Incident report"));
    out.line(format_args!(""));
    out.line(format_args!("- Period: {} to {} (UTC)", cell(&page.since), cell(&page.at)));
    out.line(format_args!("- Written by bascule {}", cell(&page.version)));
    out.line(format_args!("- Entries of the journal in the period: {}", page.entries.len()));
    if !page.complete {
        out.line(format_args!(
            "- **Not complete**: the period begins before the oldest entry at hand; the files of \
             `state_dir` hold older ones"
        ));
    }
    out.line(format_args!(
        "- Incidents: {}; doubts that came to nothing: {}",
        grave.len(),
        slight.len()
    ));
    out.line(format_args!(""));
    let until = journal::moment(&page.at).unwrap_or(SystemTime::UNIX_EPOCH);
    out.summary(&grave, until);
    for (number, incident) in grave.iter().enumerate() {
        out.incident(number + 1, incident, until);
    }
    out.orders(&page.entries);
    out.0
}

struct Out(String);

impl Out {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a String takes everything");
    }

    fn summary(&mut self, incidents: &[Incident<'_>], until: SystemTime) {
        self.line(format_args!("## Summary"));
        self.line(format_args!(""));
        if incidents.is_empty() {
            self.line(format_args!("Nothing happened that anything followed from."));
            self.line(format_args!(""));
            return;
        }
        self.line(format_args!(
            "| # | Service | Start | Detected after | Left for | End of failing | Requests lost | \
             Outside the EU |"
        ));
        self.line(format_args!("|---|---|---|---|---|---|---|---|"));
        for (number, incident) in incidents.iter().enumerate() {
            let detected = incident.detection_seconds();
            let outside = incident.outside(until);
            self.line(format_args!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                number + 1,
                cell(incident.service),
                cell(incident.start()),
                detected.map_or("–".to_owned(), |seconds| format!("{seconds} s")),
                cell(&left_for(incident)),
                cell(&end(incident.end)),
                incident.cost().map_or("–".to_owned(), lost),
                outside.map_or("–".to_owned(), outside_words),
            ));
        }
        self.line(format_args!(""));
    }

    fn incident(&mut self, number: usize, incident: &Incident<'_>, until: SystemTime) {
        self.line(format_args!("## {number}. {}", cell(incident.service)));
        self.line(format_args!(""));
        self.line(format_args!("| | |"));
        self.line(format_args!("|---|---|"));
        self.row("Start (first failure)", incident.start());
        if let Some(found) = incident.found() {
            self.row("Detection", &format!("{}: {}", found.at, found.text));
            self.grounds(found);
        }
        let switches: Vec<&Line> = incident.switches().collect();
        for switch in switches.iter().take(MOST_SWITCHES) {
            self.switched(switch);
        }
        match switches.len() {
            0 => {
                self.row("Switch", "none: no other upstream would have helped, or none was left");
            }
            count if count > MOST_SWITCHES => {
                self.row("Switch", &format!("and {} more", count - MOST_SWITCHES));
            }
            _ => {}
        }
        match incident.end {
            End::Told(ended) => {
                self.row("End (confirmed after a minute without failures)", &ended.at);
            }
            End::Cut(started) => {
                let text = format!(
                    "not known: the process ended before it was over; the next one started at {}",
                    started.at
                );
                self.row("End", &text);
            }
            End::Lost => self.row("End", "not known: the journal has the next one before it"),
            End::Open => self.row("End", "not in the period"),
        }
        if let Some(cost) = incident.cost() {
            self.cost(cost);
        }
        self.elsewhere(incident, until);
        self.timeline(&incident.lines);
    }

    /// Where else it was served, and for how long, until it was back.
    fn elsewhere(&mut self, incident: &Incident<'_>, until: SystemTime) {
        let accounts = incident.returned.iter().filter_map(|l| Some((l, l.cost.as_ref()?)));
        for (line, cost) in accounts.take(MOST_SWITCHES) {
            let (away, outside) = (cost.seconds, cost.outside_eu_seconds);
            let text = format!(
                "{}, after {away} s elsewhere, {outside} s of them outside the EU",
                line.at
            );
            self.row("Back at the first choice", &text);
        }
        if let Some(outside) = incident.outside(until) {
            self.row("Served from outside the EU, until it was back", &outside_words(outside));
        }
    }

    fn grounds(&mut self, found: &Line) {
        if let Some(evidence) = &found.evidence {
            let text = format!(
                "{} of {} attempts failed, seen by {} independent witnesses, mostly {}; score {} of \
                 {} needed; the first failure was {} s before",
                evidence.failures,
                evidence.attempts,
                evidence.witnesses,
                found.kind.as_deref().unwrap_or("unknown"),
                evidence.score,
                evidence.threshold,
                evidence.first_failure_seconds_before,
            );
            self.row("Evidence", &text);
        }
        if let Some(probes) = found.probes_failed {
            self.row("Evidence", &format!("{probes} probes failed in a row, without traffic"));
        }
        if let Some(blame) = &found.blame {
            let text = format!(
                "{} (log-odds {:+}); the same request succeeded elsewhere {} times and failed there \
                 too {} times",
                blame.verdict, blame.log_odds, blame.pairs_for, blame.pairs_against
            );
            self.row("Blame", &text);
        }
    }

    fn switched(&mut self, switch: &Line) {
        let law = match switch.jurisdiction.as_deref() {
            Some("eu") => "in the EU",
            Some("non_eu") => "outside the EU",
            Some(_) | None => "jurisdiction not recorded",
        };
        let (from, to) = (switch.from.as_deref(), switch.to.as_deref());
        let moved = if switch.observed { "decided, not made (observe mode)" } else { "in force" };
        let after = match (switch.reason.as_deref(), switch.detection_seconds) {
            (Some("ordered"), _) => "; by order".to_owned(),
            (_, Some(seconds)) => format!("; {seconds} s after the first failure"),
            (_, None) => String::new(),
        };
        let text = format!(
            "{}: from {} to {} ({law}), {moved} in snapshot {}{after}",
            switch.at,
            from.unwrap_or("–"),
            to.unwrap_or("–"),
            switch.generation,
        );
        self.row("Switch", &text);
    }

    fn cost(&mut self, cost: &CostLine) {
        self.row("Failing for", &format!("{} s", cost.seconds));
        self.row("Requests lost", &lost(cost));
        let masked = format!(
            "{} of {} attempts failed; {} retries",
            cost.failed_attempts, cost.attempts, cost.retries
        );
        self.row("Attempts, those that a retry masked included", &masked);
        let outside = format!(
            "{} s; {} of {} attempts",
            cost.outside_eu_seconds, cost.outside_eu_attempts, cost.attempts
        );
        self.row("Served from outside the EU, while it failed", &outside);
    }

    fn timeline(&mut self, lines: &[&Line]) {
        self.line(format_args!(""));
        self.line(format_args!("| When | What | Snapshot |"));
        self.line(format_args!("|---|---|---|"));
        for line in lines.iter().take(MOST_LINES) {
            let (at, text) = (cell(&line.at), cell(&line.text));
            self.line(format_args!("| {at} | {text} | {} |", line.generation));
        }
        if lines.len() > MOST_LINES {
            self.line(format_args!("| | and {} more | |", lines.len() - MOST_LINES));
        }
        self.line(format_args!(""));
    }

    fn orders(&mut self, entries: &[Line]) {
        let orders: Vec<&Line> = entries.iter().filter(|line| line.event == Event::Order).collect();
        if orders.is_empty() {
            return;
        }
        self.line(format_args!("## Orders of the operator"));
        self.line(format_args!(""));
        self.line(format_args!("| When | What |"));
        self.line(format_args!("|---|---|"));
        for line in orders {
            self.line(format_args!("| {} | {} |", cell(&line.at), cell(&line.text)));
        }
        self.line(format_args!(""));
    }

    fn row(&mut self, name: &str, text: &str) {
        self.line(format_args!("| {name} | {} |", cell(text)));
    }
}

/// Whoever was gone to, in turn; a few of them say it.
fn left_for(incident: &Incident<'_>) -> String {
    const MOST: usize = 4;
    let mut names: Vec<String> = Vec::new();
    for switch in incident.switches() {
        let Some(to) = &switch.to else { continue };
        let name = if switch.observed { format!("{to} (observed only)") } else { to.clone() };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    match names.len() {
        0 => "–".to_owned(),
        count if count > MOST => {
            format!("{} and {} more", names[..MOST].join(", then "), count - MOST)
        }
        _ => names.join(", then "),
    }
}

/// When it ended, in a word.
fn end(end: End<'_>) -> String {
    match end {
        End::Told(line) => line.at.clone(),
        End::Open => "not yet, or not seen".to_owned(),
        End::Cut(_) => "not known: the process ended first".to_owned(),
        End::Lost => "not known".to_owned(),
    }
}

fn outside_words(outside: Outside) -> String {
    let Outside { seconds, known } = outside;
    match known {
        Known::Whole => format!("{seconds} s"),
        Known::SoFar => format!("{seconds} s so far"),
        Known::Unclear => format!("{seconds} s as far as known"),
    }
}

/// `12 of 3400 (0.35 %)`.
fn lost(cost: &CostLine) -> String {
    let share = 100.0 * cost.lost as f64 / cost.requests.max(1) as f64;
    format!("{} of {} ({share:.2} %)", cost.lost, cost.requests)
}

/// A text of somebody's inside a table: it can neither end the cell nor begin markup.
fn cell(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "\\`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::journal::{BlameLine, EvidenceLine};

    fn line(second: u32, event: Event, text: &str) -> Line {
        Line {
            at: format!("2025-11-18T11:{:02}:{:02}.000Z", 30 + second / 60, second % 60),
            event,
            text: text.to_owned(),
            service: Some("portal".to_owned()),
            generation: 2,
            ..Line::default()
        }
    }

    fn page() -> JournalPage {
        let cost = CostLine {
            began: "2025-11-18T11:30:00.750Z".to_owned(),
            seconds: 300.25,
            requests: 60_000,
            lost: 12,
            failed_attempts: 40,
            retries: 28,
            outside_eu_seconds: 0.25,
            outside_eu_attempts: 50,
            attempts: 60_028,
        };
        let ejected = Line {
            to: Some("ejected".to_owned()),
            kind: Some("5xx".to_owned()),
            evidence: Some(EvidenceLine {
                score: 18.4,
                threshold: 17.2,
                failures: 6,
                attempts: 7,
                witnesses: 4,
                first_failure_seconds_before: 0.25,
            }),
            blame: Some(BlameLine {
                verdict: "provider".to_owned(),
                log_odds: 7.5,
                pairs_for: 2,
                pairs_against: 0,
            }),
            ..line(1, Event::Health, "upstream ejected provider=cloudflare")
        };
        let failover = Line {
            from: Some("cloudflare".to_owned()),
            to: Some("bunny".to_owned()),
            jurisdiction: Some("eu".to_owned()),
            detection_seconds: Some(0.25),
            ..line(1, Event::Failover, "failover from=cloudflare to=bunny reason=cascade")
        };
        let away = CostLine { seconds: 640.0, ..CostLine::default() };
        let order = line(400, Event::Order, "order given: drain bunny: a | b <i>");
        let entries = vec![
            ejected,
            failover,
            line(1, Event::IncidentBegan, "incident began"),
            Line { cost: Some(cost), ..line(361, Event::IncidentEnded, "incident ended") },
            order,
            Line { cost: Some(away), ..line(641, Event::Returned, "back at the first choice") },
            line(700, Event::IncidentBegan, "incident began"),
            line(770, Event::IncidentEnded, "incident ended"),
        ];
        let (version, at) = ("0.0.0".to_owned(), "2025-11-18T12:00:00.000Z".to_owned());
        JournalPage {
            version,
            at,
            since: "2025-11-17T12:00:00.000Z".to_owned(),
            complete: true,
            entries,
        }
    }

    #[test]
    fn the_report_is_the_golden_one() {
        assert_eq!(markdown(&page(), &[]), include_str!("../../../tests/golden/journal.md"));
    }

    #[test]
    fn an_incident_that_goes_on_into_the_period_is_told_whole_and_one_that_was_over_is_not() {
        let JournalPage { mut entries, .. } = page();
        let whole = markdown(&page(), &[]);
        let summary = |report: &str| {
            report.lines().find(|line| line.starts_with("| 1 | ")).map(str::to_owned)
        };
        let back = entries.iter().position(|line| line.event == Event::Returned).expect("it was");
        let before: Vec<Line> = entries.drain(..back).collect();
        let since = entries[0].at.clone();
        let report = markdown(&JournalPage { entries: entries.clone(), since, ..page() }, &before);
        assert_eq!(summary(&report), summary(&whole));
        let later = JournalPage { since: "2025-11-18T11:59:00.000Z".to_owned(), ..page() };
        let report = markdown(&JournalPage { entries: Vec::new(), ..later }, &page().entries);
        assert!(report.contains("Nothing happened"), "{report}");
    }

    #[test]
    fn a_quiet_period_has_a_report_too() {
        let report = markdown(&JournalPage { entries: Vec::new(), ..page() }, &[]);
        assert!(report.contains("Nothing happened"), "{report}");
    }
}
