//! The journal cut into incidents: which lines belong to which, how each ended, and how long it was
//! served from outside the EU.
//!
//! An incident is what lies between its two lines in the journal. The start of a process ends every
//! open one, since whoever would have written its end is gone; unless the new process says that it goes
//! on. What a service does until it is back at its first choice belongs to the last incident too.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::telemetry::journal::{CostLine, Event, Line, seconds};

/// One incident of one service.
#[derive(Debug)]
pub(super) struct Incident<'a> {
    pub(super) service: &'a str,
    began: &'a str,
    pub(super) end: End<'a>,
    pub(super) lines: Vec<&'a Line>,
    /// Each time that it was back at its first choice.
    pub(super) returned: Vec<&'a Line>,
}

/// How it ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    /// It did not, as far as the journal goes.
    Open,
    /// Nothing had failed for a minute.
    Told(&'a Line),
    /// The process ended before it was over; this is where the next one started.
    Cut(&'a Line),
    /// Another one began, and nothing in between says how this one ended.
    Lost,
}

/// A time outside the EU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outside {
    /// To the millisecond.
    pub(super) seconds: f64,
    pub(super) known: Known,
}

/// How much of it the journal tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    Whole,
    /// It may go on.
    SoFar,
    /// A process ended meanwhile and none went on with its account: until the next one started it is
    /// taken to have served as before, and from then on only what that one's accounts tell is in it.
    Unclear,
}

/// Cuts the journal, service by service.
pub(super) fn incidents(entries: &[Line]) -> Vec<Incident<'_>> {
    let mut all: Vec<Incident<'_>> = Vec::new();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (number, line) in entries.iter().enumerate() {
        if line.event == Event::Started {
            last.values().for_each(|place| all[*place].restart(line));
            continue;
        }
        let Some(service) = line.service.as_deref() else { continue };
        let known = last.get(service).map(|place| &mut all[*place]);
        let goes_on = line.event == Event::Resumed && line.to.as_deref() == Some("incident");
        match known {
            Some(known) if line.event != Event::IncidentBegan => known.take(line),
            _ if line.event == Event::IncidentBegan || goes_on => {
                if let Some(known) = known.filter(|known| known.is_open()) {
                    known.end = End::Lost;
                }
                // What was decided in the same moment stands just before the line that opens it.
                let mut lines = decided_with(line, &entries[..number]);
                lines.push(line);
                let (began, returned) = (&line.at, Vec::new());
                last.insert(service, all.len());
                all.push(Incident { service, began, end: End::Open, lines, returned });
            }
            _ => {}
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
        | Event::Resumed
        | Event::Other => false,
    }
}

/// Whether requests went another way by it.
fn is_move(line: &Line) -> bool {
    matches!(line.event, Event::Failover | Event::Failback) && !line.observed
}

impl<'a> Incident<'a> {
    /// Whether any of it is from this moment or later, or still to come.
    pub(super) fn reaches(&self, since: SystemTime) -> bool {
        let mut lines = self.lines.iter().chain(&self.returned);
        self.is_open() || self.is_away() || lines.any(|line| line.moment() >= since)
    }

    fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    /// Whether somebody else than the first choice serves, after all that was told.
    fn is_away(&self) -> bool {
        let mut lines = self.lines.iter().rev();
        let last = lines.find(|line| is_move(line) || line.event == Event::Returned);
        last.is_some_and(|line| line.event != Event::Returned)
    }

    /// A process starts: the one that wrote the lines before is gone.
    fn restart(&mut self, started: &'a Line) {
        if self.is_open() {
            self.end = End::Cut(started);
            self.lines.push(started);
        } else if self.is_away() {
            self.lines.push(started);
        }
    }

    /// A line of its service that opens no other incident.
    fn take(&mut self, line: &'a Line) {
        let (is_open, is_away) = (self.is_open(), self.is_away());
        match (line.event, self.end) {
            (Event::Resumed, End::Cut(_)) if line.to.as_deref() == Some("incident") => {
                self.end = End::Open;
            }
            (Event::IncidentEnded, End::Open | End::Cut(_)) => self.end = End::Told(line),
            (Event::Returned, _) if is_open || is_away => self.returned.push(line),
            (Event::Resumed | Event::Failover, _) if is_open || is_away => {}
            _ if is_open || is_return(line) => {}
            _ => return,
        }
        self.lines.push(line);
    }

