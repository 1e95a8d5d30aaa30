//! A few thousand of the streams of [`crate::mutated`], always the same ones, and its strict reader.

use crate::mutated::strict::{End, requests};
use crate::mutated::{Campaign, run};

#[tokio::test]
async fn nobody_reads_more_out_of_a_mutant_than_its_strictest_reader() {
    let tally = run(Campaign { seed: 1, streams: 6_000 }, |_| ()).await;
    assert_eq!(tally.broken, 0, "{}", tally.breaks.join("\n"));
    assert!(tally.passed > tally.streams / 4, "most are refused whole: {tally:?}");
}

#[test]
fn a_clients_bytes_are_read_as_the_rfc_has_them() {
    let post = "POST /a HTTP/1.1\r\nHost: h\r\n";
    #[rustfmt::skip]
    let table = [
        ("two in a row",             "GET /a HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET http://h/b HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), vec!["/a", "/b"], End::Open),
        ("none after a close",       format!("GET /a HTTP/1.1\r\nConnection: x, Close\r\n\r\n{post}\r\n"),             vec!["/a"], End::Over),
        ("HTTP/1.0 ends",            format!("GET /a HTTP/1.0\r\n\r\n{post}\r\n"),                                     vec!["/a"], End::Over),
        ("a body hides a request",   format!("{post}Content-Length: 19\r\n\r\nGET /b HTTP/1.1\r\n\r\n"),               vec!["/a"], End::Open),
        ("chunks",                   format!("{post}Transfer-Encoding: chunked\r\n\r\n1 ;x\r\nx\r\n0\r\nA: b\r\n\r\nGET /b HTTP/1.1\r\n\r\n"), vec!["/a", "/b"], End::Open),
        ("a chunk too long",         format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"),           vec!["/a"], End::Over),
        ("two framings",             format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n"), vec![],    End::Over),
        ("a bare line feed",         "GET /a HTTP/1.1\nHost: h\r\n\r\n".to_owned(),                                    vec![],     End::Over),
        ("a fold",                   "GET /a HTTP/1.1\r\nHost: h\r\n x\r\n\r\n".to_owned(),                            vec![],     End::Over),
        ("a blank before the colon", "GET /a HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(),                                 vec![],     End::Over),
        ("half a head",              "GET /a HTTP/1.1\r\nHost: h\r\n".to_owned(),                                      vec![],     End::Open),
    ];
    for (shows, bytes, targets, end) in table {
        let (found, ended) = requests(bytes.as_bytes());
        let found: Vec<_> =
            found.iter().map(|r| String::from_utf8_lossy(&r.target).into_owned()).collect();
        assert_eq!(
            (found, ended),
            (targets.iter().map(ToString::to_string).collect(), end),
            "{shows}"
        );
    }
}
