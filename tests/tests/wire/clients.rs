//! CLIENT: what clients do to each other, and what they say of themselves.

use tars_tests::dialogue::Dialogue;
use tars_tests::mask;
use tars_tests::resp::pipeline;

/// A client that others find.
fn me() -> Dialogue {
    Dialogue::new()
        .commands(&["CLIENT SETNAME me"])
        .hear("+OK\r\n")
}

#[test]
fn killed_by_another() {
    for kill in [
        "CLIENT KILL ID {id}",
        "CLIENT KILL ADDR {addr}",
        "CLIENT KILL {addr}",
        "CLIENT KILL TYPE normal SKIPME yes",
        "CLIENT KILL USER default SKIPME yes",
    ] {
        me().meanwhile(kill).closes().check_all();
    }
}

#[test]
fn killed_in_every_state() {
    let kill = "CLIENT KILL ID {id}";
    for (commands, end) in [
        (&["SUBSCRIBE a b"][..], ":2\r\n"),
        (&["MULTI", "XADD s 1-1 f v"], "QUEUED\r\n"),
        (
            &["CLIENT REPLY OFF", "SET k v", "CLIENT REPLY ON"],
            "+OK\r\n",
        ),
        (&["HELLO 3", "CLIENT TRACKING ON", "GET k"], "_\r\n"),
    ] {
        let dialogue = me().with_client_ids().commands(commands).hear(end);
        dialogue.meanwhile(kill).closes().check_all();
    }
    for blocking in [
        "BLPOP l 0",
        "XREAD BLOCK 0 STREAMS s $",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
    ] {
        me().commands(&["XGROUP CREATE s g $ MKSTREAM", blocking, "GET k"])
            .hear("+OK\r\n")
            .blocks()
            .meanwhile(kill)
            .closes()
            .check_all();
    }
}

#[test]
fn killed_by_itself() {
    // Its own reply still comes.
    let auth = ["AUTH u x"];
    Dialogue::new()
        .prepare("ACL SETUSER u on nopass allkeys allchannels +@all")
        .masked(mask::numbers)
        .commands(&auth)
        .hear("+OK\r\n")
        .commands(&["XADD s 1-1 f v", "CLIENT KILL USER u SKIPME no"])
        .closes()
        .check_all();
}

#[test]
fn unblocked_by_another() {
    for how in ["", " TIMEOUT", " ERROR"] {
        let unblock = format!("CLIENT UNBLOCK {{id}}{how}");
        for hello in ["HELLO 2", "HELLO 3"] {
            let commands = [
                "XGROUP CREATE s g $ MKSTREAM",
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                "XADD other 1-1 f v",
                "XREAD BLOCK 0 STREAMS s $",
                "BLMOVE l m LEFT LEFT 0",
                "BZPOPMIN z 0",
                "WAIT 9 0",
                "XLEN other",
            ];
            let mut dialogue = Dialogue::new()
                .with_client_ids()
                .commands(&[&format!("{hello} SETNAME me")])
                .commands(&commands)
                .hear("+OK\r\n");
            for _ in 0..5 {
                dialogue = dialogue.blocks().meanwhile(&unblock);
            }
            dialogue.check_all();
        }
    }
}

#[test]
fn paused_and_let_go_on() {
    let commands = [
        "GET none",
        "XGROUP CREATE s g $ MKSTREAM",
        "XADD s 1-1 f v",
        "XREADGROUP GROUP g c STREAMS s >",
        "XACK s g 1-1",
        "MULTI",
        "SET k v",
        "EXEC",
    ];
    Dialogue::new()
        .meanwhile("CLIENT PAUSE 1000000 WRITE")
        .commands(&commands)
        .blocks()
        .meanwhile("CLIENT UNPAUSE")
        .check_all();
    // Of all clients, so that nobody could end it.
    Dialogue::new()
        .commands(&["CLIENT PAUSE 20", "GET none", "XADD s 1-1 f v"])
        .uncut()
        .check_all();
}

#[test]
fn a_list_tells_of_a_client_what_it_is() {
    // One line, without numbers: addresses are the proxy's.
    fn mine(heard: &str) -> String {
        let mut lines = heard.split("\\n").filter(|line| line.contains(" name=me "));
        let asking = lines.find(|line| line.contains(" cmd=client"));
        mask::numbers(asking.unwrap_or(heard))
    }
    let commands = [
        "CLIENT SETNAME me",
        "CLIENT SETINFO LIB-NAME lib",
        "CLIENT NO-EVICT ON",
        "SELECT 3",
        "WATCH a b",
        "CLIENT LIST",
    ];
    let transaction = ["MULTI", "CLIENT LIST TYPE normal", "EXEC"];
    for then in [&[][..], &transaction] {
        let dialogue = Dialogue::new().masked(mine);
        dialogue.commands(&[&commands, then].concat()).check_all();
    }
}

#[test]
fn every_command_is_told_to_a_monitor() {
    // The proxies beside this one ask now and then whether the server is there.
    fn without_probes(heard: &str) -> String {
        let masked = mask::numbers(heard);
        masked.replace("+0 [0 0:0] \\\"PING\\\"\\r\\n", "")
    }
    let begin = ["SET k v", "MONITOR"];
    Dialogue::new()
        .masked(without_probes)
        .commands(&begin)
        .hear("+OK\r\n+OK\r\n")
        .meanwhile("XADD s 1-1 f v")
        .hear("\"v\"\r\n")
        .commands(&["GET k", "RESET", "GET k"])
        .cut_up_to(pipeline(&begin).len())
        .turns_raw()
        .check_all();
    Dialogue::new()
        .commands(&["MULTI", "MONITOR", "EXEC", "GET k"])
        .turns_raw()
        .check_all();
}
