//! Control targets: hosts that have nothing to do with any provider. If none of them can be reached
//! while providers fail, the fault is our own network's.
//!
//! In: their addresses. Out: one piece of evidence a round. All are asked at once; one that answers
//! is enough. What it means is decided in [`crate::decide::common_cause`].

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::exchange::evidence::{Evidence, EvidenceSender};
use crate::model::signal::Reply;

/// Between two rounds: half of the time within which front doors fail together.
const INTERVAL: Duration = Duration::from_millis(2500);
/// For one connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks control targets.
#[derive(Debug)]
pub struct ControlTargets {
    targets: Vec<SocketAddr>,
    evidence: EvidenceSender,
}

impl ControlTargets {
    /// `None` where there are none to ask. Loopback addresses are left out: they answer whatever
    /// the network does.
    pub fn new(targets: &[SocketAddr], evidence: EvidenceSender) -> Option<Self> {
        let far = |target: &&SocketAddr| !target.ip().is_loopback();
        let targets: Vec<SocketAddr> = targets.iter().filter(far).copied().collect();
        (!targets.is_empty()).then_some(Self { targets, evidence })
    }

    /// Asks until shutdown.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                tick.tick().await;
                let reply = ask(&self.targets).await;
                self.evidence.send(Evidence::Control { at: clock::now(), reply });
            }
        };
        // Dropping the rounds half-way closes connections that nobody waits for any more.
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = rounds => {}
        }
    }
}

/// Whether any of them takes a connection.
async fn ask(targets: &[SocketAddr]) -> Reply {
    let mut asked = JoinSet::new();
    for target in targets {
        let connect = TcpStream::connect(*target);
        asked.spawn_local(async move {
            tokio::time::timeout(PATIENCE, connect).await.is_ok_and(|connected| connected.is_ok())
        });
    }
    while let Some(connected) = asked.join_next().await {
        if connected.unwrap_or(false) {
            return Reply::Came;
        }
    }
    Reply::Missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::evidence;

    #[tokio::test(flavor = "local")]
    async fn one_that_answers_is_enough_and_a_refusal_is_none() {
        let open = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let shut = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
        let (open_at, shut_at) =
            (open.local_addr().expect("address"), shut.local_addr().expect("address"));
        drop(shut);
        assert_eq!(ask(&[shut_at]).await, Reply::Missing);
        assert_eq!(ask(&[shut_at, open_at]).await, Reply::Came);
    }

    #[test]
    fn loopback_says_nothing_about_the_network() {
        let (sender, _receiver) = evidence::channel();
        let near = "127.0.0.53:53".parse().expect("address");
        let far = "192.0.2.53:53".parse().expect("address");
        assert!(ControlTargets::new(&[near], sender.clone()).is_none());
        assert!(ControlTargets::new(&[near, far], sender).is_some());
    }
}
