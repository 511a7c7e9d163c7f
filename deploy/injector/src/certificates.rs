//! The certificate that API servers are shown, exchangeable while connections are open and reviews under way.

mod files;
mod keeper;
mod own;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use files::{Error, Files};
pub use keeper::{Keeper, Names};
pub use own::{Bundle, Renewal, renewed, trusted};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The chain or the key is no PEM.
    #[error("{what}: {error}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// There is none in it.
    #[error("the certificate's file holds no certificate")]
    Empty,
    /// The two do not belong together, or the key is of an unknown kind.
    #[error("certificate and key: {0}")]
    Key(#[from] rustls::Error),
}

/// The certificate in use.
#[derive(Default)]
pub struct Current(ArcSwapOption<CertifiedKey>);

impl Current {
    /// None yet: handshakes fail until there is one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes another into use: the next handshake gets it. Connections that are open stay as they are.
    ///
    /// # Errors
    /// If it cannot be used; then the one before stays.
    pub fn set(&self, chain: &[u8], key: &[u8]) -> Result<(), Unusable> {
        let pem = |what| move |error| Unusable::Pem { what, error };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(pem("the certificate"))?;
        if chain.is_empty() {
            return Err(Unusable::Empty);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("its key"))?;
        let certified = CertifiedKey::from_der(chain, key, &default_provider())?;
        self.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load().is_some()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("set", &self.is_set())
            .finish()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// TLS 1.2 and 1.3, with whatever certificate is in use.
///
/// # Errors
/// If the provider does not have them, which ring has.
pub fn server_config(current: Arc<Current>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
