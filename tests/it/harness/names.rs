//! A name server on loopback that answers as a test tells it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Seconds for which an answer says that it holds.
const TTL: u32 = 1;

/// What it says to every question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Says {
    Address(Ipv4Addr),
    Addresses(&'static [Ipv4Addr]),
    NoSuchName,
    Silence,
}

/// The server; it ends when it is dropped.
pub struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    _task: JoinSet<()>,
}

impl NameServer {
    pub async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let says = Arc::new(Mutex::new(says));
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&says)));
        Self { address, says, _task: task }
    }

    /// `resolver:` of a file.
    pub fn line(&self) -> String {
        format!("resolver: {{ servers: [\"udp://{}\"] }}", self.address)
    }

    pub fn say(&self, says: Says) {
        *self.says.lock().expect("no panic while held") = says;
    }
}

async fn serve(socket: UdpSocket, says: Arc<Mutex<Says>>) {
    let mut bytes = [0; 1500];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut bytes).await else { continue };
        let Ok(question) = Message::from_vec(&bytes[..length]) else { continue };
        let says = *says.lock().expect("no panic while held");
        let Some(query) = question.queries.first().cloned() else { continue };
        let mut answer = question.into_response();
        match says {
            Says::Silence => continue,
            Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
            Says::Address(ip) if query.query_type() == RecordType::A => {
                let record = Record::from_rdata(query.name().clone(), TTL, RData::A(ip.into()));
                answer.insert_answers(vec![record]);
            }
            Says::Addresses(all) if query.query_type() == RecordType::A => {
                let record = |ip: &Ipv4Addr| {
                    Record::from_rdata(query.name().clone(), TTL, RData::A((*ip).into()))
                };
                answer.insert_answers(all.iter().map(record).collect());
            }
            Says::Address(_) | Says::Addresses(_) => {}
        }
        let answer = answer.to_vec().expect("an answer");
        // Who asked may have given up.
        socket.send_to(&answer, peer).await.ok();
    }
}
