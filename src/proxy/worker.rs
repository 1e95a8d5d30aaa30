//! One worker: a thread, its runtime, its listening sockets, its connections in both directions.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::connections::Connections;
use super::listener::{self, Accepting};
use super::permit::Adopted;
use super::story::Gathering;
use super::waiting;
use crate::clock;
use crate::exchange::edge::{Edge, ListenerState};
use crate::exchange::evidence::EvidenceSender;
use crate::exchange::pulse::Beat;
use crate::exchange::settings::SettingsCell;
use crate::exchange::snapshot::SnapshotReader;
use crate::exchange::state::UpstreamState;
use crate::model::id::UpstreamId;
use crate::model::listening::Manner;
use crate::model::plan::PoolMode;
use crate::telemetry::access_log::Sink;

/// Commands waiting for a worker, at most; a change of its listeners that finds no place is not made.
const COMMANDS: usize = 4;
/// Between two looks for idle upstream connections that have grown too old.
const SWEEP: Duration = Duration::from_secs(5);
/// For what goes on at an upstream that was left, whatever `limits.drain` says.
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// Turns of the runtime before listeners close.
const TURNS: usize = 2;
/// Between two log lines about what clients do.
const COMPLAINT: Duration = Duration::from_secs(10);

/// What a worker is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its row in every ledger.
    pub index: usize,
    /// Whom to ask.
    pub snapshots: SnapshotReader,
    /// Limits and trust.
    pub settings: SettingsCell,
    /// Places under the connection limit.
    pub edge: Arc<Edge>,
    /// Where failures are noted.
    pub evidence: EvidenceSender,
    /// Where lines of the access log go.
    pub access_log: Sink,
    /// Where traced requests go; `None`: none is traced.
    #[cfg(feature = "otlp")]
    pub traces: Option<super::trace::Tracer>,
    /// Shows a supervisor's watchdog that the worker still takes turns; `None`: nobody looks.
    pub beat: Option<Beat>,
    /// How far the process is in its life.
    pub stage: watch::Receiver<Stage>,
    /// Told the index when the worker's thread ends, however it ends. Needs a place per worker.
    pub ended: mpsc::Sender<usize>,
}

/// How far the process is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Takes connections.
    Serving,
    /// Takes no more; requests in flight finish.
    Draining,
    /// Drops what is left.
    Over,
}

/// One address to listen on, as told to one worker.
#[derive(Debug)]
pub struct Listener {
    /// Counters; holds the address.
    pub state: Arc<ListenerState>,
    /// This worker's sockets; none where it has them already. Several where a process before this one
    /// had more workers.
    pub sockets: Vec<std::net::TcpListener>,
    /// `None`: cleartext.
    pub tls: Option<Arc<ServerConfig>>,
    /// How it treats those who connect.
    pub manner: Manner,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// The whole new set of listeners; addresses that are absent are closed.
    Listen(Vec<Listener>),
    /// Whoever takes over needs its listening sockets too; it goes on accepting at them.
    Lend(oneshot::Sender<io::Result<Vec<std::net::TcpListener>>>),
}

/// A running worker.
#[derive(Debug)]
pub struct Handle {
    /// Where it is told.
    pub commands: mpsc::Sender<Command>,
    /// Ends when the stage is over, or when it has drained.
    pub thread: JoinHandle<()>,
}

/// Tells of a worker's end, a panic's included.
struct Obituary {
    index: usize,
    ended: mpsc::Sender<usize>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if self.ended.try_send(self.index).is_err() {
            tracing::debug!(worker = self.index, "nobody waits for this worker any more");
        }
    }
}

/// What the connections of one worker share.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) snapshots: SnapshotReader,
    pub(super) settings: SettingsCell,
    pub(super) edge: Arc<Edge>,
    pub(super) evidence: EvidenceSender,
    pub(super) connections: Connections,
    pub(super) access_log: Gathering,
    #[cfg(feature = "otlp")]
    pub(super) traces: Option<super::trace::Tracer>,
    /// This worker's own copy: connections look at it at every turn, without touching another core.
    pub(super) stage: Cell<Stage>,
    /// Rung when the stage becomes draining.
    pub(super) draining: Notify,
    /// Which file is in force.
    pub(super) adopted: Adopted,
    /// What a waiting client says is read here first.
    pub(super) room: RefCell<Box<[u8]>>,
    open: Cell<usize>,
    emptied: Notify,
    /// Until then, nothing more is said of what clients can repeat at will.
    quiet_until: Cell<Instant>,
}

/// One client connection of a worker; dropping it tells the worker.
pub(super) struct Open(Rc<Worker>);

impl Worker {
    /// Says something that clients can cause at will, every ten seconds at most.
    pub(super) fn complain(&self, say: impl FnOnce()) {
        let now = clock::now();
        if self.quiet_until.get() <= now {
            self.quiet_until.set(now + COMPLAINT);
            say();
        }
    }

    /// Whether another upstream serves instead of this one, well. Of one that the file has no more, or
    /// where the best of the bad serves, nobody can say that.
    pub(super) fn has_better_than(&self, state: &UpstreamState) -> bool {
        let view = self.snapshots.current();
        let place = view.states.upstreams.iter().position(|known| known.serial == state.serial);
        let Some(id) = place.map(UpstreamId::new) else { return false };
        let plan = view.routing.plan(view.routing.topology.upstream(id).pool);
        plan.mode == PoolMode::Normal && plan.first().is_some_and(|first| first != id)
    }

