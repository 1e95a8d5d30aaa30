//! The control thread: steering, prober, names and reload on one runtime, and the admin thread with
//! another: a large page for the operator must not keep a failover waiting. Both apart from the
//! workers, so that none can starve another.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_local};

use super::beginning::{AdminSocket, token_of};
use super::listeners::{ListenError, Listeners};
use super::thread::{self, Register};
use super::{Source, announce, settings_of};
use crate::admin::live::Phase;
use crate::admin::router::Desk;
use crate::admin::scrape::Sources;
use crate::admin::server;
use crate::admin::token::Token;
use crate::clock;
use crate::config::{Admin, Config, Resolver};
use crate::control::dns::Dns;
use crate::control::keeper::LastWord;
use crate::control::names::Names;
use crate::control::prober::Prober;
use crate::control::reload::{self, Applier, Reload};
use crate::control::steering::{Handles, Steering};
use crate::control::targets::ControlTargets;
use crate::exchange::commands::SteeringEnded;
use crate::exchange::edge::Edge;
use crate::exchange::evidence::EvidenceSender;
use crate::exchange::pulse::Beat;
use crate::exchange::reload::{self as wishes, ReloadReceiver, ReloadSender};
use crate::exchange::settings::SettingsCell;
use crate::model::control_target::ControlTarget;
use crate::model::name_server::NameServer;
use crate::net::tls_client::{self, TrustError};
use crate::proxy::worker;
use crate::telemetry::access_log::Aim;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The operator's address.
    #[error("cannot listen on {address} for the operator")]
    Admin {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its thread.
    #[error("the system gives no thread for the control plane")]
    Thread(#[source] io::Error),
    /// The thread that keeps `state_dir`.
    #[error("the system gives no thread for state_dir")]
    Keeper(#[source] io::Error),
}

/// The running threads.
#[derive(Debug)]
pub(super) struct Plane {
    shutdown: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    admin: Option<SocketAddr>,
    last_word: Option<LastWord>,
}

impl Plane {
    /// Where the operator connects.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Ends it, and what it wanted kept with it.
    pub(super) fn end(self) {
        self.shutdown.send_replace(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("the control plane panicked");
            }
        }
        // With the steering loop the last one is gone who had anything to keep.
        if let Some(last_word) = self.last_word {
            last_word.wait();
        }
    }
}

/// What the thread is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    /// What the files held before anything was listened on.
    pub(super) sources: reload::Sources,
    pub(super) source: Source,
    pub(super) admin: Option<AdminSocket>,
    pub(super) steering: Steering,
    pub(super) handles: Handles,
    pub(super) evidence: EvidenceSender,
    pub(super) metrics: Metrics,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) edge: Arc<Edge>,
    pub(super) settings: SettingsCell,
    pub(super) listeners: Listeners,
    pub(super) senders: Vec<mpsc::Sender<worker::Command>>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) aim: Aim,
    pub(super) last_word: Option<LastWord>,
    /// Of the control thread and of the admin thread.
    pub(super) beats: [Option<Beat>; 2],
    /// Learns that one of them ended.
    pub(super) register: Register,
}

/// Starts the threads.
pub(super) fn spawn(mut parts: Parts) -> Result<Plane, PlaneError> {
    let (last_word, admin) = (parts.last_word.take(), parts.admin.take());
    reload::tell_taken(&parts.config.listeners, &parts.metrics);
    let (shutdown, shut) = watch::channel(false);
    let address = admin.as_ref().map(|admin| admin.address);
    let (reloads, wishes) = wishes::channel();
    let (tokens, shown) = watch::channel(None);
    let key = Key { address, tokens };
    let mut threads = Vec::new();
    if let Some(admin) = admin {
        key.tokens.send_replace(admin.token);
        let desk = desk(&parts, shown, reloads);
        let (shut, phase, beat) = (shut.clone(), parts.phase.clone(), parts.beats[1].take());
        let attend = move || attend(desk, admin.socket, phase, beat, shut);
        let started = thread::start("admin", &parts.register, attend);
        threads.push(started.map_err(PlaneError::Thread)?);
    }
    let register = parts.register.clone();
    let started = thread::start("control", &register, move || run(parts, key, wishes, shut));
    threads.push(started.map_err(PlaneError::Thread)?);
    Ok(Plane { shutdown, threads, admin: address, last_word })
}

