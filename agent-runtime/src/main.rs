//! Parses, runs, exits.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How jemalloc is to keep little for itself (docs/adr/0011): two arenas, threads keep few blocks of up to a KiB, and what is freed goes back to the kernel
/// after a second, what has two MiB or more at once. `_RJEM_MALLOC_CONF` in the environment has the last word.
#[allow(
    unsafe_code,
    reason = "jemalloc reads it by this name, which no other symbol has"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 101] =
    b"narenas:2,lg_tcache_max:10,tcache_nslots_small_max:32,dirty_decay_ms:1000,oversize_threshold:2097152\0";

fn main() -> ExitCode {
    tars_agent::cli::run()
}
