//! The set of listening addresses: prepared without effect, then put into force at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::mpsc;

use super::inherit::{Inheritance, Role};
use crate::config::{Certificate, Config, ListenerTls, TlsVersion};
use crate::exchange::certificates::{CertificateShelf, Certificates};
use crate::exchange::edge::{Edge, ListenerState};
use crate::model::listening::Manner;
use crate::net::bind;
use crate::net::tls_server::{self, LeastVersion};
use crate::proxy::worker;

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// In use, not ours, or not permitted.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS for it.
    #[error("TLS cannot be set up for {address}")]
    Tls {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: rustls::Error,
    },
}

/// What is listened on now.
pub(super) struct Listeners {
    workers: usize,
    edge: Arc<Edge>,
    bound: Vec<Bound>,
    inherited: Inheritance,
}

/// One address in force.
struct Bound {
    /// As the file has it: port 0 stays 0 here.
    configured: SocketAddr,
    state: Arc<ListenerState>,
    tls: Option<Tls>,
    manner: Manner,
}

#[derive(Clone)]
struct Tls {
    shelf: Arc<CertificateShelf>,
    least: LeastVersion,
    config: Arc<ServerConfig>,
}

/// A set that is ready and not yet in force; dropping it closes its new sockets.
pub(super) struct Prepared(Vec<Ready>);

struct Ready {
    bound: Bound,
    /// For each worker; empty where the address is in force already.
    sockets: Vec<Vec<std::net::TcpListener>>,
    certificates: Option<Certificates>,
}

impl Listeners {
    pub(super) fn new(workers: usize, edge: Arc<Edge>, inherited: Inheritance) -> Self {
        Self { workers, edge, bound: Vec::new(), inherited }
    }

    /// Binds what is new and sets up TLS; what is in force is not touched.
    pub(super) fn prepare(&mut self, config: &Config) -> Result<Prepared, ListenError> {
        let Self { workers, bound, inherited, .. } = self;
        let named: Vec<SocketAddr> = config.listeners.iter().map(|one| one.address).collect();
        // Several may have one address with port 0: each stands for one of those in force.
        let mut unclaimed: Vec<&Bound> = bound.iter().collect();
        let ready = config.listeners.iter().map(|listener| {
            let configured = listener.address;
            let known = unclaimed.iter().position(|bound| bound.configured == configured);
            let known = known.map(|place| unclaimed.remove(place));
            let (state, sockets) = match known {
                Some(bound) => (Arc::clone(&bound.state), Vec::new()),
                None => open(configured, &named, *workers, inherited)?,
            };
            let before = known.and_then(|bound| bound.tls.as_ref());
            let tls = listener.tls.as_ref().map(|tls| set_up(tls, before));
            let tls = tls.transpose();
            let tls = tls.map_err(|source| ListenError::Tls { address: configured, source })?;
            let certificates = listener.tls.as_ref().map(|tls| shelved(&tls.certificates));
            let manner = listener.manner;
            Ok(Ready { bound: Bound { configured, state, tls, manner }, sockets, certificates })
        });
        Ok(Prepared(ready.collect::<Result<_, _>>()?))
    }

    /// Swaps certificates, tells every worker its set, and says where clients connect now.
    pub(super) fn put_into_force(
        &mut self,
        prepared: Prepared,
        workers: &[mpsc::Sender<worker::Command>],
    ) -> Vec<SocketAddr> {
        let mut ready = prepared.0;
        let mut sets: Vec<Vec<worker::Listener>> = workers.iter().map(|_| Vec::new()).collect();
        for one in &mut ready {
            if let (Some(tls), Some(certificates)) = (&one.bound.tls, one.certificates.take()) {
                tls.shelf.replace(certificates);
            }
            let mut sockets = one.sockets.drain(..);
            for set in &mut sets {
                set.push(worker::Listener {
                    state: Arc::clone(&one.bound.state),
                    sockets: sockets.next().unwrap_or_default(),
                    tls: one.bound.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
                    manner: one.bound.manner,
                });
            }
        }
        self.bound = ready.into_iter().map(|one| one.bound).collect();
        self.edge.replace(self.bound.iter().map(|bound| Arc::clone(&bound.state)).collect());
        for (sender, set) in workers.iter().zip(sets) {
            // Full only when a worker has not answered several reloads: then its listeners stay as
            // they were, which is better than waiting for it.
            if sender.try_send(worker::Command::Listen(set)).is_err() {
                tracing::error!("a worker did not take the new listeners");
            }
        }
        self.addresses().collect()
    }

    /// Lets go of what was inherited and fits nothing.
    pub(super) fn settle(&mut self, admin: Option<SocketAddr>) {
        let in_force: Vec<SocketAddr> = self.addresses().chain(admin).collect();
        self.inherited.settle(&in_force);
    }

    /// Where clients connect; port 0 resolved.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.bound.iter().map(|bound| bound.state.address)
    }
}

/// Takes an address over, or binds it.
fn open(
    configured: SocketAddr,
    named: &[SocketAddr],
    workers: usize,
    inherited: &mut Inheritance,
) -> Result<(Arc<ListenerState>, Vec<Vec<std::net::TcpListener>>), ListenError> {
    let refused = |source| ListenError::Bind { address: configured, source };
    let claimed = inherited.claim(Role::Clients, configured, named).map_err(refused)?;
    let sockets = match claimed.is_empty() {
        false => bind::dealt(claimed, workers),
        true => bind::listeners(configured, workers)
            .map(|sockets| sockets.into_iter().map(|socket| vec![socket]).collect()),
    };
    let sockets = sockets.map_err(refused)?;
    let address = sockets[0][0].local_addr().map_err(refused)?;
    Ok((Arc::new(ListenerState::new(address, workers)), sockets))
}

/// TLS of one address: the one in force if it serves, so that clients' session tickets live on.
fn set_up(tls: &ListenerTls, before: Option<&Tls>) -> Result<Tls, rustls::Error> {
    let least = match tls.min_version {
        TlsVersion::V1_2 => LeastVersion::V1_2,
        TlsVersion::V1_3 => LeastVersion::V1_3,
    };
    if let Some(before) = before.filter(|before| before.least == least) {
        return Ok(before.clone());
    }
    let shelf = Arc::new(CertificateShelf::new(Certificates::default()));
    let config = tls_server::config(Arc::clone(&shelf), least)?;
    Ok(Tls { shelf, least, config })
}

/// Certificates by the names they hold; the first one of the file serves where none fits.
fn shelved(certificates: &[Certificate]) -> Certificates {
    Certificates::new(certificates.iter().map(|one| (&*one.names, &one.key)))
}
