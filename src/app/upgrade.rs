//! A new binary in place of this one, without a lost connection: starts the program anew, hands it the
//! listening sockets and what is known, and leaves the rest to the caller, who drains.
//!
//! Until the new process says that it serves, nothing is given up: when it does not start, or not in time,
//! it is ended and this one serves on. Both accept at the same sockets for the moment in between.
//!
//! `state_dir` has one writer at any time: this process writes a last time before it sends what it knows,
//! and then gives it up; operators' orders are refused from there until the new one answers.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Running;
use crate::admin::live::Phase;
use crate::exchange::commands::SteeringEnded;
use crate::net::handover::{self, Estate, HandoverError, Predecessor, Successor};
use crate::proxy::worker;

/// Says to the new process whose place it takes, by its process id.
const VARIABLE: &str = "BASCULE_TAKES_OVER_FROM";
/// What a supervisor said to this process alone.
const NOT_PASSED_ON: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_FDS_FIRST_FD", "WATCHDOG_PID"];
/// For each thing that the new process does: reading its file, beginning to serve.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a worker to lend its sockets, and for the disk to take the last of what is kept.
const MOMENT: Duration = Duration::from_secs(2);

/// Between two looks whether a new process that does not take over has ended by itself, and how many.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 25;

/// Why this process serves on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The first process of a container is the container: with it, everything ends.
    #[error("this is process 1, whose end ends the container; start another container instead")]
    First,
    /// The program cannot be started.
    #[error("{} cannot be started", program.to_string_lossy())]
    Program {
        /// Its name, as this process was called.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// Not while a worker hangs.
    #[error("a worker does not lend its listening sockets")]
    Workers,
    /// The control plane is gone.
    #[error(transparent)]
    Ended(#[from] SteeringEnded),
    /// The new process does not serve.
    #[error("the new process does not serve ({ended})")]
    NotReady {
        /// How it ended.
        ended: String,
        /// What it says, or that it says nothing.
        source: HandoverError,
    },
    /// Somebody wants this process to end.
    #[error("asked to end meanwhile")]
    Stopped,
}

/// Why a hand-over broke off.
enum Halt {
    Said(HandoverError),
    Ended(SteeringEnded),
    Stopped,
}

impl Running {
    /// Starts the program anew, by the name and with the arguments that this process has, and hands over.
    /// The new one's process id once it serves: then this one has to drain. `stop` gives it up.
    ///
    /// # Errors
    /// Why it does not serve. Then it is gone, and this process goes on as before.
    pub async fn replace(&mut self, stop: impl Future<Output = ()>) -> Result<u32, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::First);
        }
        let clients = self.lend().await?;
        let (line, mut started) = Started::new()?;
        // Whatever is dropped half-way ends with the new process, which is killed then.
        let handed = tokio::select! {
            handed = self.hand_over(line, clients) => handed,
            () = stop => Err(Halt::Stopped),
        };
        let Err(halt) = handed else {
            self.phase.send_replace(Phase::HandedOver);
            return Ok(started.0.id());
        };
        let ended = started.end().await;
        self.lender.steering.resume().await?;
        Err(match halt {
            Halt::Said(source) => UpgradeError::NotReady { ended, source },
            Halt::Ended(error) => error.into(),
            Halt::Stopped => UpgradeError::Stopped,
        })
    }

    async fn hand_over(
        &self,
        line: Predecessor,
        clients: Vec<std::net::TcpListener>,
    ) -> Result<(), Halt> {
        let line = on_a_thread(line, Predecessor::prepared).await?;
        let memory = self.say_all().await.map_err(Halt::Ended)?;
        let admin = self.lender.lent.admin.as_ref().map(std::net::TcpListener::try_clone);
        let admin = admin.transpose().map_err(|error| Halt::Said(error.into()))?;
        let activated = Arc::clone(&self.lender.lent.activated);
        let estate = Estate { clients, admin, activated, memory };
        on_a_thread(line, move |line| line.give(&estate)).await?;
        Ok(())
    }

    /// Every worker's sockets.
    async fn lend(&self) -> Result<Vec<std::net::TcpListener>, UpgradeError> {
        let mut sockets = Vec::new();
        for worker in &self.lender.workers {
            let (reply, lent) = oneshot::channel();
            let asked = worker.try_send(worker::Command::Lend(reply));
            asked.map_err(|_| UpgradeError::Workers)?;
            let Ok(Ok(Ok(lent))) = tokio::time::timeout(MOMENT, lent).await else {
                return Err(UpgradeError::Workers);
            };
            sockets.extend(lent);
        }
        Ok(sockets)
    }

    /// What is known, with `state_dir` given up.
    async fn say_all(&self) -> Result<Vec<u8>, SteeringEnded> {
        let said = self.lender.steering.hand_over().await?;
        // Gone at once where nothing is kept. A disk that hangs keeps nobody waiting.
        if tokio::time::timeout(MOMENT, said.released).await.is_err() {
            tracing::warn!("state_dir is not given up yet: the new process writes there later");
        }
        Ok(said.memory)
    }
}

/// Waits for the other process where that may take a while.
async fn on_a_thread(
    mut line: Predecessor,
    talk: impl FnOnce(&mut Predecessor) -> Result<(), HandoverError> + Send + 'static,
) -> Result<Predecessor, Halt> {
    let talked = tokio::task::spawn_blocking(move || talk(&mut line).map(|()| line)).await;
    match talked {
        Ok(talked) => talked.map_err(Halt::Said),
        // A panic in there is a bug, and no reason to end.
        Err(error) => Err(Halt::Said(io::Error::other(error).into())),
    }
}

/// A new process. Left alone it goes on when this value is dropped.
struct Started(Child);

impl Started {
    fn new() -> Result<(Predecessor, Self), UpgradeError> {
        let mut arguments = env::args_os();
        // By the name we were called, not by the file we came from: a symbolic link to the current release
        // may have moved since, and a replaced file is a deleted one.
        let program = arguments.next().unwrap_or_default();
        let failed = |source| UpgradeError::Program { program: program.clone(), source };
        let (line, theirs): (Predecessor, OwnedFd) = handover::pair(PATIENCE).map_err(failed)?;
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::from(theirs));
        command.env(VARIABLE, std::process::id().to_string());
        for name in NOT_PASSED_ON {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(failed)?;
        Ok((line, Self(child)))
    }

    /// Ends it, unless it ends by itself; how it did. One that closes its line is about to end.
    async fn end(&mut self) -> String {
        for _ in 0..LOOKS {
            match self.0.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(error) => return error.to_string(),
            }
        }
        match self.0.kill().and_then(|()| self.0.wait()) {
            Ok(_) => "it was ended".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

/// The line to the process that this one takes the place of, if there is one.
///
/// # Errors
/// When there should be one and is not.
pub fn successor() -> io::Result<Option<Successor>> {
    // An inherited variable of some other start says nothing.
    let parent = env::var(VARIABLE).ok().and_then(|process| process.parse().ok());
    let is_successor = parent == Some(parent_id());
    is_successor.then(|| Successor::from_stdin(PATIENCE)).transpose()
}
