//! What others ask of the steering loop, each with its reply. Bounded: when full, a reload waits and
//! the operator is told to come back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::model::drill::{DrillRecord, NoDrill};
use crate::model::id::Label;
use crate::model::operator::{Order, Target};
use crate::model::realm::Charter;
use crate::model::topology::Topology;
use crate::model::unit::{Generation, Permille};

/// Commands waiting for the loop, at most.
const CAPACITY: usize = 16;

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    /// Go by a new topology; what is known under the same keys is kept.
    Adopt(Adoption),
    /// Obey the operator.
    Obey(Instruction),
    /// Say all that is known to a process that takes over, and keep nothing more: see [`HandOver`].
    HandOver(oneshot::Sender<HandOver>),
    /// The other process did not take over: keep things as before.
    Resume,
    /// Rehearse a failover.
    Drill(DrillRequest),
}

/// What the loop says as it hands over. From then on orders are refused and `state_dir` is the other
/// process's, until a [`Command::Resume`].
#[derive(Debug)]
pub struct HandOver {
    /// As `memory.json` has it. Written by the loop itself, for once: it takes milliseconds, and what is
    /// said later would be lost.
    pub memory: Vec<u8>,
    /// Told when everything is written and `state_dir` is given up; gone where there is none.
    pub released: oneshot::Receiver<()>,
}

/// A drill that the operator wants, or wants no more.
#[derive(Debug)]
pub struct DrillRequest {
    /// Of which service.
    pub service: Label,
    /// What.
    pub word: DrillWord,
    /// Told what came of it.
    pub done: oneshot::Sender<Result<DrillRecord, NoDrill>>,
}

/// What the operator says of a drill.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DrillWord {
    /// It is to begin.
    Begin {
        /// Of the service's requests.
        share: Permille,
        /// How long, at most.
        lasts: Duration,
        /// Why, for the journal.
        reason: Box<str>,
    },
    /// It is to end.
    Stop,
}

/// What the operator wants.
#[derive(Debug)]
pub struct Instruction {
    /// Of whom.
    pub target: Target,
    /// What.
    pub word: Word,
    /// Told what came of it.
    pub done: oneshot::Sender<Result<Obeyed, Disobeyed>>,
}

/// What the operator says of a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Word {
    /// An order, in place of any other for the same target.
    Order {
        /// Which.
        order: Order,
        /// How long it stands; `None`: until it is taken back.
        lasts: Option<Duration>,
        /// Why, for the journal.
        reason: Box<str>,
    },
    /// The order for this target is taken back.
    Auto,
}

/// What came of the operator's word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Obeyed {
    /// The snapshot in which it is in force.
    pub generation: Generation,
    /// Whether anything was ordered or taken back: taking back what was never ordered is no fault.
    pub changed: bool,
    /// The upstreams it is about, as `SERVICE/PROVIDER`.
    pub upstreams: Vec<String>,
    /// Services whose residency keeps the provider out, whatever is ordered.
    pub barred: Vec<Label>,
    /// Services that have no upstream left now, and answer with their page.
    pub closed: Vec<Label>,
    /// The same of other services' routes that go by such a charter, where routes differ.
    pub closed_routes: Vec<(Label, Charter)>,
    /// Another order that is in force for these upstreams: a narrower or a wider one.
    pub others: Vec<String>,
}

/// Why the operator's word was not obeyed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Disobeyed {
    /// There is no such provider.
    #[error("there is no provider {0}")]
    NoProvider(Label),
    /// There is no such service.
    #[error("there is no service {0}")]
    NoService(Label),
    /// The service does not go through that provider.
    #[error("service {service} does not go through {provider}")]
    NotThrough {
        /// Which.
        service: Label,
        /// Through whom it does not go.
        provider: Label,
    },
    /// Policy keeps the provider out, and no order changes that.
    #[error("{service} may not go through {provider}, for {because}; no order changes that")]
    Barred {
        /// Of which service.
        service: Label,
        /// Whom.
        provider: Label,
        /// What the rule finds, as `its seat is in US`.
        because: Box<str>,
    },
    /// More stand already than anybody keeps an eye on.
    #[error("{0} orders stand already; take some back first")]
    TooMany(usize),
    /// Another process is about to serve in place of this one, and would not know of the order.
    #[error("a new process takes over at this moment; say it again in a second")]
    HandingOver,
}

