//! The socket to the kernel: changes that are made as a whole, and lists that are read to their end, within bounds.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::netlink::{DONE, DUMP_INTERRUPTED, ERROR, Malformed, Messages};
use super::rules::{self, Object};

/// The kernel answers at once; it may load a module first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the kernel says at a time (`NLMSG_GOODSIZE` and what dumps may use are at most so large).
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Datagrams of one answer: a list as long is not of rules that anybody made for this.
const MAX_DATAGRAMS: usize = 4096;

/// Lists are read again so often when they change meanwhile.
const TRIES: u32 = 3;

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "the kernel lets nobody without the capability NET_ADMIN see or change what is redirected; run this as root with that capability (in Kubernetes: securityContext.capabilities.add: [NET_ADMIN])"
    )]
    NotPermitted,
    #[error("the kernel has no nf_tables ({0}); load its module, or use explicit mode")]
    NoNfTables(Errno),
    #[error(
        "the kernel's nf_tables lacks what redirection needs ({0}): nat in the family inet (Linux 5.2), meta, redir; load the modules nft_chain_nat and nft_redir, or use explicit mode"
    )]
    NoNat(Errno),
    #[error("the rules change while they are read; try again")]
    Changing,
    #[error("the kernel says what is not understood; nothing is known of the rules")]
    Malformed,
    #[error("the kernel does not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the kernel refuses: {0}")]
    Refused(Errno),
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What an error number means for a question, or for the socket itself.
fn asked(errno: Errno) -> Error {
    match errno {
        Errno::PERM | Errno::ACCESS => Error::NotPermitted,
        Errno::OPNOTSUPP | Errno::INVAL | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => {
            Error::NoNfTables(errno)
        }
        Errno::AGAIN | Errno::TIMEDOUT => Error::Silent,
        other => Error::Refused(other),
    }
}

/// The same for a change: of what it is made of, something may be missing.
fn changed(errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::OPNOTSUPP => Error::NoNat(errno),
        other => asked(other),
    }
}

pub(super) struct Kernel {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, Error> {
        let open = || {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                Some(NETFILTER),
            )?;
            set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(asked)?,
            buffer: vec![0; DATAGRAM_BYTES],
        })
    }

    /// Makes a change, all of it or nothing; `last` is the number of its last message.
    pub(super) fn change(&mut self, (change, last): (Vec<u8>, u32)) -> Result<(), Error> {
        // One question first: what the kernel says of a change does not tell whether it has nf_tables at all.
        self.objects()?;
        self.send(&change)?;
        for _ in 0..MAX_DATAGRAMS {
            for message in Messages(self.receive()?) {
                let message = message?;
                if message.kind != ERROR {
                    continue;
                }
                match message.error()? {
                    0 if message.sequence == last => return Ok(()),
                    0 => {}
                    number => return Err(changed(Errno::from_raw_os_error(number))),
                }
            }
        }
        Err(Error::Malformed)
    }

    /// What there is of ours, or under our table's name.
    pub(super) fn objects(&mut self) -> Result<Vec<Object>, Error> {
        for attempt in 0..TRIES {
            // Other numbers each time: the rest of an answer that was given up is told from the next.
            match self.list(attempt * 16) {
                Err(Error::Changing) => {}
                listed => return listed,
            }
        }
        Err(Error::Changing)
    }

    fn list(&mut self, sequence: u32) -> Result<Vec<Object>, Error> {
        let mut found = Vec::new();
        for (question, sequence) in rules::questions(sequence).iter().zip(sequence..) {
            self.send(question)?;
            self.answer(sequence, &mut found)?;
        }
        Ok(found)
    }

    fn answer(&mut self, sequence: u32, found: &mut Vec<Object>) -> Result<(), Error> {
        let mut interrupted = false;
        for _ in 0..MAX_DATAGRAMS {
            for message in Messages(self.receive()?) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE if interrupted => return Err(Error::Changing),
                    DONE => return Ok(()),
                    ERROR => match Errno::from_raw_os_error(message.error()?) {
                        // Chains or rules of a table that there is not.
                        Errno::NOENT => return Ok(()),
                        Errno::INTR => return Err(Error::Changing),
                        errno => return Err(asked(errno)),
                    },
                    _ => found.extend(rules::read(&message)?),
                }
            }
        }
        Err(Error::Malformed)
    }

    fn send(&self, message: &[u8]) -> Result<(), Error> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, message, SendFlags::empty(), &kernel).map_err(asked)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<&[u8], Error> {
        let received = recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC);
        let (_, length) = received.map_err(asked)?;
        // Longer than there is room for: the rest of it is lost.
        self.buffer.get(..length).ok_or(Error::Malformed)
    }
}
