//! What the operator of the injector decides: images, defaults that annotations go over, policy.

use std::str::FromStr;

/// Images, and ports in the pod, where nobody says otherwise.
const PROXY_IMAGE: &str = concat!("tars-proxy:", env!("CARGO_PKG_VERSION"));
const AGENT_IMAGE: &str = concat!("tars-agent:", env!("CARGO_PKG_VERSION"));
const PULL_POLICY: &str = "IfNotPresent";
const PROXY_ADMIN_PORT: u16 = 19464;
const PROXY_PORT: u16 = 16380;

/// The first minor version of Kubernetes 1 whose sidecar containers need no feature gate.
const NATIVE_SIDECARS: u32 = 29;

/// A version of Kubernetes: `1.34`, `v1.34.4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Behind `1.`
    pub minor: u32,
}

impl Version {
    /// Whether an init container with `restartPolicy: Always` runs beside the others.
    #[must_use]
    pub fn has_native_sidecars(self) -> bool {
        self.minor >= NATIVE_SIDECARS
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let minor = text
            .strip_prefix('v')
            .unwrap_or(text)
            .strip_prefix("1.")
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        minor
            .and_then(|minor: String| minor.parse().ok())
            .map(|minor| Self { minor })
            .ok_or_else(|| format!("`{text}` is no version of Kubernetes; write 1.34"))
    }
}

/// What happens to a pod whose annotations cannot be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnBadAnnotation {
    /// It starts without sidecar, with a warning.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Injection")]
pub struct Settings {
    /// Image of tars-proxy
    #[arg(long, env = "TARS_INJECTOR_PROXY_IMAGE", global = true, default_value = PROXY_IMAGE)]
    pub proxy_image: String,
    /// Image of tars-agent
    #[arg(long, env = "TARS_INJECTOR_AGENT_IMAGE", global = true, default_value = AGENT_IMAGE)]
    pub agent_image: String,
    /// imagePullPolicy of both
    #[arg(long, env = "TARS_INJECTOR_PULL_POLICY", global = true, default_value = PULL_POLICY, value_parser = ["Always", "IfNotPresent", "Never"])]
    pub pull_policy: String,
    /// Secrets for pulling them, which pods get as imagePullSecrets; they must exist in the pods' namespaces
    #[arg(
        long,
        env = "TARS_INJECTOR_PULL_SECRETS",
        global = true,
        value_delimiter = ',',
        value_name = "NAME,…"
    )]
    pub pull_secrets: Vec<String>,
    /// Version of Kubernetes, such as 1.34: native sidecars from 1.29 on [default: the API server's; 1.34 for render]
    #[arg(
        long,
        env = "TARS_INJECTOR_KUBERNETES_VERSION",
        global = true,
        value_name = "VERSION"
    )]
    pub kubernetes_version: Option<Version>,
    /// What happens to a pod whose annotations cannot be understood
    #[arg(
        long,
        env = "TARS_INJECTOR_ON_BAD_ANNOTATION",
        global = true,
        value_name = "POLICY",
        default_value = "allow"
    )]
    pub on_bad_annotation: OnBadAnnotation,
    /// Pods that get no sidecar are told why in tars.dev/status, which deploy/injector/required.yaml asks of all
    #[arg(long, env = "TARS_INJECTOR_RECORD_SKIPPED", global = true)]
    pub record_skipped: bool,
    /// Where spans go, unless the pod's annotation says otherwise
    #[arg(
        long,
        env = "TARS_INJECTOR_OTLP_ENDPOINT",
        global = true,
        value_name = "URL"
    )]
    pub otlp_endpoint: Option<String>,
    /// Where the sidecar's metrics, traces and health are served, in the pod
    #[arg(
        long,
        env = "TARS_INJECTOR_PROXY_ADMIN_PORT",
        global = true,
        value_name = "PORT",
        default_value_t = PROXY_ADMIN_PORT
    )]
    pub proxy_admin_port: u16,
    /// Where the sidecar listens in the pod; further upstreams get the ports above
    #[arg(
        long,
        env = "TARS_INJECTOR_PROXY_PORT",
        global = true,
        value_name = "PORT",
        default_value_t = PROXY_PORT
    )]
    pub proxy_port: u16,
}

impl Settings {
    /// Whether pods get native sidecars. A version that nobody knows is taken for a current one.
    #[must_use]
    pub fn native_sidecars(&self) -> bool {
        self.kubernetes_version
            .is_none_or(Version::has_native_sidecars)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy_image: PROXY_IMAGE.to_owned(),
            agent_image: AGENT_IMAGE.to_owned(),
            pull_policy: PULL_POLICY.to_owned(),
            pull_secrets: Vec::new(),
            kubernetes_version: None,
            on_bad_annotation: OnBadAnnotation::default(),
            record_skipped: false,
            otlp_endpoint: None,
            proxy_admin_port: PROXY_ADMIN_PORT,
            proxy_port: PROXY_PORT,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn versions() {
        for (text, minor) in [
            ("1.28", Some(28)),
            ("v1.34.4", Some(34)),
            ("1.29+", Some(29)),
            ("1.30.2-gke.1", Some(30)),
            ("2.0", None),
            ("1.", None),
            ("", None),
        ] {
            assert_eq!(
                text.parse::<Version>().ok().map(|v| v.minor),
                minor,
                "{text}"
            );
        }
        assert!(!Version { minor: 28 }.has_native_sidecars());
        assert!(Version { minor: 29 }.has_native_sidecars());
    }
}
