//! Real client libraries and applications, unmodified, through the proxy: what works directly works through it, and is traced.
//!
//! Each test runs one of `tests/clients` on every server, directly and through the proxy, and compares what came of it with its
//! rows in `docs/compatibility.md`; `make compatibility` writes them instead.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod table;
mod traced;

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use tars_tests::clients::{Language, Outcome, Report, run};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use table::Row;
use traced::{linked, traced};

/// What a library is asked to do, as columns of its table; [`traced`] follows.
const LIBRARY: &[&str] = &[
    "connect",
    "resp3",
    "pipeline",
    "transaction",
    "scripts",
    "pubsub",
    "blocking",
    "groups",
    "claims",
    "large",
    "reconnect",
];

/// What an application is asked to do; [`linked`] follows.
const APPLICATION: &[&str] = &["send", "consume", "redelivery"];

/// A library or an application that is run through the proxy.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// As its program calls it, and the tables.
    name: &'static str,
    language: Language,
    /// Whose version is shown.
    package: &'static str,
    kind: ClientKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    Library,
    Application {
        /// It sends by XADD: not by lists, nor within scripts, which the proxy cannot see.
        xadd: bool,
    },
}

const fn library(name: &'static str, language: Language, package: &'static str) -> Client {
    Client {
        name,
        language,
        package,
        kind: ClientKind::Library,
    }
}

const fn application(
    name: &'static str,
    language: Language,
    package: &'static str,
    xadd: bool,
) -> Client {
    Client {
        name,
        language,
        package,
        kind: ClientKind::Application { xadd },
    }
}

/// Makes the list of all clients, in the order of the tables, and a test of each.
macro_rules! clients {
    ($($test:ident => $client:expr;)*) => {
        const CLIENTS: &[Client] = &[$($client),*];
        $(#[test] fn $test() { check($client); })*
    };
}

// A new client: its line here, its program in `tests/clients`, and `make compatibility`.
clients! {
    redis_py => library("redis-py", Language::Python, "redis");
    redis_py_asyncio => library("redis-py asyncio", Language::Python, "redis");
    ioredis => library("ioredis", Language::Node, "ioredis");
    node_redis => library("node-redis", Language::Node, "redis");
    go_redis => library("go-redis", Language::Go, "github.com/redis/go-redis/v9");
    redis_rs => library("redis-rs", Language::Rust, "redis");
    redis_rs_tokio => library("redis-rs tokio", Language::Rust, "redis");
    fred => library("fred", Language::Rust, "fred");
    jedis => library("Jedis", Language::Java, "jedis");
    lettuce => library("Lettuce", Language::Java, "lettuce-core");

    taskiq => application("taskiq", Language::Python, "taskiq-redis", true);
    faststream => application("FastStream", Language::Python, "faststream", true);
    celery => application("Celery", Language::Python, "celery", false);
    dramatiq => application("Dramatiq", Language::Python, "dramatiq", false);
    bullmq => application("BullMQ", Language::Node, "bullmq", false);
    watermill => application("Watermill", Language::Go, "github.com/ThreeDotsLabs/watermill-redisstream", true);
    spring_data_redis => application("Spring Data Redis", Language::Java, "spring-data-redis", true);
}

impl Client {
    fn features(&self) -> &'static [&'static str] {
        match self.kind {
            ClientKind::Library => LIBRARY,
            ClientKind::Application { .. } => APPLICATION,
        }
    }
}

#[test]
fn every_row_is_of_a_client_that_is_tested() {
    if table::writing() {
        return; // rows of others are left out
    }
    let expected: BTreeSet<String> = CLIENTS.iter().map(|c| c.name.to_owned()).collect();
    assert_eq!(table::names(), expected, "run `make compatibility`");
}

fn check(client: Client) {
    let results: Vec<(Row, Vec<String>, BTreeSet<String>)> = thread::scope(|scope| {
        let runs: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| scope.spawn(move || on(client, kind)))
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let worse: String = results
        .iter()
        .flat_map(|(_, worse, _)| worse.clone())
        .collect();
    assert!(worse.is_empty(), "{}:\n{worse}", client.name);
    let notes: BTreeSet<&String> = results.iter().flat_map(|(_, _, notes)| notes).collect();
    assert!(notes.len() <= 1, "{} notes: {notes:#?}", client.name);
    let mut rows: Vec<Row> = results.iter().map(|(row, _, _)| row.clone()).collect();
    rows.extend(notes.first().map(|note| table::note(&client, note)));
    table::keep(&rows);
}

/// The row of a client on one server, what works worse through the proxy than directly, and all notes on reconnecting.
fn on(client: Client, kind: Kind) -> (Row, Vec<String>, BTreeSet<String>) {
    let stage = Stage::of(kind);
    let run = |url: &str, prefix: &str| {
        let (language, features) = (client.language, client.features());
        run(
            language,
            client.name,
            features,
            url,
            &stage.server.url(),
            prefix,
        )
    };
    let direct = run(&stage.server.url(), "direct");
    let through = run(&format!("redis://{}", stage.proxy.address()), "through");
    let mut worse = Vec::new();
    let mut cells = Vec::new();
    for &feature in client.features() {
        let (before, after) = (&direct.outcomes[feature], &through.outcomes[feature]);
        if (before == &Outcome::Absent) != (after == &Outcome::Absent)
            || (before == &Outcome::Works && after != before)
        {
            worse.push(format!(
                "{feature} on {kind}: directly {before}, through the proxy {after}; its log:\n{}\n",
                through.log
            ));
        }
        cells.push(after.to_string());
    }
    cells.push(match client.kind {
        _ if !worse.is_empty() => "-".to_owned(),
        ClientKind::Library => traced(&stage, "through:groups"),
        ClientKind::Application { xadd } => linked(&stage, "through", xadd),
    });
    assert_eq!(stage.raw_relays(), 0.0, "{} on {kind}", client.name);
    let note = |report: &Report| report.notes.get("reconnect").cloned();
    let notes = [&direct, &through].into_iter().filter_map(note).collect();
    (table::row(&client, kind, cells), worse, notes)
}
