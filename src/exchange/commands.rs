//! What others ask of the steering loop, each with its reply. Bounded: when full, the asker waits;
//! only reloads ask, one after the other.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::model::topology::Topology;
use crate::model::unit::Generation;

/// Commands waiting for the loop, at most.
const CAPACITY: usize = 16;

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    /// Go by a new topology; what is known under the same keys is kept.
    Adopt(Adoption),
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

impl CommandReceiver {
    /// Waits for one; `None` when nobody can ask any more. Cancel-safe: nothing is lost when dropped.
    pub async fn next(&mut self) -> Option<Command> {
        self.0.recv().await
    }
}
