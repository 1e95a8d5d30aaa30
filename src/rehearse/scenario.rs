//! The file format of an outage: YAML in, [`Scenario`] out, or the first thing that is wrong with it.
//!
//! The mirror of the file is in `raw`. What the modes do to a request is [`super::world`]'s business; whether `expect` holds is
//! [`super::expect`]'s.

mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use self::raw::RawScenario;
use crate::config::yaml::{self, YamlError};
use crate::model::id::Label;
use crate::model::place::Residency;

/// One outage.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Equals the file's name.
    pub name: String,
    /// Where the times come from; `None`: synthetic.
    pub source: Option<String>,
    /// When it began, for people.
    pub start_utc: Option<String>,
    /// What is special about it.
    pub about: Option<String>,
    /// Which of its figures are facts and which are a model, in words.
    pub basis: Option<String>,
    /// Providers of every service, in order of preference.
    pub upstreams: Vec<Label>,
    /// What may carry the services, where no configuration file says it; `None`: anybody.
    pub residency: Option<Residency>,
    /// Who is served; one at the usual rate unless the file names others.
    pub services: Vec<Service>,
    /// What providers share with others.
    pub substrates: BTreeMap<String, Vec<Label>>,
    /// Who asks.
    pub audience: Audience,
    /// In order of time.
    pub timeline: Vec<Change>,
    /// What must hold at the defaults.
    pub expect: Expect,
}

/// One service, and how much it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name; several that were written as one are numbered.
    pub name: Label,
    /// Requests a second.
    pub rate: f64,
}

/// How many witnesses there can be.
#[derive(Clone, Copy, Debug)]
pub struct Audience {
    /// Clients, each in a network of its own.
    pub clients: u8,
    /// URL templates that they ask for, besides those that a fault names.
    pub pages: u8,
}

impl Default for Audience {
    fn default() -> Self {
        Self { clients: 200, pages: 20 }
    }
}

/// The fault of one (subject, id) from an instant on, until the next change of the same pair.
#[derive(Clone, Debug)]
pub struct Change {
    /// Since the beginning of the outage.
    pub at: Duration,
    /// Whose.
    pub subject: Subject,
    /// Tells faults of one subject apart.
    pub id: String,
    /// What it does from now on; `None`: nothing any more.
    pub fault: Option<Fault>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// One provider, by its place in [`Scenario::upstreams`].
    Provider(usize),
    /// The origin behind all of them.
    Origin,
    /// Our name resolution.
    Resolver,
    /// Our own network.
    Uplink,
}

/// One way to misbehave.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How.
    pub mode: Mode,
    /// Of the matching requests, `0..=1`. For [`Mode::Capacity`]: what share of the service's load
    /// can be held.
    pub fraction: f64,
    /// What a request's luck depends on.
    pub sticky: Sticky,
    /// Whether bad answers carry the origin's marker.
    pub marker: MarkerFate,
    /// Which requests.
    pub only: Match,
    /// From the previous fraction, linearly.
    pub ramp: Duration,
    /// On and off by turns.
    pub wave: Option<Wave>,
    /// What a provider adds to its own error pages; for people.
    pub headers: BTreeMap<String, String>,
}

/// How something misbehaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Answers with this status.
    Status(u16),
    /// Connections are never accepted.
    Timeout,
    /// Connections break off before the head.
    Reset,
    /// The TLS handshake fails.
    Tls,
    /// Names are not resolved; last good addresses still work.
    Dns(DnsFailure),
    /// Answers take this much longer.
    Latency(Duration),
    /// Bodies end short.
    Truncate,
    /// The head comes at once, the body one byte a second, for so long.
    Slowloris(Duration),
    /// A good status with somebody else's page.
    WrongContent(u16),
    /// What exceeds the fraction of the load is answered with this status, this much later.
    Capacity(u16, Duration),
    /// The provider's own API is gone; nobody here needs it.
    ControlPlane,
}

/// How a look-up fails: all the same to whoever keeps the last good addresses.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsFailure {
    /// The name does not exist.
    Nxdomain,
    /// The server failed.
    Servfail,
    /// No address in the answer.
    Empty,
    /// No answer.
    Timeout,
}

