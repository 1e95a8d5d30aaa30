//! The operator's wish that the file be loaded now, with what came of it. Bounded: whoever asks
//! while as many wait is told to come back.

use tokio::sync::{mpsc, oneshot};

/// Wishes waiting for the loader, at most: each costs a whole load.
const CAPACITY: usize = 4;

/// One wish.
#[derive(Debug)]
pub struct Wish {
    /// Told what came of it.
    pub done: oneshot::Sender<Result<Loaded, NotLoaded>>,
}

/// What is in force now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// How many services there are.
    pub services: usize,
    /// How many upstreams there are.
    pub upstreams: usize,
    /// What is probably not meant, a line each.
    pub lints: Vec<String>,
}

/// Why the old configuration serves on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotLoaded {
    /// The file has mistakes: a line each, with its place.
    #[error("the configuration is refused")]
    Refused(Vec<String>),
    /// It is valid, and an address, a certificate or trust could not be had: the chain of causes.
    #[error("the configuration cannot be put into force")]
    NotInForce(Vec<String>),
}

/// Why nobody loaded.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unloadable {
    /// As many wait as there is room for.
    #[error("too many reloads wait already")]
    Busy,
    /// There is no file: what serves was made by the program itself.
    #[error("this configuration was not read from a file")]
    NoFile,
    /// The loader broke off, or the process ends.
    #[error("the load broke off")]
    BrokeOff,
}

/// The askers' end. Clone freely.
#[derive(Clone, Debug)]
pub struct ReloadSender(mpsc::Sender<Wish>);

/// The loader's end.
#[derive(Debug)]
pub struct ReloadReceiver(mpsc::Receiver<Wish>);

/// Both ends.
pub fn channel() -> (ReloadSender, ReloadReceiver) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (ReloadSender(sender), ReloadReceiver(receiver))
}

impl ReloadSender {
    /// Wishes; ends when the new configuration is in force or refused.
    ///
    /// # Errors
    /// When nobody loads; the inner one when the old configuration serves on.
    pub async fn ask(&self) -> Result<Result<Loaded, NotLoaded>, Unloadable> {
        let (done, reply) = oneshot::channel();
        self.0.try_send(Wish { done }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Unloadable::Busy,
            mpsc::error::TrySendError::Closed(_) => Unloadable::NoFile,
        })?;
        reply.await.map_err(|_| Unloadable::BrokeOff)
    }
}

impl ReloadReceiver {
    /// Waits for one; for ever once nobody can ask any more. Cancel-safe: nothing is lost when
    /// dropped.
    pub async fn next(&mut self) -> Wish {
        match self.0.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}
