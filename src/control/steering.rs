//! The single writer of routing: one loop, one detector, one publisher.
//!
//! In: the workers' counters, the evidence ring, commands. Out: routing snapshots, the flags beside
//! them, the board, log lines. It drains every 100 ms, every 10 ms while anything is in doubt, and
//! at once when the ring gets its first note; never more often than every 10 ms.
//!
//! Not here: what the evidence means ([`crate::decide`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::announce::{self, InForce};
use super::drain::LedgerReader;
use super::drills::Drills;
use super::incidents::Incidents;
use super::journal::Journal;
use super::keeper::Keeper;
use super::orders::Orders;
use crate::clock;
use crate::decide::detector::Detector;
use crate::exchange::board::{Board, BoardView};
use crate::exchange::commands::{self, Adoption, Command, CommandReceiver, CommandSender};
use crate::exchange::evidence::{Evidence, EvidenceReceiver};
use crate::exchange::snapshot::{self, SnapshotPublisher, SnapshotReader, View};
use crate::exchange::state::{Seed, States};
use crate::model::health::Transition;
use crate::model::instance::Instance;
use crate::model::plan::PoolPlan;
use crate::model::signal::Signal;
use crate::model::topology::Topology;
use crate::model::unit::Generation;
use crate::routing::matcher::Matcher;
use crate::routing::snapshot::RoutingSnapshot;
use crate::telemetry::metrics::Metrics;

mod keep;
mod look;
mod obey;
mod rehearse;
mod roster;

use keep::Handed;
pub use keep::Keeping;
use roster::Roster;

/// Between two drains while nothing is in doubt; also the age at which the board is drawn anew.
const CALM: Duration = Duration::from_millis(100);
/// Between two drains while something is; also the least time between any two.
const DOUBT: Duration = Duration::from_millis(10);
/// Pieces of evidence taken in one drain; the rest waits for the next.
const MOST: usize = 16_384;

/// What the loop begins with.
#[derive(Debug)]
pub struct Beginning {
    /// What exists.
    pub topology: Arc<Topology>,
    /// TLS towards each upstream of the topology, index for index; `None` for cleartext ones.
    pub tls: Arc<[Option<Arc<rustls::ClientConfig>>]>,
    /// Rows of each ledger: worker threads.
    pub workers: usize,
    /// Varies the jitter of holds.
    pub seed: u64,
    /// Where notes, pairs and probe reports arrive.
    pub evidence: EvidenceReceiver,
    /// Where failovers are counted.
    pub metrics: Metrics,
    /// What to go on from and where to keep it; `None`: nothing outlives the process.
    pub keeping: Option<Keeping>,
}

/// The loop, not yet running, and everybody else's ends. The first snapshot is published already.
pub struct Steering {
    detector: Detector,
    publisher: SnapshotPublisher,
    evidence: EvidenceReceiver,
    commands: CommandReceiver,
    ledger: LedgerReader,
    roster: Roster,
    seed: Seed,
    board: Board,
    journal: Journal,
    orders: Orders,
    drills: Drills,
    incidents: Incidents,
    keeper: Option<Keeper>,
    handed: Handed,
    metrics: Metrics,
    drained: Instant,
    drawn: Instant,
}

/// Everybody else's ends.
#[derive(Clone, Debug)]
pub struct Handles {
    /// What requests go by.
    pub snapshots: SnapshotReader,
    /// What people see.
    pub board: Board,
    /// What reload asks.
    pub commands: CommandSender,
}

/// Why a wait ended.
enum Woken {
    Shutdown,
    Command(Command),
    Evidence(Evidence),
    Time,
}

