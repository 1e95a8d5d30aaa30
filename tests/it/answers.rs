//! What an upstream says is read in one way or not at all: no lie of it confuses a client or the
//! next request.

use crate::harness::client::{Ask, Speak};
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, Conversation, LARGE, Script, Transport};
use crate::harness::wire::{Reply, Wire};
use crate::harness::{PORTAL, within};

const POST: &str =
    "POST /order HTTP/1.1\r\nHost: www.portal.example\r\nContent-Length: 2\r\n\r\nhi";

/// A client whose request is in the hands of the test: a POST, so that nothing is tried elsewhere.
async fn asked(stage: &Stage, request: &str) -> (Wire, Conversation) {
    let mut client = stage.proxy.wire().await;
    client.send(request).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    if request == POST {
        talk.wire.take(2).await.expect("its body");
    }
    (client, talk)
}

async fn handed_over() -> Stage {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::HandOver));
    stage
}

async fn reply(client: &mut Wire) -> Reply {
    within("an answer", client.reply()).await.expect("whole")
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_becomes_a_502() {
    let stage = handed_over().await;
    let fields = "a: 1\r\n".repeat(10_000);
    let long = "a".repeat(1_000_000);
    let interim = "HTTP/1.1 102 P\r\n\r\n".repeat(20_000);
    let lies = [
        "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 1000 High\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nFoo : a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nevil",
        "just bytes without a status line\n",
        &format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"),
        &format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 2\r\n\r\nok"),
        &interim,
    ];
    for lie in lies {
        let shown: String = lie.chars().take(80).collect();
        let (mut client, mut talk) = asked(&stage, POST).await;
        // We may have hung up before the end of a long one.
        let sent = talk.wire.send(lie).await;
        assert_eq!(reply(&mut client).await.head.status(), 502, "{shown}");
        drop(sent);
        let unread = within("the connection's end", talk.wire.take(usize::MAX)).await;
        assert!(unread.is_err(), "the connection is not used again: {shown}");
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_reaches_nobody() {
    let stage = handed_over().await;
    let (mut client, mut talk) = asked(&stage, POST).await;
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let both = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{evil}");
    talk.wire.send(both).await.expect("sent");
    assert_eq!(reply(&mut client).await.body, b"ok");
    assert!(talk.wire.is_ended().await, "the connection that said too much is closed");
    client.send(POST).await.expect("sent");
    let mut next = stage.us.conversation().await;
    next.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nme").await.expect("sent");
    assert_eq!(reply(&mut client).await.body, b"me");
}

#[tokio::test]
async fn what_comes_between_two_requests_ends_a_kept_connection() {
    let stage = handed_over().await;
    let (mut client, mut talk) = asked(&stage, POST).await;
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
    assert_eq!(reply(&mut client).await.body, b"ok");
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await.expect("sent");
    assert!(talk.wire.is_ended().await, "it is closed without being asked anything");
}

#[tokio::test]
async fn interim_answers_pass_by_and_the_answer_itself_comes_through() {
    let stage = handed_over().await;
    let (mut client, mut talk) = asked(&stage, POST).await;
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    talk.wire.send(interim).await.expect("sent");
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
    let reply = reply(&mut client).await;
    assert_eq!((reply.head.status(), reply.body.as_slice()), (200, b"ok".as_slice()));
    assert_eq!(reply.head.get("link"), None);
}

#[tokio::test]
async fn an_upload_that_is_refused_early_gets_its_refusal() {
    let stage = handed_over().await;
    let mut client = stage.proxy.wire().await;
    let head = format!("POST /up HTTP/1.1\r\nHost: {PORTAL}\r\nContent-Length: 50000000\r\n\r\n");
    client.send(head).await.expect("sent");
    client.send([b'x'; 1000]).await.expect("sent");
    let mut talk = stage.us.conversation().await;
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    talk.wire.send(refusal).await.expect("sent");
    let reply = reply(&mut client).await;
    assert_eq!((reply.head.status(), reply.body.as_slice()), (413, b"no".as_slice()));
    let unread = within("the connection's end", talk.wire.take(usize::MAX)).await;
    assert!(unread.is_err(), "half a request is on it: it is not used again");
}

#[tokio::test]
async fn a_length_without_a_body_leaves_the_connection_in_step() {
    let stage = handed_over().await;
    let head = format!("HEAD / HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    let (mut client, mut talk) = asked(&stage, &head).await;
    talk.wire.send("HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n").await.expect("sent");
    let answer = within("a head", client.head()).await.expect("a head");
    assert_eq!(answer.get("content-length"), Some("42"));
    client.send(POST).await.expect("sent");
    let next = within("the next request", talk.wire.head()).await.expect("on the same connection");
    assert_eq!(next.word(0), "POST");
}

#[tokio::test]
async fn a_body_of_chunks_that_lie_breaks_off() {
    let stage = handed_over().await;
    for lie in
        ["zz\r\nok\r\n0\r\n\r\n", "2\r\nok\r\n10000000000000000\r\n", "2\r\nokay\r\n0\r\n\r\n"]
    {
        let (mut client, mut talk) = asked(&stage, POST).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        talk.wire.send(format!("{head}{lie}")).await.expect("sent");
        let outcome = within("an answer", client.reply()).await;
        assert!(outcome.is_err(), "never whole: {lie:?} became {outcome:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_is_no_whole_answer() {
    let stage = Stage::start(Transport::PlainHttp2, |recipe| recipe).await;
    stage.us.behave(Script::green_probes(Act::BreakOff));
    let mut client = stage.proxy.wire().await;
    client.send(format!("GET /page HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let head = within("a head", client.head()).await.expect("an answer");
    assert_eq!((head.status(), head.get("transfer-encoding")), (200, Some("chunked")));
    assert_eq!(within("half of it", client.take(9)).await.expect("a chunk"), b"4\r\nhalf\r\n");
    stage.us.go_on();
    let rest = within("the end", client.take(1)).await;
    assert!(rest.is_err(), "it ends as if it were whole: {rest:?}");
}

#[tokio::test]
async fn clients_that_take_nothing_hold_up_nobody_elses_answer_on_the_same_connection() {
    let stage = Stage::start(Transport::PlainHttp2, |recipe| recipe).await;
    stage.us.behave(Script::green_probes(Act::ServeLarge));
    let mut slow = Vec::new();
    for _ in 0..24 {
        // No window at all: nothing of it can go on to this client.
        let stream = tokio::net::TcpStream::connect(stage.proxy.plain).await.expect("connected");
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .expect("HTTP/2");
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move { connection.await.unwrap_or(()) });
        let mut client = client.ready().await.expect("room for a stream");
        let request = http::Request::get(format!("http://{PORTAL}/page")).body(());
        let (answer, _) = client.send_request(request.expect("a request"), true).expect("sent");
        slow.push((within("a head", answer).await.expect("an answer"), driver));
    }
    let answer = within("a whole one", stage.proxy.send(Speak::Http1, &Ask::get("/page"))).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, LARGE));
    assert!(stage.us.connections() < 8, "they share connections, or this shows nothing");
    drop(slow);
}

#[tokio::test]
async fn what_has_no_content_says_nothing_of_its_length_over_http2() {
    let stage = handed_over().await;
    let mut client = stage.proxy.session(Speak::Http2).await;
    let ask = Ask::post("/order", "hi");
    let both = async {
        let mut talk = stage.us.conversation().await;
        talk.wire.send("HTTP/1.1 204 None\r\nContent-Length: 4\r\n\r\n").await.expect("sent");
    };
    let (answer, ()) = within("an answer", async { tokio::join!(client.send(&ask), both) }).await;
    let answer = answer.expect("well-formed");
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (204, None));
}

#[tokio::test]
async fn an_answer_of_ours_to_head_has_no_content_over_http2() {
    let stage = Stage::plain().await;
    stage.us.behave(Script::green_probes(Act::Hang));
    stage.eu.behave(Script::green_probes(Act::Hang));
    let mut client = stage.proxy.session(Speak::Http2).await;
    let ask = Ask::new(http::Method::HEAD, "/page");
    let answer = within("an answer", client.send(&ask)).await.expect("well-formed");
    assert_eq!((answer.status.as_u16(), answer.text()), (502, String::new()));
}
