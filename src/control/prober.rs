//! Whom to probe, and what becomes of the answers. Every upstream of every service, standby ones as
//! often as the active one, each on a connection of its own; and origins where the file names one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::names::Names;
use super::parity::{Comparisons, Look, Parity};
use super::probe::{self, Asked, Question, Unwell};
use super::schedule::{self, Schedule};
use crate::clock;
use crate::exchange::evidence::{Evidence, EvidenceSender};
use crate::exchange::snapshot::{SnapshotReader, View};
use crate::exchange::state::UpstreamState;
use crate::model::health::ProbePace;
use crate::model::id::{Label, UpstreamId, UpstreamKey};
use crate::model::outcome::FailureKind;
use crate::model::signal::ProbeResult;
use crate::model::topology::{EndpointHost, OriginProbe, Pool, Topology};
use crate::net::tls_client;
use crate::request::rewrite;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Probes running at the same time; further ones wait for a place.
const AT_ONCE: usize = 128;
/// How often the schedule is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often a probe looks whether the first addresses have come.
const ADDRESS_POLL: Duration = Duration::from_millis(20);

/// Probes the upstreams of the current topology.
#[derive(Debug)]
pub struct Prober {
    /// Whom.
    pub snapshots: SnapshotReader,
    /// For the names of origins; those of upstreams are in their address books.
    pub names: Names,
    /// Roots for the TLS of origins.
    pub roots: Arc<rustls::RootCertStore>,
    /// Where reports go.
    pub evidence: EvidenceSender,
    /// Where probes are counted.
    pub metrics: Metrics,
}

/// One thing that is probed, across reloads.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Subject {
    /// An upstream by its serial number.
    Upstream(u64),
    /// The origin of a service.
    Origin(Label),
}

/// How one subject is probed under the current topology.
struct Target {
    question: Question,
    interval: Duration,
    whom: Whom,
    /// What was said last of a gRPC server that does not pass: said once, until it changes.
    told: Cell<Option<Unwell>>,
}

enum Whom {
    Upstream {
        state: Arc<UpstreamState>,
        /// Serial number of the first choice of its service, where that is asked for the same: what
        /// one host has cannot be held against another's.
        first: Option<u64>,
    },
    /// Origins have no address book: looked up for each probe, the last good answer kept.
    Origin { service: Label, names: Names, last: RefCell<Vec<SocketAddr>> },
}

/// One probe that ended.
struct Report {
    at: Instant,
    /// `None`: it could not be sent, which says nothing of whom it was meant for.
    result: Option<ProbeResult>,
    certificate_end: Option<SystemTime>,
    unwell: Option<Unwell>,
    look: Option<Look>,
    took: Duration,
}

