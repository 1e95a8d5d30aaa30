//! Parts of a pool's requests that can fail, and be moved, by themselves.

use super::id::PoolId;
use super::outcome::MethodClass;
use super::topology::{HostPattern, Topology};

/// A configured host of one pool, by its place among the distinct hosts of the pool's routes. The
/// last place stands for all further ones too.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostId(u8);

impl HostId {
    /// Hosts told apart: with two method classes, 32 cells.
    pub const MOST: usize = 16;

    /// Of the host at this place.
    pub const fn new(place: usize) -> Self {
        Self(if place < Self::MOST { place as u8 } else { Self::MOST as u8 - 1 })
    }

    /// For tables of [`HostId::MOST`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The finest part: the requests of one method class to one configured host.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cell {
    /// What a second execution would do.
    pub class: MethodClass,
    /// To whom.
    pub host: HostId,
}

impl Cell {
    /// Cells of one upstream, at most.
    pub const COUNT: usize = 2 * HostId::MOST;

    /// Place in a table of [`Cell::COUNT`].
    pub const fn index(self) -> usize {
        self.host.index() * 2 + self.class.index()
    }

    /// The cell at a place below [`Cell::COUNT`].
    pub const fn at(index: usize) -> Self {
        Self { class: MethodClass::ALL[index % 2], host: HostId::new(index / 2) }
    }
}

/// What is moved by itself: one cell, or all cells of a host or of a method class.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Slice {
    /// One cell.
    Cell(Cell),
    /// One host, whatever the method.
    Host(HostId),
    /// One method class, whatever the host.
    Class(MethodClass),
}

impl Slice {
    /// Whether a request of this cell belongs to it.
    pub fn holds(self, cell: Cell) -> bool {
        match self {
            Self::Cell(own) => own == cell,
            Self::Host(host) => host == cell.host,
            Self::Class(class) => class == cell.class,
        }
    }

    /// For people: `POST and the like to www.portal.example`.
    pub fn words(self, topology: &Topology, pool: PoolId) -> String {
        let host = |host: HostId| {
            let hosts = topology.hosts(pool);
            hosts.get(host.index()).map_or_else(|| "other hosts".to_owned(), |h| h.to_string())
        };
        match self {
            Self::Cell(cell) => format!("{} to {}", class_words(cell.class), host(cell.host)),
            Self::Host(id) => format!("requests to {}", host(id)),
            Self::Class(class) => class_words(class).to_owned(),
        }
    }
}

const fn class_words(class: MethodClass) -> &'static str {
    match class {
        MethodClass::Safe => "safe requests",
        MethodClass::Unsafe => "unsafe requests",
    }
}

impl Topology {
    /// The same of every pool at once, by `PoolId`.
    pub fn hosts_of_all(&self) -> Vec<Vec<&HostPattern>> {
        let mut all: Vec<Vec<&HostPattern>> = vec![Vec::new(); self.pools.len()];
        for route in &self.routes {
            let Some(hosts) = all.get_mut(route.pool.index()) else { continue };
            if !hosts.contains(&&route.host) {
                hosts.push(&route.host);
            }
        }
        all
    }

    /// The distinct hosts of a pool's routes, in the order of the file.
    pub fn hosts(&self, pool: PoolId) -> Vec<&HostPattern> {
        let mut hosts: Vec<&HostPattern> = Vec::new();
        for route in self.routes.iter().filter(|route| route.pool == pool) {
            if !hosts.contains(&&route.host) {
                hosts.push(&route.host);
            }
        }
        hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_own_place() {
        for index in 0..Cell::COUNT {
            assert_eq!(Cell::at(index).index(), index);
        }
        assert_eq!(HostId::new(99), HostId::new(HostId::MOST - 1), "further hosts share the last");
    }

    #[test]
    fn a_slice_holds_what_it_names() {
        let cell = |class, host| Cell { class, host: HostId::new(host) };
        let (safe_a, unsafe_b) = (cell(MethodClass::Safe, 0), cell(MethodClass::Unsafe, 1));
        assert!(Slice::Host(HostId::new(0)).holds(safe_a));
        assert!(!Slice::Host(HostId::new(0)).holds(unsafe_b));
        assert!(Slice::Class(MethodClass::Unsafe).holds(unsafe_b));
        assert!(!Slice::Cell(safe_a).holds(cell(MethodClass::Safe, 1)));
    }
}
