//! Many commands at once.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::{exchange, pipeline};
use tars_tests::server::Kind;
use tars_tests::stage::Stage;
use tars_tests::wait::PATIENCE;

#[test]
fn replies_of_every_kind_in_one_pipeline() {
    let commands = [
        "SET k v",
        "GET k",
        "GET none",
        "INCR k",
        "LRANGE none 0 -1",
        "XADD s 1-1 f v",
        "XADD s 1-1 f v",
        "XADD s",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c STREAMS s >",
        "XREADGROUP GROUP g c STREAMS s >",
        "XPENDING s g",
        "XACK s g 1-1",
        "XRANGE s - +",
        "NOSUCH a b",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn state_of_the_connection_changes_within_a_pipeline() {
    let commands = [
        "SELECT 3",
        "SET k three",
        "SELECT 0",
        "GET k",
        "SELECT 99999",
        "SELECT x",
        "CLIENT SETNAME me",
        "CLIENT GETNAME",
        "SELECT 3",
        "GET k",
    ];
    Dialogue::new().commands(&commands).check_all();
}

#[test]
fn a_long_pipeline_of_messages_has_all_its_spans() {
    const COUNT: usize = 2_000;
    let stage = Stage::of(Kind::Valkey);
    let adds: Vec<String> = (1..=COUNT)
        .map(|n| format!("XADD s {n}-1 f v"))
        .flat_map(|add| [add, "PING".to_owned(), "GET none".to_owned()])
        .collect();
    let adds: Vec<&str> = adds.iter().map(String::as_str).collect();
    let replies = exchange(stage.proxy.address(), &pipeline(&adds), adds.len());
    for (n, reply) in replies.iter().step_by(3).enumerate() {
        let id = format!("{}-1", n + 1);
        assert_eq!(
            reply.escape_ascii().to_string(),
            format!("${}\\r\\n{id}\\r\\n", id.len())
        );
    }
    let spans = stage
        .collector
        .wait_for(PATIENCE, |spans| spans.len() >= COUNT);
    let mut ids: Vec<u64> = spans
        .iter()
        .map(|span| {
            span.attr("messaging.message.id")
                .as_str()
                .unwrap()
                .trim_end_matches("-1")
                .parse()
                .unwrap()
        })
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=COUNT as u64));
    assert_eq!(stage.raw_relays(), 0.0);
}
