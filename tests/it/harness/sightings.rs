//! What a stand-in upstream saw of requests: which, in which order, on which connection.

use std::collections::HashMap;
use std::sync::Mutex;

use super::wire::find;

/// Header by which a test names a request, so that each can be followed through every upstream.
pub const ID: &str = "x-test-id";

/// One request whose head arrived at an upstream.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Method and target, as in a start line.
    pub method: String,
    pub target: String,
    /// Names as they came; over HTTP/2 with `:authority` among them.
    pub headers: Vec<(String, String)>,
    /// Which of the upstream's connections it came on, from 0.
    pub connection: usize,
    /// Whether it went to the probe path.
    pub is_probe: bool,
    /// Once it was read whole.
    pub body: Option<Vec<u8>>,
}

impl Sighting {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

/// Everything one upstream saw.
#[derive(Default)]
pub struct Sightings(Mutex<Vec<Sighting>>);

impl Sightings {
    /// Keeps one; returns its place.
    pub fn note(&self, sighting: Sighting) -> usize {
        let mut all = self.0.lock().expect("no panic while held");
        all.push(sighting);
        all.len() - 1
    }

    /// Adds the body of the one at a place.
    pub fn complete(&self, place: usize, body: Vec<u8>) {
        let mut all = self.0.lock().expect("no panic while held");
        all[place].body = Some(body);
    }

    /// Requests of clients, in order of arrival.
    pub fn traffic(&self) -> Vec<Sighting> {
        self.select(|sighting| !sighting.is_probe)
    }

    /// Probes, in order of arrival.
    pub fn probes(&self) -> Vec<Sighting> {
        self.select(|sighting| sighting.is_probe)
    }

    /// How often each named request was seen.
    pub fn by_id(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for sighting in self.traffic() {
            if let Some(id) = sighting.get(ID) {
                *counts.entry(id.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    fn select(&self, wanted: impl Fn(&Sighting) -> bool) -> Vec<Sighting> {
        let all = self.0.lock().expect("no panic while held");
        all.iter().filter(|sighting| wanted(sighting)).cloned().collect()
    }
}
