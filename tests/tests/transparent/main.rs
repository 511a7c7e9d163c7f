//! Transparent mode in network namespaces: connections of an application that knows nothing of it are redirected to the proxy, which
//! goes on to where they were going. Needs root; without, every test says so and does nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod cluster;
mod life;
mod mesh;
mod relay;
mod rules;
mod servers;

use tars_tests::address::Address;
use tars_tests::otlp::{Collector, Span};
use tars_tests::pod::{PROXY_PORT, PROXY_UID, intercept, said};
use tars_tests::proxy::{Builder, Proxy};
use tars_tests::wait::PATIENCE;

/// The proxy, and the receiver of its spans.
struct Stage {
    proxy: Proxy,
    collector: Collector,
}

impl Stage {
    /// As the injector starts it.
    #[track_caller]
    fn new() -> Self {
        let collector = Collector::start();
        let proxy = original().user(PROXY_UID).otlp_grpc(&collector.grpc());
        Self {
            proxy: proxy.start(),
            collector,
        }
    }

    /// All spans, once there are so many.
    #[track_caller]
    fn spans(&self, count: usize) -> Vec<Span> {
        self.collector
            .wait_for(PATIENCE, |spans| spans.len() >= count)
    }

    fn strays(&self, reason: &str) -> f64 {
        strays(&self.proxy, reason)
    }
}

fn original() -> Builder {
    let listen = Address::Tcp(format!("127.0.0.1:{PROXY_PORT}"));
    Proxy::to_url("original").listen(listen)
}

fn strays(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("tars_proxy_strays_total", &[("reason", reason)])
}

/// As the injector's init container does it.
#[track_caller]
fn redirect(ports: &str) {
    let done = intercept(&format!(
        "--ports {ports} --to {PROXY_PORT} --except-uid {PROXY_UID}"
    ));
    assert!(done.status.success(), "{}", said(&done));
}
