//! The mirror of an outage's file, and what it means: `Raw*` to [`Scenario`], or the first mistake.

mod demand;
mod expect;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use self::demand::{RawAudience, RawService, services};
use self::expect::RawExpect;
use super::{
    Change, DnsFailure, Family, Fault, MarkerFate, Match, Mode, Scenario, ScenarioError, Sticky,
    Subject, Wave,
};
use crate::model::id::Label;
use crate::model::place::Residency;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScenario {
    name: String,
    source: Option<String>,
    start_utc: Option<String>,
    about: Option<String>,
    /// Which figures are facts and which are a model.
    basis: Option<BTreeMap<String, String>>,
    upstreams: Vec<String>,
    /// Where an outage is about it; else a file of the operator's decides, or nothing does.
    residency: Option<RawResidency>,
    /// Not in one of the original files: who is served, where it is not one service.
    services: Option<Vec<RawService>>,
    #[serde(default)]
    substrates: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    audience: RawAudience,
    timeline: Vec<RawChange>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChange {
    t_s: f64,
    provider: String,
    #[serde(default = "main_id")]
    id: String,
    mode: RawMode,
    fraction: Option<f64>,
    #[serde(default)]
    sticky: Sticky,
    status: Option<u16>,
    latency_ms: Option<u64>,
    dns: Option<DnsFailure>,
    /// A provider's own, on its own error pages.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    origin_marker: Option<MarkerFate>,
    #[serde(rename = "match")]
    only: Option<RawMatch>,
    #[serde(default)]
    ramp_s: f64,
    repeat: Option<RawWave>,
}

fn main_id() -> String {
    "main".to_owned()
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum RawMode {
    Ok,
    Status,
    Timeout,
    Reset,
    Tls,
    Dns,
    Latency,
    Truncate,
    Slowloris,
    WrongContent,
    Capacity,
    ControlPlane,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawResidency {
    Any,
    PreferEu,
    EuOnly,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    method: Option<OneOrMany>,
    #[serde(default)]
    body_min: u64,
    host: Option<OneOrMany>,
    path: Option<OneOrMany>,
    path_not: Option<OneOrMany>,
    ip: Option<Family>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWave {
    on_s: f64,
    off_s: f64,
    until_s: f64,
}

/// The place of a mistake and its text, as the parts below report it.
fn wrong(place: &str, what: impl Into<String>) -> ScenarioError {
    ScenarioError::Sense { place: place.to_owned(), what: what.into() }
}

fn seconds(place: &str, value: f64) -> Result<Duration, ScenarioError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| wrong(place, format!("{value} is not a number of seconds")))
}

fn share(place: &str, text: &str) -> Result<f64, ScenarioError> {
    let number = text.strip_suffix('%').map(|number| number.trim().parse::<f64>());
    match number {
        Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(wrong(place, format!("`{text}` is not a share such as 0.1%"))),
    }
}

impl RawScenario {
    pub(super) fn lower(self) -> Result<Scenario, ScenarioError> {
        let Self { name, source, start_utc, about, basis, upstreams, substrates, .. } = self;
        let upstreams = labels("upstreams", &upstreams)?;
        if upstreams.is_empty() || upstreams.iter().collect::<BTreeSet<_>>().len() < upstreams.len()
        {
            return Err(wrong("upstreams", "at least one, and each once"));
        }
        let residency = self.residency.map(|residency| match residency {
            RawResidency::Any => Residency::Any,
            RawResidency::PreferEu => Residency::PreferEu,
            RawResidency::EuOnly => Residency::EuOnly,
        });
        let services = services(self.services)?;
        let substrates = substrates
            .into_iter()
            .map(|(provider, shared)| {
                known("substrates", &provider, &upstreams)?;
                Ok((provider, labels("substrates", &shared)?))
            })
            .collect::<Result<_, ScenarioError>>()?;
        let mut timeline = Vec::new();
        for (number, change) in self.timeline.into_iter().enumerate() {
            change.lower(&format!("timeline[{number}]"), &upstreams, &mut timeline)?;
        }
        timeline.sort_by_key(|change| change.at);
        let expect = self.expect.lower(&upstreams)?;
        let audience = self.audience.lower()?;
        Ok(Scenario {
            name,
            source,
            start_utc,
            about,
            basis: basis.map(basis_words),
            upstreams,
            residency,
            services,
            substrates,
            audience,
            timeline,
            expect,
        })
    }
}

/// What each figure of a file stands on.
fn basis_words(basis: BTreeMap<String, String>) -> String {
    let words: Vec<String> = basis.iter().map(|(what, kind)| format!("{what} ({kind})")).collect();
    words.join(", ")
}

fn labels(place: &str, names: &[String]) -> Result<Vec<Label>, ScenarioError> {
    let label = |name: &String| {
        Label::new(name).ok_or_else(|| wrong(place, format!("`{name}` is not a name")))
    };
    names.iter().map(label).collect()
}

fn known(place: &str, name: &str, upstreams: &[Label]) -> Result<usize, ScenarioError> {
    let found = upstreams.iter().position(|upstream| upstream.as_str() == name);
    found.ok_or_else(|| wrong(place, format!("`{name}` is not one of the upstreams")))
}

impl RawChange {
    /// One change, or one for each edge when the provider is `*`.
    fn lower(
        self,
        place: &str,
        upstreams: &[Label],
        timeline: &mut Vec<Change>,
    ) -> Result<(), ScenarioError> {
        let at = seconds(place, self.t_s)?;
        let subjects = match self.provider.as_str() {
            "*" => edges(upstreams),
            "origin" => vec![Subject::Origin],
            "resolver" => vec![Subject::Resolver],
            "uplink" => vec![Subject::Uplink],
            name => vec![Subject::Provider(known(place, name, upstreams)?)],
        };
        let id = self.id.clone();
        for subject in subjects {
            let fault = self.fault(place, subject)?;
            timeline.push(Change { at, subject, id: id.clone(), fault });
        }
        Ok(())
    }

    fn fault(&self, place: &str, subject: Subject) -> Result<Option<Fault>, ScenarioError> {
        let Some(mode) = self.mode(place)? else {
            return Ok(None);
        };
        let fraction = self.fraction.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&fraction) {
            return Err(wrong(place, format!("fraction {fraction} is not between 0 and 1")));
        }
        let unless_said =
            if subject == Subject::Origin { MarkerFate::Kept } else { MarkerFate::Absent };
        Ok(Some(Fault {
            mode,
            fraction,
            sticky: self.sticky,
            marker: self.origin_marker.unwrap_or(unless_said),
            only: self.only.as_ref().map(RawMatch::lower).unwrap_or_default(),
            ramp: seconds(place, self.ramp_s)?,
            wave: self.repeat.as_ref().map(|wave| wave.lower(place)).transpose()?,
            headers: self.headers.clone(),
        }))
    }

    /// `None`: the fault ends.
    fn mode(&self, place: &str) -> Result<Option<Mode>, ScenarioError> {
        let needs = |key| wrong(place, format!("this mode needs `{key}`"));
        let status = match self.status {
            Some(status) if !(200..=599).contains(&status) => {
                return Err(wrong(place, format!("{status} is not a status of an answer")));
            }
            status => status,
        };
        self.refuse_idle_keys(place)?;
        let latency = self.latency_ms.map(Duration::from_millis);
        Ok(Some(match self.mode {
            RawMode::Ok => return Ok(None),
            RawMode::Status => Mode::Status(status.ok_or_else(|| needs("status"))?),
            RawMode::Timeout => Mode::Timeout,
            RawMode::Reset => Mode::Reset,
            RawMode::Tls => Mode::Tls,
            RawMode::Dns => Mode::Dns(self.dns.ok_or_else(|| needs("dns"))?),
            RawMode::Latency => Mode::Latency(latency.ok_or_else(|| needs("latency_ms"))?),
            RawMode::Truncate => Mode::Truncate,
            RawMode::Slowloris => Mode::Slowloris(latency.unwrap_or(Duration::MAX)),
            RawMode::WrongContent => Mode::WrongContent(status.unwrap_or(200)),
            RawMode::Capacity => Mode::Capacity(status.unwrap_or(503), latency.unwrap_or_default()),
            RawMode::ControlPlane => Mode::ControlPlane,
        }))
    }
}

impl RawChange {
    /// A key that changes nothing was meant otherwise.
    fn refuse_idle_keys(&self, place: &str) -> Result<(), ScenarioError> {
        let (status, latency, dns) = match self.mode {
            RawMode::Status | RawMode::WrongContent => (true, false, false),
            RawMode::Capacity => (true, true, false),
            RawMode::Latency | RawMode::Slowloris => (false, true, false),
            RawMode::Dns => (false, false, true),
            RawMode::Ok
            | RawMode::Timeout
            | RawMode::Reset
            | RawMode::Tls
            | RawMode::Truncate
            | RawMode::ControlPlane => (false, false, false),
        };
        let idle = [
            ("status", self.status.is_some() && !status),
            ("headers", !self.headers.is_empty() && !status),
            ("latency_ms", self.latency_ms.is_some() && !latency),
            ("dns", self.dns.is_some() && !dns),
        ];
        match idle.into_iter().find(|(_, is_idle)| *is_idle) {
            Some((key, _)) => Err(wrong(place, format!("`{key}` says nothing in this mode"))),
            None => Ok(()),
        }
    }
}

/// Every upstream but the origin reached directly.
fn edges(upstreams: &[Label]) -> Vec<Subject> {
    let edge = |(place, name): (usize, &Label)| {
        (name.as_str() != crate::rehearse::world::DIRECT).then_some(Subject::Provider(place))
    };
    upstreams.iter().enumerate().filter_map(edge).collect()
}

impl RawMatch {
    fn lower(&self) -> Match {
        let list = |value: &Option<OneOrMany>| match value {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one.clone()],
            Some(OneOrMany::Many(many)) => many.clone(),
        };
        Match {
            methods: list(&self.method),
            body_min: self.body_min,
            hosts: list(&self.host),
            url_paths: list(&self.path),
            url_paths_not: list(&self.path_not),
            family: self.ip,
        }
    }
}

impl RawWave {
    fn lower(&self, place: &str) -> Result<Wave, ScenarioError> {
        let wave = Wave {
            on: seconds(place, self.on_s)?,
            off: seconds(place, self.off_s)?,
            until: seconds(place, self.until_s)?,
        };
        if wave.on.is_zero() || wave.off.is_zero() {
            return Err(wrong(place, "`repeat` needs `on_s` and `off_s` above 0"));
        }
        Ok(wave)
    }
}