    /// How long what goes on at an upstream that was left, or is forbidden by now, has to end.
    pub(super) fn grace(&self) -> Duration {
        self.settings.current().limits.drain.max(LEAST_GRACE)
    }

    /// A connection begins.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = self.0.open.get() - 1;
        self.0.open.set(left);
        if left == 0 {
            self.0.emptied.notify_one();
        }
    }
}

/// Starts a worker's thread.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub fn spawn(spec: Spec) -> io::Result<Handle> {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let thread =
        std::thread::Builder::new().name(format!("worker-{}", spec.index)).spawn(move || {
            let _obituary = Obituary { index: spec.index, ended: spec.ended.clone() };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(run(spec, commands)),
                Err(error) => tracing::error!(error = %error, "a worker has no runtime"),
            }
        })?;
    Ok(Handle { commands: sender, thread })
}

async fn run(spec: Spec, mut commands: mpsc::Receiver<Command>) {
    let Spec { index, snapshots, settings, edge, evidence, access_log, beat, .. } = spec;
    let mut stage = spec.stage;
    let worker = Rc::new(Worker {
        index,
        snapshots: snapshots.clone(),
        settings,
        edge,
        evidence,
        connections: Connections::default(),
        access_log: Gathering::new(access_log),
        #[cfg(feature = "otlp")]
        traces: spec.traces,
        stage: Cell::new(Stage::Serving),
        draining: Notify::new(),
        adopted: Adopted::default(),
        room: RefCell::new(vec![0; waiting::READ].into_boxed_slice()),
        open: Cell::new(0),
        emptied: Notify::new(),
        quiet_until: Cell::new(clock::now()),
    });
    let obeying = tokio::task::spawn_local(obey(Rc::clone(&worker), snapshots));
    let logging = tokio::task::spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.access_log.keep_moving().await }
    });
    let beating = beat.map(|beat| tokio::task::spawn_local(beat.keep()));
    let mut accepting: Vec<Accepting> = Vec::new();
    loop {
        // Both arms only wait for a message; dropping either half-way loses none.
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => obey_command(&worker, command, &mut accepting),
                None => break,
            },
            changed = stage.wait_for(|stage| *stage != Stage::Serving) => {
                drop(changed);
                break;
            }
        }
    }
    // What clients believe to be connected is served: the driver gets a turn to tell the accept loops,
    // they one to accept, and once more for what came meanwhile, as their tasks end.
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    accepting.clear();
    tokio::task::yield_now().await;
    worker.stage.set(Stage::Draining);
    worker.draining.notify_waiters();
    while worker.open.get() > 0 {
        // Waiting again after either loses nothing: both are looked at anew.
        tokio::select! {
            () = worker.emptied.notified() => {}
            over = stage.wait_for(|stage| *stage == Stage::Over) => {
                drop(over);
                break;
            }
        }
    }
    for task in [obeying, logging].into_iter().chain(beating) {
        task.abort();
    }
    // What is still open ends with the runtime.
}

fn obey_command(worker: &Rc<Worker>, command: Command, accepting: &mut Vec<Accepting>) {
    match command {
        Command::Listen(set) => listen(worker, set, accepting),
        Command::Lend(reply) => {
            let lent = accepting.iter().map(Accepting::lend).collect::<io::Result<Vec<_>>>();
            if reply.send(lent.map(|sockets| sockets.into_iter().flatten().collect())).is_err() {
                tracing::debug!(worker = worker.index, "nobody waits for the sockets any more");
            }
        }
    }
}

/// Puts a new set of listeners into force.
fn listen(worker: &Rc<Worker>, set: Vec<Listener>, accepting: &mut Vec<Accepting>) {
    let mut next = Vec::with_capacity(set.len());
    for listener in set {
        let address = listener.state.address;
        let known = accepting.iter().position(|old| old.address() == address);
        if let Some(place) = known {
            let old = accepting.swap_remove(place);
            old.go_on(listener.tls, listener.manner);
            next.push(old);
        } else if listener.sockets.is_empty() {
            not_listening(address, &io::Error::from(io::ErrorKind::NotConnected));
        } else {
            match listener::accept(worker, listener.state, listener.sockets) {
                Ok(new) => {
                    new.go_on(listener.tls, listener.manner);
                    next.push(new);
                }
                Err(error) => not_listening(address, &error),
            }
        }
    }
    // What is left in the old set stops accepting as it is dropped.
    *accepting = next;
}

fn not_listening(address: SocketAddr, error: &io::Error) {
    tracing::error!(%address, %error, "a worker cannot listen");
}

/// Obeys each new snapshot in what outlives a request: idle connections, waiting requests, streams.
async fn obey(worker: Rc<Worker>, mut snapshots: SnapshotReader) {
    let mut topology = Arc::clone(&snapshots.current().routing.topology);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        // A tick or a change that is dropped half-way comes again.
        tokio::select! {
            changed = snapshots.changed() => {
                if !changed {
                    return;
                }
                let view = snapshots.current();
                let serials: HashSet<u64> = view.states.upstreams.iter().map(|s| s.serial).collect();
                worker.connections.obey(|serial| serials.contains(&serial));
                if !Arc::ptr_eq(&topology, &view.routing.topology) {
                    topology = Arc::clone(&view.routing.topology);
                    worker.adopted.now(view.routing.generation);
                }
            }
            _ = sweep.tick() => worker.connections.sweep(),
        }
    }
}
