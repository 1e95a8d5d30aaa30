//! Wiring: one [`Config`] becomes threads, and a new one goes into force without a lost request.
//!
//! ```text
//!  main ─ start() ─┬─ worker-0 … worker-n   data plane, a listening socket each per address
//!                  └─ control               steering, prober, names, reload, admin
//! ```
//!
//! Start: bind, publish the first snapshot, start control, then the workers: the first request finds
//! everything in place. Shutdown: stop accepting, let requests finish, end control last, so that
//! what happens while draining is still seen.

mod beginning;
pub mod inherit;
mod listeners;
mod outlets;
mod plane;
mod thread;
pub mod upgrade;
pub mod watchdog;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::admin::live::Phase;
use crate::config::Config;
use crate::control::reload::Sources;
use crate::control::steering::{Beginning, Handles, Keeping, Steering};
use crate::exchange::commands::CommandSender;
use crate::exchange::edge::Edge;
use crate::exchange::evidence::{self, EvidenceReceiver};
use crate::exchange::pulse::Pulse;
use crate::exchange::settings::{Settings, SettingsCell};
use crate::net::activation::Activated;
use crate::net::tls_client::{self, TrustError};
use crate::proxy::worker::{self, Spec, Stage};
use crate::telemetry::log::Lost;
use crate::telemetry::metrics::Metrics;
use beginning::{AdminSocket, bind_admin, keeping};
use inherit::Inheritance;
use listeners::{ListenError, Listeners, Prepared};
use outlets::{Ends, Outlets};
use plane::{Plane, PlaneError};
pub(crate) use plane::{cores, names};
use thread::Register;

/// Where the configuration came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A file, watched for changes.
    File(PathBuf),
    /// Made by the caller; never reloaded.
    Fixed,
}