fn desk(parts: &Parts, token: watch::Receiver<Option<Token>>, reloads: ReloadSender) -> Desk {
    let sources = Sources {
        board: parts.handles.board.clone(),
        edge: Arc::clone(&parts.edge),
        evidence: parts.evidence.clone(),
        metrics: parts.metrics.clone(),
    };
    let commands = parts.handles.commands.clone();
    Desk { sources, commands, reloads, token, started: clock::now() }
}

async fn attend(
    desk: Desk,
    socket: std::net::TcpListener,
    phase: watch::Receiver<Phase>,
    beat: Option<Beat>,
    mut shutdown: watch::Receiver<bool>,
) {
    if let Some(beat) = beat {
        spawn_local(beat.keep());
    }
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be watched");
            return;
        }
    };
    // Whichever ends first, the other has nothing to finish.
    tokio::select! {
        () = server::run(desk, listener, phase) => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// Everything ends with this future: the tasks are the runtime's, and the runtime ends after it. It ends
/// with any of them that panics: a process that probes nobody, or knows no addresses, only looks well.
async fn run(mut parts: Parts, key: Key, wishes: ReloadReceiver, shutdown: watch::Receiver<bool>) {
    if let Some(beat) = parts.beats[0].take() {
        spawn_local(beat.keep());
    }
    let mut tasks = JoinSet::new();
    let names = names(&parts.config.resolver, &parts.roots);
    let prober = Prober {
        snapshots: parts.handles.snapshots.clone(),
        names: names.clone(),
        roots: Arc::clone(&parts.roots),
        evidence: parts.evidence.clone(),
        metrics: parts.metrics.clone(),
    };
    let (control_targets, targets) = watch::channel(parts.config.control_targets.clone().into());
    let evidence = parts.evidence.clone();
    let asked = ControlTargets { targets, names: names.clone(), evidence };
    tasks.spawn_local(asked.run(shutdown.clone()));
    let dns = Dns {
        snapshots: parts.handles.snapshots.clone(),
        names,
        stale: parts.config.resolver.stale,
        evidence: parts.evidence.clone(),
        metrics: parts.metrics.clone(),
    };
    tasks.spawn_local(dns.run(shutdown.clone()));
    tasks.spawn_local(prober.run(shutdown.clone()));
    if let Source::File(file) = parts.source {
        spawn_local(reopen(parts.aim.clone()));
        let force = Force {
            handles: parts.handles,
            roots: parts.roots,
            settings: parts.settings,
            listeners: parts.listeners,
            senders: parts.senders,
            aim: parts.aim,
            control_targets,
            key,
            fixed: Fixed::of(&parts.config),
        };
        let (metrics, cores) = (parts.metrics, cores());
        let reload = Reload { file, cores, metrics, applier: force, wishes };
        tasks.spawn_local(reload.run(parts.sources, shutdown.clone()));
    }
    // Whichever ends first, the thread is over.
    tokio::select! {
        () = parts.steering.run(shutdown) => {}
        () = thread::any_panics(tasks) => {}
    }
}

/// Looks names up as the file says.
pub(crate) fn names(resolver: &Resolver, roots: &Arc<RootCertStore>) -> Names {
    Names::new(&resolver.servers, resolver_tls(resolver, roots))
}

/// Towards name servers that are spoken to over TLS.
fn resolver_tls(resolver: &Resolver, system: &Arc<RootCertStore>) -> Arc<rustls::ClientConfig> {
    let own = resolver.ca.as_ref().map(|pem| tls_client::bundle(pem));
    match own {
        None => tls_client::bare(RootCertStore::clone(system)),
        Some(Ok(roots)) => tls_client::bare(roots),
        Some(Err(error)) => {
            // The configuration has read it already. Whom nobody may vouch for is not believed.
            tracing::error!(error = %Chain(&error), "the resolver's `ca_file` cannot be used");
            tls_client::bare(RootCertStore::empty())
        }
    }
}

/// Opens the access log anew whenever somebody has renamed its file and says so, whether or not the
/// configuration can be loaded at that moment.
async fn reopen(aim: Aim) {
    // Without it the reload says that SIGHUP is not heard.
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        aim.reopen();
    }
}