impl Prober {
    /// Probes until shutdown; probes that are running then are dropped without a report.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut snapshots = self.snapshots.clone();
        let mut round = Round::default();
        round.adopt(&self, &snapshots.current());
        loop {
            // Dropping any arm half-way loses nothing: the first two wait for a value that stays,
            // `join_next_with_id` is cancel-safe, a missed tick only comes later.
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                writing = snapshots.changed() => {
                    if !writing {
                        return;
                    }
                    round.adopt(&self, &snapshots.current());
                }
                Some(ended) = round.running.join_next_with_id() => round.end(&self, ended),
                _ = tick.tick() => round.begin(),
            }
        }
    }

    /// Returns the upstream whose comparison has news, and whether it differs now.
    fn report<'a>(
        &self,
        target: &'a Target,
        report: Report,
        comparisons: &mut Comparisons,
    ) -> Option<(&'a UpstreamKey, bool)> {
        let Report { at, result: Some(result), certificate_end, unwell, look, took } = report
        else {
            return None;
        };
        let mut compared = None;
        target.tell(unwell);
        if let Some(end) = certificate_end.and_then(|end| end.duration_since(UNIX_EPOCH).ok()) {
            self.metrics.certificate_shown(&target.question.name(), end);
        }
        match &target.whom {
            Whom::Upstream { state, first } => {
                if let Some(first) = *first
                    && let Some(news) = comparisons.take(state.serial, first, look)
                {
                    tell_apart(state, news);
                    compared = Some((&state.key, matches!(news, Parity::Differs(_))));
                }
                self.metrics.probe(&state.key, result, took);
                if let ProbeResult::Failed(FailureKind::Connect | FailureKind::Dns) = result {
                    state.addresses.ask_again();
                }
                self.evidence.send(Evidence::Probe { serial: state.serial, at, result, took });
            }
            Whom::Origin { service, .. } => {
                self.metrics.origin_probe(service, result);
                self.evidence.send(Evidence::Origin { service: service.clone(), at, result });
            }
        }
        compared
    }

    fn targets(&self, view: &View) -> BTreeMap<Subject, Rc<Target>> {
        let topology = &view.routing.topology;
        let upstreams = topology.upstreams().map(|(id, _)| {
            let subject = Subject::Upstream(view.states.upstream(id).serial);
            (subject, Rc::new(upstream_target(topology, id, view)))
        });
        let origins = topology.pools().filter_map(|(_, pool)| {
            let origin = pool.rules.probe.origin.as_ref()?;
            let target = self.origin_target(pool, origin)?;
            Some((Subject::Origin(pool.service.clone()), Rc::new(target)))
        });
        upstreams.chain(origins).collect()
    }

    fn origin_target(&self, pool: &Pool, origin: &OriginProbe) -> Option<Target> {
        let tls = match tls_client::config(&origin.endpoint, &self.roots) {
            Ok(tls) => tls,
            Err(error) => {
                let service = pool.service.as_str();
                tracing::error!(service, error = %Chain(&error), "origin is not probed");
                return None;
            }
        };
        let rule = &pool.rules.probe;
        let question = Question {
            endpoint: origin.endpoint.clone(),
            tls,
            public_host: None,
            asks: rule.asks.clone(),
            target: origin.path.clone(),
            expect: rule.expect.clone(),
            // Asked directly, the origin cannot hide behind its own marker.
            marker: None,
            timeout: rule.timeout,
        };
        let whom = Whom::Origin {
            service: pool.service.clone(),
            names: self.names.clone(),
            last: RefCell::default(),
        };
        Some(Target { question, interval: rule.interval, whom, told: Cell::default() })
    }
}

fn upstream_target(topology: &Topology, id: UpstreamId, view: &View) -> Target {
    let upstream = topology.upstream(id);
    let rules = &topology.pool(upstream.pool).rules;
    let question = Question {
        endpoint: upstream.endpoint.clone(),
        tls: view.tls[id.index()].clone(),
        public_host: rules.probe.host_for(id).map(Into::into),
        asks: rules.probe.asks.clone(),
        target: rewrite::towards(&upstream.endpoint.path, &rules.probe.path).into(),
        expect: rules.probe.expect.clone(),
        marker: rules.marker.clone(),
        timeout: rules.probe.timeout,
    };
    // An upstream that exists stands in its pool.
    let first = topology.pool(upstream.pool).upstreams.first().copied().unwrap_or(id);
    let is_same = rules.probe.host_for(first) == rules.probe.host_for(id);
    let first = is_same.then(|| view.states.upstream(first).serial);
    let whom = Whom::Upstream { state: Arc::clone(view.states.upstream(id)), first };
    Target { question, interval: rules.probe.interval, whom, told: Cell::default() }
}

fn tell_apart(state: &UpstreamState, news: Parity) {
    let (service, provider) = (state.key.service.as_str(), state.key.provider.as_str());
    match news {
        Parity::Differs(what) => {
            let what = what.as_str();
            tracing::warn!(service, provider, what, "answers unlike the first choice");
        }
        // Said at the start too, when it is no news for a person.
        Parity::Equal => tracing::debug!(service, provider, "answers as the first choice does"),
    }
}

impl Target {
    fn is_compared(&self) -> bool {
        matches!(self.whom, Whom::Upstream { first: Some(_), .. })
    }

    fn interval(&self) -> Duration {
        let pace = match &self.whom {
            Whom::Upstream { state, .. } => state.pace(),
            Whom::Origin { .. } => ProbePace::Normal,
        };
        schedule::interval(self.interval, pace)
    }

    async fn probe(&self) -> Report {
        let addresses = self.addresses().await;
        let began = clock::now();
        let failed = |address| match &self.whom {
            Whom::Upstream { state, .. } => state.addresses.failed(address, clock::now()),
            Whom::Origin { .. } => {}
        };
        let Asked { result, certificate_end, unwell, look } =
            probe::ask_noting(&self.question, &addresses, &failed).await;
        let at = clock::now();
        Report { at, result, certificate_end, unwell, look, took: at - began }
    }