impl Fault {
    /// The one address family that it is limited to.
    pub const fn only_family(&self) -> Option<Family> {
        self.only.family
    }
}

impl Mode {
    /// Whether it ends an attempt before any request is sent.
    pub const fn is_front_door(self) -> bool {
        matches!(self, Self::Timeout | Self::Tls)
    }
}

/// What a request's luck depends on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// Nothing: drawn for each request.
    #[default]
    None,
    /// Its URL path.
    Path,
    /// Its client.
    Client,
    /// The connection it travels on.
    Conn,
}

/// Whether bad answers carry the origin's marker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum MarkerFate {
    /// They do: the origin made them.
    Kept,
    /// They do not: the edge made them.
    Absent,
}

/// Limits a fault to some requests; an empty list is no limit.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Upper case.
    pub methods: Vec<String>,
    /// Only bodies of at least this many bytes.
    pub body_min: u64,
    /// Hosts that the clients ask for.
    pub hosts: Vec<String>,
    /// URL paths.
    pub url_paths: Vec<String>,
    /// All URL paths but these.
    pub url_paths_not: Vec<String>,
    /// Only addresses of this family.
    pub family: Option<Family>,
}

/// An address family.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A square wave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wave {
    /// Length of a bad spell.
    pub on: Duration,
    /// Length of a good one.
    pub off: Duration,
    /// Since the beginning of the outage; good from then on.
    pub until: Duration,
}

/// What must hold; a key that is absent asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Whom the first ejection, or the incident raised, blamed.
    pub blame: Option<String>,
    /// Providers that were ejected at some time; `*` = any.
    pub ejected: Vec<String>,
    /// Providers that were never ejected; `*` = any.
    pub not_ejected: Vec<String>,
    /// From the first faulty answer to the first ejection or incident.
    pub detected_within: Option<Duration>,
    /// Changes of the pool's first candidate.
    pub flips_at_most: Option<u32>,
    /// Share of requests failed that a healthy permitted upstream could have served.
    pub errors_at_most: Option<f64>,
    /// Share of requests answered well while the trigger lasts.
    pub goodput_at_least: Option<f64>,
    /// Attempts over requests in any 10 s.
    pub retry_amplification_at_most: Option<f64>,
    /// Who carries most requests in the middle of the fault.
    pub serving: Option<String>,
    /// How long, in all, an upstream outside the EU serves that is not the first choice.
    pub outside_eu_at_most: Option<Duration>,
    /// No failback before this time of the outage.
    pub not_back_before: Option<Duration>,
    /// From the end of the trigger to normal answers.
    pub recovered_within: Option<Duration>,
    /// Hosts whose traffic never moves.
    pub untouched_hosts: Vec<String>,
    /// Unsafe requests that two upstreams may have acted on.
    pub unsafe_replayed: Option<u32>,
    /// Never blamed.
    pub not_blamed: Vec<String>,
    /// Once so many services have moved, no request that begins is lost, of any service.
    pub spared_after_moves: Option<u32>,
    /// A remark for people.
    pub note: Option<String>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is no YAML, or not of the right shape.
    #[error(transparent)]
    Shape(#[from] YamlError),
    /// It says something impossible.
    #[error("{place}: {what}")]
    Sense {
        /// Which key.
        place: String,
        /// What about it.
        what: String,
    },
}

impl Scenario {
    /// Reads one outage.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        yaml::parse::<RawScenario>(text)?.lower()
    }

    /// When the last change of the timeline happens.
    pub fn last_change(&self) -> Duration {
        self.timeline.iter().map(|change| change.at).max().unwrap_or_default()
    }

    /// Every URL path that a fault is limited to or spares.
    pub fn named_paths(&self) -> BTreeSet<&str> {
        let faults = self.timeline.iter().filter_map(|change| change.fault.as_ref());
        faults
            .flat_map(|fault| fault.only.url_paths.iter().chain(&fault.only.url_paths_not))
            .map(String::as_str)
            .collect()
    }
}

#[cfg(test)]
mod tests;
