//! A server in a cluster, which refuses keys of other nodes, and takes channels away when their slot moves.

use tars_tests::dialogue::Dialogue;
use tars_tests::port::Port;
use tars_tests::server::{Kind, Server};
use tars_tests::wait::{self, PATIENCE};
use tars_tests::ways::Ways;

/// The slot of `here`, and of `{here}…`.
const SLOT: u32 = 16_050;

/// A node with all slots but this one.
fn nodes() -> impl Iterator<Item = (Server, Port)> {
    Kind::ALL.into_iter().map(|kind| {
        let bus = Port::claim();
        let server = Server::builder(kind)
            .args([
                "--cluster-enabled",
                "yes",
                "--cluster-require-full-coverage",
                "no",
            ])
            .args(["--cluster-port".to_owned(), bus.number().to_string()])
            .start();
        let mut client = server.connect();
        let keyslot = client.call(&["CLUSTER", "KEYSLOT", "here"]);
        assert_eq!(keyslot, format!(":{SLOT}\r\n"));
        for (from, to) in [(0, SLOT - 1), (SLOT + 1, 16_383)] {
            let (from, to) = (from.to_string(), to.to_string());
            assert_eq!(
                client.call(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]),
                "+OK\r\n"
            );
        }
        wait::until("the cluster is up", PATIENCE, || {
            let info = client.call(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok").then_some(())
        });
        (server, bus)
    })
}

#[test]
fn keys_of_other_nodes_are_refused() {
    let commands = [
        "XADD s 1-1 f v",
        "XADD here 1-1 f v",
        "GET here",
        "MULTI",
        "XADD here 1-1 f v",
        "EXEC",
        "MULTI",
        "XADD s 2-1 f v",
        "EXEC",
        "XREAD STREAMS s other 0 0",
        "XREAD STREAMS s here 0 0",
        "SELECT 1",
        "READONLY",
        "GET here",
        "READWRITE",
        "ASKING",
        "GET here",
        "SSUBSCRIBE s here",
        "SSUBSCRIBE s",
        "SUNSUBSCRIBE s",
    ];
    for (server, _bus) in nodes() {
        Dialogue::new().commands(&commands).check(server);
    }
}

#[test]
fn channels_of_a_slot_that_moves_are_taken_away() {
    for (server, _bus) in nodes() {
        let ways = Ways::to(server);
        for hello in ["HELLO 2", "HELLO 3"] {
            Dialogue::new()
                .with_client_ids()
                .meanwhile(&format!("CLUSTER ADDSLOTS {SLOT}"))
                .commands(&[
                    hello,
                    "SSUBSCRIBE here {here}too",
                    "SUBSCRIBE other",
                    "PING x",
                ])
                .hear("x\r\n")
                .meanwhile(&format!("CLUSTER DELSLOTS {SLOT}"))
                .hear(":0\r\n")
                .commands(&["UNSUBSCRIBE", "SUNSUBSCRIBE", "XADD s 1-1 f v"])
                .check_over(&ways);
        }
    }
}
