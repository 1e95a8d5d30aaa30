//! The table of operations held to the handlers: each answer it tells of is given, none is given that
//! it does not tell of, and each body is as its schema says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::admin::openapi;
use crate::admin::operations::{OPERATIONS, Verb};
use crate::exchange::commands::{Command, CommandReceiver, Disobeyed, Obeyed, Word};
use crate::exchange::commands::{DrillRequest, DrillWord};
use crate::exchange::reload::{Loaded, NotLoaded, ReloadReceiver};
use crate::model::drill::{DrillEnd, DrillRecord, DrillSide, NoDrill};
use crate::model::operator::Target;
use crate::model::unit::Permille;

/// One try: what it shows, where, the head without its host, the body, and the status.
struct Try {
    path: &'static str,
    head: String,
    body: &'static str,
    status: u16,
}

fn tries(path: &'static str, request: &str, body: &'static str, status: u16) -> Try {
    Try { path, head: format!("{request}\r\n"), body, status }
}

const JSON: &str = "\r\nContent-Type: application/json";
const DRILL: &str = r#"{"service":"portal","share":"5%","for":"10m","reason":"why"}"#;
const ORDER: &str = r#"{"target":"bunny","order":"drain","for":"30m","reason":"why"}"#;

#[rustfmt::skip]
fn all() -> Vec<Try> {
    let post = format!("POST /v1/overrides HTTP/1.1{JSON}");
    let drill = format!("POST /v1/drills HTTP/1.1{JSON}");
    let long = Box::leak("x".repeat(17 * 1024).into_boxed_str());
    vec![
        tries("/",               "GET / HTTP/1.1",                                       "", 200),
        tries("/console.css",    "GET /console.css HTTP/1.1",                            "", 200),
        tries("/console.js",     "GET /console.js HTTP/1.1",                             "", 200),
        tries("/icon.svg",       "GET /icon.svg HTTP/1.1",                               "", 200),
        tries("/livez",          "GET /livez HTTP/1.1",                                  "", 200),
        tries("/readyz",         "GET /readyz HTTP/1.1",                                 "", 200),
        tries("/metrics",        "GET /metrics HTTP/1.1",                                "", 200),
        tries("/openapi.json",   "GET /openapi.json HTTP/1.1",                           "", 200),
        tries("/v1/status",      "GET /v1/status HTTP/1.1",                              "", 200),
        tries("/v1/explain",     "GET /v1/explain?url=https://portal.example/ HTTP/1.1", "", 200),
        tries("/v1/explain",     "GET /v1/explain HTTP/1.1",                             "", 400),
        tries("/v1/explain",     "GET /v1/explain?url=https://other.example/ HTTP/1.1",  "", 404),
        tries("/v1/journal",     "GET /v1/journal HTTP/1.1",                             "", 200),
        tries("/v1/journal",     "GET /v1/journal?since=soon HTTP/1.1",                  "", 400),
        tries("/v1/overrides",   "GET /v1/overrides HTTP/1.1",                           "", 200),
        tries("/v1/overrides",   &post,                                               ORDER, 200),
        tries("/v1/overrides",   &post,                                                "{}", 400),
        tries("/v1/overrides",   &post, r#"{"target":"nobody","order":"drain"}"#,            404),
        tries("/v1/overrides",   &post, r#"{"target":"fastly","order":"drain"}"#,            409),
        tries("/v1/overrides",   &post,                                                long, 413),
        tries("/v1/overrides",   "POST /v1/overrides HTTP/1.1",                       ORDER, 415),
        tries("/v1/overrides/{provider}", "DELETE /v1/overrides/bunny HTTP/1.1",         "", 200),
        tries("/v1/overrides/{provider}", "DELETE /v1/overrides/nobody HTTP/1.1",        "", 404),
        tries("/v1/overrides/{provider}", "DELETE /v1/overrides/fastly HTTP/1.1",        "", 409),
        tries("/v1/overrides/{provider}/{service}", "DELETE /v1/overrides/bunny/portal HTTP/1.1",  "", 200),
        tries("/v1/overrides/{provider}/{service}", "DELETE /v1/overrides/nobody/portal HTTP/1.1", "", 404),
        tries("/v1/overrides/{provider}/{service}", "DELETE /v1/overrides/fastly/portal HTTP/1.1", "", 409),
        tries("/v1/drills",      "GET /v1/drills HTTP/1.1",                              "", 200),
        tries("/v1/drills",      &drill,                                              DRILL, 200),
        tries("/v1/drills",      &drill,                                               "{}", 400),
        tries("/v1/drills",      &drill, r#"{"service":"nobody"}"#,                          404),
        tries("/v1/drills",      &drill, r#"{"service":"busy"}"#,                            409),
        tries("/v1/drills",      &drill, r#"{"service":"late"}"#,                            503),
        tries("/v1/drills",      &drill,                                               long, 413),
        tries("/v1/drills",      "POST /v1/drills HTTP/1.1",                          DRILL, 415),
        tries("/v1/drills/{service}", "DELETE /v1/drills/portal HTTP/1.1",               "", 200),
        tries("/v1/drills/{service}", "DELETE /v1/drills/nobody HTTP/1.1",               "", 404),
        tries("/v1/drills/{service}", "DELETE /v1/drills/late HTTP/1.1",                 "", 503),
        tries("/v1/reload",      "POST /v1/reload HTTP/1.1",                             "", 200),
        tries("/v1/reload",      "POST /v1/reload HTTP/1.1",                             "", 422),
        tries("/v1/reload",      "POST /v1/reload HTTP/1.1",                             "", 503),
    ]
}

/// Begins and ends drills of the portal, has one of busy on, is handed over when late is asked for, and
/// knows no other service.
fn rehearse(DrillRequest { service, word, done }: DrillRequest) {
    let record = |ended| DrillRecord {
        service: service.clone(),
        from: example::label("bunny"),
        to: example::label("fastly"),
        share: Permille::new(50).expect("a share"),
        began: UNIX_EPOCH,
        until: UNIX_EPOCH + Duration::from_secs(600),
        reason: "why".into(),
        first: DrillSide::default(),
        fallback: DrillSide::default(),
        ended,
    };
    let told = match (service.as_str(), word) {
        ("portal", DrillWord::Begin { .. }) => Ok(record(None)),
        ("portal", DrillWord::Stop) => Ok(record(Some((DrillEnd::Stopped, UNIX_EPOCH)))),
        ("late", _) => Err(NoDrill::HandingOver),
        ("busy", _) => Err(NoDrill::Running(service)),
        _ => Err(NoDrill::NoService(service)),
    };
    done.send(told).ok();
}

/// Obeys whoever asks for bunny, knows no nobody, and lets no policy be broken for fastly.
async fn steer(mut commands: CommandReceiver) {
    while let Some(command) = commands.next().await {
        let instruction = match command {
            Command::Obey(instruction) => instruction,
            Command::Drill(request) => {
                rehearse(request);
                continue;
            }
            _ => continue,
        };
        let provider = match &instruction.target {
            Target::Provider(provider) | Target::Upstream { provider, .. } => provider.clone(),
        };
        let told = match provider.as_str() {
            "bunny" => Ok(Obeyed {
                generation: Generation::ZERO.next(),
                changed: instruction.word != Word::Auto,
                upstreams: vec!["portal/bunny".to_owned()],
                barred: Vec::new(),
                closed: vec![example::label("portal")],
                closed_routes: Vec::new(),
                others: Vec::new(),
            }),
            "fastly" => Err(Disobeyed::TooMany(64)),
            _ => Err(Disobeyed::NoProvider(provider)),
        };
        instruction.done.send(told).ok();
    }
}

/// Loads well, refuses, breaks off.
async fn load(mut wishes: ReloadReceiver) {
    let loaded = Loaded { services: 1, upstreams: 2, lints: vec!["a trap".to_owned()] };
    wishes.next().await.done.send(Ok(loaded)).ok();
    let mistakes = vec!["bascule.yaml:1:1: error: what".to_owned()];
    wishes.next().await.done.send(Err(NotLoaded::Refused(mistakes))).ok();
    drop(wishes.next().await);
}

/// What was seen: path, method and status.
type Seen = BTreeSet<(String, String, u16)>;

struct Teller {
    document: Value,
    seen: Seen,
}

impl Teller {
    /// Takes an answer down, and holds its type and body to the document.
    fn heard(&mut self, path: &str, head: &str, status: u16, answer: &str) {
        let method = head.split(' ').next().expect("a method").to_lowercase();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        let told = &self.document["paths"][path][&method]["responses"][status.to_string()];
        let content = told["content"].as_object();
        let content =
            content.unwrap_or_else(|| panic!("{method} {path} does not tell of {status}"));
        let (media, about) = content.iter().next().expect("a media type");
        let (fields, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(fields.contains(&format!("content-type: {media}")), "{path} {status}: {fields}");
        if media.ends_with("json") {
            let body: Value = serde_json::from_str(body).expect("JSON");
            let wrong = unlike(&self.document, &about["schema"], &body, "$");
            assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}");
        }
        self.seen.insert((path.to_owned(), method, status));
    }
}

#[tokio::test(flavor = "local")]
async fn the_document_tells_of_every_answer_and_of_no_other() {
    let mut teller = Teller { document: openapi::document(), seen: Seen::new() };
    let (commands, obeyed) = commands::channel();
    let (reloads, wished) = reloads::channel();
    spawn_local(steer(obeyed));
    spawn_local(load(wished));
    let known = serve_with(None, board(clock::now()), commands, reloads).await;
    for Try { path, head, body, status } in all() {
        let answer = send(known.address, "localhost", &head, body).await;
        teller.heard(path, &head, status, &answer);
    }
    // Nobody steers, loads or is ready any more, and nobody has shown a token.
    let mut unprobed = board(clock::now());
    unprobed.upstreams[1].probe = None;
    let alone = serve(None, unprobed).await;
    let secret = serve(Token::new("s3cret"), board(clock::now())).await;
    for operation in OPERATIONS {
        let verb = operation.verb.key().to_uppercase();
        let url_path =
            operation.url_path.replace("{provider}", "bunny").replace("{service}", "portal");
        let head = format!("{verb} {url_path} HTTP/1.1{JSON}\r\n");
        let tells = |status| operation.all_answers().any(|answer| answer.status == status);
        let body = match operation.url_path {
            _ if operation.takes.is_none() => "",
            "/v1/drills" => DRILL,
            _ => ORDER,
        };
        for (status, host, address, more) in [
            (401, "localhost", secret.address, ""),
            (403, "localhost", alone.address, "Origin: http://evil.example\r\n"),
            (421, "evil.example", alone.address, ""),
        ] {
            if tells(status) {
                let answer = send(address, host, &format!("{head}{more}"), body).await;
                teller.heard(operation.url_path, &head, status, &answer);
            }
        }
        if operation.url_path == "/v1/reload" {
            let answer = send(alone.address, "localhost", &head, body).await;
            teller.heard(operation.url_path, &head, 409, &answer);
        } else if operation.url_path == "/v1/events" {
            crowd(&mut teller, known.address, &head).await;
        } else if tells(503) {
            let answer = send(alone.address, "localhost", &head, body).await;
            teller.heard(operation.url_path, &head, 503, &answer);
        }
    }
    for url_path in ["/v1/overrides", "/v1/drills"] {
        late(&mut teller, known.address, url_path).await;
    }
    assert_eq!(teller.seen, told(), "seen on the left, told on the right");
}

/// As many readers as are served, and one more.
async fn crowd(teller: &mut Teller, address: SocketAddr, head: &str) {
    let mut readers = Vec::new();
    for _ in 0..crate::admin::events::MOST_READERS {
        let mut reader = TcpStream::connect(address).await.expect("connect");
        let request = format!("{head}Host: localhost\r\n\r\n");
        reader.write_all(request.as_bytes()).await.expect("write");
        let mut first = vec![0; 4096];
        let read = reader.read(&mut first).await.expect("a head");
        let answer = String::from_utf8_lossy(&first[..read]).into_owned();
        teller.heard("/v1/events", head, 200, &answer);
        readers.push(reader);
    }
    let answer = send(address, "localhost", head, "").await;
    teller.heard("/v1/events", head, 503, &answer);
}

/// A body that never comes. `100 Continue` says that it is waited for; then the clock is turned.
async fn late(teller: &mut Teller, address: SocketAddr, url_path: &str) {
    let head = format!("POST {url_path} HTTP/1.1{JSON}\r\n");
    let mut client = TcpStream::connect(address).await.expect("connect");
    let request = format!(
        "{head}Host: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.expect("write");
    let mut interim = [0; 64];
    let read = client.read(&mut interim).await.expect("an interim answer");
    assert!(interim[..read].starts_with(b"HTTP/1.1 100 "), "it waits for the body");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    teller.heard(url_path, &head, 408, &answer);
}

/// Everything that the table tells of.
fn told() -> Seen {
    let one = |operation: &'static crate::admin::operations::Operation| {
        let key = (operation.url_path.to_owned(), operation.verb.key().to_owned());
        operation.all_answers().map(move |answer| (key.0.clone(), key.1.clone(), answer.status))
    };
    OPERATIONS.iter().flat_map(one).collect()
}

#[tokio::test(flavor = "local")]
async fn what_is_told_of_nowhere_is_answered_nowhere() {
    let served = serve(None, board(clock::now())).await;
    for operation in OPERATIONS {
        let url_path =
            operation.url_path.replace("{provider}", "bunny").replace("{service}", "portal");
        let verbs: Vec<Verb> = OPERATIONS
            .iter()
            .filter(|other| other.url_path == operation.url_path)
            .map(|other| other.verb)
            .collect();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let taken = verbs.iter().any(|verb| verb.allowed().split(", ").any(|m| m == method));
            if taken {
                continue;
            }
            let head = format!("{method} {url_path} HTTP/1.1\r\n");
            let answer = ask(served.address, &head).await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{head}: {answer}");
            assert!(answer.contains("\r\nallow: "), "{head}: {answer}");
        }
    }
    for url_path in
        ["//", "/v1", "/v1/", "/v1/status/", "/v1/overrides/", "/console.html", "/index.html"]
    {
        let answer = get(served.address, url_path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{url_path}: {answer}");
    }
}

#[test]
fn the_document_is_whole() {
    let document = openapi::document();
    let text = document.to_string();
    let names: BTreeSet<&str> = text
        .split("\"#/components/schemas/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(names.contains("Status") && names.contains("Problem"), "{names:?}");
    for name in names {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is nowhere");
    }
    let mut identifiers = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let identifier = operation["operationId"].as_str().expect("an identifier").to_owned();
            assert!(identifiers.insert(identifier.clone()), "{identifier} stands twice");
        }
    }
    assert_eq!(identifiers.len(), OPERATIONS.len());
}

/// Where a value is not as its schema says: enough of JSON Schema for what schemars writes, and a
/// complaint about any word beyond that.
fn unlike(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(rules) = schema.as_object() else { return vec![format!("{at}: no schema")] };
    let mut wrong = Vec::new();
    for (word, rule) in rules {
        let holds = match word.as_str() {
            "description" | "title" | "format" | "default" | "pattern" | "minimum" | "maximum" => {
                true
            }
            "$ref" => {
                let pointer = rule.as_str().expect("a pointer").trim_start_matches('#');
                let target = document.pointer(pointer).expect("it leads somewhere");
                wrong.extend(unlike(document, target, value, at));
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| is_a(one, value)),
                one => is_a(one, value),
            },
            "enum" => rule.as_array().expect("a list").contains(value),
            "const" => rule == value,
            "anyOf" | "oneOf" => {
                let fits = |one: &Value| unlike(document, one, value, at).is_empty();
                rule.as_array().expect("a list").iter().any(fits)
            }
            "properties" => {
                let known = rule.as_object().expect("properties");
                for (name, own) in value.as_object().into_iter().flatten() {
                    match known.get(name) {
                        Some(schema) => {
                            wrong.extend(unlike(document, schema, own, &format!("{at}.{name}")))
                        }
                        None => wrong.push(format!("{at}.{name} is not told of")),
                    }
                }
                true
            }
            "required" => {
                let names = rule.as_array().expect("names");
                names.iter().all(|name| value.get(name.as_str().expect("a name")).is_some())
            }
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(unlike(document, rule, item, &format!("{at}[{place}]")));
                }
                true
            }
            _ => false,
        };
        if !holds {
            wrong.push(format!("{at}: {word} {rule} does not hold for {value}"));
        }
    }
    wrong
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => false,
    }
}

#[test]
fn a_value_unlike_its_schema_is_found() {
    let document = serde_json::json!({ "a": { "type": "object", "properties": { "b": { "type": ["string", "null"] } }, "required": ["b"] } });
    let schema = serde_json::json!({ "$ref": "#/a" });
    for (value, likes) in [
        (serde_json::json!({ "b": "x" }), true),
        (serde_json::json!({ "b": null }), true),
        (serde_json::json!({ "b": 1 }), false),
        (serde_json::json!({}), false),
        (serde_json::json!({ "b": "x", "c": 1 }), false),
        (serde_json::json!([]), false),
    ] {
        assert_eq!(unlike(&document, &schema, &value, "$").is_empty(), likes, "{value}");
    }
}
