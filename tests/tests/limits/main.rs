//! What `docs/limits.md` says, row by row: each row that has no test elsewhere has one here. The document's last section names the
//! test of every row, and `proxy/tests/docs` holds it to that.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod added_fields;
mod bytes;
mod configured;
mod fixed;
mod passwords;
mod raw_relays;
mod server_view;
mod unseen;

use tars_tests::stage::Stage;

/// A stream with a group, and one message sent and delivered through the proxy.
fn delivered(stage: &Stage) {
    let mut client = stage.connect();
    client.call(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]);
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
}
