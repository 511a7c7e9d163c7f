//! What is asked of the API server, and told to it; everything else runs without one.
//!
//! Needs: get namespaces; get, create, update the Secret and the Lease; get, update the MutatingWebhookConfiguration; create events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::certificates::trusted;
use crate::metrics::Metrics;
use crate::pod;
use crate::settings::Version;

/// For an answer that a review waits for; the API server waits for the review no longer than 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long labels of a namespace are believed.
const LABELS_LAST: Duration = Duration::from_secs(5);
/// Then the same event is sent again.
const EVENT_EVERY: Duration = Duration::from_secs(300);
/// Namespaces, and events, that are remembered.
const MAX_REMEMBERED: usize = 1024;
/// Events that are being sent; more are not sent.
const EVENTS_AT_ONCE: usize = 8;
/// How long one that leads may be silent.
const LEASE: Duration = Duration::from_secs(20);
/// HTTP's.
const CONFLICT: u16 = 409;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Between here and the API server.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It is not the API server's fault.
    #[error("keys: {0}")]
    Keys(String),
    /// Nobody would call it.
    #[error("webhook {0} calls no Service of the injector's namespace")]
    NoService(String),
    /// It answers what is no version.
    #[error("the API server's version: {0}")]
    Version(String),
}

type Remembered<K, V> = Mutex<HashMap<K, (Instant, V)>>;

/// A connection to the API server.
pub struct Cluster {
    client: Client,
    metrics: Arc<Metrics>,
    namespace: String,
    identity: String,
    labels: Remembered<String, BTreeMap<String, String>>,
    events: Remembered<(String, String), ()>,
    sending: Arc<Semaphore>,
    /// The lease as it was seen last, and since when it has been that: clocks of others are not looked at.
    lease: Mutex<Option<(String, Instant)>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// As the pod's service account, or as `KUBECONFIG` says. `identity` is the replica's name, the pod's.
    ///
    /// # Errors
    /// If neither is there.
    pub async fn new(metrics: Arc<Metrics>, identity: String) -> Result<Self, Error> {
        let client = Client::try_default().await?;
        Ok(Self {
            namespace: client.default_namespace().to_owned(),
            client,
            metrics,
            identity,
            labels: Mutex::default(),
            events: Mutex::default(),
            sending: Arc::new(Semaphore::new(EVENTS_AT_ONCE)),
            lease: Mutex::default(),
        })
    }

    /// Where the injector runs.
    #[must_use]
    pub fn own_namespace(&self) -> &str {
        &self.namespace
    }

