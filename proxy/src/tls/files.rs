//! PEM files become what rustls needs.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ConfigBuilder, InconsistentKeys, RootCertStore, ServerConfig};

use super::explain;
use crate::config::{Listener, ListenerTls, UpstreamTls};

/// Thousands of authorities take less.
const MAX_FILE: u64 = 4 << 20;

/// Why TLS cannot be set up: the setting, its file, what is wrong, what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not there, or not ours to read.
    #[error("{setting}: {} cannot be read ({why}); name a PEM file that this process may read", path.display())]
    Unreadable {
        /// `upstream_ca`
        setting: &'static str,
        /// As it was given.
        path: PathBuf,
        /// The operating system's reason.
        why: String,
    },
    /// Readable, and not what is wanted.
    #[error("{setting}: {} {why}", path.display())]
    Unusable {
        /// `upstream_ca`
        setting: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The key is another certificate's.
    #[error("{setting}: the key in {} does not belong to the certificate in {}; give the two that were made together", key.display(), cert.display())]
    Mismatch {
        /// `upstream_key`
        setting: &'static str,
        /// As it was given.
        key: PathBuf,
        /// As it was given.
        cert: PathBuf,
    },
    /// No authority to trust.
    #[error(
        "upstream_ca: this system has no certificates of authorities; name a PEM file of the one that signed the server's certificate"
    )]
    NoAuthorities,
    /// No certificate can be for such a name.
    #[error(
        "upstream_server_name: no certificate can be for `{0}`; give the name that the server's certificate has"
    )]
    ServerName(String),
    /// What the library says.
    #[error("TLS cannot be set up: {0}")]
    Other(String),
}

/// How to speak TLS to a server.
pub(super) fn client(settings: &UpstreamTls) -> Result<ClientConfig, FileError> {
    let builder = client_trusting(match &settings.ca {
        Some(path) => authorities("upstream_ca", path)?,
        None => native_authorities()?,
    })?;
    let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, secret) = pair(("upstream_cert", cert), ("upstream_key", key))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| refused(error, ("upstream_key", key), cert))
}

/// A client without a certificate so far.
pub(super) fn client_trusting(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, FileError> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(other)?
            .with_root_certificates(roots),
    )
}

/// How to speak TLS to clients.
pub(super) fn server(settings: &ListenerTls) -> Result<ServerConfig, FileError> {
    let ListenerTls { cert, key, .. } = settings;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(other)?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities("tls_client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().map_err(other)?)
        }
    };
    let (chain, secret) = pair(("tls_cert", cert), ("tls_key", key))?;
    builder
        .with_single_cert(chain, secret)
        .map_err(|error| refused(error, ("tls_key", key), cert))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(
    (cert_setting, cert): (&'static str, &Path),
    (key_setting, key): (&'static str, &Path),
) -> Result<Pair, FileError> {
    let chain = certificates(cert_setting, cert)?;
    if let Some(doubt) = out_of_time(cert_setting, cert, &chain) {
        tracing::warn!("{doubt}");
    }
    let pem = read(key_setting, key)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = memchr::memmem::find(&pem, b"ENCRYPTED").is_some();
        let why = if encrypted {
            "is encrypted; give the key without a passphrase, readable by this process alone"
        } else {
            "holds no private key in PEM format; it begins with -----BEGIN PRIVATE KEY-----"
        };
        unusable(key_setting, key, why)
    })?;
    Ok((chain, secret))
}

/// What a peer will have against the dates of a certificate of ours. No error: a proxy must be able to start before it is renewed.
fn out_of_time(
    setting: &'static str,
    path: &Path,
    chain: &[CertificateDer<'static>],
) -> Option<String> {
    let (own, intermediates) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    // The dates are looked at first; what comes after, such as the name, is for the peer to judge.
    let any = ServerName::try_from("localhost").ok()?;
    let judged = verifier.verify_server_cert(own, intermediates, &any, &[], UnixTime::now());
    let Err(rustls::Error::InvalidCertificate(error)) = judged else {
        return None;
    };
    let dates = explain::dates(&error)?;
    Some(format!(
        "{setting}: the certificate in {} {dates}",
        path.display()
    ))
}

/// The doubts about the certificates of a listener that [`client`] and [`server`] log.
pub(super) fn doubts(listener: &Listener) -> Vec<String> {
    let of = |setting, path: Option<&PathBuf>| {
        let path = path?;
        out_of_time(setting, path, &certificates(setting, path).ok()?)
    };
    let own = listener.tls.as_ref().map(|tls| &tls.cert);
    let shown = listener.upstream_tls.cert.as_ref();
    let all = [of("tls_cert", own), of("upstream_cert", shown)];
    all.into_iter().flatten().collect()
}

fn authorities(setting: &'static str, path: &Path) -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(setting, path)? {
        store.add(certificate).map_err(|error| {
            unusable(
                setting,
                path,
                format_args!("holds a certificate that cannot be used ({error}); give the authority's own, X.509 version 3"),
            )
        })?;
    }
    Ok(store)
}

fn native_authorities() -> Result<RootCertStore, FileError> {
    let mut store = RootCertStore::empty();
    // Some system's store holds a certificate or two that cannot be read: the others do.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        return Err(FileError::NoAuthorities);
    }
    Ok(store)
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| {
        let why = format_args!("is damaged ({error}); give an intact PEM file");
        unusable(setting, path, why)
    })?;
    if found.is_empty() {
        let why = "holds no certificate in PEM format; it begins with -----BEGIN CERTIFICATE-----";
        return Err(unusable(setting, path, why));
    }
    Ok(found)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    read_regular(path).map_err(|error| FileError::Unreadable {
        setting,
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// Reads a file, and nothing else: a pipe would be waited for, a device read without end.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(io::Error::other(
            "it is not a file but a pipe, a socket or a device",
        ));
    }
    if metadata.len() > MAX_FILE && metadata.is_file() {
        return Err(io::Error::other(format!(
            "it has {} bytes, and {MAX_FILE} are the most",
            metadata.len()
        )));
    }
    fs::read(path)
}

fn unusable(setting: &'static str, path: &Path, why: impl fmt::Display) -> FileError {
    FileError::Unusable {
        setting,
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// What rustls has against a certificate and its key.
fn refused(error: rustls::Error, (setting, key): (&'static str, &Path), cert: &Path) -> FileError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => FileError::Mismatch {
            setting,
            key: key.to_owned(),
            cert: cert.to_owned(),
        },
        error => {
            let why = format_args!(
                "cannot be used with the certificate in {} ({error}); give an RSA, ECDSA or Ed25519 key and its certificate",
                cert.display()
            );
            unusable(setting, key, why)
        }
    }
}

fn other(error: impl fmt::Display) -> FileError {
    FileError::Other(error.to_string())
}
