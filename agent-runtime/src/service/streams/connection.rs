//! A connection to Redis, or to tars-proxy before it: commands out, replies in, and never more memory than a value that was asked for.
//!
//! The `redis` crate builds a whole reply before it gives it out, however large: an entry of 512 MB would be more than the agent may have.

use std::fmt;
use std::io;
use std::time::Duration;

use tars_sidecar::address::Address;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::resp::{Decoder, Malformed, Token};
use super::url::RedisUrl;

/// How long connecting, its greeting included, may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a server may be silent that should speak, or deaf that should read.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Read at once.
const READ: usize = 16 << 10;
/// The longest value of a reply that is no entry: an id, a name.
const SMALL: usize = 1 << 10;
/// What is told of an error that Redis answers.
const MOST_SAID: usize = 200;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing came.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// What came is no RESP2.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What came is not what was asked for.
    #[error("an unexpected reply to {0}")]
    Unexpected(&'static str),
    /// Redis says no.
    #[error("Redis answers: {0}")]
    Refused(String),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// See the module.
pub struct Connection {
    stream: Box<dyn Duplex>,
    decoder: Decoder,
    read: Box<[u8]>,
    /// What of `read` is not decoded.
    rest: std::ops::Range<usize>,
    out: Vec<u8>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Over a stream that is there.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            decoder: Decoder::default(),
            read: vec![0; READ].into_boxed_slice(),
            rest: 0..0,
            out: Vec::new(),
        }
    }

    /// Connects, and greets: who this is, and which database it means. `name` is what `CLIENT LIST` shows.
    ///
    /// # Errors
    /// If nobody is there, or does not let it in.
    pub async fn open(url: &RedisUrl, name: &str) -> Result<Self, Error> {
        let greeted = async {
            let mut connection = match &url.address {
                Address::Tcp { host, port } => {
                    let stream = TcpStream::connect((&**host, *port)).await?;
                    stream.set_nodelay(true)?;
                    Self::over(stream)
                }
                Address::Unix(path) => Self::over(UnixStream::connect(path).await?),
            };
            connection.greet(url, name).await?;
            Ok(connection)
        };
        timeout(CONNECT, greeted)
            .await
            .unwrap_or(Err(Error::Silent(CONNECT)))
    }

    async fn greet(&mut self, url: &RedisUrl, name: &str) -> Result<(), Error> {
        if let Some(password) = &url.password {
            let user = url.user.as_deref().map(str::as_bytes);
            let auth: Vec<&[u8]> = [&b"AUTH"[..]]
                .into_iter()
                .chain(user)
                .chain([password.as_bytes()])
                .collect();
            self.call(&auth).await?;
        }
        if url.database != 0 {
            let database = url.database.to_string();
            self.call(&[b"SELECT", database.as_bytes()]).await?;
        }
        // Whoever may not call it so may still read.
        match self.call(&[b"CLIENT", b"SETNAME", name.as_bytes()]).await {
            Err(Error::Refused(_)) => Ok(()),
            named => named.map(drop),
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// Those of the network.
    pub async fn send(&mut self, command: &[&[u8]]) -> Result<(), Error> {
        self.out.clear();
        self.out.extend(format!("*{}\r\n", command.len()).bytes());
        for argument in command {
            self.out.extend(format!("${}\r\n", argument.len()).bytes());
            self.out.extend_from_slice(argument);
            self.out.extend(b"\r\n");
        }
        let sent = timeout(PATIENCE, self.stream.write_all(&self.out)).await;
        sent.map_err(|_| Error::Silent(PATIENCE))??;
        Ok(())
    }

    /// The next part of a reply. A value is kept if it has at most `most` bytes; no wait for bytes is longer than `patience`.
    ///
    /// # Errors
    /// If none comes.
    pub async fn token(&mut self, most: usize, patience: Duration) -> Result<Token, Error> {
        loop {
            let mut input = self.read.get(self.rest.clone()).unwrap_or_default();
            let token = self.decoder.next(&mut input, most)?;
            self.rest.start = self.rest.end - input.len();
            if let Some(token) = token {
                return Ok(token);
            }
            let count = timeout(patience, self.stream.read(&mut self.read)).await;
            let count = count.map_err(|_| Error::Silent(patience))??;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.rest = 0..count;
        }
    }

    /// Sends a command whose reply is one token, and reads it.
    ///
    /// # Errors
    /// If there is none, or Redis says no.
    pub async fn call(&mut self, command: &[&[u8]]) -> Result<Token, Error> {
        self.send(command).await?;
        match self.token(SMALL, PATIENCE).await? {
            Token::Error(said) => Err(refused(said)),
            Token::Array(_) | Token::Oversized(_) => Err(Error::Unexpected("a command")),
            token => Ok(token),
        }
    }
}

/// What Redis says, as far as anyone wants to read it.
pub(super) fn refused(mut said: String) -> Error {
    if let Some((end, _)) = said.char_indices().nth(MOST_SAID) {
        said.truncate(end);
    }
    Error::Refused(said)
}
