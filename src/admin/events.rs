//! `/v1/events`: the status and each transition as they come, as server-sent events.
//!
//! One herald writes for all readers, while there is any: it looks at the board four times a second
//! and hands each reader the same bytes. Nobody waits for a reader: who has not taken what lies ready
//! for it is dropped, connects again, and finds in the journal what it has missed. So are all of them once
//! the token is another one. Planes that carry traffic or decide are not asked for anything.
//!
//! | event | data | when |
//! |---|---|---|
//! | `transition` | an entry, as in `/v1/journal` | within 250 ms |
//! | `status` | as `/v1/status` | within 250 ms of a change of routing, orders or journal, and every second |

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::token::Token;
use super::view::Status;
use crate::clock;
use crate::exchange::board::{Board, BoardView, Entry};
use crate::model::unit::Generation;

/// Readers at a time; the next one is told to come back.
pub const MOST_READERS: usize = 16;
/// What lies ready for one reader, at most.
pub(super) const QUEUE: usize = 8;
/// Between two looks at the board.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// Between two states of an unchanged board: its figures change all the time.
const PULSE: Duration = Duration::from_secs(1);
/// Writing takes at most one part in so many of the thread's time: a status of thousands of services
/// takes milliseconds, and a scrape must not wait for ever more of them.
const REST: u32 = 20;
/// Entries told at once, at most: the rest stands in the journal.
const MOST_ENTRIES: usize = 256;
/// Milliseconds after which a browser connects again.
const HEAD: &str = "retry: 2000\n\n";

/// Whoever asks for events, at the herald's door.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Asked>);

/// Told what to read from; `None` when too many do.
type Asked = oneshot::Sender<Option<mpsc::Receiver<Bytes>>>;

impl Door {
    /// What a reader reads from; `None` when too many do, or at the end.
    pub async fn subscribe(&self) -> Option<mpsc::Receiver<Bytes>> {
        let (asked, told) = oneshot::channel();
        self.0.send(asked).await.ok()?;
        told.await.ok().flatten()
    }
}

/// Who writes the events.
#[derive(Debug)]
pub struct Herald {
    board: Board,
    asked: mpsc::Receiver<Asked>,
    /// What each reader has shown.
    token: watch::Receiver<Option<Token>>,
    readers: Vec<mpsc::Sender<Bytes>>,
    told: Told,
}

/// What every reader knows.
#[derive(Debug)]
struct Told {
    generation: Generation,
    orders: usize,
    newest: Option<Arc<Entry>>,
    /// When the last state was written.
    at: Instant,
    /// How long that took.
    cost: Duration,
}

impl Told {
    fn of(board: &BoardView, at: Instant, cost: Duration) -> Self {
        Self {
            generation: board.view.routing.generation,
            orders: board.orders.len(),
            newest: board.recent.back().cloned(),
            at,
            cost,
        }
    }
}

/// A herald, and the door to it.
pub fn herald(board: Board, token: watch::Receiver<Option<Token>>) -> (Door, Herald) {
    let (sender, asked) = mpsc::channel(MOST_READERS);
    let told = Told::of(&board.current(), clock::now(), Duration::ZERO);
    (Door(sender), Herald { board, asked, token, readers: Vec::new(), told })
}

impl Herald {
    /// Writes until the last door is gone.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Dropping any arm half-way loses nothing: what is asked stays asked, a change unseen, a look
            // is due again.
            tokio::select! {
                asked = self.asked.recv() => match asked {
                    Some(asked) => self.admit(asked),
                    None => return,
                },
                Ok(()) = self.token.changed() => self.readers.clear(),
                _ = looks.tick(), if !self.readers.is_empty() => self.look(),
            }
        }
    }

    fn admit(&mut self, asked: Asked) {
        self.readers.retain(|reader| !reader.is_closed());
        if self.readers.len() >= MOST_READERS {
            asked.send(None).ok();
            return;
        }
        let board = self.board.current();
        if self.readers.is_empty() {
            // Nobody was told what happened meanwhile.
            self.told.newest = board.recent.back().cloned();
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut first = HEAD.as_bytes().to_vec();
        write_state(&mut first, &board);
        // The queue is empty: it takes the first one.
        if sender.try_send(first.into()).is_ok() && asked.send(Some(receiver)).is_ok() {
            self.readers.push(sender);
        }
    }

    fn look(&mut self) {
        let (board, now) = (self.board.current(), clock::now());
        let mut page = Vec::new();
        let news = write_entries(&mut page, &board, self.told.newest.as_ref());
        let changed = news
            || self.told.generation != board.view.routing.generation
            || self.told.orders != board.orders.len();
        let age = now.saturating_duration_since(self.told.at);
        let is_due = age >= if changed { LOOK } else { PULSE };
        if is_due && age >= self.told.cost * REST {
            write_state(&mut page, &board);
            let cost = clock::now().saturating_duration_since(now);
            self.told = Told::of(&board, now, cost);
        } else {
            // The state is owed still: it is the next thing to be told.
            self.told.newest = board.recent.back().cloned();
        }
        if !page.is_empty() {
            let page = Bytes::from(page);
            self.readers.retain(|reader| reader.try_send(page.clone()).is_ok());
        }
    }
}

/// The entries after the one that is known; whether there are any.
fn write_entries(page: &mut Vec<u8>, board: &BoardView, known: Option<&Arc<Entry>>) -> bool {
    let is_new = |entry: &&Arc<Entry>| known.is_none_or(|known| !Arc::ptr_eq(entry, known));
    let new = board.recent.iter().rev().take_while(is_new).take(MOST_ENTRIES).count();
    for entry in board.recent.iter().skip(board.recent.len() - new) {
        write_event(page, "transition", entry.json.as_bytes());
    }
    new > 0
}

fn write_state(page: &mut Vec<u8>, board: &BoardView) {
    match serde_json::to_vec(&Status::of(board, clock::now())) {
        Ok(status) => write_event(page, "status", &status),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "event not written");
        }
    }
}

/// JSON as serde writes it has no line end, so that one `data:` line holds it.
fn write_event(page: &mut Vec<u8>, name: &str, data: &[u8]) {
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        page.extend_from_slice(part);
    }
}
