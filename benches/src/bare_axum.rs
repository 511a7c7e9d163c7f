//! The least that axum can do, to compare with: a handler that takes a body and answers as many bytes of it as it is asked for. Allocator and sockets are
//! as `tars-agent serve` has them.
//!
//! `bare-axum LISTEN WORKERS [NICE]`: with NICE, a thread of that priority computes without an end, as learning would.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

async fn echo(Path(length): Path<usize>, body: Bytes) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        body.slice(..length.min(body.len())),
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [listen, workers, nice @ ..] = &args[..] else {
        return Err("usage: bare-axum LISTEN WORKERS [NICE]".into());
    };
    if let [nice] = nice {
        let nice = nice.parse()?;
        thread::spawn(move || {
            // Of this thread alone, on Linux.
            let _ = rustix::process::nice(nice);
            let mut state = 1_u64;
            loop {
                state = black_box(state.wrapping_mul(6_364_136_223_846_793_005));
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.parse()?)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let service = Router::new().route("/{length}", post(echo));
        Ok(axum::serve(listener, service).await?)
    })
}
