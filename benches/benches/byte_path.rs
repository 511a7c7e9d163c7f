//! What the byte path costs, by stage. Figures are per command or per entry (criterion's `elem/s`, inverted), of a
//! message with five fields.

#![allow(clippy::cast_possible_truncation)]
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tars_proxy::chunk::Chunk;
use tars_proxy::config::{Address, Config, InferParent};
use tars_proxy::connection::Connection;
use tars_proxy::request::scan::{Head, Span32, head};
use tars_proxy::request::xadd::{self, Carried};
use tars_proxy::request::{Context, Requests};
use tars_proxy::response::Replies;
use tars_proxy::response::skim::Skim;
use tars_proxy::socket::Socket;
use tars_proxy::testing::{World, command};
use tars_proxy::trace::context::{SpanContext, TraceState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

/// Commands that arrive in one read, and entries of one reply.
const PIPELINE: usize = 16;
/// Pipelines between two looks at the clock: their spans fit into the queue, which is emptied in between.
const ROUND: usize = 64;

const FIELDS: [&str; 10] = [
    "order",
    "12345678",
    "customer",
    "c-987654",
    "amount",
    "129.90",
    "currency",
    "EUR",
    "created",
    "2026-11-22T09:00:00Z",
];

fn an_xadd() -> Vec<u8> {
    command(["XADD", "orders", "*"].into_iter().chain(FIELDS))
}

/// XREADGROUP's reply: entries as they were stored, with a context each.
fn delivered(first: usize) -> Vec<u8> {
    let mut out = format!("*1\r\n*2\r\n$6\r\norders\r\n*{PIPELINE}\r\n").into_bytes();
    for n in first..first + PIPELINE {
        let id = id(n);
        out.extend_from_slice(format!("*2\r\n${}\r\n{id}\r\n", id.len()).as_bytes());
        let traceparent = SpanContext::root(true).traceparent();
        let fields = FIELDS
            .iter()
            .map(|field| field.as_bytes())
            .chain([&b"traceparent"[..], &traceparent]);
        out.extend_from_slice(&command(fields));
    }
    out
}

fn id(n: usize) -> String {
    format!("1790000000000-{n}")
}

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, one) in [
        ("xadd", an_xadd()),
        ("get", command(["GET", "some:key"])),
        ("set_64k", command(["SET", "k", &"x".repeat(65_536)])),
    ] {
        let bytes = one.repeat(PIPELINE);
        group.throughput(Throughput::Elements(PIPELINE as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut at = 0;
                while at < bytes.len() {
                    let Ok(Head::Array { mut cursor, .. }) = head(&bytes[at..]) else {
                        return 0;
                    };
                    assert!(
                        cursor
                            .walk(&bytes[at..], |arg| {
                                black_box(arg);
                            })
                            .unwrap()
                    );
                    at += cursor.pos;
                }
                at
            });
        });
    }
    group.finish();
}

fn skim(c: &mut Criterion) {
    let mut group = c.benchmark_group("skim");
    for (name, bytes, elements) in [
        ("ok", b"+OK\r\n".repeat(PIPELINE), PIPELINE),
        ("bulk", b"$8\r\n12345678\r\n".repeat(PIPELINE), PIPELINE),
        ("entry", delivered(0), PIPELINE),
        (
            "bulk_64k",
            [b"$65536\r\n", &[b'x'; 65_536][..], b"\r\n"].concat(),
            1,
        ),
    ] {
        group.throughput(Throughput::Elements(elements as u64));
        group.bench_function(name, |b| {
            let mut skim = Skim::default();
            b.iter(|| {
                let mut at = 0;
                while at < bytes.len() {
                    skim.start();
                    at += skim.skip(&bytes[at..]).unwrap();
                }
                at
            });
        });
    }
    group.finish();
}

/// A connection, seen from the thread's buffers.
struct Bench {
    world: World,
    cx: Context,
    requests: Requests,
    replies: Replies,
    work: Vec<u8>,
    out: Vec<u8>,
    spans: Vec<tars_proxy::trace::span::Span>,
}

