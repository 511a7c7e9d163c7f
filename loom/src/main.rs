//! Models of what threads share by a protocol of their own: `make loom`.
//!
//! The modules are the project's sources, as they are; only [`sync`], from which they take their locks and atomics, is another
//! one here. A model runs threads through them in every order that makes a difference. What is just behind a mutex needs none.
// The sources' own tests are theirs, and not for loom's types.
#![cfg(not(test))]
// A model that does not hold ends the program: panicking is how that is said.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;
mod sync;

#[allow(dead_code, unreachable_pub)]
#[path = "../../proxy/src/budget.rs"]
mod budget;
#[allow(dead_code, unreachable_pub)]
#[path = "../../sidecar/src/drain.rs"]
mod drain;
#[allow(dead_code, unreachable_pub)]
#[path = "../../proxy/src/upstream/health.rs"]
mod health;

/// As the queue of spans is in `tars-proxy`, with spans of which nothing is known.
#[allow(dead_code, unreachable_pub)]
#[path = "."]
mod trace {
    pub mod span {
        #[derive(Debug)]
        pub struct Span;
    }

    #[path = "."]
    pub mod export {
        pub struct Settings {
            pub batch: Batch,
        }

        pub struct Batch {
            pub max_queue_size: usize,
        }

        impl Settings {
            /// All that may wait.
            pub fn batch_size(&self) -> usize {
                self.batch.max_queue_size
            }
        }

        #[path = "../../proxy/src/trace/export/queue.rs"]
        pub mod queue;
    }
}

fn main() {
    for (name, model) in models::ALL {
        println!("loom: {name}");
        loom::model(*model);
    }
}
