//! The thread that keeps what must outlive the process: memory and journal in `state_dir`.
//!
//! In: errands over a bounded channel, from the steering loop, which never waits for a disk. Out:
//! files, counters, and a log line when writing begins to fail or works again. A disk that hangs
//! holds up this thread only: the channel fills, what finds no place is counted, and proxying and
//! steering go on.

use std::io;
use std::mem;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::memory::{self, MOST_BYTES, MemoryError, Remembered};
use super::orders::Moment;
use super::state_dir::{StateDir, StateError};
use crate::clock;
use crate::exchange::board::RECENT;
use crate::telemetry::labels::{Kept, Written};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// The file of everything that is remembered.
const MEMORY: &str = "memory.json";
/// Errands that wait, at most.
const MOST_ERRANDS: usize = 1024;
/// For what was kept, at the start; after that the process begins without.
const LOADING: Duration = Duration::from_secs(2);
/// For the last errands, at the end.
const LAST_ERRANDS: Duration = Duration::from_secs(2);

/// Something to keep.
enum Errand {
    /// In place of all that was remembered before.
    Remember(Box<Remembered>, Moment),
    /// One more line of the journal.
    Record(Box<str>),
    /// Another process is to write there; told when all that came before is written.
    Release(oneshot::Sender<()>),
    /// It does not after all.
    Resume,
}

/// The steering loop's end.
#[derive(Clone, Debug)]
pub struct Keeper {
    errands: SyncSender<Errand>,
    metrics: Metrics,
}

/// No place for another errand: the disk does not keep up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Busy;

/// What was kept before.
#[derive(Debug, Default)]
pub struct Restored {
    /// What the process before this one knew.
    pub remembered: Remembered,
    /// The last lines of the journal, oldest first.
    pub journal: Vec<String>,
}

/// Tells when the thread has ended.
#[derive(Debug)]
pub struct LastWord(Receiver<()>);

/// Starts the thread and waits, for a bounded time, for what it finds. The thread drops `obituary` as it ends.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    folder: &Path,
    metrics: &Metrics,
    obituary: impl Send + 'static,
) -> io::Result<(Keeper, LastWord, Restored)> {
    let (errands, received) = sync_channel(MOST_ERRANDS);
    let (found, restored) = sync_channel(1);
    let (last, ended) = sync_channel::<()>(1);
    let mut worker = Worker {
        state: StateDir::new(folder),
        owner: Owner::Us,
        batch: Batch::default(),
        metrics: metrics.clone(),
        memory: Mood::Well,
        journal: Mood::Well,
    };
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        let _obituary = obituary;
        // Nobody may wait for it any more; then it is of no use.
        drop(found.try_send(worker.restore()));
        worker.run(&received);
        drop(last);
    })?;
    let restored = restored.recv_timeout(LOADING).unwrap_or_else(|_| {
        tracing::error!("state_dir does not answer: starting without what was remembered");
        Restored::default()
    });
    let keeper = Keeper { errands, metrics: metrics.clone() };
    Ok((keeper, LastWord(ended), restored))
}

impl Keeper {
    /// Hands over what is to be remembered. Never waits.
    ///
    /// # Errors
    /// When the disk does not keep up; to be tried again later, with what is known then.
    pub fn remember(&self, remembered: Box<Remembered>, at: Moment) -> Result<(), Busy> {
        self.errands.try_send(Errand::Remember(remembered, at)).map_err(|refused| match refused {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Busy,
        })
    }

    /// Hands over one line of the journal. Never waits; a line that finds no place is counted.
    pub fn record(&self, line: &str) {
        if self.errands.try_send(Errand::Record(line.into())).is_err() {
            self.metrics.journal_dropped();
        }
    }

    /// Gives `state_dir` up, once all that was handed over is written; `done` is told then. From then on
    /// the last memory and some lines are held, for [`Keeper::resume`].
    ///
    /// # Errors
    /// When the disk does not keep up: it is not given up then.
    pub fn release(&self, done: oneshot::Sender<()>) -> Result<(), Busy> {
        self.errands.try_send(Errand::Release(done)).map_err(|_| Busy)
    }

    /// Writes again, beginning with what was held.
    ///
    /// # Errors
    /// When the disk does not keep up.
    pub fn resume(&self) -> Result<(), Busy> {
        self.errands.try_send(Errand::Resume).map_err(|_| Busy)
    }
}

impl LastWord {
    /// Waits, for a bounded time, until everything is kept. Every [`Keeper`] has to be gone.
    pub fn wait(self) {
        if self.0.recv_timeout(LAST_ERRANDS) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("state_dir does not keep up: the last of it is not kept");
        }
    }
}

