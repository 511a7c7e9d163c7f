//! What a server refuses for the state it is in: each is the one answer to its command.

use tars_tests::dialogue::Dialogue;

/// Messages, in and out of transactions, and what changes the framing.
const COMMANDS: [&str; 16] = [
    "XADD s 1-1 f v",
    "XRANGE s - +",
    "MULTI",
    "XADD s 2-1 f v",
    "XREADGROUP GROUP g c STREAMS s >",
    "EXEC",
    "MULTI",
    "GET k",
    "DISCARD",
    "SUBSCRIBE a",
    "UNSUBSCRIBE a",
    "SELECT 1",
    "SELECT 0",
    "HELLO 3",
    "XADD s 3-1 f v",
    "HELLO 2",
];

fn all_while(begin: &[&str], end: &[&str]) -> Dialogue {
    let dialogue = Dialogue::new().with_client_ids();
    dialogue.commands(&[begin, &COMMANDS, end, &COMMANDS].concat())
}

#[test]
fn a_replica_is_read_only() {
    all_while(&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]).check_all();
}

#[test]
fn a_replica_without_its_master() {
    let stale = "CONFIG SET replica-serve-stale-data no";
    all_while(
        &[stale, "REPLICAOF 127.0.0.1 1"],
        &[
            "REPLICAOF NO ONE",
            "CONFIG SET replica-serve-stale-data yes",
        ],
    )
    .check_all();
}

#[test]
fn a_master_without_replicas() {
    all_while(
        &["CONFIG SET min-replicas-to-write 1"],
        &["CONFIG SET min-replicas-to-write 0"],
    )
    .check_all();
}

#[test]
fn a_server_without_memory() {
    all_while(&["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]).check_all();
}

#[test]
fn a_server_busy_with_a_script() {
    let busy = |ping: &str| ping.starts_with("-BUSY");
    Dialogue::new()
        .with_client_ids()
        .meanwhile("CONFIG SET lua-time-limit 1")
        .meanwhile_unanswered("EVAL while(true)do\nend 0")
        .until("PING", busy)
        .commands(&COMMANDS)
        .commands(&["RESET"])
        .hear("+RESET\r\n")
        .until("SCRIPT KILL", |killed| {
            killed.starts_with('+') || killed.starts_with("-NOTBUSY")
        })
        .until("PING", |ping| ping.starts_with('+'))
        .commands(&COMMANDS)
        .check_all();
}
