//! Any bytes from a client and from a server, in any pieces: nothing is lost or changed but what messages get, memory is
//! bounded, and the same spans come out however the bytes are cut.
//!
//! The input: how large the pieces are, then what the client sends, a NUL, and what the server sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tars_proxy::testing::{World, seed};

struct Seen {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    spans: String,
    raw: Option<&'static str>,
}

thread_local! {
    /// One for all runs: making its metrics takes a hundred times as long as one.
    static WORLD: World = World::default();
}

fn run(world: &World, client: &[u8], server: &[u8], pieces: usize) -> Seen {
    seed(1);
    world.destination.upstream.set_open(true);
    let mut link = world.connect();
    let mut to_server: Vec<u8> = client
        .chunks(pieces)
        .flat_map(|piece| link.client(piece))
        .collect();
    let mut to_client: Vec<u8> = server
        .chunks(pieces)
        .flat_map(|piece| link.server(piece))
        .collect();
    let (up, down) = link.half_done();
    to_server.extend_from_slice(up);
    to_client.extend_from_slice(down);
    let raw = link.raw();
    link.close();
    assert!(link.cx.inflight.is_empty());
    let mut spans = world.spans();
    world
        .worker
        .shared
        .deliveries
        .lock()
        .drain(link.cx.now.get(), &mut spans);
    Seen {
        to_server,
        to_client,
        spans: format!("{spans:?}"),
        raw,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&pieces, rest)) = input.split_first() else {
        return;
    };
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(rest.len());
    let (client, server) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
    let whole = WORLD.with(|world| run(world, client, server, usize::MAX));
    let split = WORLD.with(|world| run(world, client, server, usize::from(pieces).max(1)));
    assert_eq!(whole.to_client, server);
    assert!(whole.to_server.len() >= client.len());
    if !client
        .windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"xadd"))
    {
        assert_eq!(whole.to_server, client);
    }
    assert_eq!(whole.to_server, split.to_server);
    assert_eq!(whole.to_client, split.to_client);
    assert_eq!(whole.spans, split.spans);
    assert_eq!(whole.raw, split.raw);
});
