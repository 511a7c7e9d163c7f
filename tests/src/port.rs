//! Free TCP ports for programs that cannot be asked which one they took.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range (from 32768), so that no outgoing connection takes a claimed port for itself while
/// its server is down.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that no other test on this machine gets while this value lives: a server keeps it over restarts.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // An abstract socket is a lock among all processes that goes with its owner and leaves no file.
    _claim: UnixListener,
}

impl Port {
    /// Claims a port on which nothing listens.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn claim() -> Self {
        // Processes start at different places, so that they rarely try each other's ports.
        let start = u16::try_from(std::process::id() % 1_000).unwrap_or(0) * 12;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_add(step) % COUNT;
            let lock = SocketAddr::from_abstract_name(format!("tars-tests-port-{number}")).unwrap();
            let Ok(claim) = UnixListener::bind_addr(&lock) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!(
            "no port of 127.0.0.1 is free from {FIRST} to {}",
            FIRST + COUNT - 1
        );
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:N`.
    #[must_use]
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }

    /// `http://127.0.0.1:N`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once_and_then_free_again() {
        let ports: Vec<Port> = (0..50).map(|_| Port::claim()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        let lock = |number: &u16| {
            let name = format!("tars-tests-port-{number}");
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap())
        };
        assert!(numbers.iter().all(|number| lock(number).is_err()));
        drop(ports);
        // A program that another test is just starting holds copies until it runs, and another process may take one of them.
        let free = || numbers.iter().find_map(|number| lock(number).ok());
        assert!(crate::wait::poll(crate::wait::PATIENCE, free).is_some());
    }
}
