//! An agent that learns from Redis Streams, through a real tars-proxy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};
use tars_tests::agent::{Agent, cart, fragment};
use tars_tests::otlp::{Span, SpanKind};
use tars_tests::proxy::Proxy;
use tars_tests::resp::Client;
use tars_tests::server::{Kind, Server};
use tars_tests::stage::Stage;
use tars_tests::wait::{self, PATIENCE};

/// Transitions of an update, and of a fragment.
const UPDATE: usize = 64;
const FRAGMENT: usize = 16;

fn spec(name: &str) -> Value {
    let mut spec = cart(name, UPDATE);
    spec["streams"] = json!({"experience": "experience", "hot_reload": "hot-reload"});
    spec
}

fn serve(redis: &str) -> Agent {
    Agent::builder().args(["--redis", redis]).start()
}

fn url(proxy: &Proxy) -> String {
    format!("redis://{}", proxy.address())
}

/// Sends an entry of these fields; its id.
fn add(client: &mut Client, fields: &[&str]) -> String {
    let command: Vec<&str> = ["XADD", "experience", "*"]
        .into_iter()
        .chain(fields.iter().copied())
        .collect();
    let reply = client.call(&command);
    assert!(reply.starts_with('$'), "{reply}");
    reply.lines().nth(1).unwrap().to_owned()
}

/// Sends as many fragments as an update takes.
fn teach(client: &mut Client, first: usize, version: u64) {
    for at in first..first + UPDATE / FRAGMENT {
        let fragment = fragment(1, (at * FRAGMENT) as u64, version, FRAGMENT).to_string();
        add(client, &["fragment", &fragment]);
    }
}

fn pending(client: &mut Client) -> u64 {
    let reply = client.call(&["XPENDING", "experience", "tars-agent"]);
    let count = reply.lines().nth(1).unwrap();
    count.trim_start_matches(':').parse().unwrap()
}

fn wait_acknowledged(client: &mut Client) {
    wait::until("all is acknowledged", PATIENCE, || {
        (pending(client) == 0).then_some(())
    });
}

fn wait_version(service: &Agent, version: u64) -> Value {
    service.wait_status("a", "it is learnt from", |status| {
        status["policy_version"] == version
    })
}

fn gauge(service: &Agent, name: &str) -> f64 {
    service.metrics().sum(name, &[("agent", "a")])
}

fn wait_gauge(service: &Agent, name: &str, value: f64) {
    wait::until(&format!("{name} is {value}"), PATIENCE, || {
        (gauge(service, name) == value).then_some(())
    });
}

/// The span of this name whose `tars.agent.name`, or stream, is of no matter: there is one.
#[track_caller]
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span {name}"));
    assert!(found.next().is_none(), "two spans {name}");
    span
}

