//! Control targets: hosts that have nothing to do with any provider. If none of them can be reached
//! while providers fail, the fault is our own network's.
//!
//! In: who they are, anew after a reload. Out: one piece of evidence a round. All are asked at once; one
//! that answers is enough. What it means is decided in [`crate::decide::common_cause`].
//!
//! A name is looked up here and its last addresses are kept: whether look-ups work is another question
//! ([`super::dns`] asks it), so a target whose address was never known is not asked and proves nothing.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use super::names::Names;
use crate::clock;
use crate::exchange::evidence::{Evidence, EvidenceSender};
use crate::model::control_target::ControlTarget;
use crate::model::signal::Reply;
use crate::model::topology::EndpointHost;
use crate::net::dial;

/// Between two rounds: half of the time within which front doors fail together.
const INTERVAL: Duration = Duration::from_millis(2500);
/// For one connection, and for one look-up: both fit into a round.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks control targets.
#[derive(Debug)]
pub struct ControlTargets {
    /// Whom; none: nobody is asked.
    pub targets: watch::Receiver<Arc<[ControlTarget]>>,
    /// For those that are known by name.
    pub names: Names,
    /// Where reports go.
    pub evidence: EvidenceSender,
}

impl ControlTargets {
    /// Asks until shutdown.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        // Dropping the rounds half-way closes connections that nobody waits for any more.
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = self.rounds() => {}
        }
    }

    async fn rounds(&mut self) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = self.adopt();
        loop {
            tick.tick().await;
            // No reload ever comes where nobody can send one: those of the start stay.
            if self.targets.has_changed().unwrap_or(false) {
                asked = self.adopt();
            }
            if let Some(reply) = ask(&asked).await {
                self.evidence.send(Evidence::Control { at: clock::now(), reply });
            }
        }
    }

    fn adopt(&mut self) -> Vec<Rc<Asked>> {
        let targets = Arc::clone(&self.targets.borrow_and_update());
        let asked = |target: &ControlTarget| {
            let (target, names) = (target.clone(), self.names.clone());
            Rc::new(Asked { target, names, last: RefCell::default() })
        };
        targets.iter().map(asked).collect()
    }
}

/// One target, and where it was last.
struct Asked {
    target: ControlTarget,
    names: Names,
    last: RefCell<Last>,
}

/// Where a name was last, and until when that is believed without asking.
#[derive(Default)]
struct Last {
    addresses: Vec<IpAddr>,
    until: Option<Instant>,
}

impl Asked {
    /// `None`: it could not be asked.
    async fn reply(&self) -> Option<Reply> {
        let at_port = |ip| SocketAddr::new(ip, self.target.port);
        let addresses: Vec<_> = self.addresses().await.into_iter().map(at_port).collect();
        if addresses.is_empty() {
            return None;
        }
        match timeout(PATIENCE, dial::connect(&addresses)).await {
            Ok(Ok(_)) => Some(Reply::Came),
            Ok(Err(error)) if dial::is_our_own_lack(&error) => None,
            Ok(Err(_)) | Err(_) => Some(Reply::Missing),
        }
    }

    async fn addresses(&self) -> Vec<IpAddr> {
        let name = match &self.target.host {
            EndpointHost::Address(ip) => return vec![*ip],
            EndpointHost::Name(name) => name,
        };
        let now = clock::now();
        if self.last.borrow().until.is_none_or(|until| until <= now)
            && let Ok(Ok(found)) = timeout(PATIENCE, self.names.look_up(name)).await
        {
            let until = Some(now + found.life);
            self.last.replace(Last { addresses: found.addresses, until });
        }
        self.last.borrow().addresses.clone()
    }
}

/// Whether any of them takes a connection; `None` where none could be asked.
async fn ask(targets: &[Rc<Asked>]) -> Option<Reply> {
    let mut asked = JoinSet::new();
    for target in targets {
        let target = Rc::clone(target);
        asked.spawn_local(async move { target.reply().await });
    }
    let mut missing = None;
    while let Some(reply) = asked.join_next().await {
        match reply.ok().flatten() {
            Some(Reply::Came) => return Some(Reply::Came),
            Some(Reply::Missing) => missing = Some(Reply::Missing),
            None => {}
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::evidence;
    use crate::net::tls_client;

    fn targets(of: &[ControlTarget]) -> (ControlTargets, watch::Sender<Arc<[ControlTarget]>>) {
        let (aim, targets) = watch::channel(of.into());
        let (evidence, _receiver) = evidence::channel();
        let names = Names::new(&[], tls_client::bare(rustls::RootCertStore::empty()));
        (ControlTargets { targets, names, evidence }, aim)
    }

    fn at(address: SocketAddr) -> ControlTarget {
        ControlTarget { host: EndpointHost::Address(address.ip()), port: address.port() }
    }

    async fn open_and_shut() -> (tokio::net::TcpListener, ControlTarget, ControlTarget) {
        let open = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let shut = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let shut_at = at(shut.local_addr().expect("address"));
        let open_at = at(open.local_addr().expect("address"));
        (open, open_at, shut_at)
    }

    #[tokio::test(flavor = "local")]
    async fn one_that_answers_is_enough_and_a_refusal_is_none() {
        let (_open, open_at, shut_at) = open_and_shut().await;
        let (mut all_shut, _aim) = targets(std::slice::from_ref(&shut_at));
        assert_eq!(ask(&all_shut.adopt()).await, Some(Reply::Missing));
        let (mut one_open, _aim) = targets(&[shut_at, open_at]);
        assert_eq!(ask(&one_open.adopt()).await, Some(Reply::Came));
    }

    #[tokio::test(flavor = "local")]
    async fn a_name_is_asked_at_its_addresses_and_an_unknown_one_proves_nothing() {
        let (_open, open_at, shut_at) = open_and_shut().await;
        let named = |name: &str, port| {
            let host = EndpointHost::Name(name.into());
            ControlTarget { host, port }
        };
        let (mut known, _aim) = targets(&[named("localhost", open_at.port)]);
        assert_eq!(ask(&known.adopt()).await, Some(Reply::Came));
        let (mut unknown, _aim) = targets(&[named("nowhere.invalid", shut_at.port)]);
        assert_eq!(ask(&unknown.adopt()).await, None);
        let (mut nobody, _aim) = targets(&[]);
        assert_eq!(ask(&nobody.adopt()).await, None);
    }

    #[tokio::test(flavor = "local")]
    async fn after_a_reload_others_are_asked() {
        let (_open, open_at, shut_at) = open_and_shut().await;
        let (mut asked, aim) = targets(&[shut_at]);
        assert_eq!(ask(&asked.adopt()).await, Some(Reply::Missing));
        aim.send_replace(vec![open_at].into());
        assert_eq!(ask(&asked.adopt()).await, Some(Reply::Came));
    }
}
