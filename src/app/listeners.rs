//! The set of listening addresses: prepared without effect, then put into force at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use tokio::sync::mpsc;

use super::inherit::{Inheritance, Role};
use crate::clock;
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
    /// Nobody would believe a certificate that is to replace one that is believed.
    #[error(
        "certificate `{file}` of `{name}` has ended or not begun, and the one in use is valid: write a valid one, \
         and look at the clock"
    )]
    Certificate {
        /// As the configuration names it.
        file: Box<str>,
        /// Its first name.
        name: Box<str>,
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
    /// Shown to clients.
    certificates: Vec<Certificate>,
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
        self.refuse_unbelievable(config, clock::wall())?;
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
            let shelf = listener.tls.as_ref().map(|tls| shelved(&tls.certificates));
            let certificates =
                listener.tls.as_ref().map_or_else(Vec::new, |tls| tls.certificates.clone());
            let manner = listener.manner;
            let bound = Bound { configured, state, tls, certificates, manner };
            Ok(Ready { bound, sockets, certificates: shelf })
        });
        Ok(Prepared(ready.collect::<Result<_, _>>()?))
    }

    fn refuse_unbelievable(&self, config: &Config, now: SystemTime) -> Result<(), ListenError> {
        let in_use: Vec<Certificate> =
            self.bound.iter().flat_map(|bound| bound.certificates.iter().cloned()).collect();
        let mut fresh = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        match fresh.find_map(|tls| unbelievable(&tls.certificates, &in_use, now)) {
            None => Ok(()),
            Some(found) => Err(ListenError::Certificate {
                file: found.file.clone(),
                name: found.names.first().cloned().unwrap_or_default(),
            }),
        }
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

fn shelved(certificates: &[Certificate]) -> Certificates {
    Certificates::new(certificates.iter().map(|one| (&*one.names, &one.key)))
}

/// A certificate that nobody would believe, where one that is believed serves its name now.
fn unbelievable<'a>(
    fresh: &'a [Certificate],
    in_use: &[Certificate],
    now: SystemTime,
) -> Option<&'a Certificate> {
    let is_known = |it: &Certificate| in_use.iter().any(|old| old.key.cert == it.key.cert);
    let serves = |name| in_use.iter().any(|old| old.is_valid(now) && old.names.contains(name));
    let mut fresh = fresh.iter();
    fresh.find(|it| !it.is_valid(now) && !is_known(it) && it.names.iter().any(serves))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::CertifiedKey;

    use super::*;

    fn certificate(name: &str, life: (u64, u64)) -> Certificate {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider);
        Certificate {
            names: vec![name.into()],
            file: "tls/portal.pem".into(),
            not_before: at(life.0),
            not_after: at(life.1),
            key: Arc::new(pair.expect("a pair")),
        }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn what_nobody_believes_does_not_replace_what_is_believed() {
        let refused = |fresh: &Certificate, old: &Certificate| {
            unbelievable(std::slice::from_ref(fresh), std::slice::from_ref(old), at(50)).is_some()
        };
        let valid = certificate("a.example", (0, 100));
        let (ended, early) =
            (certificate("a.example", (0, 49)), certificate("a.example", (51, 100)));
        assert!(refused(&ended, &valid) && refused(&early, &valid));
        assert!(!refused(&certificate("a.example", (0, 100)), &valid));
        assert!(!refused(&early, &ended), "the one in use is no better");
        assert!(!refused(&certificate("b.example", (0, 49)), &valid), "nobody served it before");
        assert!(!refused(&ended, &ended.clone()), "it has ended while it served");
        assert!(unbelievable(&[ended], &[], at(50)).is_none(), "at the start");
    }
}