#[test]
fn one_trace_from_experience_to_the_action_that_came_of_it() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let service = Agent::builder()
            .args(["--redis", &url(&stage.proxy)])
            .otlp_grpc(&stage.collector.grpc())
            .start();
        service.create(&spec("a"));
        // A service sends what it has seen, and knows nothing of traces.
        let mut sender = stage.connect();
        let whole = fragment(1, 0, 0, UPDATE).to_string();
        add(&mut sender, &["fragment", &whole]);
        wait_version(&service, 1);
        wait_acknowledged(&mut sender);
        // Another hears of the new version.
        let mut listener = stage.connect();
        listener.call(&["XGROUP", "CREATE", "hot-reload", "services", "0"]);
        let heard = wait::until("version 1 is announced", PATIENCE, || {
            let read = [
                "XREADGROUP",
                "GROUP",
                "services",
                "s",
                "COUNT",
                "1",
                "STREAMS",
                "hot-reload",
                ">",
            ];
            let reply = listener.call(&read);
            reply
                .contains("policy_version\r\n$1\r\n1\r\n")
                .then_some(reply)
        });
        let lines: Vec<&str> = heard.lines().collect();
        let field = |name: &str| lines[lines.iter().position(|line| *line == name).unwrap() + 2];
        assert_eq!(field("agent"), "a");
        assert_eq!(field("url"), "/v1/agents/a/policy");
        let parent = field("traceparent").to_owned();
        let id = lines
            .iter()
            .find(|line| line.contains('-') && line.starts_with('1'))
            .unwrap();
        assert_eq!(
            listener.call(&["XACK", "hot-reload", "services", id]),
            ":1\r\n"
        );
        // It acts by it, in the same trace.
        let asked = json!({"observations": [[0.0, 0.1, 0.2, 0.3]]}).to_string();
        let answer = service
            .ask(
                "POST",
                "/v1/agents/a/act",
                &[("traceparent", &parent)],
                asked.as_bytes(),
            )
            .expect(200);
        assert_eq!(answer["policy_version"], 1);

        let named = |spans: &[Span]| {
            let trace = spans
                .iter()
                .find(|span| span.name == "send experience")
                .map(|span| span.trace_id.clone());
            let of_it = |span: &&Span| Some(&span.trace_id) == trace.as_ref();
            spans.iter().filter(of_it).cloned().collect::<Vec<_>>()
        };
        let spans = named(&stage.wait_spans(|spans| named(spans).len() == 6));
        let send = one(&spans, "send experience");
        assert_eq!((send.kind, &send.parent), (SpanKind::Producer, &None));
        let process = one(&spans, "process experience");
        assert!(process.is_child_of(send) && process.kind == SpanKind::Consumer);
        let update = one(&spans, "update a");
        assert!(update.is_child_of(send), "{update:?}");
        assert_eq!(update.service, "tars-agent");
        let announce = one(&spans, "send hot-reload");
        assert!(announce.is_child_of(update) && announce.kind == SpanKind::Client);
        let reload = one(&spans, "process hot-reload");
        assert!(reload.is_child_of(update) && reload.kind == SpanKind::Consumer);
        let act = one(&spans, "act a");
        assert!(act.is_child_of(update) && act.kind == SpanKind::Server);
        // Processing lasts until the checkpoint is on the disk.
        assert!(process.end >= update.start, "{process:?} {update:?}");
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn what_can_never_be_accepted_is_acknowledged_counted_and_not_repeated() {
    let server = Server::redis70();
    let service = Agent::builder()
        .args(["--redis", &server.url(), "--max-fragment", "64KiB"])
        .start();
    service.create(&spec("a"));
    let mut client = server.connect();
    let good = fragment(1, 0, 0, UPDATE).to_string();
    let wrong_shape = good.replace("-0.2,", "-0.2,1,");
    let future = fragment(1, 0, 7, FRAGMENT).to_string();
    let large = format!("{good}{}", " ".repeat(64 << 10));
    let huge = "x".repeat(8 << 20);
    assert_ne!(wrong_shape, good);
    let refused: [(&[&str], &str); 11] = [
        (&["fragment", "password=hunter2"], "malformed"),
        (&["fragment", ""], "malformed"),
        (&["fragment", "{\"env_id\": \"hunter2\"}"], "malformed"),
        (
            &["fragment", "{\"env_id\": [\"hunter2\"], \"hunter2\": 1}"],
            "malformed",
        ),
        (&["fragment", "[[[[[[[[[[[["], "malformed"),
        (&["fragment", &wrong_shape], "invalid"),
        (&["fragment", &future], "invalid"),
        (&["fragment", &large], "oversized"),
        (&["fragment", &huge, "hunter2", &huge], "oversized"),
        (&["hunter2", &good], "missing"),
        (&["fragment", &good, "fragment", &good], "missing"),
    ];
    for (fields, _) in refused {
        add(&mut client, fields);
    }
    add(
        &mut client,
        &[
            "note",
            "a field of no matter",
            "fragment",
            &good,
            "traceparent",
            "00-hunter2",
        ],
    );
    let status = wait_version(&service, 1);
    assert_eq!(
        status["ledger"],
        json!({"accepted": UPDATE, "trained": UPDATE, "stale": 0, "dropped": 0, "pending": 0})
    );
    wait_acknowledged(&mut client);
    let metrics = service.metrics();
    for reason in [
        "malformed",
        "invalid",
        "oversized",
        "missing",
        "gone",
        "known",
        "accepted",
    ] {
        let expected = refused.iter().filter(|(_, why)| *why == reason).count()
            + usize::from(reason == "accepted");
        let counted = metrics.sum("tars_agent_stream_entries_total", &[("outcome", reason)]);
        assert_eq!(counted, expected as f64, "{reason}");
    }
    let acknowledged = metrics.sum("tars_agent_stream_acknowledged_total", &[]);
    assert_eq!(acknowledged, refused.len() as f64 + 1.0);
    let log = service.stderr();
    assert!(!log.contains("hunter2"), "{log}");
    assert_eq!(log.matches("an entry is refused").count(), 1, "{log}");
}

#[test]
fn redis_goes_and_comes_back() {
    let server = Server::builder(Kind::Redis70)
        .args(["--appendonly", "yes"])
        .start();
    let mut stage = Stage::with(server, |proxy| proxy.args(["--no-trace"]));
    let service = serve(&url(&stage.proxy));
    service.create(&spec("a"));
    let (mut sent, mut version) = (0, 0);
    let mut teach_once_more = |stage: &Stage| {
        let mut client = stage.server.connect();
        teach(&mut client, sent, version);
        (sent, version) = (sent + UPDATE / FRAGMENT, version + 1);
        let status = wait_version(&service, version);
        assert_eq!(status["ledger"]["accepted"], sent * FRAGMENT);
        assert_eq!(status["ledger"]["trained"], sent * FRAGMENT);
        wait_acknowledged(&mut client);
    };
    teach_once_more(&stage);
    // The server is gone for a while.
    stage.server.stop();
    wait_gauge(&service, "tars_agent_stream_up", 0.0);
    let asked = json!({"observations": [[0.0, 0.1, 0.2, 0.3]]});
    let answer = service.post("/v1/agents/a/act", &asked).expect(200);
    assert_eq!(answer["policy_version"], 1, "acting needs no Redis");
    stage.server.start();
    teach_once_more(&stage);
    // Connections are cut.
    let mut client = stage.server.connect();
    client.call(&["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES"]);
    teach_once_more(&stage);
    // The proxy is killed and comes back.
    stage.proxy.kill();
    wait_gauge(&service, "tars_agent_stream_up", 0.0);
    stage.proxy.start_again();
    teach_once_more(&stage);
    // Somebody destroys the group: what was counted is not counted again.
    client.call(&["XGROUP", "DESTROY", "experience", "tars-agent"]);
    teach_once_more(&stage);
    let log = service.stderr();
    let outages = service
        .metrics()
        .sum("tars_agent_stream_outages_total", &[]);
    assert_eq!(
        log.matches("Redis is not to be had").count() as f64,
        outages,
        "{log}"
    );
    assert_eq!(
        log.matches("Redis is back").count() as f64,
        outages,
        "{log}"
    );
    assert!(outages >= 4.0);
}

