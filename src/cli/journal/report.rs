//! The journal as an incident report that an auditor can read without knowing the program: what
//! failed, when it was found, what was done, when it ended, what it cost, and how much of the time
//! was served from outside the EU.
//!
//! An incident is what lies between its two lines in the journal. One that moved nothing and blamed
//! nobody is only counted.

use std::fmt::Write as _;
use std::time::Duration;

use super::Page;
use crate::cli::api::plain;
use crate::telemetry::journal::{CostLine, Event, Line};

/// Lines of one incident's timeline; the journal has the rest.
const MOST_LINES: usize = 200;

/// One incident of one service.
struct Incident<'a> {
    service: &'a str,
    began: &'a str,
    ended: Option<&'a Line>,
    lines: Vec<&'a Line>,
    returned: Option<&'a Line>,
}

/// The whole report.
pub(super) fn markdown(page: &Page) -> String {
    let incidents = incidents(&page.entries);
    let (grave, slight): (Vec<_>, Vec<_>) = incidents.into_iter().partition(Incident::is_grave);
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
    out.summary(&grave);
    for (number, incident) in grave.iter().enumerate() {
        out.incident(number + 1, incident);
    }
    out.orders(&page.entries);
    out.0
}

/// Cuts the journal at the lines where incidents begin and end, service by service.
fn incidents(entries: &[Line]) -> Vec<Incident<'_>> {
    let mut all: Vec<Incident<'_>> = Vec::new();
    for (number, line) in entries.iter().enumerate() {
        let Some(service) = line.service.as_deref() else { continue };
        let open = all.iter().rposition(|i| i.service == service && i.ended.is_none());
        let last = all.iter().rposition(|i| i.service == service);
        let began = line.event == Event::IncidentBegan;
        match (open, last) {
            (Some(open), _) => {
                all[open].lines.push(line);
                if line.event == Event::IncidentEnded {
                    all[open].ended = Some(line);
                }
            }
            (None, Some(last)) if !began => {
                if line.event == Event::Returned && all[last].returned.is_none() {
                    all[last].returned = Some(line);
                }
                if is_return(line) {
                    all[last].lines.push(line);
                }
            }
            (None, _) if began => {
                // What was decided in the same moment stands just before the line that opens it.
                let mut lines = decided_with(line, &entries[..number]);
                lines.push(line);
                all.push(Incident { service, began: &line.at, ended: None, lines, returned: None });
            }
            (None, _) => {}
        }
    }
    all
}

/// Lines of the moment in which an incident was opened.
fn decided_with<'a>(opening: &Line, before: &'a [Line]) -> Vec<&'a Line> {
    let moment = opening.moment();
    let near = |line: &&Line| {
        moment.duration_since(line.moment()).is_ok_and(|gap| gap <= Duration::from_secs(1))
    };
    let recent = before.iter().rev().take_while(near);
    let mut lines: Vec<&Line> =
        recent.filter(|line| line.service == opening.service && !is_return(line)).collect();
    lines.reverse();
    lines
}

/// A step back to how it was before the incident.
fn is_return(line: &Line) -> bool {
    match line.event {
        Event::Failback | Event::Returned => true,
        Event::Health => matches!(line.to.as_deref(), Some("half_open" | "ramping" | "healthy")),
        Event::Started
        | Event::Withheld
        | Event::Failover
        | Event::Mode
        | Event::OriginIncident
        | Event::GrayAlert
        | Event::Slice
        | Event::Provider
        | Event::CommonCause
        | Event::Limit
        | Event::Drill
        | Event::Order
        | Event::AdminState
        | Event::IncidentBegan
        | Event::IncidentEnded
        | Event::Other => false,
    }
}