/// Why nobody listened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unheard {
    /// More commands wait than there is room for.
    #[error("too many commands wait already")]
    Busy,
    /// The loop has ended.
    #[error(transparent)]
    Ended(#[from] SteeringEnded),
}

/// A topology to go by, with what belongs to it.
#[derive(Debug)]
pub struct Adoption {
    /// What exists from now on.
    pub topology: Arc<Topology>,
    /// TLS towards each upstream of the topology, index for index; `None` for cleartext ones.
    pub tls: Arc<[Option<Arc<rustls::ClientConfig>>]>,
    /// Told the number of the snapshot in which it is in force.
    pub done: oneshot::Sender<Generation>,
}

/// The loop has ended: the process is shutting down.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the steering loop has ended")]
pub struct SteeringEnded;

/// The askers' end. Clone freely.
#[derive(Clone, Debug)]
pub struct CommandSender(mpsc::Sender<Command>);

/// The steering loop's end.
#[derive(Debug)]
pub struct CommandReceiver(mpsc::Receiver<Command>);

/// Both ends.
pub fn channel() -> (CommandSender, CommandReceiver) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (CommandSender(sender), CommandReceiver(receiver))
}

impl CommandSender {
    /// Swaps the topology; ends when the snapshot that holds it is in force.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn adopt(
        &self,
        topology: Arc<Topology>,
        tls: Arc<[Option<Arc<rustls::ClientConfig>>]>,
    ) -> Result<Generation, SteeringEnded> {
        let (done, reply) = oneshot::channel();
        let command = Command::Adopt(Adoption { topology, tls, done });
        self.0.send(command).await.map_err(|_| SteeringEnded)?;
        reply.await.map_err(|_| SteeringEnded)
    }
}

impl CommandSender {
    /// Tells the operator's word; ends when the snapshot that obeys it is in force.
    ///
    /// # Errors
    /// When nobody listens; the inner one when the word cannot be obeyed.
    pub async fn instruct(
        &self,
        target: Target,
        word: Word,
    ) -> Result<Result<Obeyed, Disobeyed>, Unheard> {
        let (done, reply) = oneshot::channel();
        self.say(Command::Obey(Instruction { target, word, done }))?;
        Ok(reply.await.map_err(|_| SteeringEnded)?)
    }

    /// Begins or stops a drill; ends when that is in force, not when the drill has ended.
    ///
    /// # Errors
    /// When nobody listens; the inner one when this is no time for it.
    pub async fn rehearse(
        &self,
        service: Label,
        word: DrillWord,
    ) -> Result<Result<DrillRecord, NoDrill>, Unheard> {
        let (done, reply) = oneshot::channel();
        self.say(Command::Drill(DrillRequest { service, word, done }))?;
        Ok(reply.await.map_err(|_| SteeringEnded)?)
    }

    fn say(&self, command: Command) -> Result<(), Unheard> {
        self.0.try_send(command).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unheard::Busy,
            mpsc::error::TrySendError::Closed(_) => Unheard::Ended(SteeringEnded),
        })
    }
}

impl CommandSender {
    /// All that is known, for a process that takes over; from then on nothing is kept here.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn hand_over(&self) -> Result<HandOver, SteeringEnded> {
        let (done, reply) = oneshot::channel();
        self.0.send(Command::HandOver(done)).await.map_err(|_| SteeringEnded)?;
        reply.await.map_err(|_| SteeringEnded)
    }

    /// Nobody took over.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn resume(&self) -> Result<(), SteeringEnded> {
        self.0.send(Command::Resume).await.map_err(|_| SteeringEnded)
    }
}

impl CommandReceiver {
    /// Waits for one; `None` when nobody can ask any more. Cancel-safe: nothing is lost when dropped.
    pub async fn next(&mut self) -> Option<Command> {
        self.0.recv().await
    }
}
