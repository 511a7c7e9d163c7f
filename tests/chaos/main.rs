//! `tars-chaos`: clients whose every answer is known, before a proxy around which things go wrong. It ends with what was lost,
//! altered or answered to the wrong request: nothing, or it fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use redis::Value;
use tars_tests::resp::Client;
use tars_tests::wait;

mod clients;
mod faults;
mod ledger;
mod spans;
mod weather;

use clients::{Dice, Shared};
use faults::{Fault, World};
use ledger::Ledger;
use spans::Spans;

/// Streams, each with a producer of its own.
const STREAMS: usize = 6;

/// A kill takes the spans with it that have not been exported. Their children begin at most so long before and after it, in
/// milliseconds: a collector may have been away before, and a message waits for whoever claims it after.
const AROUND_A_KILL: (u64, u64) = (5_000, 20_000);

/// What a proxy may hold more in the end than one that has just started: what its allocator keeps.
const KEPT_BYTES: u64 = 24 << 20;

/// How long everything that was sent may take to be consumed once nothing goes wrong any more.
const CATCH_UP: Duration = Duration::from_secs(120);

/// Lets things go wrong around tars-proxy, and checks that no client notices more than a lost connection.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How long
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// What happens when; printed at the start, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// How long each client rests between two things, in milliseconds
    #[arg(long, default_value_t = 10)]
    rest: u64,
    /// Only these faults, by name
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Also lose packets: only in a network namespace of its own, as scripts/chaos makes one
    #[arg(long)]
    loss: bool,
    /// Swallow a reply on purpose: the run must fail
    #[arg(long)]
    sabotage: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let seed = cli.seed.unwrap_or_else(faults::now);
    println!("chaos: {} s, --seed {seed}", cli.seconds);
    let mut possible: Vec<Fault> = Fault::ANYWHERE.into();
    possible.extend(cli.loss.then_some(Fault::Loss));
    if !cli.only.is_empty() {
        possible.retain(|fault| cli.only.contains(&format!("{fault:?}")));
    }
    let (spans, collector) = Spans::start();
    let mut world = World::start(collector);
    let fresh = resident(world.proxy.id());
    let shared = Shared {
        ledger: Ledger::new(),
        doors: world.doors(),
        quiet: AtomicBool::new(false),
        over: AtomicBool::new(false),
        rest: Duration::from_millis(cli.rest),
        answers: AtomicU64::new(0),
        ended: AtomicU64::new(0),
    };
    let streams: Vec<String> = (0..STREAMS)
        .map(|n| format!("{}:{n}", if n % 3 == 2 { "strip" } else { "keep" }))
        .collect();
    for stream in &streams {
        world
            .master()
            .call(&["XGROUP", "CREATE", stream, "g", "0", "MKSTREAM"]);
    }
    let mut suffered: BTreeMap<Fault, u32> = BTreeMap::new();
    thread::scope(|scope| {
        let (shared, streams) = (&shared, &streams);
        for stream in streams {
            scope.spawn(move || clients::producer(shared, seed, stream));
        }
        for (name, resp3) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            scope.spawn(move || clients::consumer(shared, seed, name, streams, resp3));
        }
        for name in ["p", "q", "r", "s"] {
            scope.spawn(move || clients::asker(shared, seed, name));
        }
        scope.spawn(move || clients::publisher(shared, seed, "news"));
        let subscribers = [false, true]
            .map(|resp3| scope.spawn(move || clients::subscriber(shared, seed, "news", resp3)));
        scope.spawn(move || clients::vandal(shared, seed));

        let ends = Instant::now() + Duration::from_secs(cli.seconds);
        let mut dice = Dice::new(seed, "faults");
        while Instant::now() < ends && !possible.is_empty() {
            thread::sleep(Duration::from_millis(200 + dice.below(800)));
            // Each once, in another order each time.
            let mut order = possible.clone();
            while !order.is_empty() && Instant::now() < ends {
                let which = usize::try_from(dice.below(order.len() as u64)).unwrap_or(0);
                let fault = order.swap_remove(which);
                *suffered.entry(fault).or_default() += 1;
                world.to_server.swallow(u32::from(cli.sabotage));
                world.suffer(fault, &mut dice);
                thread::sleep(Duration::from_millis(100 + dice.below(900)));
            }
        }
        while possible.is_empty() && Instant::now() < ends {
            world.to_server.swallow(u32::from(cli.sabotage));
            thread::sleep(Duration::from_millis(500));
        }
        shared.quiet.store(true, Relaxed);
        let mut master = world.master();
        let caught_up = wait::poll(CATCH_UP, || {
            streams
                .iter()
                .all(|stream| is_consumed(&mut master, stream))
                .then_some(())
        });
        if caught_up.is_none() {
            shared
                .ledger
                .violation(format!("messages are not consumed after {CATCH_UP:?}"));
        }
        // They leave with the next number that they hear: until then the publisher goes on.
        for subscriber in subscribers {
            subscriber.join().unwrap();
        }
        shared.over.store(true, Relaxed);
    });
    let held = settle(&mut world, &shared, &spans, fresh);
    report(&world, &shared, &spans, &suffered, (fresh, held))
}