impl Incident<'_> {
    /// Whether anything followed from it.
    fn is_grave(&self) -> bool {
        self.lines.iter().any(|line| match line.event {
            Event::Withheld
            | Event::Failover
            | Event::Mode
            | Event::OriginIncident
            | Event::Slice
            | Event::Provider
            | Event::CommonCause => true,
            Event::Health => line.to.as_deref() == Some("ejected"),
            Event::Started
            | Event::Failback
            | Event::GrayAlert
            | Event::Limit
            | Event::Drill
            | Event::Order
            | Event::AdminState
            | Event::IncidentBegan
            | Event::IncidentEnded
            | Event::Returned
            | Event::Other => false,
        })
    }

    fn first(&self, wanted: impl Fn(&Line) -> bool) -> Option<&Line> {
        self.lines.iter().find(|line| wanted(line)).copied()
    }

    /// What was concluded first, with its evidence.
    fn found(&self) -> Option<&Line> {
        self.first(|line| {
            line.event == Event::Withheld
                || line.event == Event::OriginIncident
                || (line.event == Event::Health && line.to.as_deref() == Some("ejected"))
        })
    }

    fn switch(&self) -> Option<&Line> {
        self.first(|line| line.event == Event::Failover)
    }

    fn cost(&self) -> Option<&CostLine> {
        self.ended.and_then(|line| line.cost.as_ref())
    }

    fn start(&self) -> &str {
        self.cost().map_or(self.began, |cost| &cost.began)
    }
}

struct Out(String);

impl Out {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a String takes everything");
    }

    fn summary(&mut self, incidents: &[Incident<'_>]) {
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
            let switch = incident.switch();
            let detected = switch.and_then(|line| line.detection_seconds);
            let left = switch.and_then(|line| line.to.as_deref()).unwrap_or("–");
            let observed = switch.is_some_and(|line| line.observed);
            let observed = if observed { " (observed only)" } else { "" };
            self.line(format_args!(
                "| {} | {} | {} | {} | {}{observed} | {} | {} | {} |",
                number + 1,
                cell(incident.service),
                cell(incident.start()),
                detected.map_or("–".to_owned(), |seconds| format!("{seconds} s")),
                cell(left),
                cell(incident.ended.map_or("not yet, or not seen", |line| &line.at)),
                incident.cost().map_or("–".to_owned(), lost),
                incident.cost().map_or("–".to_owned(), |c| format!("{} s", c.outside_eu_seconds)),
            ));
        }
        self.line(format_args!(""));
    }

    fn incident(&mut self, number: usize, incident: &Incident<'_>) {
        self.line(format_args!("## {number}. {}", cell(incident.service)));
        self.line(format_args!(""));
        self.line(format_args!("| | |"));
        self.line(format_args!("|---|---|"));
        self.row("Start (first failure)", incident.start());
        if let Some(found) = incident.found() {
            self.row("Detection", &format!("{}: {}", found.at, found.text));
            self.grounds(found);
        }
        match incident.switch() {
            Some(switch) => self.switched(switch),
            None => {
                self.row("Switch", "none: no other upstream would have helped, or none was left")
            }
        }
        match incident.ended {
            Some(ended) => self.row("End (confirmed after a minute without failures)", &ended.at),
            None => self.row("End", "not in the period"),
        }
        if let Some(cost) = incident.cost() {
            self.cost(cost);
        }
        if let Some((line, cost)) = incident.returned.and_then(|l| Some((l, l.cost.as_ref()?))) {
            let (away, outside) = (cost.seconds, cost.outside_eu_seconds);
            let text = format!(
                "{}, after {away} s elsewhere, {outside} s of them outside the EU",
                line.at
            );
            self.row("Back at the first choice", &text);
        }
        self.timeline(&incident.lines);
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
        let text = format!(
            "{}: from {} to {} ({law}), {moved} in snapshot {}; {} s after the first failure",
            switch.at,
            from.unwrap_or("–"),
            to.unwrap_or("–"),
            switch.generation,
            switch.detection_seconds.unwrap_or_default(),
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

    fn page() -> Page {
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
        Page { version, at, since: "2025-11-17T12:00:00.000Z".to_owned(), complete: true, entries }
    }

    #[test]
    fn the_report_is_the_golden_one() {
        assert_eq!(markdown(&page()), include_str!("../../../tests/golden/journal.md"));
    }

    #[test]
    fn a_quiet_period_has_a_report_too() {
        let report = markdown(&Page { entries: Vec::new(), ..page() });
        assert!(report.contains("Nothing happened"), "{report}");
    }
}