/// Why a valid configuration cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address or its TLS.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Trust in an upstream.
    #[error("the trust of an upstream cannot be set up")]
    Trust(#[from] TrustError),
    /// The control plane or the admin address.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The thread that writes the access log.
    #[error("the system gives no thread for the access log")]
    AccessLog(#[source] std::io::Error),
    /// The thread that sends spans.
    #[cfg(feature = "otlp")]
    #[error("the system gives no thread for traces")]
    Traces(#[source] std::io::Error),
    /// A worker's thread.
    #[error("the system gives no thread for a worker")]
    Worker(#[source] std::io::Error),
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect, in the order of the file; port 0 resolved.
    pub listeners: Vec<SocketAddr>,
    settings: SettingsCell,
    stage: watch::Sender<Stage>,
    phase: watch::Sender<Phase>,
    ended: mpsc::Receiver<usize>,
    /// Threads of the control plane that have ended.
    lost: mpsc::Receiver<&'static str>,
    workers: Vec<JoinHandle<()>>,
    /// What a process that takes over needs.
    lender: Lender,
    plane: Plane,
    ends: Ends,
}

/// Who can be asked for what a process that takes over needs.
#[derive(Debug)]
struct Lender {
    workers: Vec<mpsc::Sender<worker::Command>>,
    lent: Lent,
    steering: CommandSender,
}

/// Sockets that no worker has, once more.
#[derive(Debug)]
struct Lent {
    /// The operator's.
    admin: Option<std::net::TcpListener>,
    /// A supervisor's.
    activated: Arc<[Activated]>,
}

/// What there is besides the configuration. By default nothing.
#[derive(Debug, Default)]
pub struct Given {
    /// From the process before this one, or from a supervisor.
    pub inheritance: Inheritance,
    /// Counted by every thread, if somebody looks at it: see [`threads`].
    pub pulse: Option<Pulse>,
    /// What the log of the process lost, for its metrics.
    pub log_lost: Lost,
}

/// The threads that show signs of life, in the order of a [`Pulse`].
pub fn threads(config: &Config) -> Vec<String> {
    let workers = (0..config.workers).map(|index| format!("worker-{index}"));
    let admin = config.admin.iter().map(|_| "admin".to_owned());
    workers.chain(["control".to_owned()]).chain(admin).collect()
}

/// Starts serving; returns as soon as every address is listened on.
///
/// # Errors
/// When an address, a certificate or a thread cannot be had; nothing is left running then.
pub fn start(config: Config, source: Source, given: Given) -> Result<Running, StartError> {
    let Given { mut inheritance, pulse, log_lost } = given;
    let beat = |place| pulse.as_ref().and_then(|pulse| pulse.beat(place));
    let (edge, sources) = (Arc::new(Edge::default()), Sources::of(&config));
    let said = inheritance.take_memory();
    let Ground { mut listeners, prepared, admin, lent } = ground(&config, inheritance, &edge)?;
    let (roots, metrics) = (tls_client::system_roots(), Metrics::new().beside(log_lost));
    let (evidence, received) = evidence::channel();
    let (register, lost) = Register::new();
    let (keeping, last_word) = keeping(&config, &metrics, said, &register)?;
    let tls = tls_client::configs(&config.topology, &roots)?;
    let (steering, handles) = steering(&config, tls, received, metrics.clone(), keeping);
    let settings = SettingsCell::new(settings_of(&config));
    let (stage, stages) = watch::channel(Stage::Serving);
    let (phase, phases) = watch::channel(Phase::Serving);
    let (obituaries, ended) = mpsc::channel(config.workers);

    let outlets = Outlets::open(&config, &metrics, &roots)?;
    let spec = Spec {
        index: 0,
        snapshots: handles.snapshots.clone(),
        settings: settings.clone(),
        edge: Arc::clone(&edge),
        evidence: evidence.clone(),
        access_log: outlets.access_log,
        #[cfg(feature = "otlp")]
        traces: outlets.traces,
        beat: None,
        stage: stages,
        ended: obituaries,
    };
    let workers = spawn_workers(spec, config.workers, pulse.as_ref())?;
    let senders: Vec<_> = workers.iter().map(|worker| worker.commands.clone()).collect();
    let addresses = listeners.put_into_force(prepared, &senders);
    listeners.settle(admin.as_ref().map(|admin| admin.address));
    let lender = Lender { workers: senders.clone(), lent, steering: handles.commands.clone() };
    let parts = plane::Parts {
        beats: [beat(config.workers), beat(config.workers + 1)],
        config,
        sources,
        source,
        admin,
        steering,
        handles,
        evidence,
        metrics,
        roots,
        edge,
        settings: settings.clone(),
        listeners,
        senders,
        phase: phases,
        aim: outlets.aim,
        last_word,
        register,
    };
    let plane = plane::spawn(parts)?;
    announce(addresses.iter().copied(), "clients");
    announce(plane.admin(), "admin");
    let workers = workers.into_iter().map(|worker| worker.thread).collect();
    let (listeners, ends) = (addresses, outlets.ends);
    Ok(Running { listeners, settings, stage, phase, ended, lost, workers, lender, plane, ends })
}

/// Every address, before anything runs.
struct Ground {
    listeners: Listeners,
    prepared: Prepared,
    admin: Option<AdminSocket>,
    /// For a process that takes over.
    lent: Lent,
}

fn ground(
    config: &Config,
    mut inheritance: Inheritance,
    edge: &Arc<Edge>,
) -> Result<Ground, StartError> {
    let named: Vec<SocketAddr> = config.listeners.iter().map(|one| one.address).collect();
    let bind_admin = |admin| bind_admin(admin, &named, &mut inheritance);
    let admin = config.admin.as_ref().map(bind_admin).transpose()?;
    let again = admin.as_ref().map(AdminSocket::lend).transpose()?;
    let lent = Lent { admin: again, activated: inheritance.lend() };
    let mut listeners = Listeners::new(config.workers, Arc::clone(edge), inheritance);
    let prepared = listeners.prepare(config)?;
    Ok(Ground { listeners, prepared, admin, lent })
}

fn steering(
    config: &Config,
    tls: Arc<[Option<Arc<rustls::ClientConfig>>]>,
    evidence: EvidenceReceiver,
    metrics: Metrics,
    keeping: Keeping,
) -> (Steering, Handles) {
    Steering::new(Beginning {
        topology: Arc::clone(&config.topology),
        tls,
        workers: config.workers,
        seed: fastrand::u64(..),
        evidence,
        metrics,
        keeping: Some(keeping),
    })
}

/// One thread for each row of the ledgers. Those that were started end with the channels of `start`
/// when a later one cannot be. Takes the spec, so that only the workers' own copies are left: when all
/// have ended, `ended` says so.
fn spawn_workers(
    spec: Spec,
    count: usize,
    pulse: Option<&Pulse>,
) -> Result<Vec<worker::Handle>, StartError> {
    let handles = (0..count).map(|index| {
        let beat = pulse.and_then(|pulse| pulse.beat(index));
        worker::spawn(Spec { index, beat, ..spec.clone() })
    });
    handles.collect::<Result<_, _>>().map_err(StartError::Worker)
}

fn announce(addresses: impl IntoIterator<Item = SocketAddr>, role: &'static str) {
    for address in addresses {
        tracing::info!(%address, role, "listening");
    }
}

fn settings_of(config: &Config) -> Settings {
    Settings {
        limits: config.limits,
        trusted_proxies: config.trusted_proxies.clone(),
        access_log: config.access_log.clone(),
        #[cfg(feature = "otlp")]
        traces: config.traces.as_ref().map(|traces| traces.sample),
    }
}

/// How a wait for the end of the process ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Somebody asked for it.
    Asked,
    /// The thread of this name ended by itself, a worker or one of the control plane: a bug, and reason
    /// enough to let a supervisor start anew.
    Lost(String),
}

impl Running {
    /// Where the operator connects.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.plane.admin()
    }

    /// Waits until `asked` ends, or until a thread is lost.
    pub async fn wait(&mut self, asked: impl Future<Output = ()>) -> Ending {
        // Dropping either half-way loses nothing: the process is about to end.
        tokio::select! {
            () = asked => Ending::Asked,
            lost = self.ended.recv() => {
                Ending::Lost(format!("worker-{}", lost.unwrap_or_default()))
            }
            Some(lost) = self.lost.recv() => Ending::Lost(lost.to_owned()),
        }
    }

    /// Stops accepting and waits for the requests in flight: until all are answered,
    /// `limits.drain` is over or `hurry` ends. Then ends everything.
    pub async fn shut_down(mut self, hurry: impl Future<Output = ()>) {
        // Once handed over it stays so: the other process answers at the admin address.
        self.phase.send_if_modified(|phase| {
            let is_new = *phase == Phase::Serving;
            if is_new {
                *phase = Phase::Draining;
            }
            is_new
        });
        self.stage.send_replace(Stage::Draining);
        let limit = self.settings.current().limits.drain;
        tracing::info!(limit = ?limit, "draining");
        let everybody = async { while self.ended.recv().await.is_some() {} };
        // Whatever ends first, all are told to end; nothing half-done is kept.
        tokio::select! {
            () = everybody => tracing::info!("drained"),
            () = tokio::time::sleep(limit) => tracing::warn!("requests were cut off: the drain is over"),
            () = hurry => tracing::warn!("requests were cut off: asked twice"),
        }
        self.stage.send_replace(Stage::Over);
        let Self { workers, plane, phase, ends, .. } = self;
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        drop(phase);
        plane.end();
        ends.wait();
    }
}

/// Time for a blocking caller to wait for [`Running::shut_down`] beyond `limits.drain`.
pub const LAST_WORDS: Duration = Duration::from_secs(5);
