//! Why each transition happened, appended: kept at hand for the admin API and handed on to be kept
//! on disk.
//!
//! Not here: what a line says ([`super::announce`]), how it gets to the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use crate::exchange::board::{Entry, RECENT};
use crate::model::unit::Generation;
use crate::telemetry::journal::Line;

/// The journal as far as it is at hand.
#[derive(Debug, Default)]
pub struct Journal {
    recent: Arc<VecDeque<Arc<Entry>>>,
}

impl Journal {
    /// Appends a line; the oldest one goes when there is no more room.
    pub fn add(&mut self, line: Line, at: SystemTime) {
        let Some(json) = line.to_json() else { return };
        let entry = Entry {
            at,
            service: line.service.unwrap_or_default(),
            text: line.text,
            generation: Generation::new(line.generation),
            json: json.into(),
        };
        let recent = Arc::make_mut(&mut self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::new(entry));
    }

    /// The last entries, oldest first.
    pub fn recent(&self) -> Arc<VecDeque<Arc<Entry>>> {
        Arc::clone(&self.recent)
    }
}
