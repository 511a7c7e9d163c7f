//! Listening: sockets that are bound before any is served, with errors that say what is wrong.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;

/// Connections that may wait to be accepted. std asks for 128, and a client beyond tries again only after a second; Redis asks
/// for 511 (`tcp-backlog`). The kernel's own bound is `net.core.somaxconn`, 4096.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody is there.
    #[error(
        "cannot listen on {0}: the address is in use; stop what has it, or give another address"
    )]
    InUse(Address),
    /// A port below 1024, or a folder that is not ours.
    #[error(
        "cannot listen on {0}: this process may not; give a port from 1024 up, or a folder that it may write to"
    )]
    Denied(Address),
    /// An IP address of another machine.
    #[error("cannot listen on {0}: this machine does not have that IP address")]
    NotLocal(Address),
    /// Something else has that path.
    #[error(
        "cannot listen on {0}: there is a file of that name which is not a socket; it stays as it is: move it away, or give another path"
    )]
    NotASocket(Address),
    /// The folder of a unix socket.
    #[error(
        "cannot listen on {0}: the folder {folder} does not exist; make it, or give another path",
        folder = .1.display()
    )]
    NoFolder(Address, PathBuf),
    /// A name that stands for no IP address.
    #[error(
        "cannot listen on {0}: the host name does not resolve ({1}); give an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them"
    )]
    Unresolved(Address, #[source] io::Error),
    /// What came with the process.
    #[error(
        "LISTEN_FDS: descriptor {0} is no stream socket, of TCP or Unix; hand over listening sockets alone"
    )]
    Inherited(usize),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(Address, #[source] io::Error),
}

impl BindError {
    /// Whether the machine has no such address, nor any of its family.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NotLocal(_) => true,
            Self::Other(_, error) => error.raw_os_error() == Some(EAFNOSUPPORT),
            _ => false,
        }
    }
}

/// The kernel has no IPv6 (`errno(3)`, Linux).
const EAFNOSUPPORT: i32 = 97;

/// A socket that takes connections from now on; nobody answers them until it is served. It belongs to no runtime yet.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(SocketFile),
}

impl Listener {
    /// Listens on `address`. The socket file that a dead process left behind is replaced.
    ///
    /// # Errors
    /// When the address is taken, not permitted, not of this machine, or does not resolve.
    pub fn bind(address: &Address) -> Result<Self, BindError> {
        let bound = match address {
            Address::Tcp { host, port } => {
                let found: Vec<_> = match (&**host, *port).to_socket_addrs() {
                    Ok(found) => found.collect(),
                    Err(error) => return Err(BindError::Unresolved(address.clone(), error)),
                };
                TcpListener::bind(&*found).and_then(|listener| {
                    rustix::net::listen(&listener, BACKLOG)?;
                    listener.set_nonblocking(true)?;
                    Ok(Self::Tcp(listener))
                })
            }
            Address::Unix(path) => SocketFile::bind(path).map(Self::Unix),
        };
        bound.map_err(|error| {
            let folder = match address {
                Address::Unix(path) => path.parent(),
                Address::Tcp { .. } => None,
            };
            let address = address.clone();
            match (error.kind(), folder) {
                (ErrorKind::NotFound, Some(folder)) => BindError::NoFolder(address, folder.into()),
                (ErrorKind::AddrInUse, _) => BindError::InUse(address),
                (ErrorKind::PermissionDenied, _) => BindError::Denied(address),
                (ErrorKind::AddrNotAvailable, _) => BindError::NotLocal(address),
                (ErrorKind::AlreadyExists, _) => BindError::NotASocket(address),
                _ => BindError::Other(address, error),
            }
        })
    }

    /// Whether `address` can be listened on, as far as that is known without doing it. Who is there now may be who is to be replaced.
    ///
    /// # Errors
    /// When a Unix socket cannot be where it is meant to be.
    pub fn check(address: &Address) -> Result<(), BindError> {
        let Address::Unix(path) = address else {
            return Ok(());
        };
        if let Some(folder) = path.parent()
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            return Err(BindError::NoFolder(address.clone(), folder.into()));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                Err(BindError::NotASocket(address.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Where it listens, with the port that was found when 0 was asked for.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::from),
            Self::Unix(file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    /// Whether this is what `address` means.
    fn is_at(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Tcp(listener), Address::Tcp { host, port }) => {
                let (Ok(local), Ok(mut meant)) =
                    (listener.local_addr(), (&**host, *port).to_socket_addrs())
                else {
                    return false;
                };
                meant.any(|meant| meant == local)
            }
            (Self::Unix(file), Address::Unix(path)) => file.path == *path,
            _ => false,
        }
    }
}

/// Listening sockets that the process was started with, as systemd's socket activation does it: descriptors from 3 on,
/// `LISTEN_FDS` their number, `LISTEN_PID` whom they are for. Whoever started the process holds them too: when this process
/// ends, those who connect wait for the next one instead of being refused.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Listener>);

impl Inherited {
    /// Takes them, once: the variables are removed from the environment, which no other thread may read meanwhile.
    ///
    /// # Errors
    /// When a descriptor is no listening socket.
    pub fn from_env() -> Result<Self, BindError> {
        /// The first descriptor after standard input, output and error.
        const FIRST: usize = 3;
        let mut given = listenfd::ListenFd::from_env();
        let number = given.len();
        let take = |index| {
            let refused = |_| BindError::Inherited(FIRST + index);
            if let Ok(Some(listener)) = given.take_tcp_listener(index) {
                listener.set_nonblocking(true).map_err(refused)?;
                return Ok(Listener::Tcp(listener));
            }
            match given.take_unix_listener(index) {
                Ok(Some(listener)) => SocketFile::inherited(listener)
                    .map(Listener::Unix)
                    .map_err(refused),
                _ => Err(BindError::Inherited(FIRST + index)),
            }
        };
        (0..number).map(take).collect::<Result<_, _>>().map(Self)
    }

