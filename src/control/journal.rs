//! Why each transition happened, appended: kept at hand for the admin API and handed on to be kept
//! on disk.
//!
//! Not here: what a line says ([`super::announce`]), how it gets to the disk ([`super::keeper`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::keeper::Keeper;
use crate::exchange::board::{Entry, RECENT};
use crate::model::unit::Generation;
use crate::telemetry::journal::Line;

/// The journal as far as it is at hand.
#[derive(Debug, Default)]
pub struct Journal {
    recent: Arc<VecDeque<Arc<Entry>>>,
    keeper: Option<Keeper>,
}

impl Journal {
    /// Goes on after these lines, in the hands of this keeper if there is one. What is no line is left out.
    pub fn resume(lines: &[String], keeper: Option<Keeper>) -> Self {
        let mut journal = Self::default();
        for line in lines.iter().filter_map(|text| Line::from_json(text)) {
            let at = line.moment();
            journal.hold(line, at);
        }
        Self { keeper, ..journal }
    }

    /// Appends a line; the oldest one goes when there is no more room.
    pub fn add(&mut self, line: Line, at: SystemTime) {
        let json = self.hold(line, at);
        if let (Some(keeper), Some(json)) = (&self.keeper, json) {
            keeper.record(&json);
        }
    }

    fn hold(&mut self, line: Line, at: SystemTime) -> Option<Box<str>> {
        let json: Box<str> = line.to_json()?.into();
        let entry = Entry {
            at,
            service: line.service.unwrap_or_default(),
            text: line.text,
            generation: Generation::new(line.generation),
            json: json.clone(),
        };
        let recent = Arc::make_mut(&mut self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::new(entry));
        Some(json)
    }

    /// The last entries, oldest first.
    pub fn recent(&self) -> Arc<VecDeque<Arc<Entry>>> {
        Arc::clone(&self.recent)
    }
}
