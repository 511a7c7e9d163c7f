//! TLS on either side of a connection: to Redis (`rediss://`), and from clients.
//!
//! Both are set up from PEM files that are read again when they change on disk ([`Reloading`]); a connection keeps what it began
//! with. What goes wrong is said in the operator's terms ([`Connector::explain`], [`FileError`]).

mod explain;
mod files;
mod reload;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{Config, Listener, ListenerTls, Upstream, UpstreamTls};
use crate::socket::Socket;

pub(crate) use explain::{ASKED_WITH_TLS, ASKED_WITHOUT_TLS};
pub use files::FileError;
pub use reload::Reloading;

/// TLS to one server.
pub struct Connector {
    config: Arc<Reloading<ClientConfig>>,
    name: ServerName<'static>,
    settings: UpstreamTls,
}

impl Connector {
    /// Reads the files. The server at `host` must show a certificate for that name, or for the one that is configured.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn new(settings: &UpstreamTls, host: &str) -> Result<Self, FileError> {
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| FileError::ServerName(name.to_owned()))?;
        let files = [&settings.ca, &settings.cert, &settings.key];
        let of = settings.clone();
        let config = Reloading::new(files.into_iter().flatten(), move || files::client(&of))?;
        Ok(Self {
            config: Arc::new(config),
            name,
            settings: settings.clone(),
        })
    }

    /// What is to be watched for changes on disk.
    #[must_use]
    pub fn files(&self) -> Arc<Reloading<ClientConfig>> {
        self.config.clone()
    }

    /// The handshake.
    ///
    /// # Errors
    /// What is wrong, as [`explain`](Self::explain) says it.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<Socket> {
        TlsConnector::from(self.config.current())
            .connect(self.name.clone(), stream)
            .await
            .map(|stream| Socket::tls(stream.into()))
            .map_err(|error| explain::of_handshake(error, &self.settings))
    }

    /// The handshake, for a thread that may wait; the socket's time-outs bound it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_blocking(
        &self,
        mut stream: std::net::TcpStream,
    ) -> io::Result<StreamOwned<ClientConnection, std::net::TcpStream>> {
        let mut connection = ClientConnection::new(self.config.current(), self.name.clone())
            .map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut stream)
                .map_err(|error| explain::of_handshake(error, &self.settings))?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// The same error in the operator's terms: what the server's certificate, or ours, has against it.
    #[must_use]
    pub fn explain(&self, error: io::Error) -> io::Error {
        explain::of_server(error, &self.settings)
    }
}

/// TLS from the clients of one listener.
pub struct Acceptor {
    config: Arc<Reloading<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn new(settings: &ListenerTls) -> Result<Self, FileError> {
        let files = [&settings.cert, &settings.key];
        let of = settings.clone();
        let config = Reloading::new(files.into_iter().chain(&settings.client_ca), move || {
            files::server(&of)
        })?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// What is to be watched for changes on disk.
    #[must_use]
    pub fn files(&self) -> Arc<Reloading<ServerConfig>> {
        self.config.clone()
    }

    /// The handshake.
    ///
    /// # Errors
    /// What is wrong, in the operator's terms.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Socket> {
        TlsAcceptor::from(self.config.current())
            .accept(stream)
            .await
            .map(|stream| Socket::tls(stream.into()))
            .map_err(explain::of_client)
    }
}

/// Everything that is wrong with the files that a configuration names.
#[must_use]
pub fn check(config: &Config) -> Vec<FileError> {
    let upstream = |listener: &Listener| connector(listener).err();
    let own = |listener: &Listener| Acceptor::new(listener.tls.as_ref()?).err();
    let mut wrong = Vec::new();
    for error in config
        .listeners
        .iter()
        .flat_map(|listener| [own(listener), upstream(listener)])
        .flatten()
    {
        if !wrong.contains(&error) {
            wrong.push(error);
        }
    }
    wrong
}

/// What may be wrong with them before long, or is already, without being an error.
#[must_use]
pub fn doubts(config: &Config) -> Vec<String> {
    let mut doubts: Vec<String> = config.listeners.iter().flat_map(files::doubts).collect();
    doubts.dedup();
    doubts
}

/// TLS to a listener's server; none if it is reached without.
///
/// # Errors
/// If a file cannot be used.
pub fn connector(listener: &Listener) -> Result<Option<Connector>, FileError> {
    match listener.upstream.as_ref().and_then(Upstream::tls_host) {
        Some(host) => Connector::new(&listener.upstream_tls, host).map(Some),
        None => Ok(None),
    }
}

/// The first message of a handshake, for a server of which nothing is known: what speaks TLS answers it, whatever its
/// certificate is.
pub(crate) fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost");
    if let (Ok(config), Ok(name)) = (files::client_trusting(RootCertStore::empty()), name)
        && let Ok(mut connection) =
            ClientConnection::new(Arc::new(config.with_no_client_auth()), name)
    {
        // Writing to memory cannot fail.
        let _ = connection.write_tls(&mut hello);
    }
    hello
}

/// Whether an answer is a record of TLS: a handshake message or an alert, of version 3.
pub(crate) fn is_record(answer: &[u8]) -> bool {
    matches!(answer, [0x15 | 0x16, 3, ..])
}

#[cfg(test)]
mod tests;