/// Cores to have a worker each, unless the file says otherwise.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Puts a new configuration into force.
struct Force {
    handles: Handles,
    roots: Arc<RootCertStore>,
    settings: SettingsCell,
    listeners: Listeners,
    senders: Vec<mpsc::Sender<worker::Command>>,
    aim: Aim,
    control_targets: watch::Sender<Arc<[ControlTarget]>>,
    key: Key,
    fixed: Fixed,
}

/// What opens the operator's door.
struct Key {
    /// Where it is, until the next start.
    address: Option<SocketAddr>,
    tokens: watch::Sender<Option<Token>>,
}

impl Key {
    /// Goes by the file's token from now on, so that one that leaked is worth nothing a moment after it was
    /// replaced. A door that others can reach is never left without: the file may have moved it
    /// somewhere that needs none, but it moves at the next start.
    fn turn(&self, admin: Option<&Admin>) {
        let token = admin.and_then(token_of);
        let is_ours = self.address.is_none_or(|address| address.ip().is_loopback());
        if token.is_some() || is_ours && admin.is_some() {
            // Whoever reads events has shown it, and need not again while it is the same.
            self.tokens.send_if_modified(|known| {
                let is_new = *known != token;
                *known = token;
                is_new
            });
        }
    }
}

/// Why a valid configuration was not put into force; the old one serves on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForceError {
    /// An address or its TLS.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Trust in an upstream.
    #[error("the trust of an upstream cannot be set up")]
    Trust(#[from] TrustError),
    /// The process is shutting down.
    #[error(transparent)]
    Ended(#[from] SteeringEnded),
}

impl Applier for Force {
    type Error = ForceError;

    /// All that can fail comes first. Routes before listeners: a new address must find its service.
    async fn apply(&mut self, config: Config) -> Result<(), ForceError> {
        let prepared = self.listeners.prepare(&config)?;
        let tls = tls_client::configs(&config.topology, &self.roots)?;
        self.handles.commands.adopt(Arc::clone(&config.topology), tls).await?;
        self.settings.replace(settings_of(&config));
        self.control_targets.send_replace(config.control_targets.clone().into());
        self.aim.at(config.access_log.as_ref().map(|log| log.target.clone()));
        let before: Vec<SocketAddr> = self.listeners.addresses().collect();
        let after = self.listeners.put_into_force(prepared, &self.senders);
        announce(after.into_iter().filter(|address| !before.contains(address)), "clients");
        self.key.turn(config.admin.as_ref());
        self.fixed.compare(&config);
        Ok(())
    }
}

/// What a reload cannot change.
struct Fixed {
    workers: usize,
    admin: Option<SocketAddr>,
    state_dir: Option<PathBuf>,
    servers: Vec<NameServer>,
    #[cfg(feature = "otlp")]
    collector: Option<crate::model::trace::Collector>,
}

impl Fixed {
    fn of(config: &Config) -> Self {
        Self {
            workers: config.workers,
            admin: config.admin.as_ref().map(|admin| admin.address),
            state_dir: config.state_dir.clone(),
            servers: config.resolver.servers.clone(),
            #[cfg(feature = "otlp")]
            collector: config.traces.as_ref().map(|traces| traces.collector.clone()),
        }
    }

    /// Says what has to wait for a restart.
    fn compare(&self, config: &Config) {
        let now = Self::of(config);
        let differs = [
            ("workers", self.workers != now.workers),
            ("admin.address", self.admin != now.admin),
            ("state_dir", self.state_dir != now.state_dir),
            ("resolver.servers", self.servers != now.servers),
            // Traces may be turned off by a reload, and on again towards the same collector.
            #[cfg(feature = "otlp")]
            ("traces", now.collector.is_some() && self.collector != now.collector),
        ];
        for (key, _) in differs.iter().filter(|(_, differs)| *differs) {
            tracing::warn!(key, "a change takes effect at the next start only");
        }
    }
}
