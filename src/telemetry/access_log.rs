//! The access log: lines are gathered by the workers and written by a thread of its own, so that no
//! request ever waits for a disk.
//!
//! Between the two is a queue of [`QUEUE`] pieces. What finds no place in it, and what cannot be
//! written, is let go and counted. No target keeps the thread for ever: see [`outlet`].

mod outlet;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::metrics::Metrics;
use super::setup::Chain;
use crate::model::access_log::Target;
use outlet::Outlet;

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
    open: Option<Outlet>,
    /// The last line was written in part only.
    torn: bool,
    /// The last piece could not be written: said once, until one can again.
    troubled: bool,
    metrics: Metrics,
}

impl Desk {
    fn write(&mut self, piece: &Piece) {
        let mut done = 0;
        match self.try_write(piece, &mut done) {
            Ok(()) if self.troubled => {
                self.troubled = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                let left = &piece.bytes[done..];
                let lost = left.iter().filter(|byte| **byte == b'\n').count();
                self.metrics.access_log_dropped(lost as u64);
                // A file that is gone, or a disk that was full, is tried anew each time.
                self.open = None;
                self.torn = done > 0 && piece.bytes[done - 1] != b'\n' || done == 0 && self.torn;
                if !std::mem::replace(&mut self.troubled, true) {
                    tracing::error!(error = %Chain(&error), "the access log cannot be written: lines are lost");
                }
            }
        }
    }

    /// Writes it; `done`: so many bytes were, whatever came of the rest.
    fn try_write(&mut self, piece: &Piece, done: &mut usize) -> io::Result<()> {
        let turn = self.aim.0.turn.load(Ordering::Acquire);
        if turn != self.turn {
            self.open = None;
            self.turn = turn;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let aimed = &self.aim.0.target;
                let target = aimed.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.open.insert(match target {
                    // It was turned off while these lines were under way.
                    None => return Ok(()),
                    Some(Target::Stdout) => Outlet::stdout()?,
                    Some(Target::File(file)) => Outlet::file(&file)?,
                })
            }
        };
        if self.torn {
            open.write(b"\n", &mut 0)?;
            self.torn = false;
        }
        open.write(&piece.bytes, done)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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

    fn pipe(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        pipe
    }

    /// Both ends of a pipe, so that it can be opened without anybody who reads it.
    fn both_ends(pipe: &std::path::Path) -> File {
        File::options().read(true).write(true).open(pipe).expect("ours")
    }

    #[test]
    fn a_pipe_that_nobody_has_open_costs_lines_until_the_log_is_aimed_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let (metrics, file) = (Metrics::new(), folder.path().join("access.log"));
        let target = Some(Target::File(pipe(&folder)));
        let (sink, aim, writer) = start(target, &metrics).expect("a thread");
        for _ in 0..10 {
            sink.write(piece("lost"));
        }
        while metrics.access_log_lines_dropped() < 10 {
            thread::yield_now();
        }
        aim.at(Some(Target::File(file.clone())));
        sink.write(piece("kept"));
        finish(sink, writer);
        assert_eq!(std::fs::read_to_string(&file).expect("written"), "kept\n");
        assert_eq!(metrics.access_log_lines_dropped(), 10);
    }

    #[test]
    fn a_pipe_that_is_full_costs_what_it_does_not_take_and_keeps_nobody_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let (metrics, file) = (Metrics::new(), folder.path().join("access.log"));
        let pipe = pipe(&folder);
        let unread = both_ends(&pipe);
        let (sink, aim, writer) = start(Some(Target::File(pipe)), &metrics).expect("a thread");
        let lines = 4096;
        let text = format!("{}\n", "x".repeat(1023));
        // Larger than any pipe is by default.
        let bytes = text.repeat(lines).into_bytes();
        sink.write(Piece { bytes, lines: lines as u64 });
        while metrics.access_log_lines_dropped() == 0 {
            thread::yield_now();
        }
        let taken = lines as u64 - metrics.access_log_lines_dropped();
        assert!(taken > 0, "what fits is written");
        aim.at(Some(Target::File(file.clone())));
        sink.write(piece("kept"));
        finish(sink, writer);
        drop(unread);
        assert_eq!(std::fs::read_to_string(&file).expect("written").trim(), "kept");
    }

    #[test]
    fn a_queue_that_is_full_drops_what_comes() {
        let metrics = Metrics::new();
        let (queue, pieces) = sync_channel(QUEUE);
        let sink = Sink { queue, metrics: metrics.clone() };
        for _ in 0..QUEUE + 10 {
            sink.write(piece("x"));
        }
        assert_eq!(metrics.access_log_lines_dropped(), 10);
        drop(pieces);
    }
}
