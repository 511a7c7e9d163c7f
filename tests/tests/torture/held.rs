//! Clients that make the proxy hold as much as they can: half commands, messages that never end, replies that nobody reads,
//! commands that wait. What each may cost is in `docs/operations.md`, under Memory.

use std::fmt::Write;

use tars_proxy::config::Limits;
use tars_proxy::worker::FREE_PENDING;
use tars_tests::resp::{Client, encode, pipeline};
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

use crate::scene::{DIRECTION, Scene};

/// What a connection takes that has nothing but the beginning of a command.
const IDLE: usize = 4 << 10;

/// What all connections together may take for messages that are held, with what the allocator adds; and what each may besides.
const HELD: usize = Limits::DEFAULT.max_held_bytes / 4 * 5;
const READ: usize = 64 << 10;

/// The same for commands that wait for their replies.
const PENDING: usize = Limits::DEFAULT.max_pending_bytes / 4 * 5;

/// Waits until the proxy has read as much from clients as they have sent, but for what the bystander sends meanwhile.
#[track_caller]
fn wait_read(scene: &Scene, bytes: usize) {
    let (name, side) = ("tars_proxy_bytes_total", [("side", "client")]);
    let wanted = |read| read >= bytes as f64;
    scene.stage.proxy.wait_metric(name, &side, wanted);
}

fn traceparent(n: usize) -> String {
    format!("00-{n:032x}-00000000000000ff-01")
}

/// 512 bytes that are passed on.
fn tracestate() -> String {
    let members = (0..4).map(|n| format!("k{n}={}", "x".repeat(124)));
    members.collect::<Vec<_>>().join(",")
}

#[test]
fn thousands_of_half_commands() {
    const CLIENTS: usize = 2_000;
    let commands = [
        "*1\r\n$4\r\nPING\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        "*5\r\n$4\r\nXADD\r\n$5\r\nflood\r\n$1\r\n*\r\n$1\r\nf\r\n$1\r\nv\r\n",
        "XADD flood * f v\r\n",
    ];
    let scene = Scene::of(Kind::Redis82);
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let command = commands[n % commands.len()];
        let (half, rest) = command.split_at(1 + n % (command.len() - 1));
        let mut client = scene.connect();
        client.send(half);
        clients.push((client, rest));
    }
    // Each is still good for the other half.
    for (client, rest) in &mut clients {
        client.send(rest);
        let reply = client.reply();
        assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
    }
    scene.over(CLIENTS * IDLE);
}

/// A message of nearly the largest size, and how much of it is sent.
fn large_message() -> (Vec<u8>, usize) {
    let value = vec![b'x'; (1 << 20) - 1024];
    let message = encode(&[b"XADD".as_slice(), b"flood", b"*", b"f", &value]);
    let half = message.len() - 100;
    (message, half)
}

#[test]
fn messages_that_never_end() {
    const CLIENTS: usize = 64;
    let scene = Scene::of(Kind::Redis82);
    let (message, half) = large_message();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = scene.connect();
            client.send(&message[..half]);
            client
        })
        .collect();
    wait_read(&scene, CLIENTS * half);
    let growth = scene.growth();
    assert!(growth > CLIENTS * half, "they are held: {growth}");
    drop(clients);
    scene.over(CLIENTS * DIRECTION);
}

/// What finds no room in what all connections share passes as it comes.
#[test]
fn more_messages_that_never_end_than_there_is_room_for() {
    const CLIENTS: usize = 250;
    let scene = Scene::of(Kind::Redis82);
    let (message, half) = large_message();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = scene.connect();
            client.send(&message[..half]);
            client
        })
        .collect();
    wait_read(&scene, CLIENTS * half);
    let (name, reason) = (
        "tars_proxy_contexts_skipped_total",
        [("reason", "too_large")],
    );
    let passed = scene.stage.proxy.metric(name, &reason);
    assert!(passed > CLIENTS as f64 / 4.0, "{passed} of them pass");
    // All of them are messages in the end.
    for client in &mut clients {
        client.send(&message[half..]);
        assert!(client.reply().starts_with(b"$"));
    }
    scene.over(HELD + CLIENTS * READ);
}

/// The same from a server that never ends an entry.
#[test]
fn more_entries_that_never_end_than_there_is_room_for() {
    const CLIENTS: usize = 250;
    let scene = Scene::of_lies();
    let value = "x".repeat((1 << 20) - 1024);
    let reply = format!(
        "*1\r\n*2\r\n$5\r\nflood\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n${}\r\n{value}\r\n",
        value.len()
    );
    let (half, rest) = reply.split_at(reply.len() - 100);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (go_on, told) = std::sync::mpsc::channel::<()>();
        let (half, rest) = (half.to_owned(), rest.to_owned());
        let mut client = scene.connect_to(move |mut server| {
            server.reply();
            server.send(half);
            let _ = told.recv();
            server.send(rest);
        });
        client.send(pipeline(&["XREAD STREAMS flood 0"]));
        clients.push((client, go_on));
    }
    let (name, side) = ("tars_proxy_bytes_total", [("side", "server")]);
    let wanted = |read| read >= (CLIENTS * half.len()) as f64;
    scene.stage.proxy.wait_metric(name, &side, wanted);
    // All at once: which of the lies is whose is not certain.
    for (_, go_on) in &clients {
        go_on.send(()).unwrap();
    }
    for (client, _) in &mut clients {
        assert!(client.reply() == reply.as_bytes());
    }
    scene.over(HELD + CLIENTS * READ);
}