/// Whether the last write of its kind went well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mood {
    Well,
    Failing,
}

/// What is to be written next.
#[derive(Default)]
struct Batch {
    latest: Option<(Box<Remembered>, Moment)>,
    lines: Vec<Box<str>>,
}

/// Whose `state_dir` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Us,
    /// A process that takes over, or is about to.
    Another,
}

struct Worker {
    state: StateDir,
    owner: Owner,
    batch: Batch,
    metrics: Metrics,
    memory: Mood,
    journal: Mood,
}

impl Worker {
    fn restore(&mut self) -> Restored {
        let journal = self.state.last_lines(RECENT).unwrap_or_else(|error| {
            tracing::error!(error = %Chain(&error), "the journal cannot be read");
            Vec::new()
        });
        Restored { remembered: self.remembered().unwrap_or_default(), journal }
    }

    fn remembered(&mut self) -> Option<Remembered> {
        let at = Moment { now: clock::now(), wall: clock::wall() };
        match self.state.read(MEMORY, MOST_BYTES) {
            Ok(None) => None,
            Ok(Some(bytes)) => match memory::read(&bytes, at) {
                Ok(remembered) => Some(remembered),
                Err(error) => {
                    let error: &MemoryError = &error;
                    self.set_aside(error);
                    None
                }
            },
            Err(error) => {
                let error: &StateError = &error;
                self.set_aside(error);
                None
            }
        }
    }

    /// Says why what was remembered is of no use, and keeps it for people.
    fn set_aside(&self, reason: &(dyn std::error::Error + 'static)) {
        let reason = Chain(reason).to_string();
        match self.state.set_aside(MEMORY) {
            Ok(kept_as) => {
                let kept_as = kept_as.display().to_string();
                tracing::error!(
                    reason,
                    kept_as,
                    "state_dir: memory set aside, starting without it"
                );
            }
            Err(error) => tracing::error!(
                reason,
                error = %Chain(&error),
                "state_dir: memory not readable, starting without it"
            ),
        }
    }

    /// Until every sender is gone. What came while the disk was slow is written at once: all lines,
    /// and only the last memory.
    fn run(&mut self, errands: &Receiver<Errand>) {
        while let Ok(first) = errands.recv() {
            for errand in std::iter::once(first).chain(errands.try_iter().take(MOST_ERRANDS)) {
                self.take(errand);
            }
            if self.owner == Owner::Us {
                self.write();
            }
        }
    }

    fn take(&mut self, errand: Errand) {
        match errand {
            Errand::Remember(remembered, at) => self.batch.latest = Some((remembered, at)),
            // More gather only while another process may write; its journal goes on.
            Errand::Record(_) if self.batch.lines.len() > MOST_ERRANDS => {
                self.metrics.journal_dropped();
            }
            Errand::Record(line) => self.batch.lines.push(line),
            Errand::Release(done) => {
                self.write();
                self.state.release();
                self.owner = Owner::Another;
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for state_dir any more");
                }
            }
            Errand::Resume => self.owner = Owner::Us,
        }
    }

    fn write(&mut self) {
        let Batch { latest, lines } = mem::take(&mut self.batch);
        // Memory first: a restart goes by it, the journal only tells.
        if let Some((remembered, at)) = latest {
            self.remember(&remembered, at);
        }
        if !lines.is_empty() {
            let result = self.state.append(&lines);
            self.journal = self.told(Kept::Journal, self.journal, result);
        }
    }

    fn remember(&mut self, remembered: &Remembered, at: Moment) {
        match memory::write(remembered, at) {
            Ok(bytes) => {
                let result = self.state.replace(MEMORY, &bytes);
                self.memory = self.told(Kept::Memory, self.memory, result);
            }
            Err(error) => tracing::error!(error = %Chain(&error), "memory cannot be written down"),
        }
    }

    /// Counts a write; says so when it is the first to fail, or to go well again.
    fn told(&self, what: Kept, before: Mood, result: Result<(), StateError>) -> Mood {
        match result {
            Ok(()) => {
                self.metrics.kept(what, Written::Success);
                if before == Mood::Failing {
                    tracing::info!(what = what.as_str(), "state_dir can be written again");
                }
                Mood::Well
            }
            Err(error) => {
                self.metrics.kept(what, Written::Failure);
                if before == Mood::Well {
                    let (what, error) = (what.as_str(), Chain(&error));
                    tracing::error!(what, %error, "state_dir cannot be written: nothing is kept");
                }
                Mood::Failing
            }
        }
    }
}

#[cfg(test)]
mod tests;