    /// Says why a gRPC server does not pass, and what to do about it.
    fn tell(&self, unwell: Option<Unwell>) {
        if self.told.replace(unwell) == unwell {
            return;
        }
        let Some(unwell) = unwell else { return };
        match &self.whom {
            Whom::Upstream { state, .. } => {
                let (service, provider) = (state.key.service.as_str(), state.key.provider.as_str());
                tracing::warn!(service, provider, why = %unwell, "a gRPC health probe does not pass");
            }
            Whom::Origin { service, .. } => {
                let service = service.as_str();
                tracing::warn!(service, why = %unwell, "the origin's gRPC health probe does not pass");
            }
        }
    }

    async fn addresses(&self) -> Vec<SocketAddr> {
        match &self.whom {
            Whom::Upstream { state, .. } => {
                let deadline = clock::now() + self.question.timeout;
                // Only before the very first answer: the look-up and this probe begin together.
                while state.addresses.current().addresses.is_empty() && clock::now() < deadline {
                    tokio::time::sleep(ADDRESS_POLL).await;
                }
                state.addresses.to_try(clock::now())
            }
            Whom::Origin { names, last, .. } => {
                let port = self.question.endpoint.port;
                let found = match &self.question.endpoint.host {
                    EndpointHost::Address(ip) => return vec![SocketAddr::new(*ip, port)],
                    EndpointHost::Name(name) => names.look_up(name).await,
                };
                if let Ok(found) = found {
                    let with_port = |ip| SocketAddr::new(ip, port);
                    last.replace(found.addresses.into_iter().map(with_port).collect());
                }
                last.borrow().clone()
            }
        }
    }
}

/// What is to be probed and what is being probed.
#[derive(Default)]
struct Round {
    topology: Option<Arc<Topology>>,
    targets: BTreeMap<Subject, Rc<Target>>,
    schedule: Schedule<Subject>,
    running: JoinSet<Report>,
    /// Whom each running probe is about; those of gone subjects are absent.
    tasks: HashMap<Id, (Subject, AbortHandle)>,
    comparisons: Comparisons,
}

impl Round {
    fn adopt(&mut self, prober: &Prober, view: &View) {
        let topology = &view.routing.topology;
        if self.topology.as_ref().is_some_and(|known| Arc::ptr_eq(known, topology)) {
            return;
        }
        self.topology = Some(Arc::clone(topology));
        self.targets = prober.targets(view);
        let subjects: Vec<Subject> = self.targets.keys().cloned().collect();
        self.schedule.adopt(&subjects);
        self.comparisons.retain(|serial| {
            let target = self.targets.get(&Subject::Upstream(serial));
            target.is_some_and(|target| target.is_compared())
        });
        self.show_parity_anew(&prober.metrics);
        self.tasks.retain(|_, (subject, task)| {
            let stays = self.targets.contains_key(subject);
            if !stays {
                task.abort();
            }
            stays
        });
        self.begin();
    }

    fn begin(&mut self) {
        let now = clock::now();
        let room = AT_ONCE.saturating_sub(self.tasks.len());
        let due = self.schedule.due(now, room, |subject| self.targets[subject].interval());
        for subject in due {
            let target = Rc::clone(&self.targets[&subject]);
            let task = self.running.spawn_local(async move { target.probe().await });
            self.schedule.began(&subject, now, fastrand::f64());
            self.tasks.insert(task.id(), (subject, task));
        }
    }

    fn show_parity_anew(&self, metrics: &Metrics) {
        metrics.parity_anew();
        self.found().for_each(|(key, _)| metrics.parity(key, false));
        self.found().filter(|(_, differs)| *differs).for_each(|(key, _)| metrics.parity(key, true));
    }

    /// Every upstream that was compared, and whether it differs.
    fn found(&self) -> impl Iterator<Item = (&UpstreamKey, bool)> {
        self.targets.values().filter_map(|target| {
            let Whom::Upstream { state, .. } = &target.whom else { return None };
            let differs = matches!(self.comparisons.found(state.serial)?, Parity::Differs(_));
            Some((&state.key, differs))
        })
    }

    fn end(&mut self, prober: &Prober, ended: Result<(Id, Report), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((subject, _)) = self.tasks.remove(&id) else { return };
        self.schedule.ended(&subject);
        match ended {
            Ok((_, report)) => {
                let target = Rc::clone(&self.targets[&subject]);
                let news = prober.report(&target, report, &mut self.comparisons);
                // A provider stands once in a service, so that nobody else has these labels.
                if let Some((key, differs)) = news {
                    prober.metrics.parity(key, differs);
                }
            }
            Err(error) => tracing::error!(error = %Chain(&error), "a probe broke off"),
        }
    }
}

#[cfg(test)]
mod tests;
