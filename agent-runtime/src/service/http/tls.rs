//! TLS, and certificates of clients where they are asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Which files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain of certificates, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whose clients are trusted, PEM.
    pub client_ca: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct BadFile {
    path: PathBuf,
    why: String,
}

/// See the module.
#[derive(Debug)]
pub struct Acceptor {
    files: Files,
    config: ArcSwap<ServerConfig>,
}

impl Acceptor {
    /// TLS with these files.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn new(files: Files) -> Result<Self, BadFile> {
        let config = ArcSwap::from_pointee(config(&files)?);
        Ok(Self { files, config })
    }

    /// Reads them again. Those in use stay if they cannot be.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn reload(&self) -> Result<(), BadFile> {
        self.config.store(Arc::new(config(&self.files)?));
        Ok(())
    }

    /// Agrees on TLS, and says whether the client has shown a certificate that is trusted.
    ///
    /// # Errors
    /// If they do not come to an agreement.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, bool)> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let stream = acceptor.accept(stream).await?;
        // What is shown was verified.
        let certified = stream.get_ref().1.peer_certificates().is_some();
        Ok((stream, certified))
    }
}

fn config(files: &Files) -> Result<ServerConfig, BadFile> {
    let bad = |path: &Path, why: String| BadFile {
        path: path.to_owned(),
        why,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| {
                    bad(path, format!("not an authority's certificate: {error}"))
                })?;
            }
            // Reading may be open to those who have none: what needs one says so itself.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build();
            let verifier = verifier.map_err(|error| bad(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|_| {
        let why = "expected a private key in PEM, without a passphrase";
        bad(&files.key, why.to_owned())
    })?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| bad(&files.key, format!("not the certificate's key: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(BadFile {
            path: path.to_owned(),
            why: "expected certificates in PEM".to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    fs::read(path).map_err(|error| BadFile {
        path: path.to_owned(),
        why: error.to_string(),
    })
}
