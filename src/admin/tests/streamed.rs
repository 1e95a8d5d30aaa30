//! The events: what is told when, who is dropped, and the console that reads them.

use super::*;
use crate::admin::events::{self, LOOK, MOST_READERS, QUEUE};
use crate::exchange::snapshot::View as InForce;

fn entry(number: u64) -> Arc<Entry> {
    Arc::new(Entry { json: format!(r#"{{"text":"{number}"}}"#).into(), ..failover() })
}

/// The same board with one more entry.
fn with(board: &BoardView, number: u64) -> BoardView {
    let mut recent = (*board.recent).clone();
    recent.push_back(entry(number));
    BoardView { recent: Arc::new(recent), ..board.clone() }
}

fn no_token() -> watch::Receiver<Option<Token>> {
    watch::channel(None).1
}

fn text(page: Option<bytes::Bytes>) -> String {
    String::from_utf8(page.expect("a page").to_vec()).expect("text")
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reader_is_told_the_state_at_once_and_each_transition_once() {
    let first = board(clock::now());
    let shared = Board::new(first.clone());
    let (door, herald) = events::herald(shared.clone(), no_token());
    spawn_local(herald.run());
    let mut reader = door.subscribe().await.expect("a place");
    let greeting = text(reader.recv().await);
    assert!(greeting.starts_with("retry: "), "{greeting}");
    assert!(greeting.contains("\n\nevent: status\ndata: {\"version\":"), "{greeting}");
    assert!(!greeting.contains("transition"), "what was before stands in the journal: {greeting}");

    let second = with(&first, 1);
    shared.publish(second.clone());
    let mut news = String::new();
    while !news.contains("transition") {
        news = text(reader.recv().await);
    }
    assert!(
        news.contains("event: transition\ndata: {\"text\":\"1\"}\n\nevent: status\n"),
        "{news}"
    );
    shared.publish(with(&second, 2));
    let mut later = String::new();
    while !later.contains("transition") {
        later = text(reader.recv().await);
    }
    assert!(later.contains("\"2\"") && !later.contains("{\"text\":\"1\"}"), "{later}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_calm_board_is_told_each_second_and_a_new_plan_at_once() {
    let first = board(clock::now());
    let shared = Board::new(first.clone());
    let (door, herald) = events::herald(shared.clone(), no_token());
    spawn_local(herald.run());
    let mut reader = door.subscribe().await.expect("a place");
    reader.recv().await.expect("the greeting");
    reader.recv().await.expect("the next state");
    let (mut at, mut gaps) = (clock::now(), Vec::new());
    for _ in 0..3 {
        reader.recv().await.expect("a state");
        gaps.push(clock::now().saturating_duration_since(at));
        at = clock::now();
    }
    assert!(gaps.iter().all(|gap| *gap >= LOOK && *gap <= Duration::from_millis(1300)), "{gaps:?}");

    let mut routing = first.view.routing.clone();
    routing.generation = routing.generation.next();
    let (states, tls) = (Arc::clone(&first.view.states), Arc::clone(&first.view.tls));
    let view = Arc::new(InForce { routing, states, tls });
    shared.publish(BoardView { view, ..first });
    let page = text(reader.recv().await);
    assert!(page.contains("\"generation\":3"), "{page}");
    let waited = clock::now().saturating_duration_since(at);
    assert!(waited <= LOOK * 2, "{waited:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_does_not_read_is_dropped_and_keeps_nobody_waiting() {
    let first = board(clock::now());
    let (door, herald) = events::herald(Board::new(first), no_token());
    spawn_local(herald.run());
    let mut slow = door.subscribe().await.expect("a place");
    let mut quick = door.subscribe().await.expect("a place");
    for _ in 0..QUEUE * 3 {
        quick.recv().await.expect("a state: nobody waits for the slow one");
    }
    let mut lay_ready = 0;
    while slow.recv().await.is_some() {
        lay_ready += 1;
    }
    assert_eq!(lay_ready, QUEUE, "what lay ready, and then the end");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_has_shown_a_token_that_is_none_any_more_is_dropped() {
    let (tokens, token) = watch::channel(Token::new("old"));
    let (door, herald) = events::herald(Board::new(board(clock::now())), token);
    spawn_local(herald.run());
    let mut reader = door.subscribe().await.expect("a place");
    reader.recv().await.expect("the greeting");
    tokens.send_replace(Token::new("new"));
    for _ in 0..=QUEUE {
        if reader.recv().await.is_none() {
            assert!(door.subscribe().await.is_some(), "others may read");
            return;
        }
    }
    panic!("it goes on");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn places_are_bounded_and_free_again_once_left() {
    let (door, herald) = events::herald(Board::new(board(clock::now())), no_token());
    spawn_local(herald.run());
    let mut readers = Vec::new();
    for _ in 0..MOST_READERS {
        readers.push(door.subscribe().await.expect("a place"));
    }
    assert!(door.subscribe().await.is_none());
    readers.pop();
    assert!(door.subscribe().await.is_some());
}

#[tokio::test(flavor = "local")]
async fn the_console_loads_without_the_token_and_lets_nothing_in_from_elsewhere() {
    let served = serve(Token::new("s3cret"), board(clock::now())).await;
    for (url_path, media) in [
        ("/", "text/html"),
        ("/console.css", "text/css"),
        ("/console.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(served.address, url_path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{url_path}: {answer}");
        for field in [
            &format!("content-type: {media}"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; ",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.contains(field), "{url_path}: {field}");
        }
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        for secret in ["portal", "cloudflare", "bunny"] {
            assert!(!body.contains(&format!(">{secret}<")), "{url_path} tells of {secret}");
        }
    }
    let page = get(served.address, "/").await;
    for inline in ["<style", " style=", " onclick=", "javascript:", "http://", "https://"] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert!(!page.contains("<script>"), "no inline script");
}
