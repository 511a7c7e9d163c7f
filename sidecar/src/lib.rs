//! What the TARS sidecars share, so that they start, show themselves and end in the same way.
//!
//! - [`drain`]: the end of the process, told to every task and waited for
//! - [`signals`]: SIGTERM, SIGINT and SIGHUP as events
//! - [`readiness`]: what the process still waits for before it takes traffic
//! - [`address`]: `host:port` or `unix:/path`
//! - [`listen`]: sockets bound before they are served
//! - [`admin`]: the HTTP server for probes, metrics, drain and log level
//! - [`percent`]: percent-encoding, undone
//! - [`process`]: process and allocator gauges
//! - [`logging`]: the log, its level changeable at run time
//! - [`program`]: a command line in, an exit code out
//! - [`otlp`]: export of spans, set up from the `OTEL_*` environment

pub mod address;
pub mod admin;
pub mod drain;
pub mod listen;
pub mod logging;
pub mod otlp;
pub mod percent;
pub mod process;
pub mod program;
pub mod readiness;
pub mod signals;
mod sync;