impl Bench {
    fn new() -> Self {
        let world = World::default();
        let (cx, requests, replies) = (world.context(), Requests::default(), Replies::default());
        Self {
            world,
            cx,
            requests,
            replies,
            work: Vec::new(),
            out: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// One read from the client, as the connection treats it.
    fn client(&mut self, bytes: &[u8]) {
        self.work.clear();
        self.work.extend_from_slice(bytes);
        let mut consumed = 0;
        let mut chunk = Chunk::new(&mut self.work, &mut self.out);
        self.requests
            .process(&mut chunk, &mut self.cx, &mut consumed)
            .unwrap();
        black_box(chunk.finish(consumed));
        self.world.worker.flush();
    }

    /// One read from the server.
    fn server(&mut self, bytes: &[u8]) {
        self.work.clear();
        self.work.extend_from_slice(bytes);
        let mut consumed = 0;
        let mut chunk = Chunk::new(&mut self.work, &mut self.out);
        self.replies
            .process(&mut chunk, &mut self.cx, &mut consumed)
            .unwrap();
        black_box(chunk.finish(consumed));
        black_box(self.replies.reached_client().count());
        self.world.worker.flush();
    }

    /// What the exporter's thread does.
    fn export(&mut self) {
        self.world.exported(&mut self.spans);
        assert!(!self.spans.is_empty(), "there is something to export");
    }
}

/// Times `iterations` calls of `timed`, with untimed work between rounds.
fn rounds(
    bench: &mut Bench,
    iterations: u64,
    mut timed: impl FnMut(&mut Bench),
    mut untimed: impl FnMut(&mut Bench),
) -> Duration {
    let (mut left, mut total) = (iterations, Duration::ZERO);
    while left > 0 {
        let round = left.min(ROUND as u64);
        let start = Instant::now();
        for _ in 0..round {
            timed(bench);
        }
        total += start.elapsed();
        untimed(bench);
        left -= round;
    }
    total
}

fn inject(c: &mut Criterion) {
    let mut group = c.benchmark_group("inject");
    let one = an_xadd();
    group.throughput(Throughput::Elements(1));
    group.bench_function("without_span", |b| {
        let (mut work, mut out, mut args) = (one.clone(), Vec::new(), Vec::<Span32>::new());
        b.iter(|| {
            let mut chunk = Chunk::new(&mut work, &mut out);
            let (buf, splice) = chunk.split();
            let Ok(Head::Array {
                header_end,
                mut cursor,
                ..
            }) = head(buf)
            else {
                return 0;
            };
            args.clear();
            cursor.walk(buf, |arg| args.push(arg)).unwrap();
            let command = xadd::parse(buf, &args).unwrap();
            let carried = Carried::read(xadd::fields(buf, &args, command));
            let context = SpanContext::root(true);
            xadd::rewrite(
                buf,
                &args,
                header_end,
                command,
                &carried,
                &context,
                &TraceState::default(),
                splice,
            );
            black_box(chunk.finish(cursor.pos)).len()
        });
    });

    let (pipeline, reply) = (
        one.repeat(PIPELINE),
        b"$15\r\n1790000000000-0\r\n".repeat(PIPELINE),
    );
    group.throughput(Throughput::Elements(PIPELINE as u64));
    group.bench_function("with_span", |b| {
        b.iter_custom(|iterations| {
            let exchange = |bench: &mut Bench| {
                bench.client(&pipeline);
                bench.server(&reply);
            };
            rounds(&mut Bench::new(), iterations, exchange, Bench::export)
        });
    });
    group.bench_function("with_span_one_by_one", |b| {
        let (one, reply) = (&one, &reply[..reply.len() / PIPELINE]);
        b.iter_custom(|iterations| {
            let exchange = |bench: &mut Bench| {
                for _ in 0..PIPELINE {
                    bench.client(one);
                    bench.server(reply);
                }
            };
            rounds(&mut Bench::new(), iterations, exchange, Bench::export)
        });
    });
    group.finish();
}

fn extract(c: &mut Criterion) {
    let mut group = c.benchmark_group("extract");
    let read = command([
        "XREADGROUP",
        "GROUP",
        "billing",
        "worker-1",
        "COUNT",
        "16",
        "STREAMS",
        "orders",
        ">",
    ]);
    // Each round delivers messages of its own, so that none supersedes another.
    let rounds_of: Vec<(Vec<u8>, Vec<u8>)> = (0..ROUND)
        .map(|n| {
            let ids = (n * PIPELINE..(n + 1) * PIPELINE).map(id);
            let ack = ["XACK", "orders", "billing"]
                .into_iter()
                .map(str::to_owned)
                .chain(ids);
            (delivered(n * PIPELINE), command(ack))
        })
        .collect();
    let settle_all = |bench: &mut Bench| {
        let mut spans = Vec::new();
        bench
            .world
            .worker
            .shared
            .deliveries
            .lock()
            .drain(bench.cx.now.get(), &mut spans);
        assert!(!spans.is_empty());
    };
    group.throughput(Throughput::Elements(PIPELINE as u64));
    group.bench_function("delivered", |b| {
        b.iter_custom(|iterations| {
            let mut n = 0;
            let timed = |bench: &mut Bench| {
                n += 1;
                bench.client(&read);
                bench.server(&rounds_of[n % ROUND].0);
            };
            rounds(&mut Bench::new(), iterations, timed, settle_all)
        });
    });
    group.bench_function("delivered_and_settled", |b| {
        b.iter_custom(|iterations| {
            let mut n = 0;
            let timed = |bench: &mut Bench| {
                n += 1;
                let (reply, ack) = &rounds_of[n % ROUND];
                bench.client(&read);
                bench.server(reply);
                bench.client(ack);
                bench.server(b":16\r\n");
            };
            rounds(&mut Bench::new(), iterations, timed, Bench::export)
        });
    });
    group.finish();
}

const ID_REPLY: &[u8] = b"$15\r\n1790000000000-0\r\n";

/// Answers every command with an ID.
async fn fake_server(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            socket.set_nodelay(true).unwrap();
            let (mut input, mut read) = (Vec::new(), vec![0; 65_536]);
            loop {
                let n = match socket.read(&mut read).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => n,
                };
                input.extend_from_slice(&read[..n]);
                let (mut at, mut commands) = (0, 0);
                while let Ok(Head::Array { mut cursor, .. }) = head(&input[at..]) {
                    if !cursor.walk(&input[at..], |_| ()).unwrap() {
                        break;
                    }
                    at += cursor.pos;
                    commands += 1;
                }
                input.drain(..at);
                if socket.write_all(&ID_REPLY.repeat(commands)).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A pipeline of XADDs over real sockets and back, all in one thread: what is more than `direct` is the proxy's, its four
/// system calls included.
fn full_path(c: &mut Criterion) {
    let mut group = c.benchmark_group("full_path");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    let pipeline = an_xadd().repeat(PIPELINE);
    group.throughput(Throughput::Elements(PIPELINE as u64));
    for (name, trace) in [
        ("direct", None),
        ("untraced", Some(false)),
        ("traced", Some(true)),
    ] {
        let (mut client, world) = runtime.block_on(async {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap();
            tokio::task::spawn_local(fake_server(server));
            let Some(trace) = trace else {
                return (TcpStream::connect(address).await.unwrap(), None);
            };
            let config = Config {
                trace,
                ..Config::default()
            };
            let world = World::before(
                Address::tcp("127.0.0.1", address.port()),
                config,
                InferParent::Off,
            );
            let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(front.local_addr().unwrap())
                .await
                .unwrap();
            let (accepted, _) = front.accept().await.unwrap();
            accepted.set_nodelay(true).unwrap();
            let destination = world.destination.clone();
            let (upstream, connected) = destination.upstream.connect().await.unwrap();
            let worker = Rc::clone(&world.worker);
            tokio::task::spawn_local(Connection::new(
                worker,
                world.listener.clone(),
                destination,
                Socket::Tcp(accepted),
                upstream,
                connected,
            ));
            (client, Some(world))
        });
        client.set_nodelay(true).unwrap();
        let mut reply = vec![0; ID_REPLY.len() * PIPELINE];
        let mut spans = Vec::new();
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let (mut left, mut total) = (iterations, Duration::ZERO);
                while left > 0 {
                    let round = left.min(ROUND as u64);
                    total += runtime.block_on(async {
                        let start = Instant::now();
                        for _ in 0..round {
                            client.write_all(&pipeline).await.unwrap();
                            client.read_exact(&mut reply).await.unwrap();
                        }
                        start.elapsed()
                    });
                    if let Some(world) = &world {
                        world.exported(&mut spans);
                    }
                    left -= round;
                }
                total
            });
        });
    }
    group.finish();
}

criterion_group!(byte_path, scan, skim, inject, extract, full_path);
criterion_main!(byte_path);
