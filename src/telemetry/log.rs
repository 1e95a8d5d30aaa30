//! The log on its way to standard error: whoever logs leaves a line and goes on, a thread of its own writes
//! it. So nobody waits for, or ends by, a standard error that nobody reads.
//!
//! What waits is bounded by [`MOST_BYTES`]. A line that finds no place, and one that cannot be written, is
//! let go and counted ([`Lost`]). Rejected: tracing-appender, which does not count what it cannot write, and
//! waits at the end for a time that is its own.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Of lines that wait to be written; as many again may be under way.
const MOST_BYTES: usize = 1024 * 1024;
/// What a line costs besides its text.
const PER_LINE: usize = 32;
/// Between two tries where another process has made standard error one that never waits.
const PAUSE: Duration = Duration::from_millis(10);
/// For the last lines before the process ends: nobody may ever read them.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How many lines were let go. Clones are the same number.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<AtomicU64>);

impl Lost {
    /// So far.
    pub fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The log of a process. When it is dropped, what was logged before is written, or nearly: a standard error
/// that takes nothing is waited for [`LAST_LINES`].
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Log(Pen);

impl Log {
    /// Starts the thread that writes to standard error. It lasts as long as the process.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptor.
    pub fn start() -> io::Result<Self> {
        // Not `io::stderr` itself, whose lock would be held for as long as a write waits.
        let own = io::stderr().as_fd().try_clone_to_owned()?;
        Self::into(File::from(own))
    }

    fn into(out: impl Write + Send + 'static) -> io::Result<Self> {
        let pen = Pen::default();
        let shared = Arc::clone(&pen.0);
        let spawned = thread::Builder::new().name("log".to_owned());
        spawned.spawn(move || Desk { shared, out, torn: false, told: 0 }.run())?;
        Ok(Self(pen))
    }

    /// For whoever logs.
    pub fn pen(&self) -> Pen {
        self.0.clone()
    }

    /// Counts what is let go.
    pub fn lost(&self) -> Lost {
        self.0.0.lost.clone()
    }

    /// Waits until all that was logged before is written or lost, at most this long; whether it is.
    fn finish(&self, longest: Duration) -> bool {
        let shared = &self.0.0;
        let is_pending = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let ended = shared.written.wait_timeout_while(shared.waiting(), longest, is_pending);
        !ended.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish(LAST_LINES);
    }
}

/// Takes whole lines, one a write; never waits and never fails. Clone freely.
#[derive(Clone, Debug, Default)]
pub struct Pen(Arc<Shared>);

impl Write for Pen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// A line came.
    came: Condvar,
    /// All that had come is written or lost.
    written: Condvar,
    lost: Lost,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<Box<[u8]>>,
    bytes: usize,
    /// Some that were taken are not written yet.
    is_writing: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, line: &[u8]) {
        let size = line.len() + PER_LINE;
        let mut waiting = self.waiting();
        if waiting.bytes + size > MOST_BYTES {
            self.lost.one_more();
            return;
        }
        waiting.bytes += size;
        waiting.lines.push(line.into());
        self.came.notify_one();
    }

    /// All that waits, as soon as there is some.
    fn take(&self) -> Vec<Box<[u8]>> {
        let mut waiting = self.waiting();
        waiting.is_writing = false;
        if waiting.lines.is_empty() {
            self.written.notify_all();
        }
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty();
        let came = self.came.wait_while(waiting, idle);
        let mut waiting = came.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.lines)
    }
}

/// What the thread works with.
struct Desk<W> {
    shared: Arc<Shared>,
    out: W,
    /// The last line was written in part only.
    torn: bool,
    /// Lost lines of which the log tells.
    told: u64,
}

impl<W: Write> Desk<W> {
    fn run(mut self) {
        loop {
            let mut is_read = false;
            for line in self.shared.take() {
                match self.write(&line) {
                    Ok(()) => is_read = true,
                    Err(_) => self.shared.lost.one_more(),
                }
            }
            let lost = self.shared.lost.lines();
            if is_read && lost > self.told {
                let lines = lost - self.told;
                self.told = lost;
                tracing::warn!(lines, "lines of the log were lost: standard error was not read");
            }
        }
    }

    /// One write a line, as far as the system takes it: a process that takes over writes there too.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n")?;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(PAUSE),
                Err(error) => {
                    self.torn |= left.len() < bytes.len();
                    return Err(error);
                }
            }
        }
        self.torn = false;
        Ok(())
    }
}

/// Says on standard error, outside the log, why the process is about to end. What cannot be written is let
/// go, and what nobody reads is not waited for longer than [`LAST_LINES`].
pub fn say(text: &str) {
    let text = format!("{text}\n").into_bytes();
    let (ending, ended) = sync_channel::<()>(1);
    let spawned = thread::Builder::new().spawn(move || {
        let _ending = ending;
        // Nobody is left who could be told.
        drop(io::stderr().write_all(&text));
    });
    if spawned.is_ok() {
        // The other end is dropped when the thread ends: nothing is ever sent.
        let _ended: Result<(), RecvTimeoutError> = ended.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Takes one write for each permit; a permit may be a failure.
    struct Gate {
        permits: Receiver<io::Result<()>>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| ErrorKind::BrokenPipe)??;
            self.text.lock().expect("no panic while held").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log, and what it is held by.
    struct Held {
        log: Log,
        permit: SyncSender<io::Result<()>>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    fn held() -> Held {
        let ((permit, permits), text) = (sync_channel(100), Arc::default());
        let log = Log::into(Gate { permits, text: Arc::clone(&text) }).expect("a thread");
        Held { log, permit, text }
    }

    fn line(log: &Log, text: &str) {
        log.pen().write_all(text.as_bytes()).expect("it never fails");
    }

    fn written(text: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(text.lock().expect("no panic while held").clone()).expect("text")
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried() {
        let Held { log, permit, text } = held();
        permit.send(Err(ErrorKind::BrokenPipe.into())).expect("it listens");
        permit.send(Ok(())).expect("it listens");
        line(&log, "lost\n");
        line(&log, "kept\n");
        assert!(log.finish(LONG), "both are done with");
        assert_eq!((log.lost().lines(), written(&text).as_str()), (1, "kept\n"));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_nobody_waits() {
        let Held { log, permit, text: _ } = held();
        let long = format!("{}\n", "x".repeat(1023));
        let most = 2 * MOST_BYTES / long.len();
        for _ in 0..most + 10 {
            line(&log, &long);
        }
        assert!(log.lost().lines() >= 10, "{}", log.lost().lines());
        assert!(!log.finish(Duration::ZERO), "nothing is written yet");
        drop(permit);
        assert!(log.finish(LONG));
        assert_eq!(log.lost().lines(), most as u64 + 10, "each is counted once");
    }

    #[test]
    fn what_was_logged_before_the_end_is_written_by_then() {
        let Held { log, permit, text } = held();
        for number in 0..100 {
            line(&log, &format!("{number}\n"));
            permit.send(Ok(())).expect("it listens");
        }
        drop(log);
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(written(&text), expected);
    }
}
