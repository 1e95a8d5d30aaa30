//! The access log: lines are gathered by the workers and written by a thread of its own, so that no
//! request ever waits for a disk.
//!
//! Between the two is a queue of [`QUEUE`] pieces. What finds no place in it, and what cannot be
//! written, is let go and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::metrics::Metrics;
use super::setup::Chain;
use crate::model::access_log::Target;

/// Pieces waiting to be written; a worker's piece holds up to 32 KiB.
const QUEUE: usize = 128;

/// Whole lines of one worker.
#[derive(Debug)]
pub struct Piece {
    /// Each ends with a line end.
    pub bytes: Vec<u8>,
    /// How many.
    pub lines: u64,
}

/// The workers' end. Clone freely.
#[derive(Clone, Debug)]
pub struct Sink {
    queue: SyncSender<Piece>,
    metrics: Metrics,
}

impl Sink {
    /// Hands lines over to be written; never waits.
    pub fn write(&self, piece: Piece) {
        let lines = piece.lines;
        if self.queue.try_send(piece).is_err() {
            self.metrics.access_log_dropped(lines);
        }
    }
}

/// Says where lines go. Clone freely.
#[derive(Clone, Debug)]
pub struct Aim(Arc<Aimed>);

#[derive(Debug, Default)]
struct Aimed {
    target: Mutex<Option<Target>>,
    /// Counts up when the target is to be opened anew.
    turn: AtomicU64,
}

impl Aim {
    /// From the next line on, there; opened anew even where it is the same.
    pub fn at(&self, target: Option<Target>) {
        *self.0.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.reopen();
    }

    /// The file may have been renamed: the next line goes to a new one.
    pub fn reopen(&self) {
        self.0.turn.fetch_add(1, Ordering::Release);
    }
}

/// The writing thread.
#[derive(Debug)]
pub struct Writer {
    ended: Receiver<()>,
}

impl Writer {
    /// Waits until everything is written that the workers handed over before they ended; at most this
    /// long, since a disk may never answer.
    pub fn wait(self, longest: Duration) {
        // The other end is dropped when the thread ends: nothing is ever sent.
        let _ended: Result<(), RecvTimeoutError> = self.ended.recv_timeout(longest);
    }
}

/// Starts the thread. It ends when the last [`Sink`] is dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start(target: Option<Target>, metrics: &Metrics) -> io::Result<(Sink, Aim, Writer)> {
    let (queue, pieces) = sync_channel(QUEUE);
    let (ending, ended) = sync_channel(1);
    let aim = Aim(Arc::default());
    aim.at(target);
    let mut desk = Desk {
        aim: aim.clone(),
        turn: 0,
        open: None,
        torn: false,
        troubled: false,
        metrics: metrics.clone(),
    };
    thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        let _ending: SyncSender<()> = ending;
        for piece in pieces {
            desk.write(&piece);
        }
    })?;
    Ok((Sink { queue, metrics: metrics.clone() }, aim, Writer { ended }))
}

/// What the thread works with.
struct Desk {
    aim: Aim,
    turn: u64,
    open: Option<Open>,
    /// The last line was written in part only.
    torn: bool,
    /// The last piece could not be written: said once, until one can again.
    troubled: bool,
    metrics: Metrics,
}

enum Open {
    Stdout,
    File(File),
}

impl Desk {
    fn write(&mut self, piece: &Piece) {
        match self.try_write(piece) {
            Ok(()) if self.troubled => {
                self.troubled = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.access_log_dropped(piece.lines);
                // A file that is gone, or a disk that was full, is tried anew each time.
                self.open = None;
                self.torn = true;
                if !std::mem::replace(&mut self.troubled, true) {
                    tracing::error!(error = %Chain(&error), "the access log cannot be written: lines are lost");
                }
            }
        }
    }

    fn try_write(&mut self, piece: &Piece) -> io::Result<()> {
        let turn = self.aim.0.turn.load(Ordering::Acquire);
        if turn != self.turn {
            self.open = None;
            self.turn = turn;
        }
        if self.open.is_none() {
            let target = self.aim.0.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.open = match target {
                // It was turned off while these lines were under way.
                None => return Ok(()),
                Some(Target::Stdout) => Some(Open::Stdout),
                Some(Target::File(file)) => Some(Open::File(open(&file)?)),
            };
        }
        let line_end: &[u8] = if self.torn { b"\n" } else { b"" };
        match &mut self.open {
            Some(Open::File(file)) => {
                file.write_all(line_end)?;
                file.write_all(&piece.bytes)?;
            }
            Some(Open::Stdout) | None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line_end)?;
                stdout.write_all(&piece.bytes)?;
                stdout.flush()?;
            }
        }
        self.torn = false;
        Ok(())
    }
}

/// For appending; readable by the owner and the group, since it names clients.
fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> Piece {
        Piece { bytes: format!("{text}\n").into_bytes(), lines: 1 }
    }

    fn finish(sink: Sink, writer: Writer) {
        drop(sink);
        writer.wait(Duration::from_secs(20));
    }

    #[test]
    fn lines_are_appended_in_order_and_all_written_by_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        std::fs::write(&file, "before\n").expect("our own folder");
        let metrics = Metrics::new();
        let target = Some(Target::File(file.clone()));
        let (sink, _aim, writer) = start(target, &metrics).expect("a thread");
        for n in 0..100 {
            sink.write(piece(&n.to_string()));
        }
        finish(sink, writer);
        let text = std::fs::read_to_string(&file).expect("it was written");
        let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(text, format!("before\n{}\n", expected.join("\n")));
        assert_eq!(metrics.access_log_lines_dropped(), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_lines_and_nothing_else() {
        let metrics = Metrics::new();
        let full = Some(Target::File("/dev/full".into()));
        let (sink, aim, writer) = start(full, &metrics).expect("a thread");
        for _ in 0..10 {
            sink.write(piece("lost"));
        }
        while metrics.access_log_lines_dropped() < 10 {
            thread::yield_now();
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.log");
        aim.at(Some(Target::File(file.clone())));
        sink.write(piece("kept"));
        finish(sink, writer);
        assert_eq!(std::fs::read_to_string(&file).expect("written").trim(), "kept");
    }

    #[test]
    fn a_log_that_nobody_reads_fills_its_queue_and_then_drops() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let metrics = Metrics::new();
        // Opening it waits for a reader: the thread waits, and nobody else does.
        let (sink, _aim, _writer) =
            start(Some(Target::File(pipe.clone())), &metrics).expect("a thread");
        for _ in 0..QUEUE + 10 {
            sink.write(piece("x"));
        }
        assert!(metrics.access_log_lines_dropped() >= 9);
        // Lets the thread go on to its end.
        drop(File::open(&pipe).expect("the other end"));
    }
}