#[test]
fn without_room_reading_stops_and_nothing_is_lost() {
    let server = Server::redis70();
    let service = serve(&server.url());
    let mut small = spec("a");
    small["buffer"] = json!({"transitions": 2 * UPDATE});
    service.create(&small);
    let _ = service.post("/v1/agents/a/pause", &json!({})).expect(200);
    let mut client = server.connect();
    for first in (0..40).step_by(UPDATE / FRAGMENT) {
        teach(&mut client, first, 0);
    }
    wait_gauge(&service, "tars_agent_stream_waiting", 1.0);
    let status = service.status("a");
    assert!(
        status["ledger"]["accepted"].as_u64() <= Some(2 * UPDATE as u64),
        "{status}"
    );
    // It knows no more of them than it can hold, and what it asked for at once.
    assert!(pending(&mut client) < 40);
    let _ = service.post("/v1/agents/a/resume", &json!({})).expect(200);
    let status = service.wait_status("a", "all is accepted", |status| {
        status["ledger"]["accepted"] == 40 * FRAGMENT
            && status["ledger"]["pending"].as_u64() < Some(UPDATE as u64)
    });
    assert!(status["ledger"]["stale"].as_u64() > Some(0), "{status}");
    wait_gauge(&service, "tars_agent_stream_waiting", 0.0);
}

#[test]
fn an_agent_with_streams_needs_a_redis_and_lets_go_of_it() {
    let service = Agent::start();
    let sentence = service
        .post("/v1/agents", &spec("a"))
        .problem(422, "invalid");
    assert!(sentence.contains("--redis"), "{sentence}");

    let server = Server::builder(Kind::Redis70)
        .args(["--requirepass", "p@ss word"])
        .start();
    let with = |account: &str| {
        server
            .url()
            .replace("redis://", &format!("redis://{account}@"))
            + "/3"
    };
    let service = serve(&with(":p%40ss%20word"));
    service.create(&spec("a"));
    let mut client = server.connect();
    client.call(&["AUTH", "p@ss word"]);
    client.call(&["SELECT", "3"]);
    teach(&mut client, 0, 0);
    wait_version(&service, 1);
    wait_acknowledged(&mut client);
    let mut named = || {
        client
            .call(&["CLIENT", "LIST"])
            .matches("name=tars-agent:a")
            .count()
    };
    assert_eq!(named(), 2);
    assert_eq!(service.ask("DELETE", "/v1/agents/a", &[], b"").status, 204);
    wait::until("its connections are closed", PATIENCE, || {
        (named() == 0).then_some(())
    });
    assert!(!service.stderr().contains("word"), "{}", service.stderr());

    let service = serve(&with(":hunter2"));
    service.create(&spec("a"));
    wait::until("it is logged", PATIENCE, || {
        service.stderr().contains("WRONGPASS").then_some(())
    });
    assert!(
        !service.stderr().contains("hunter2"),
        "{}",
        service.stderr()
    );
    assert_eq!(gauge(&service, "tars_agent_stream_up"), 0.0);
}

#[test]
fn a_unix_socket_will_do() {
    let server = Server::builder(Kind::Redis70).unix().start();
    let service = serve(&server.url());
    service.create(&spec("a"));
    let mut client = server.connect();
    teach(&mut client, 0, 0);
    wait_version(&service, 1);
    wait_acknowledged(&mut client);
}

/// Entries were sent before there was an agent, and announcements find a key that is no stream.
#[test]
fn a_stream_may_be_there_before_its_agent_and_another_may_be_none() {
    let server = Server::redis70();
    let service = serve(&server.url());
    let mut client = server.connect();
    teach(&mut client, 0, 0);
    client.call(&["SET", "hot-reload", "x"]);
    service.create(&spec("a"));
    wait_version(&service, 1);
    wait_acknowledged(&mut client);
    wait::until("both are refused", PATIENCE, || {
        let refused = service.metrics().sum(
            "tars_agent_stream_announcements_total",
            &[("outcome", "refused")],
        );
        (refused == 2.0).then_some(())
    });
    assert!(
        service.stderr().contains("WRONGTYPE"),
        "{}",
        service.stderr()
    );
}