impl Steering {
    /// Makes states and detector, and publishes the first snapshot.
    pub fn new(beginning: Beginning) -> (Self, Handles) {
        let Beginning { topology, tls, workers, seed, evidence, metrics, keeping } = beginning;
        let now = clock::now();
        let instance = Instance::new(fastrand::u64(..));
        let mut seeds = Seed { workers, serial: 0, now, instance };
        let states = Arc::new(States::adopt(&topology, &States::default(), &mut seeds));
        let detector = Detector::new(Arc::clone(&topology), seed, now);
        let matcher = Arc::new(Matcher::new(&topology));
        let roster = Roster::of(&topology, &states);
        let generation = Generation::ZERO.next();
        let routing = RoutingSnapshot { generation, topology, matcher, plans: detector.plans() };
        let (publisher, snapshots) = snapshot::channel(View { routing, states, tls });
        let (mut journal, mut remembered, mut keeper) = (Journal::default(), None, None);
        if let Some(Keeping { keeper: kept_by, restored, stale }) = keeping {
            let mut known = restored.remembered;
            let addresses = std::mem::take(&mut known.addresses);
            keep::resume_addresses(&publisher.current().states, addresses, stale, now);
            journal = Journal::resume(&restored.journal, kept_by.clone());
            (remembered, keeper) = (Some(known), kept_by);
        }
        let remembered = remembered.unwrap_or_default();
        let orders = Orders::resume(remembered.orders.clone());
        let told = (journal.recent(), orders.all());
        let first = look::first(&detector, publisher.current(), told, now);
        let board = Board::new(first);
        let (sender, commands) = commands::channel();
        let handles = Handles { snapshots, board: board.clone(), commands: sender };
        let mut steering = Self {
            detector,
            publisher,
            evidence,
            commands,
            ledger: LedgerReader::default(),
            roster,
            seed: seeds,
            board,
            journal,
            orders,
            drills: Drills::default(),
            incidents: Incidents::default(),
            keeper,
            handed: Handed::Behind,
            metrics,
            drained: now,
            drawn: now,
        };
        steering.resume(&remembered, now);
        (steering, handles)
    }

