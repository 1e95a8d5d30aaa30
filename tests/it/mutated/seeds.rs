//! Streams before anything is done to them: requests of every shape that clients send, and those that
//! are refused already.

use fastrand::Rng;

use crate::harness::PORTAL;

/// What is hidden in bodies: whoever reads it as a request has read a body as one.
pub const HIDDEN: &str = "/smuggled";

/// Of `tests/golden/refused.txt`, without those that are long only.
pub fn refused() -> Vec<Vec<u8>> {
    crate::harness::refused::cases()
        .into_iter()
        .map(|case| case.bytes)
        .filter(|bytes| bytes.len() < 4096)
        .collect()
}

/// One stream that everybody reads alike; every request of it is to be served.
pub fn well_formed(dice: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in 0..dice.usize(1..=3) {
        bytes.extend(request(dice, place).into_bytes());
    }
    bytes
}

/// The last request of a stream: its answer says that everything before it was read to its end.
pub fn mark() -> Vec<u8> {
    format!("GET /mark HTTP/1.1\r\nHost: {PORTAL}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn request(dice: &mut Rng, place: usize) -> String {
    let hidden = format!("GET {HIDDEN}/{place} HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    let method = ["POST", "PUT", "PATCH", "DELETE", "GET"][dice.usize(..5)];
    let front = |method: &str, what: &str| {
        format!("{method} /{what}/{place}?q=%2e;a HTTP/1.1\r\nHost: {PORTAL}\r\n")
    };
    match dice.u32(..12) {
        0 => front("GET", "plain") + "Accept: */*\r\nCookie: a=1; b=2\r\n\r\n",
        1 => front("HEAD", "head") + "User-Agent: x/1 (y; z)\r\n\r\n",
        2 => format!("OPTIONS * HTTP/1.1\r\nHost: {PORTAL}:8080\r\nMax-Forwards: 7\r\n\r\n"),
        3 => format!("GET http://{PORTAL}/whole/{place} HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n"),
        4 => {
            let line = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\n";
            format!("GET /old/{place} HTTP/1.0\r\nHost: {PORTAL}\r\n{line}\r\n")
        }
        5 => {
            let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            front("GET", "switch") + lines + "\r\n"
        }
        6 => {
            let lines = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", hidden.len());
            front("POST", "expect") + &lines + "\r\n" + &hidden
        }
        7 => front(method, "empty") + "Content-Length: 0\r\n\r\n",
        8 | 9 => {
            let length = format!("Content-Length: {}\r\n", hidden.len());
            front(method, "length") + &length + "Content-Type: a/b\r\n\r\n" + &hidden
        }
        _ => {
            let coding = "Transfer-Encoding: chunked\r\nTE: trailers\r\n";
            front(method, "chunks") + coding + "\r\n" + &chunked(dice, &hidden)
        }
    }
}

/// A body in a few chunks, some with extensions, some with a trailer behind.
fn chunked(dice: &mut Rng, body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(dice.usize(1..=rest.len()));
        let extension = ["", "", ";a", ";a=b", " ;a=\"c\""][dice.usize(..5)];
        let size = match dice.u32(..3) {
            0 => format!("{:X}", chunk.len()),
            1 => format!("{:03x}", chunk.len()),
            _ => format!("{:x}", chunk.len()),
        };
        text.push_str(&format!("{size}{extension}\r\n{chunk}\r\n"));
        rest = after;
    }
    let trailer = if dice.bool() { "X-Sum: 1\r\n" } else { "" };
    text + "0\r\n" + trailer + "\r\n"
}
