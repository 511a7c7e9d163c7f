#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::trace::testing::span;

/// Serves the routes and asks once: status line and headers in lower case, and body.
async fn get(recent: &Arc<Recent>, path: &str, header: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, routes(recent.clone())).into_future());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    server.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    head.lines().find_map(value).unwrap_or_default()
}

fn one() -> Arc<Recent> {
    let recent = Recent::new(10);
    recent.push(span(0xab, 1));
    Arc::new(recent)
}

#[tokio::test]
async fn the_page_runs_only_what_is_in_it() {
    let (head, body) = get(&one(), "/traces", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(header(&head, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&head, "x-content-type-options"), "nosniff");
    let policy = header(&head, "content-security-policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let nonce = policy
        .split("'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    assert_eq!(nonce.len(), 16);
    for tag in ["style", "script"] {
        assert_eq!(
            body.matches(&format!("<{tag} nonce=\"{nonce}\">")).count(),
            1
        );
        assert_eq!(
            body.matches(&format!("<{tag}")).count(),
            1,
            "{tag} without a nonce"
        );
    }
    assert!(!body.contains(NONCE));
    let (other, _) = get(&one(), "/traces", "").await;
    assert_ne!(
        header(&other, "content-security-policy"),
        policy,
        "a nonce is used once"
    );
}

#[test]
fn the_page_makes_no_markup_of_text_and_needs_nothing_from_outside() {
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "setTimeout('",
        "DOMParser",
        "srcdoc",
        " src=",
        "@import",
        "url(",
        "https://",
    ] {
        assert!(!PAGE.contains(way), "{way}");
    }
    // The name of SVG is no address that anybody asks.
    assert!(
        !PAGE
            .replace("http://www.w3.org/2000/svg", "")
            .contains("http://")
    );
}

#[tokio::test]
async fn traces_come_as_json_and_only_when_they_have_changed() {
    let recent = one();
    let (head, body) = get(&recent, "/traces.json?limit=5&spans=0", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(header(&head, "content-type"), "application/json");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["traces"][0]["span_count"], 1);

    let known = format!("if-none-match: {}\r\n", header(&head, "etag"));
    let (head, body) = get(&recent, "/traces.json?limit=5&spans=0", &known).await;
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert_eq!(body, "");
    recent.push(span(0xab, 2));
    let (head, _) = get(&recent, "/traces.json?limit=5&spans=0", &known).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_wrong_question_gets_a_sentence() {
    for (query, sentence) in [
        (
            "trace=xyz",
            "trace is `xyz`, but must be 1 to 32 hexadecimal digits\n",
        ),
        ("errors=yes", "errors is `yes`, but must be 0 or 1\n"),
        (
            "limit=0",
            "limit is `0`, but must be a number from 1 to 1000\n",
        ),
        (
            "limit=ten",
            "limit is `ten`, but must be a number from 1 to 1000\n",
        ),
        ("q=a&q=b", "q is given twice, but must be given once\n"),
        (
            "strem=a",
            "strem: unknown parameter; the nearest known one is `stream`\n",
        ),
        (
            "%62%0A=a",
            "b\\n: unknown parameter; the known ones are `stream`, `trace`, `q`, `errors`, \
             `limit`, `spans`, `attributes`\n",
        ),
    ] {
        let (head, body) = get(&one(), &format!("/traces.json?{query}"), "").await;
        assert!(head.starts_with("http/1.1 400"), "{query}: {head}");
        assert_eq!(body, sentence);
    }
}

#[test]
fn parameters_become_a_query() {
    let text = |text: &str| Some(text.to_owned());
    let parameters = Parameters {
        stream: text("orders"),
        trace: text("00ab"),
        q: text(""),
        errors: text("1"),
        limit: Some(usize::MAX.to_string()),
        spans: text("1"),
        attributes: text("true"),
    };
    let query = Query {
        stream: text("orders"),
        trace: IdPrefix::parse("00ab"),
        text: None,
        errors: true,
        limit: MAX_LIMIT,
    };
    assert_eq!(parameters.query(), Ok((query, Detail::Attributes)));
    let (query, detail) = Parameters::default().query().unwrap();
    assert_eq!((query.limit, detail), (LIMIT, Detail::Spans));
}