    /// The one at `address` if there is, else a new one.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind(&mut self, address: &Address) -> Result<Listener, BindError> {
        match self.0.iter().position(|given| given.is_at(address)) {
            Some(index) => Ok(self.0.swap_remove(index)),
            None => Listener::bind(address),
        }
    }

    /// Those that nobody has asked for: who connects to them is never answered.
    pub fn unused(&self) -> impl Iterator<Item = Address> {
        self.0.iter().filter_map(|given| given.local_addr().ok())
    }
}

/// A unix socket; its file goes with it, if it was made here.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    is_ours: bool,
}

impl SocketFile {
    fn bind(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            is_ours: true,
        })
    }

    fn inherited(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            path: address.as_pathname().unwrap_or(Path::new("")).to_owned(),
            is_ours: false,
        })
    }

    /// Another handle on the same socket, to accept from.
    pub fn try_clone(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        // Gone already, or the folder is: nothing that could be done about it at the end of a process.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the socket file of a process that is no more.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    // Whoever has it may be too busy to accept: that is not waited for.
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::os::unix::net::UnixStream;

    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_taken_port_is_told() {
        let first = Listener::bind(&parse("127.0.0.1:0")).unwrap();
        let address = first.local_addr().unwrap();
        let error = Listener::bind(&address).unwrap_err();
        assert!(matches!(&error, BindError::InUse(taken) if *taken == address));
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address}: the address is in use; stop what has it, or give another address"
            )
        );
    }

    #[test]
    fn a_socket_path_whose_owner_accepts_nobody_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy.sock");
        let owner = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        owner.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        owner.listen(0).unwrap();
        let waiting: Vec<Socket> = (0..4)
            .map(|_| {
                let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
                // The last of them finds no room.
                let _ = client.connect(&SockAddr::unix(&path).unwrap());
                client
            })
            .collect();
        let error = Listener::bind(&parse(&format!("unix:{}", path.display()))).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)), "{error}");
        drop(waiting);
    }

    #[test]
    fn a_foreign_or_unknown_host_is_told() {
        // TEST-NET-3 of RFC 5737: nobody has it.
        let error = Listener::bind(&parse("203.0.113.1:80")).unwrap_err();
        assert!(matches!(error, BindError::NotLocal(_)), "{error}");
        let error = Listener::bind(&Address::tcp("no such host", 80)).unwrap_err();
        assert!(matches!(error, BindError::Unresolved(..)), "{error}");
        let error = error.to_string();
        assert!(
            error.starts_with("cannot listen on no such host:80: the host name does not resolve ("),
            "{error}"
        );
        assert!(
            error.ends_with("such as 127.0.0.1, or 0.0.0.0 for all of them"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none");
        let path = missing.join("a.sock");
        let (missing, shown) = (missing.display(), path.display());
        assert_eq!(
            Listener::bind(&Address::Unix(path.clone()))
                .unwrap_err()
                .to_string(),
            format!(
                "cannot listen on unix:{shown}: the folder {missing} does not exist; make it, or give another path"
            )
        );
    }

    #[test]
    fn a_socket_file_goes_with_its_listener_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let address = Address::Unix(path.clone());

        let listener = Listener::bind(&address).unwrap();
        assert_eq!(listener.local_addr().unwrap(), address);
        assert!(
            matches!(Listener::bind(&address), Err(BindError::InUse(_))),
            "its owner lives"
        );
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind, as by a killed process");
        Listener::bind(&address).unwrap();

        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&address),
            Err(BindError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn an_inherited_socket_is_used_by_its_address_and_its_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listen.sock");
        let held = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UnixListener::bind(&path).unwrap(),
        );
        let tcp = held.0.local_addr().unwrap();
        let mut inherited = Inherited(vec![
            Listener::Tcp(held.0.try_clone().unwrap()),
            Listener::Unix(SocketFile::inherited(held.1.try_clone().unwrap()).unwrap()),
        ]);
        let (named, unix) = (
            Address::tcp("localhost", tcp.port()),
            Address::Unix(path.clone()),
        );
        let unused: Vec<_> = inherited.unused().collect();
        assert_eq!(unused, [Address::from(tcp), unix.clone()]);
        let other = inherited.bind(&parse("127.0.0.1:0")).unwrap();
        assert_ne!(other.local_addr().unwrap(), Address::from(tcp));
        assert_eq!(
            inherited.bind(&named).unwrap().local_addr().unwrap(),
            Address::from(tcp)
        );
        let listener = inherited.bind(&unix).unwrap();
        assert_eq!(listener.local_addr().unwrap(), unix);
        assert_eq!(inherited.unused().count(), 0);
        // Once only: now it is taken by somebody.
        assert!(matches!(inherited.bind(&named), Err(BindError::InUse(_))));
        drop(listener);
        assert!(path.exists());
        UnixStream::connect(&path).unwrap();
    }
}