/// What can be checked once all clients have gone.
fn settle(world: &mut World, shared: &Shared, spans: &Spans, fresh: u64) -> u64 {
    let mut master = world.master();
    for stream in shared.ledger.streams() {
        let reply = {
            master.command(&["XRANGE", &stream, "-", "+"]);
            redis::parse_redis_value(&master.reply()).unwrap()
        };
        let Value::Array(entries) = reply else {
            continue;
        };
        let mut held = Vec::new();
        for entry in &entries {
            match ledger::entry(&stream, entry, true) {
                Ok(one) => held.push(one),
                Err(what) => shared.ledger.violation(what),
            }
        }
        shared.ledger.compare(&stream, &held);
    }
    world
        .proxy
        .wait_metric("tars_proxy_connections", &[], |open| open == 0.0);
    let held = resident(world.proxy.id());
    if held > fresh + KEPT_BYTES {
        shared.ledger.violation(format!(
            "the proxy holds {held} bytes in the end, and {fresh} after its start"
        ));
    }
    // All that is left is exported by a drain.
    world.hand_over();
    let mut last = 0;
    wait::poll(Duration::from_secs(5), || {
        (std::mem::replace(&mut last, spans.count()) == spans.count()).then_some(())
    });
    // A server that loads its data refuses CLIENT REPLY too: then nobody can be sure whether replies come.
    for raw in world
        .raw
        .iter()
        .filter(|raw| !raw.contains("client_reply_refused"))
    {
        shared
            .ledger
            .violation(format!("a connection became a raw relay: {raw}"));
    }
    let (before, after) = AROUND_A_KILL;
    let killed = |began: u64| {
        let near = |&kill: &u64| (kill - before..kill + after).contains(&began);
        world.kills.iter().any(near)
    };
    let orphans = spans.found().orphans;
    let unexplained = orphans.iter().filter(|began| !killed(**began)).count();
    if unexplained as f64 > world.dropped() {
        shared.ledger.violation(format!(
            "{unexplained} spans have a parent that never came, and {} were dropped",
            world.dropped()
        ));
    }
    held
}

fn report(
    world: &World,
    shared: &Shared,
    spans: &Spans,
    suffered: &BTreeMap<Fault, u32>,
    (fresh, held): (u64, u64),
) -> ExitCode {
    println!("\nfaults:");
    for (fault, times) in suffered {
        println!("  {times:4}  {fault:?}");
    }
    let counts = shared.ledger.counts();
    let found = spans.found();
    println!(
        "\nmessages: {} sent, {} stored, {} refused, {} without an answer; {} delivered, in {} deliveries",
        counts.sent,
        counts.stored,
        counts.refused,
        counts.open,
        counts.delivered,
        counts.deliveries
    );
    println!(
        "others: {} answers as they had to be; {} connections ended under a client",
        shared.answers.load(Relaxed),
        shared.ended.load(Relaxed)
    );
    println!(
        "spans: {} ({} of deliveries), {} with a parent that never came, {} dropped, {} proxies killed",
        found.spans,
        found.deliveries,
        found.orphans.len(),
        world.dropped(),
        world.kills.len()
    );
    println!("memory of the proxy: {fresh} bytes after its start, {held} in the end");
    for what in shared.ledger.told() {
        println!("VIOLATION {what}");
    }
    println!("\n{} violations", shared.ledger.counts().violations);
    if shared.ledger.counts().violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the group has been given everything and has acknowledged it. (Its `lag` is not always known.)
fn is_consumed(master: &mut Client, stream: &str) -> bool {
    let after = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("{name}\r\n"))?;
        // A bulk string's length comes first.
        Some(rest.lines().find(|line| !line.starts_with('$'))?.to_owned())
    };
    let groups = master.call(&["XINFO", "GROUPS", stream]);
    let all = master.call(&["XINFO", "STREAM", stream]);
    after(&groups, "pending").is_some_and(|pending| pending == ":0")
        && after(&groups, "last-delivered-id") == after(&all, "last-generated-id")
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    kilobytes.unwrap_or(0) * 1024
}
