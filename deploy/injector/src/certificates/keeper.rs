//! Looks after the injector's own certificate in a cluster. It is in a Secret that all replicas read; the one that leads writes it,
//! and tells API servers of its authority first, so that no replica shows a certificate which they do not trust yet.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Secret;
use tokio::time::sleep;

use super::{Bundle, Current, Renewal, renewed};
use crate::kubernetes::{Cluster, Error};
use crate::metrics::Metrics;

/// How often the Secret is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between API servers being told of an authority and the certificate that it signed.
const TOLD: Duration = Duration::from_secs(2);

/// The names of what it looks after.
#[derive(Clone, Debug)]
pub struct Names {
    /// The Secret, and the Lease of the same name.
    pub secret: String,
    /// The MutatingWebhookConfiguration: its entries are told whom to trust, and the Services that they call are in the certificate.
    pub webhook: String,
}

/// Keeps one certificate.
#[derive(Debug)]
pub struct Keeper {
    cluster: Arc<Cluster>,
    names: Names,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    shown: Option<String>,
}

impl Keeper {
    /// Nothing is done before [`run`](Self::run).
    #[must_use]
    pub fn new(
        cluster: Arc<Cluster>,
        names: Names,
        current: Arc<Current>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            cluster,
            names,
            current,
            metrics,
            shown: None,
        }
    }

    /// For ever. What fails is tried again; the certificate in use stays.
    pub async fn run(mut self) {
        let mut failed = false;
        loop {
            match self.look().await {
                Ok(()) => failed = false,
                Err(error) => {
                    self.metrics.api_errors.inc();
                    if !failed {
                        tracing::error!(%error, "the certificate cannot be looked after");
                    }
                    failed = true;
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let leads = self.cluster.leads(&self.names.secret).await?;
        self.metrics.leader.set(leads.into());
        let secret = self.cluster.secret(&self.names.secret).await?;
        let data = secret
            .as_ref()
            .and_then(|secret| secret.data.clone())
            .unwrap_or_default();
        let mut bundle = Bundle::from_data(
            &data
                .into_iter()
                .map(|(name, bytes)| (name, bytes.0))
                .collect(),
        );
        if leads {
            bundle = Some(self.renew(bundle, secret).await?);
        }
        match bundle {
            Some(bundle) => self.show(&bundle),
            None => Ok(()),
        }
    }

    async fn renew(&self, bundle: Option<Bundle>, secret: Option<Secret>) -> Result<Bundle, Error> {
        let namespace = self.cluster.own_namespace();
        let services = self.cluster.services(&self.names.webhook).await?;
        let names: Vec<_> = services
            .iter()
            .flat_map(|service| {
                ["svc", "svc.cluster.local"].map(|suffix| format!("{service}.{namespace}.{suffix}"))
            })
            .collect();
        let renewal = renewed(bundle.as_ref(), &names, SystemTime::now())
            .map_err(|error| Error::Keys(error.to_string()))?;
        let (bundle, is_new) = match (bundle, renewal) {
            (Some(bundle), Renewal::Good) => (bundle, false),
            (_, Renewal::Renewed(bundle)) => (*bundle, true),
            (None, Renewal::Good) => return Err(Error::Keys("none were made".to_owned())),
        };
        let told = self
            .cluster
            .trust(&self.names.webhook, bundle.authority())
            .await?;
        if is_new {
            if told {
                sleep(TOLD).await;
            }
            self.cluster
                .store(&self.names.secret, secret, bundle.to_data())
                .await?;
            tracing::info!(secret = self.names.secret, "certificate renewed");
        }
        Ok(bundle)
    }

    fn show(&mut self, bundle: &Bundle) -> Result<(), Error> {
        if self.shown.as_ref() == Some(&bundle.cert) {
            return Ok(());
        }
        let set = self
            .current
            .set(bundle.cert.as_bytes(), bundle.key.as_bytes());
        set.map_err(|error| Error::Keys(error.to_string()))?;
        self.shown = Some(bundle.cert.clone());
        self.metrics.certificates.inc();
        let until = bundle
            .not_after
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.metrics
            .certificate_not_after
            .set(i64::try_from(until).unwrap_or(i64::MAX));
        tracing::info!(until, "certificate taken into use");
        Ok(())
    }
}