/// A client that sends half of a large message and reads none of the replies with large entries: held in both directions.
#[test]
fn both_directions() {
    const CLIENTS: usize = 32;
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        let (message, half) = large_message();
        let mut client = scene.connect();
        client.send(&message);
        assert!(client.reply().starts_with(b"$"));
        let question = pipeline(&["XREAD STREAMS flood 0"]).repeat(20);
        let clients: Vec<Client> = (0..CLIENTS)
            .map(|_| {
                let mut client = scene.connect();
                client.send(&question);
                client.send(&message[..half]);
                client
            })
            .collect();
        wait_read(&scene, CLIENTS * half);
        // The first reply fits the kernel's buffers at most: the proxy waits for room.
        drop(clients);
        scene.over(CLIENTS * 2 * DIRECTION);
    }
}

#[test]
fn values_that_nobody_reads() {
    const QUESTIONS: usize = 10_000;
    for kind in Kind::ALL {
        let scene = Scene::of(kind);
        let value = "v".repeat(10_000);
        scene.stage.direct(&format!("SET k {value}"));
        let mut client = scene.connect();
        client.send(pipeline(&["GET k"]).repeat(QUESTIONS));
        wait::until("the server has answered all", PATIENCE, || {
            let stats = scene.stage.direct("INFO commandstats");
            let calls = format!("cmdstat_get:calls={QUESTIONS},");
            stats.contains(&calls).then_some(())
        });
        // They wait in the server.
        let reply = format!("$10000\r\n{value}\r\n");
        for n in 0..QUESTIONS {
            assert!(client.read_exactly(reply.len()) == reply.as_bytes(), "{n}");
        }
        scene.over(DIRECTION);
    }
}

/// A server that closes on a client that does not read is let close: what the client reads then is what was said, up to
/// where it was cut off.
#[test]
fn the_server_s_own_bound() {
    const QUESTIONS: usize = 20_000;
    for kind in Kind::ALL {
        let server = Server::builder(kind)
            .args(["--client-output-buffer-limit", "normal 16mb 0 0"])
            .start();
        let scene = Scene::with(server, |proxy| proxy);
        let value = "v".repeat(10_000);
        scene.stage.direct(&format!("SET k {value}"));
        let mut client = scene.connect();
        let _ = client.try_send(&pipeline(&["GET k"]).repeat(QUESTIONS));
        scene.wait_alone();
        let (bytes, _) = client.read_until_closed();
        let reply = format!("$10000\r\n{value}\r\n");
        let cut = bytes.len() % reply.len();
        let whole = bytes.chunks(reply.len());
        assert!(bytes.len() < QUESTIONS * reply.len());
        assert!(
            whole
                .rev()
                .skip(usize::from(cut > 0))
                .all(|it| it == reply.as_bytes()),
            "{kind}"
        );
        scene.over(DIRECTION);
    }
}

/// Commands behind one that waits: all are remembered until they are answered, as far as there is room.
#[test]
fn commands_that_wait() {
    const CLIENTS: usize = 4;
    const COMMANDS: usize = 15_000;
    let scene = Scene::of(Kind::Redis82);
    let (long, state) = ("n".repeat(1_000), tracestate());
    let mut sent = 0;
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            let mut client = scene.connect();
            client.send(pipeline(&[&format!("BLPOP never{n} 0")]));
            for k in 0..COMMANDS {
                let (key, id) = (format!("{k}-{n}-{long}"), traceparent(k + 1));
                let command = match k % 4 {
                    0 => encode(&["XADD", &key, "*", "traceparent", &id, "tracestate", &state]),
                    1 => encode(&["XADD", &format!("flood{key}"), "*", "f", "v"]),
                    2 => encode(&["XREADGROUP", "GROUP", &key, &key, "STREAMS", &key, ">"]),
                    _ => encode(&["XACK", &key, "g", "1-1", "2-1", "3-1"]),
                };
                sent += command.len();
                client.send(command);
            }
            client
        })
        .collect();
    wait_read(&scene, sent);
    let waiting = scene.growth();
    assert!(waiting > PENDING / 2, "they are remembered: {waiting}");
    // Before they end: their spans would drown the bystander's.
    scene.over(PENDING + CLIENTS * (DIRECTION + FREE_PENDING));
    drop(clients);
}

/// A transaction that grows without end: each command is answered, and EXEC does not come.
#[test]
fn commands_of_a_transaction_without_end() {
    let mut ids = String::new();
    for n in 0..50_000 {
        let _ = write!(ids, " {n}-1");
    }
    let settle = pipeline(&[&format!("XACK s g{ids}")]);
    let scene = Scene::of(Kind::Redis82);
    let mut client = scene.connect();
    client.call(&["MULTI"]);
    for _ in 0..100 {
        client.send(&settle);
        assert_eq!(client.reply(), b"+QUEUED\r\n");
    }
    let (mut other, state) = (scene.connect(), tracestate());
    other.call(&["MULTI"]);
    for n in 0..50 {
        let commands: Vec<u8> = (0..1000)
            .flat_map(|k| {
                let id = traceparent(n * 1000 + k + 1);
                encode(&["XADD", "s", "*", "traceparent", &id, "tracestate", &state])
            })
            .collect();
        other.send(&commands);
        other.replies(1000);
    }
    // Before they end: their spans would drown the bystander's.
    scene.over(PENDING + 2 * (2 * DIRECTION + FREE_PENDING));
    drop((client, other));
}
