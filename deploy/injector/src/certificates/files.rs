//! A certificate in files, as cert-manager mounts one: read again when they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Current, Unusable};
use crate::metrics::Metrics;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not to be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a certificate with its key.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The certificate's.
        path: PathBuf,
        /// Why.
        error: Unusable,
    },
}

/// The files, and what was in them.
#[derive(Debug)]
pub struct Files {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    read: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    /// Takes what is in them into use.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn new(
        cert: PathBuf,
        key: PathBuf,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let mut files = Self {
            cert,
            key,
            current,
            metrics,
            read: None,
        };
        files.look()?;
        Ok(files)
    }

    fn look(&mut self) -> Result<(), Error> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| Error::Read {
                path: path.to_owned(),
                error,
            })
        };
        let found = (read(&self.cert)?, read(&self.key)?);
        if self.read.as_ref() == Some(&found) {
            return Ok(());
        }
        // Remembered whether or not it can be used: what cannot is said once.
        let (cert, key) = self.read.insert(found);
        self.current
            .set(cert, key)
            .map_err(|error| Error::Unusable {
                path: self.cert.clone(),
                error,
            })?;
        self.metrics.certificates.inc();
        tracing::info!(file = %self.cert.display(), "certificate taken into use");
        Ok(())
    }

    /// Looks at the files for ever. What cannot be used changes nothing.
    pub async fn watch(mut self) {
        let mut failed = false;
        loop {
            sleep(LOOK_EVERY).await;
            match self.look() {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!(%error, "the certificate in use stays");
                }
                Err(_) => {}
            }
        }
    }
}
