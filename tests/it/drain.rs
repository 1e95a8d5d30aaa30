//! A process that ends while its clients keep asking: whatever they sent is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Script};
use crate::harness::wire::Wire;
use crate::harness::{PORTAL, within};

/// Clients that ask one after the other on a connection of their own.
const CLIENTS: usize = 24;
/// Answers before the process is told to end.
const BEFORE: usize = 400;

/// How one client's connection ended.
#[derive(Debug, Eq, PartialEq)]
enum Ended {
    /// It was told, and asked for nothing more.
    Told,
    /// A request that was sent got no whole answer.
    Broken(String),
}

async fn until_answered(answered: &AtomicUsize, count: usize) {
    let reached = async {
        while answered.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    within("the load to go on", reached).await;
}

/// Asks until an answer says that it is the last one.
async fn ask_over_http1(mut wire: Wire, answered: Arc<AtomicUsize>) -> Ended {
    loop {
        let ask = format!("GET /page HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
        if let Err(error) = wire.send(ask).await {
            return Ended::Broken(format!("not sent: {error}"));
        }
        match wire.reply().await {
            Ok(reply) if reply.head.status() == 200 => {
                answered.fetch_add(1, Ordering::Relaxed);
                if reply.head.get("connection") == Some("close") {
                    return Ended::Told;
                }
            }
            Ok(reply) => return Ended::Broken(reply.head.start),
            Err(error) => return Ended::Broken(error.to_string()),
        }
    }
}

/// Asks until no further stream may be opened.
async fn ask_over_http2(
    mut client: h2::client::SendRequest<bytes::Bytes>,
    answered: Arc<AtomicUsize>,
) -> Ended {
    loop {
        let Ok(mut ready) = client.clone().ready().await else { return Ended::Told };
        let ask = http::Request::get(format!("http://{PORTAL}/page")).body(()).expect("a request");
        let Ok((answer, _)) = ready.send_request(ask, true) else { return Ended::Told };
        client = ready;
        let whole = async {
            let mut body = answer.await?.into_body();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
            }
            Ok::<(), h2::Error>(())
        };
        match whole.await {
            Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
            // Beyond the last stream of a GOAWAY: nobody has looked at it (RFC 9113, section 6.8).
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                return Ended::Told;
            }
            Err(error) => return Ended::Broken(error.to_string()),
        };
    }
}

fn all_were_told(ended: &[Ended]) {
    let broken: Vec<&Ended> = ended.iter().filter(|end| **end != Ended::Told).collect();
    assert!(broken.is_empty(), "{} of {} broken: {broken:?}", broken.len(), ended.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_over_http1_is_lost_when_the_process_ends_under_load() {
    let mut stage = Stage::plain().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask_over_http1(stage.proxy.wire().await, Arc::clone(&answered)));
    }
    until_answered(&answered, BEFORE).await;
    stage.proxy.signal("TERM");
    let ended = within("every client to be told", clients.join_all()).await;
    all_were_told(&ended);
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_over_http2_is_lost_when_the_process_ends_under_load() {
    let mut stage = Stage::plain().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let (mut clients, mut connections) = (JoinSet::new(), JoinSet::new());
    for _ in 0..CLIENTS / 4 {
        let stream = TcpStream::connect(stage.proxy.plain).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        connections.spawn(connection);
        for _ in 0..4 {
            clients.spawn(ask_over_http2(client.clone(), Arc::clone(&answered)));
        }
    }
    until_answered(&answered, BEFORE).await;
    stage.proxy.signal("TERM");
    let ended = within("every client to be told", clients.join_all()).await;
    all_were_told(&ended);
    while let Some(connection) = connections.join_next().await {
        connection.expect("no panic").expect("GOAWAY and a clean end");
    }
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_whose_answer_was_on_its_way_is_told_with_the_next_one() {
    let mut stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut client = stage.proxy.wire().await;
    let ask = format!("GET /page HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    client.send(&ask).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.expect("sent");
    let head = within("the head", client.head()).await.expect("a head");
    assert_eq!(head.get("connection"), None, "nobody knew of the end yet");
    stage.proxy.signal("TERM");
    let draining = async { while stage.proxy.admin("/readyz").await.status == 200 {} };
    within("the drain to begin", draining).await;
    talk.wire.send("page").await.expect("sent");
    assert_eq!(within("the rest", client.take(4)).await.expect("bytes"), b"page");
    client.send(&ask).await.expect("sent");
    let next = async {
        let head = talk.wire.head().await.expect("the next request");
        assert_eq!(head.word(1), "/page");
        talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
    };
    let (_, reply) = within("the next answer", async { tokio::join!(next, client.reply()) }).await;
    let reply = reply.expect("whole");
    assert_eq!((reply.head.status(), reply.head.get("connection")), (200, Some("close")));
    assert!(within("the end of the connection", client.is_ended()).await);
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn half_a_head_that_came_before_the_end_is_waited_for_and_answered() {
    let mut stage = Stage::plain().await;
    let mut client = stage.proxy.wire().await;
    client.send("GET /page HTTP/1.1\r\nHost: ").await.expect("half of it");
    // Answered in turn: what was sent before is here by now.
    assert_eq!(stage.proxy.get("/page").await.status, 200);
    stage.proxy.signal("TERM");
    let draining = async { while stage.proxy.admin("/readyz").await.status == 200 {} };
    within("the drain to begin", draining).await;
    client.send(format!("{PORTAL}\r\n\r\n")).await.expect("the rest");
    let reply = within("the answer", client.reply()).await.expect("whole");
    assert_eq!(reply.head.status(), 200);
    assert!(within("the end of the connection", client.is_ended()).await);
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}
