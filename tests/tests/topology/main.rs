//! Servers that belong together, with proxies between and before them: replicas, Sentinel, Cluster.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod replica;

use tars_tests::resp::Client;
use tars_tests::server::Server;
use tars_tests::wait::{self, PATIENCE};

/// A command in words.
#[track_caller]
fn call(client: &mut Client, command: &str) -> String {
    client.call(&command.split(' ').collect::<Vec<_>>())
}

/// A value of INFO; empty if there is none of that name.
#[track_caller]
fn info(server: &Server, section: &str, name: &str) -> String {
    let info = server.connect().call(&["INFO", section]);
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
