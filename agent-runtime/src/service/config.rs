//! What the service is told, by flags and by the environment.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tars_sidecar::address::Address;
use tars_sidecar::logging::Format;

use super::streams::Settings;
use super::streams::url::RedisUrl;

/// Fewer bytes without a unit are no size of memory, but of something else: MiB, mostly.
const LEAST_MEMORY: usize = 1 << 20;

/// What the service is told.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Where agents are kept; made if it is not there
    #[arg(
        long,
        env = "TARS_AGENT_DATA",
        value_name = "DIR",
        default_value = "tars-agent-data"
    )]
    pub data: PathBuf,
    /// Where requests are answered: HOST:PORT or unix:/path
    #[arg(
        long,
        env = "TARS_AGENT_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7205"
    )]
    pub listen: Address,
    /// Where probes, metrics and drain are: HOST:PORT or unix:/path
    #[arg(
        long,
        env = "TARS_AGENT_ADMIN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9465"
    )]
    pub admin: Address,
    /// What all agents together may reserve: 256MiB, 1GiB, or bytes [default: three quarters of the cgroup's limit, or 256MiB]
    #[arg(long, env = "TARS_AGENT_MEMORY", value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
    /// Threads that answer, 1 to 64
    #[arg(
        long,
        env = "TARS_AGENT_WORKERS",
        value_name = "N",
        value_parser = count::<64>,
        default_value = "1"
    )]
    pub workers: NonZeroUsize,
    /// Connections that are open at once; who comes then gets the place of whoever has rested for longest, or waits
    #[arg(
        long,
        env = "TARS_AGENT_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "256",
        value_parser = count::<1_000_000>
    )]
    pub max_connections: NonZeroUsize,
    /// The largest body of a request, and what all large ones may have together [default: a 32nd of the memory, at most 8MiB]
    #[arg(long, env = "TARS_AGENT_MAX_BODY", value_name = "SIZE", value_parser = size)]
    pub max_body: Option<usize>,
    /// The Redis of agents with streams, tars-proxy before it usually: redis://USER:PASSWORD@HOST:PORT/DATABASE, of which HOST is enough, or unix:/path
    #[arg(
        long,
        env = "TARS_AGENT_REDIS",
        value_name = "URL",
        hide_env_values = true
    )]
    pub redis: Option<RedisUrl>,
    /// The largest fragment of an entry of a stream
    #[arg(long, env = "TARS_AGENT_MAX_FRAGMENT", value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub max_fragment: usize,
    /// A file with a token: what changes something must carry it (Authorization: Bearer)
    #[arg(long, env = "TARS_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A chain of certificates, PEM: TLS is spoken
    #[arg(
        long,
        env = "TARS_AGENT_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        long,
        env = "TARS_AGENT_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// Authorities, PEM: what changes something must come with a certificate of theirs
    #[arg(
        long,
        env = "TARS_AGENT_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Require token or certificate for reading and acting, too
    #[arg(long, env = "TARS_AGENT_PROTECT_READS")]
    pub protect_reads: bool,
    /// A name by which clients may call a service that listens on the loopback interface, besides localhost and IP addresses
    #[arg(
        long,
        env = "TARS_AGENT_ALLOW_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub allow_host: Vec<String>,
    /// How long requests under way may take when the process ends, in seconds
    #[arg(long, env = "TARS_AGENT_DRAIN_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub drain_timeout: Duration,
    /// error, warn, info, debug, trace or off, or a list such as info,tars_agent=debug
    #[arg(
        long,
        env = "TARS_AGENT_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_level: String,
    /// text or json
    #[arg(
        long,
        env = "TARS_AGENT_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: Format,
}

impl Config {
    /// Where agents with streams find Redis.
    #[must_use]
    pub fn streams(&self) -> Option<Settings> {
        self.redis.clone().map(|redis| Settings {
            redis,
            most_fragment: self.max_fragment,
        })
    }
}

/// Sizes as people write them.
fn size(text: &str) -> Result<usize, String> {
    let expected = || "expected a size such as 256MiB, 1GiB, 64KiB or 65536".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        _ => return Err(expected()),
    };
    let number: usize = digits.parse().map_err(|_| expected())?;
    number
        .checked_mul(unit)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(expected)
}

/// The same, of memory: nobody means 64 bytes.
///
/// # Errors
/// A sentence that says what was expected.
pub fn memory(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if bytes < LEAST_MEMORY && text.parse() == Ok(bytes) {
        return Err(format!(
            "expected a size with its unit, such as 64MiB or 1GiB: {bytes} are bytes, and too few"
        ));
    }
    Ok(bytes)
}

fn count<const MOST: usize>(text: &str) -> Result<NonZeroUsize, String> {
    let count: Option<NonZeroUsize> = text.parse().ok();
    count
        .filter(|count| count.get() <= MOST)
        .ok_or_else(|| format!("expected a whole number from 1 to {MOST}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|seconds| (0.0..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds, from 0 to 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_means_another_unit_is_no_memory() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("67108864", 64 << 20),
            ("1KiB", 1 << 10),
        ] {
            assert_eq!(memory(text), Ok(bytes));
        }
        for text in ["64", "1048575"] {
            let said = memory(text).expect_err(text);
            assert!(said.contains("such as 64MiB"), "{said}");
        }
    }

    #[test]
    fn counts_have_a_range() {
        assert_eq!(count::<64>("64").map(NonZeroUsize::get), Ok(64));
        for text in ["0", "65", "-1", "x", ""] {
            let said = "expected a whole number from 1 to 64".to_owned();
            assert_eq!(count::<64>(text), Err(said), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1", 1),
            ("64KiB", 65_536),
            ("8MiB", 8 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in [
            "",
            "0",
            "MiB",
            "1MB",
            "-1",
            "1.5MiB",
            "99999999999GiB",
            "1 MiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