    /// Steers until shutdown.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            match self.wait(&mut shutdown).await {
                Woken::Shutdown => return self.keep_now(clock::now()),
                Woken::Command(Command::Adopt(adoption)) => self.adopt(adoption),
                Woken::Command(Command::Obey(instruction)) => self.obey(instruction),
                Woken::Command(Command::HandOver(reply)) => self.hand_over(reply),
                Woken::Command(Command::Resume) => self.take_back(),
                Woken::Command(Command::Drill(request)) => self.rehearse(request),
                Woken::Evidence(first) => self.drain(Some(first)),
                Woken::Time => self.drain(None),
            }
        }
    }

    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) -> Woken {
        let soonest = self.drained + DOUBT;
        let pause = if self.detector.in_doubt() { DOUBT } else { CALM };
        let latest = self
            .detector
            .next_deadline()
            .map_or(self.drained + pause, |deadline| deadline.clamp(soonest, self.drained + pause));
        let Self { evidence, commands, .. } = self;
        let first_evidence = async {
            tokio::time::sleep_until(soonest.into()).await;
            match evidence.next().await {
                Some(evidence) => evidence,
                None => std::future::pending().await,
            }
        };
        let next_command = async {
            match commands.next().await {
                Some(command) => command,
                None => std::future::pending().await,
            }
        };
        // Dropping any arm half-way loses nothing: `wait_for` keeps no state, both queues are
        // cancel-safe and give a value only as the last step of their arm, a timer is only a timer.
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => Woken::Shutdown,
            command = next_command => Woken::Command(command),
            evidence = first_evidence => Woken::Evidence(evidence),
            () = tokio::time::sleep_until(latest.into()) => Woken::Time,
        }
    }

    fn drain(&mut self, first: Option<Evidence>) {
        let mut pieces: Vec<Evidence> = first.into_iter().collect();
        while pieces.len() < MOST
            && let Some(evidence) = self.evidence.ready()
        {
            pieces.push(evidence);
        }
        // After the ring, so that a noted failure is never missing from the counters.
        let states = &self.publisher.current().states;
        // Hosts first, before the sums they are parts of.
        let hosts = self.ledger.drain_hosts(states);
        let samples = self.ledger.drain(states);
        // After both, so that no evidence lies in the detector's future.
        let now = clock::now();
        for sample in hosts {
            self.detector.observe(&Signal::Host(sample), now);
        }
        for sample in samples {
            self.detector.observe(&Signal::Sample(sample), now);
        }
        for signal in pieces.into_iter().filter_map(|evidence| self.roster.signal(evidence)) {
            self.detector.observe(&signal, now);
        }
        self.drained = now;
        let transitions = self.detector.decide(now);
        self.lapse(now);
        self.conclude(&transitions, now);
    }

    fn conclude(&mut self, transitions: &[Transition], now: Instant) {
        let current = self.publisher.current();
        let plans = self.detector.plans();
        let moved = !same(&plans, &current.routing.plans);
        if moved || !transitions.is_empty() {
            self.fall_behind();
        }
        if !moved && transitions.is_empty() && now < self.drawn + CALM {
            return;
        }
        self.mark(&current.routing.topology, &current.states, &plans, now);
        if moved {
            let routing = &current.routing;
            self.publisher.publish(View {
                routing: RoutingSnapshot {
                    generation: routing.generation.next(),
                    topology: Arc::clone(&routing.topology),
                    matcher: Arc::clone(&routing.matcher),
                    plans,
                },
                states: Arc::clone(&current.states),
                tls: Arc::clone(&current.tls),
            });
        }
        self.announce(transitions);
        self.tell_drills();
        self.draw(now);
        self.keep(now);
    }

    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { topology, tls, done } = adoption;
        let now = clock::now();
        let before = self.publisher.current();
        self.seed.now = now;
        let states = Arc::new(States::adopt(&topology, &before.states, &mut self.seed));
        let transitions = self.detector.adopt(Arc::clone(&topology), now);
        let plans = self.detector.plans();
        self.ledger.retain(&states);
        self.roster = Roster::of(&topology, &states);
        self.mark(&topology, &states, &plans, now);
        let stay: HashSet<u64> = states.upstreams.iter().map(|state| state.serial).collect();
        for gone in before.states.upstreams.iter().filter(|it| !stay.contains(&it.serial)) {
            gone.retire();
        }
        let generation = before.routing.generation.next();
        let matcher = Arc::new(Matcher::new(&topology));
        let routing = RoutingSnapshot { generation, topology, matcher, plans };
        self.publisher.publish(View { routing, states, tls });
        self.announce(&transitions);
        self.tell_drills();
        self.draw(now);
        if done.send(generation).is_err() {
            tracing::debug!(
                generation = generation.get(),
                "nobody waits for the adoption any more"
            );
        }
    }

    /// Sets the flags beside the snapshot, before the snapshot that needs them is published.
    fn mark(&self, topology: &Topology, states: &States, plans: &[Arc<PoolPlan>], now: Instant) {
        for (id, upstream) in topology.upstreams() {
            if !self.detector.is_news(upstream.pool) {
                continue;
            }
            let state = states.upstream(id);
            let standing = self.detector.upstream(id, now);
            let plan = &plans[upstream.pool.index()];
            // A bad one that is still a candidate serves, and waiting for it is right.
            let serves = plan.of_realms().iter().any(|plan| plan.candidate(id).is_some());
            state.set_left(!serves, standing.admin);
            state.set_late_after(standing.late_after);
            state.set_marker_armed(standing.marker_armed);
            state.set_pace(standing.pace);
            state.set_admits(standing.admits);
        }
        for (id, _) in topology.pools().filter(|(id, _)| self.detector.is_news(*id)) {
            states.pool(id).set_retries(self.detector.retries(id));
        }
    }

    fn announce(&mut self, transitions: &[Transition]) {
        if transitions.is_empty() {
            return;
        }
        let view = self.publisher.current();
        let in_force = InForce {
            topology: &view.routing.topology,
            generation: view.routing.generation,
            at: clock::now(),
            wall: clock::wall(),
        };
        for transition in transitions {
            let line = announce::announce(transition, in_force, &self.metrics);
            self.journal.add(line, in_force.wall);
        }
    }

    fn draw(&mut self, now: Instant) {
        let before = self.board.current();
        let current = self.publisher.current();
        let mut next = BoardView { view: current, ..BoardView::clone(&before) };
        look::again(&self.detector, &mut next, now);
        self.detector.told();
        self.account(&next.pools, now);
        next.orders = self.orders.all();
        next.drills = self.drills.all();
        next.recent = self.journal.recent();
        self.board.publish(next);
        self.drawn = now;
    }
}

fn same(a: &[Arc<PoolPlan>], b: &[Arc<PoolPlan>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests;
