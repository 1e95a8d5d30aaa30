//! An upstream that forgives nothing: it keeps every request that reached it by the client's address
//! and every byte that no request may hold, and says in each answer what it answers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::strict::{self, Framing, Head, Parsed};
use crate::harness::PROBE;

/// In an answer: for whom it is.
pub const FOR: &str = "x-answer-for";

/// In an answer: to what.
pub const TO: &str = "x-answer-to";

/// Most bytes of one request: far more than any mutant has.
const MOST: usize = 1 << 20;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// As far as it came.
    pub body: Vec<u8>,
    pub is_whole: bool,
}

/// What arrived so far and was not asked for yet.
#[derive(Default)]
pub struct Record {
    by_client: Mutex<HashMap<Ipv4Addr, Vec<Seen>>>,
    breaks: Mutex<Vec<String>>,
}

impl Record {
    /// What one client's connection brought here; it is forgotten.
    pub fn take(&self, client: Ipv4Addr) -> Vec<Seen> {
        let mut all = self.by_client.lock().expect("no panic while held");
        all.remove(&client).unwrap_or_default()
    }

    /// What was no request; it is forgotten.
    pub fn breaks(&self) -> Vec<String> {
        std::mem::take(&mut self.breaks.lock().expect("no panic while held"))
    }

    fn wrong(&self, why: &str, bytes: &[u8]) {
        let mut breaks = self.breaks.lock().expect("no panic while held");
        if breaks.len() < 100 {
            breaks.push(format!("I1, {why}: {}", bytes.escape_ascii()));
        }
    }

    /// Keeps one; its place among those of its client.
    fn begin(&self, client: Ipv4Addr, seen: Seen) -> usize {
        let mut all = self.by_client.lock().expect("no panic while held");
        let list = all.entry(client).or_default();
        list.push(seen);
        list.len() - 1
    }

    fn complete(&self, client: Ipv4Addr, place: usize, body: &[u8], is_whole: bool) {
        let mut all = self.by_client.lock().expect("no panic while held");
        if let Some(seen) = all.get_mut(&client).and_then(|list| list.get_mut(place)) {
            (seen.body, seen.is_whole) = (body.to_vec(), is_whole);
        }
    }
}

/// Takes connections until its task ends.
pub async fn serve(listener: TcpListener, record: Arc<Record>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(connection(stream, Arc::clone(&record)));
        while connections.try_join_next().is_some() {}
    }
}

/// Where it listens.
pub async fn open() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

async fn connection(mut stream: TcpStream, record: Arc<Record>) {
    stream.set_nodelay(true).ok();
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let (head, length) = match strict::head(&bytes) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::Wrong(why) => return record.wrong(why, &bytes),
            Parsed::Short(_) if bytes.len() > MOST => return record.wrong("no end", &bytes),
            Parsed::Short(_) => match stream.read_buf(&mut bytes).await {
                // Between two requests, or one that was given up.
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
        };
        let framing = match fit(&head) {
            Ok(framing) => framing,
            Err(why) => return record.wrong(why, &bytes),
        };
        bytes.drain(..length);
        if !rest(&mut stream, &mut bytes, (&head, framing), &record).await {
            return;
        }
        if stream.write_all(&answer(&head)).await.is_err() {
            return;
        }
    }
}

/// Reads the body and keeps the request; whether it came whole.
async fn rest(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    (head, framing): (&Head, Framing),
    record: &Record,
) -> bool {
    let client = client(head);
    let (method, target) = (head.words()[0].to_vec(), head.words()[1].to_vec());
    let seen = Seen { method, target, body: Vec::new(), is_whole: false };
    // Probes have no client.
    let place = client.map(|client| (client, record.begin(client, seen)));
    let complete = |body: &[u8], is_whole| {
        if let Some((client, place)) = place {
            record.complete(client, place, body, is_whole);
        }
    };
    loop {
        let (body, parsed) = strict::body(framing, bytes);
        match parsed {
            Parsed::Whole((), length) => {
                complete(&body, true);
                bytes.drain(..length);
                return true;
            }
            Parsed::Wrong(why) => {
                record.wrong(why, bytes);
                return false;
            }
            Parsed::Short(()) => {
                complete(&body, false);
                if bytes.len() > MOST || matches!(stream.read_buf(bytes).await, Ok(0) | Err(_)) {
                    return false;
                }
            }
        }
    }
}

fn client(head: &Head) -> Option<Ipv4Addr> {
    std::str::from_utf8(head.all("x-forwarded-for").next()?).ok()?.parse().ok()
}

/// What the strictest reader asks of a head.
fn fit(head: &Head) -> Result<Framing, &'static str> {
    let words = head.words();
    let [method, target, b"HTTP/1.1"] = words[..] else { return Err("a start line") };
    if !strict::is_token(method) {
        return Err("a method");
    }
    let is_path = target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS");
    if !is_path || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err("a target");
    }
    let mut hosts = head.all("host");
    let is_host = |host: &[u8]| {
        let fit = |b: &u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(b);
        !host.is_empty() && host.iter().all(fit)
    };
    if !hosts.next().is_some_and(is_host) || hosts.next().is_some() {
        return Err("not one Host");
    }
    if target != PROBE.as_bytes() {
        if client(head).is_none() || head.all("x-forwarded-for").count() != 1 {
            return Err("no client, or several");
        }
        // A client may bring some of its own.
        if head.all("via").next().is_none() {
            return Err("no Via");
        }
    }
    let hop = ["proxy-connection", "keep-alive", "te", "http2-settings"];
    if hop.iter().any(|name| head.all(name).next().is_some()) {
        return Err("a field of another connection");
    }
    head.framing()
}

fn answer(head: &Head) -> Vec<u8> {
    let words = head.words();
    let client = client(head).map(|ip| ip.to_string()).unwrap_or_default();
    let front = format!("HTTP/1.1 200 OK\r\n{FOR}: {client}\r\n{TO}: ");
    let mut bytes = [front.as_bytes(), words[0], b" ", words[1], b"\r\n"].concat();
    // Either framing, whichever it is each time.
    let (framing, body): (&[u8], &[u8]) = match words[1].len() % 4 {
        0 => (b"Transfer-Encoding: chunked\r\n\r\n", b"4\r\nin c\r\n5\r\nhunks\r\n0\r\n\r\n"),
        _ => (b"Content-Length: 8\r\n\r\n", b"a length"),
    };
    bytes.extend_from_slice(framing);
    if words[0] != b"HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}