    /// Whether anything followed from it.
    pub(super) fn is_grave(&self) -> bool {
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
            | Event::Resumed
            | Event::Returned
            | Event::Other => false,
        })
    }

    fn first(&self, wanted: impl Fn(&Line) -> bool) -> Option<&Line> {
        self.lines.iter().find(|line| wanted(line)).copied()
    }

    /// What was concluded first, with its evidence.
    pub(super) fn found(&self) -> Option<&Line> {
        self.first(|line| {
            line.event == Event::Withheld
                || line.event == Event::OriginIncident
                || (line.event == Event::Health && line.to.as_deref() == Some("ejected"))
        })
    }

    /// From the first failure to the first decision that moved everybody; an order detects nothing.
    pub(super) fn detection_seconds(&self) -> Option<f64> {
        let decided = |line: &&Line| line.reason.as_deref() != Some("ordered");
        self.switches().filter(decided).find_map(|line| line.detection_seconds)
    }

    /// Every time that somebody else became first because who was could not serve.
    pub(super) fn switches(&self) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(|line| line.event == Event::Failover).copied()
    }

    pub(super) fn cost(&self) -> Option<&CostLine> {
        match self.end {
            End::Told(line) => line.cost.as_ref(),
            End::Open | End::Cut(_) | End::Lost => None,
        }
    }

    pub(super) fn start(&self) -> &str {
        self.cost().map_or(self.began, |cost| &cost.began)
    }

    /// How long it was served from outside the EU: by the account of each time away from the first
    /// choice, and by its moves where no account is written yet; no less than while it failed. `None`
    /// where neither is told. `until`: the end of the report.
    pub(super) fn outside(&self, until: SystemTime) -> Option<Outside> {
        let moved = self.lines.iter().any(|line| is_move(line)) || !self.returned.is_empty();
        let failing = self.cost().map(|cost| cost.outside_eu_seconds);
        if !moved && failing.is_none() {
            return None;
        }
        let (elsewhere, is_suspended) = self.outside_by_moves(until);
        let known = match self.end {
            End::Cut(_) | End::Lost => Known::Unclear,
            End::Open | End::Told(_) if is_suspended => Known::Unclear,
            End::Open => Known::SoFar,
            End::Told(_) if self.is_away() => Known::SoFar,
            End::Told(_) => Known::Whole,
        };
        Some(Outside { seconds: elsewhere.max(failing.unwrap_or_default()), known })
    }

    /// In seconds, and whether a restart left it unclear who served from then on.
    fn outside_by_moves(&self, until: SystemTime) -> (f64, bool) {
        let mut told = Duration::ZERO;
        // Stretches outside that no account holds yet, each with its end.
        let mut spans: Vec<(SystemTime, Duration)> = Vec::new();
        let (mut since, mut suspended) = (None::<SystemTime>, false);
        for line in &self.lines {
            let at = line.moment();
            let ends = is_move(line) || matches!(line.event, Event::Started | Event::Returned);
            if let Some(begin) = since.take_if(|_| ends) {
                spans.push((at, at.duration_since(begin).unwrap_or_default()));
                suspended = line.event == Event::Started;
            }
            match (line.event, &line.cost) {
                (Event::Failover | Event::Failback, _) if is_move(line) => {
                    suspended = false;
                    since = (line.jurisdiction.as_deref() == Some("non_eu")).then_some(at);
                }
                // While no process ran nothing was served.
                (Event::Resumed, _) if suspended => (since, suspended) = (Some(at), false),
                (Event::Returned, Some(cost)) => {
                    suspended = false;
                    // Of before a restart is what its account cannot know.
                    let began = crate::telemetry::journal::moment(&cost.began);
                    let older = spans.drain(..).filter(|(end, _)| Some(*end) <= began);
                    told += older.map(|(_, span)| span).sum::<Duration>();
                    told +=
                        Duration::try_from_secs_f64(cost.outside_eu_seconds).unwrap_or_default();
                }
                _ => {}
            }
        }
        let open = since.map(|begin| until.duration_since(begin).unwrap_or_default());
        let spans = spans.into_iter().map(|(_, span)| span);
        (seconds(spans.chain(open).fold(told, Duration::saturating_add)), suspended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::journal::rfc3339;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_466_000 + second)
    }

    fn line(second: u64, event: Event) -> Line {
        let service = (event != Event::Started).then(|| "portal".to_owned());
        Line { at: rfc3339(at(second)), event, service, ..Line::default() }
    }

    fn moved(second: u64, event: Event, to: &str, law: &str) -> Line {
        let (to, jurisdiction) = (Some(to.to_owned()), Some(law.to_owned()));
        Line { to, jurisdiction, ..line(second, event) }
    }

    fn told(second: u64, event: Event, since: u64, outside_eu_seconds: f64) -> Line {
        let began = rfc3339(at(since));
        let cost = CostLine { began, outside_eu_seconds, ..CostLine::default() };
        Line { cost: Some(cost), ..line(second, event) }
    }

    fn outside(incident: &Incident<'_>) -> (f64, Known) {
        let Outside { seconds, known } = incident.outside(at(1000)).expect("it moved");
        (seconds, known)
    }

    #[test]
    fn the_start_of_a_process_ends_an_incident_and_the_next_one_has_its_own_end_and_cost() {
        let journal = [
            line(0, Event::IncidentBegan),
            moved(0, Event::Failover, "fastly", "non_eu"),
            line(30, Event::Started),
            line(200, Event::IncidentBegan),
            told(300, Event::IncidentEnded, 200, 0.0),
        ];
        let all = incidents(&journal);
        let [first, second] = &all[..] else { panic!("{all:?}") };
        assert!(matches!(first.end, End::Cut(started) if started == &journal[2]), "{first:?}");
        assert!(first.cost().is_none(), "what the second one cost is not its");
        assert_eq!(outside(first), (30.0, Known::Unclear));
        assert!(second.cost().is_some() && !second.is_grave());
    }

    #[test]
    fn an_incident_that_the_next_process_goes_on_with_is_one() {
        let resumed = Line { to: Some("incident".to_owned()), ..line(33, Event::Resumed) };
        let mut journal = vec![
            line(0, Event::IncidentBegan),
            moved(1, Event::Failover, "fastly", "non_eu"),
            line(31, Event::Started),
            resumed,
        ];
        assert_eq!(outside(&incidents(&journal)[0]), (30.0 + 967.0, Known::SoFar));
        journal.push(told(100, Event::IncidentEnded, 0, 39.0));
        journal.push(told(141, Event::Returned, 1, 138.0));
        let all = incidents(&journal);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(matches!(all[0].end, End::Told(_)), "{all:?}");
        assert_eq!(outside(&all[0]), (138.0, Known::Whole), "its account has it all");
    }

    #[test]
    fn an_incident_without_an_end_ends_where_the_next_one_begins() {
        let journal = [
            line(0, Event::IncidentBegan),
            line(200, Event::IncidentBegan),
            told(300, Event::IncidentEnded, 200, 0.0),
        ];
        let all = incidents(&journal);
        assert!(matches!((all[0].end, all[1].end), (End::Lost, End::Told(_))), "{all:?}");
    }

    #[test]
    fn time_outside_is_told_while_it_lasts_and_whole_once_it_is_over() {
        let mut journal = vec![
            line(0, Event::IncidentBegan),
            moved(0, Event::Failover, "bunny", "eu"),
            moved(10, Event::Failover, "fastly", "non_eu"),
        ];
        assert_eq!(outside(&incidents(&journal)[0]), (990.0, Known::SoFar));
        // Back at the first choice while the incident goes on: that account counts.
        journal.push(moved(41, Event::Failback, "gcore", "eu"));
        journal.push(told(41, Event::Returned, 0, 31.368));
        assert_eq!(outside(&incidents(&journal)[0]), (31.368, Known::SoFar));
        journal.push(moved(60, Event::Failover, "fastly", "non_eu"));
        journal.push(told(130, Event::IncidentEnded, 0, 1.5));
        assert_eq!(outside(&incidents(&journal)[0]), (31.368 + 940.0, Known::SoFar));
        journal.push(told(160, Event::Returned, 60, 100.0));
        let all = incidents(&journal);
        assert_eq!(outside(&all[0]), (131.368, Known::Whole));
        assert_eq!((all[0].switches().count(), all[0].returned.len()), (3, 2));
    }

    #[test]
    fn a_move_after_the_last_failure_belongs_to_the_incident_until_it_is_back() {
        let journal = [
            line(0, Event::IncidentBegan),
            moved(0, Event::Failover, "bunny", "eu"),
            told(100, Event::IncidentEnded, 0, 0.0),
            moved(120, Event::Failover, "fastly", "non_eu"),
            told(150, Event::Returned, 0, 30.0),
            moved(200, Event::Failover, "fastly", "non_eu"),
        ];
        let all = incidents(&journal);
        assert_eq!(all[0].switches().count(), 2, "the last one is nobody's: {all:?}");
        assert_eq!(outside(&all[0]), (30.0, Known::Whole));
    }

    #[test]
    fn what_was_only_observed_moved_nobody_outside() {
        let mut observed = moved(0, Event::Failover, "fastly", "non_eu");
        observed.observed = true;
        let journal = [line(0, Event::IncidentBegan), observed];
        assert_eq!(incidents(&journal)[0].outside(at(1000)), None);
    }
}
