//! Servers that belong together, with proxies between and before them: replicas, Sentinel, Cluster.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod cluster;
mod replica;
mod sentinel;

use std::thread;

use tars_tests::resp::{Client, encode};
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};

/// On every kind of server at once: most of it is waiting.
fn on_all(test: impl Fn(Kind) + Sync) {
    thread::scope(|scope| {
        for kind in Kind::ALL {
            let test = &test;
            scope.spawn(move || test(kind));
        }
    });
}

/// A command in words.
#[track_caller]
fn call(client: &mut Client, command: &str) -> String {
    client.call(&command.split(' ').collect::<Vec<_>>())
}

/// A value of INFO; empty if there is none of that name, or if the server ends the connection, as on a change of its role.
fn info(server: &Server, section: &str, name: &str) -> String {
    let ask = || {
        let mut client = Client::open(server.address(), PATIENCE)?;
        client.try_send(&encode(&["INFO", section]))?;
        client.try_reply()
    };
    let info = ask().unwrap_or_default();
    let info = String::from_utf8_lossy(&info);
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
    info.split("\r\n").find_map(value).unwrap_or_default()
}

#[track_caller]
fn wait_info(server: &Server, section: &str, name: &str, wanted: &str) {
    let mut last = String::new();
    wait::poll(PATIENCE, || {
        last = info(server, section, name);
        (last == wanted).then_some(())
    });
    assert_eq!(last, wanted, "{}: {name}", server.kind());
}

/// Host and port, as commands take them.
fn host_and_port(address: &str) -> String {
    address.replacen(':', " ", 1)
}
