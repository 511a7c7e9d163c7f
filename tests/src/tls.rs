//! Authorities and certificates for tests, as PEM files.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, and a folder with `ca.pem` and what it signs.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Panics
    /// When its files cannot be written.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its own certificate, `ca.pem`.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Its own certificate as text.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// `NAME.pem` and `NAME.key`, for a host.
    #[must_use]
    pub fn sign(&self, name: &str, host: &str) -> Identity {
        self.write(
            name,
            &CertificateParams::new(vec![host.to_owned()]).unwrap(),
        )
    }

    /// The same, expired so long ago.
    #[must_use]
    pub fn sign_expired(&self, name: &str, host: &str, ago: Duration) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = (SystemTime::now() - ago).into();
        self.write(name, &params)
    }

    /// `NAME.pem` and `NAME.key`, for a host, with which it may sign others, as `openssl req -x509` makes them.
    #[must_use]
    pub fn sign_authority(&self, name: &str, host: &str) -> Identity {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write(name, &params)
    }

    fn write(&self, name: &str, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            cert: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        std::fs::write(&identity.cert, cert.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

impl Identity {
    /// Arguments of a program that name both files: `["--tls-cert", "/…", "--tls-key", "/…"]`.
    #[must_use]
    pub fn args(&self, cert: &str, key: &str) -> [String; 4] {
        let (cert_file, key_file) = (self.cert.display(), self.key.display());
        [
            cert.to_owned(),
            cert_file.to_string(),
            key.to_owned(),
            key_file.to_string(),
        ]
    }

    /// Takes the place of another: first the certificate, then the key.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn replace(&self, other: &Self) {
        std::fs::copy(&self.cert, &other.cert).unwrap();
        std::fs::copy(&self.key, &other.key).unwrap();
    }
}