    /// Of Kubernetes.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn version(&self) -> Result<Version, Error> {
        let version = self.client.apiserver_version().await?;
        version.git_version.parse().map_err(Error::Version)
    }

    /// The labels of a namespace; none if they cannot be had soon.
    pub async fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        if let Some(labels) = recall(&self.labels, namespace, LABELS_LAST) {
            return Some(labels);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        match timeout(ANSWER_TIMEOUT, api.get(namespace)).await {
            Ok(Ok(found)) => {
                let labels = found.metadata.labels.unwrap_or_default();
                remember(&self.labels, namespace.to_owned(), labels.clone());
                Some(labels)
            }
            Ok(Err(error)) => {
                self.metrics.api_errors.inc();
                tracing::warn!(namespace, %error, "the namespace's labels cannot be had");
                None
            }
            Err(_) => {
                self.metrics.api_errors.inc();
                tracing::warn!(namespace, "the namespace's labels did not come in time");
                None
            }
        }
    }

    /// Sends an event about a pod that does not exist yet: it is seen at what creates it. Nothing waits for it.
    pub fn event(&self, namespace: &str, pod: &Value, message: &str) {
        let object = match pod::controller(pod) {
            Some(owner) => json!({
                "apiVersion": pod::text(owner, "apiVersion"),
                "kind": pod::text(owner, "kind"),
                "name": pod::text(owner, "name"),
                "uid": pod::text(owner, "uid"),
                "namespace": namespace,
            }),
            None => {
                json!({"apiVersion": "v1", "kind": "Pod", "name": pod::workload(pod), "namespace": namespace})
            }
        };
        let key = (object.to_string(), message.to_owned());
        if recall(&self.events, &key, EVENT_EVERY).is_some() {
            return;
        }
        let Ok(place) = self.sending.clone().try_acquire_owned() else {
            return;
        };
        let name = event_name(&key, SystemTime::now());
        remember(&self.events, key, ());
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": object,
            "reason": "TarsInjection",
            "message": message,
            "type": "Warning",
            "source": {"component": "tars-injector"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        let Ok(event) = serde_json::from_value::<Event>(event) else {
            return;
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let metrics = self.metrics.clone();
        tokio::spawn(async move {
            let _place = place;
            let sent = timeout(ANSWER_TIMEOUT, api.create(&PostParams::default(), &event)).await;
            // Another replica, which was asked about the same pod, may have told it already.
            let told = match &sent {
                Ok(Err(kube::Error::Api(status))) => status.code == CONFLICT,
                sent => matches!(sent, Ok(Ok(_))),
            };
            if !told {
                metrics.api_errors.inc();
                tracing::debug!(?sent, "no event");
            }
        });
    }

    /// A Secret, if there is one.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>, Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get_opt(name).await?)
    }

    /// Writes the data of a Secret, unless somebody else wrote it since it was read.
    ///
    /// # Errors
    /// In that case, or if it cannot be written.
    pub async fn store(
        &self,
        name: &str,
        read: Option<Secret>,
        data: BTreeMap<String, Vec<u8>>,
    ) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let data = data
            .into_iter()
            .map(|(name, bytes)| (name, ByteString(bytes)));
        let exists = read.is_some();
        let mut secret = read.unwrap_or_else(|| Secret {
            metadata: self.metadata(name),
            ..Secret::default()
        });
        secret.data = Some(data.collect());
        match exists {
            true => api.replace(name, &PostParams::default(), &secret).await?,
            false => api.create(&PostParams::default(), &secret).await?,
        };
        Ok(())
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }

    /// The Services by which API servers call the injector, one a replica: what its certificate has to name.
    ///
    /// # Errors
    /// If the webhook's configuration is not there or names none.
    pub async fn services(&self, webhook: &str) -> Result<BTreeSet<String>, Error> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = api.get(webhook).await?;
        let configs = found.webhooks.iter().flatten();
        let services: BTreeSet<_> = configs
            .filter_map(|webhook| self.own_service(&webhook.client_config))
            .cloned()
            .collect();
        match services.is_empty() {
            true => Err(Error::NoService(webhook.to_owned())),
            false => Ok(services),
        }
    }

    fn own_service<'a>(&self, config: &'a WebhookClientConfig) -> Option<&'a String> {
        let service = config.service.as_ref()?;
        (service.namespace == self.namespace).then_some(&service.name)
    }

    /// Lets API servers trust this authority when they call the injector. Whether they did not before.
    ///
    /// # Errors
    /// If the webhook's configuration is not there or cannot be changed.
    pub async fn trust(&self, webhook: &str, authority: &str) -> Result<bool, Error> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let mut found = api.get(webhook).await?;
        let mut changed = false;
        for webhook in found.webhooks.iter_mut().flatten() {
            let config = &mut webhook.client_config;
            let ours = self.own_service(config).is_some();
            let before = config
                .ca_bundle
                .as_ref()
                .map_or(&[][..], |bundle| &bundle.0);
            let wanted = trusted(before, authority).into_bytes();
            if ours && before != wanted {
                config.ca_bundle = Some(ByteString(wanted));
                changed = true;
            }
        }
        if changed {
            api.replace(webhook, &PostParams::default(), &found).await?;
            tracing::info!(webhook, "API servers trust the certificate's authority");
        }
        Ok(changed)
    }

    /// Whether this replica leads, by a Lease that one of them holds and renews with every call.
    ///
    /// # Errors
    /// If the Lease cannot be had or written.
    pub async fn leads(&self, name: &str) -> Result<bool, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await?;
        let before = found
            .as_ref()
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let version = found
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.as_deref());
        let held = before
            .holder_identity
            .as_deref()
            .is_some_and(|holder| !holder.is_empty());
        let own = before.holder_identity.as_deref() == Some(self.identity.as_str());
        if held && !own && !self.is_silent(version) {
            return Ok(false);
        }
        let now = MicroTime(Timestamp::now());
        let exists = found.is_some();
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: self.metadata(name),
            ..Lease::default()
        });
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: if own {
                before.acquire_time.clone()
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(
                before.lease_transitions.unwrap_or(0) + i32::from(held && !own),
            ),
            ..before
        });
        let written = match exists {
            true => api.replace(name, &PostParams::default(), &lease).await,
            false => api.create(&PostParams::default(), &lease).await,
        };
        match written {
            Ok(_) => Ok(true),
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the lease has been this one for longer than it lasts.
    fn is_silent(&self, version: Option<&str>) -> bool {
        let mut seen = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version.unwrap_or("");
        match &*seen {
            Some((known, since)) if known == version => since.elapsed() > LEASE,
            _ => {
                *seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }
}

/// The same in all replicas, for as long as the same event is not sent again.
fn event_name(key: &(String, String), now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (key, since.as_secs() / EVENT_EVERY.as_secs()).hash(&mut hasher);
    format!("tars-injector-{:016x}", hasher.finish())
}

fn recall<K: Eq + Hash + std::borrow::Borrow<Q>, Q: Eq + Hash + ?Sized, V: Clone>(
    remembered: &Remembered<K, V>,
    key: &Q,
    lasts: Duration,
) -> Option<V> {
    let remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, value) = remembered.get(key)?;
    (since.elapsed() < lasts).then(|| value.clone())
}

/// When there is no room left, all are forgotten: then they are asked for again.
fn remember<K: Eq + Hash, V>(remembered: &Remembered<K, V>, key: K, value: V) {
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() >= MAX_REMEMBERED {
        remembered.clear();
    }
    remembered.insert(key, (Instant::now(), value));
}
