//! What the binary wrote, line by line, and waiting for a line to come.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::watch;

use super::within;

/// Lines kept for the end of a failed test.
const SHOWN: usize = 60;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    /// As it was written.
    pub text: String,
    /// As JSON; `Null` when it is none.
    pub json: Value,
}

impl Line {
    /// Of this text.
    pub fn new(text: String) -> Self {
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { text, json }
    }

    /// A field of the line, as text without quotes.
    pub fn field(&self, name: &str) -> Option<String> {
        let value = self.json.get("fields").and_then(|f| f.get(name)).or(self.json.get(name))?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Its constant text.
    pub fn message(&self) -> String {
        self.field("message").unwrap_or_default()
    }
}

/// The whole log so far; clones are the same log.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<Line>>>,
    count: Arc<watch::Sender<usize>>,
}

impl Log {
    pub fn new() -> Self {
        Self { lines: Arc::default(), count: Arc::new(watch::Sender::new(0)) }
    }

    /// Reads a pipe of the binary to its end, on a thread of its own.
    pub fn follow(&self, pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut lines = log.lines.lock().expect("no panic while held");
                lines.push(Line::new(text));
                log.count.send_replace(lines.len());
            }
        })
    }

    /// All lines so far for which this holds.
    pub fn select(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        let lines = self.lines.lock().expect("no panic while held");
        lines.iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// Waits until at least `count` lines are wanted ones; all of them.
    pub async fn wait(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Line) -> bool,
    ) -> Vec<Line> {
        let mut changes = self.count.subscribe();
        let reached = async {
            loop {
                let found = self.select(&wanted);
                if found.len() >= count {
                    return found;
                }
                changes.changed().await.expect("the sender is ours");
            }
        };
        within(&format!("the log to say {what}"), reached).await
    }

    /// Everything as it was written.
    pub fn text(&self) -> String {
        let lines = self.select(|_| true);
        lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// The last lines, for whoever reads why a test failed.
    pub fn tail(&self) -> String {
        let lines = self.select(|_| true);
        let skipped = lines.len().saturating_sub(SHOWN);
        lines[skipped..].iter().map(|line| format!("  | {}\n", line.text)).collect()
    }
}
