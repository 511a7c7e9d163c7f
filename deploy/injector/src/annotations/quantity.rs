//! Kubernetes' quantities: `500m`, `64Mi`, `0.5`; with a limit, `32Mi/128Mi`.

use serde_json::{Map, Value, json};

/// What may stand behind the number, and what it multiplies by.
const SUFFIXES: [(&str, f64); 13] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The least memory that the proxy starts with.
const LEAST_MEMORY: f64 = 16.0 * 1_048_576.0;

/// The most that anybody can mean.
const MOST_MEMORY: f64 = 1_125_899_906_842_624.0;

/// A quantity as it was written, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Quantity {
    text: String,
    value: f64,
}

impl Quantity {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
            .unwrap_or((text, 1.0));
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = number.parse().ok().filter(|_| plain)?;
        (number > 0.0 && number.is_finite()).then(|| Self {
            text: text.to_owned(),
            value: number * factor,
        })
    }
}

/// How much of a resource a container asks for, and how much it may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Amount {
    request: Quantity,
    limit: Option<Quantity>,
}

impl Amount {
    /// `20m`, or `20m/1` with a limit. A request alone has no limit: of processor time none is needed.
    pub(super) fn cpu(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no amount of processor time; write 100m, or with a limit 100m/1")
        };
        Self::read(text).ok_or_else(wrong)
    }

    /// `64Mi`, request and limit in one, or `32Mi/128Mi`.
    pub(super) fn memory(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no amount of memory from 16Mi to 1Pi; write 64Mi, or with a limit 64Mi/128Mi"
            )
        };
        let mut amount = Self::read(text).ok_or_else(wrong)?;
        let limit = amount.limit.get_or_insert_with(|| amount.request.clone());
        match (LEAST_MEMORY..=MOST_MEMORY).contains(&limit.value) {
            true => Ok(amount),
            false => Err(wrong()),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (request, limit) = match text.split_once('/') {
            Some((request, limit)) => (request, Some(Quantity::read(limit)?)),
            None => (text, None),
        };
        let request = Quantity::read(request)?;
        let fits = limit
            .as_ref()
            .is_none_or(|limit| limit.value >= request.value);
        fits.then_some(Self { request, limit })
    }

    /// The limit, in units or bytes.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.limit.as_ref().map(|limit| limit.value)
    }
}

/// `resources` of a container. In a pod whose quality of service is Guaranteed, requests are the limits, so that it stays that.
#[must_use]
pub fn resources(cpu: Option<&Amount>, memory: &Amount, guaranteed: bool) -> Value {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for (name, amount) in [("cpu", cpu), ("memory", Some(memory))] {
        let Some(amount) = amount else { continue };
        let limit = match (&amount.limit, guaranteed) {
            (Some(limit), _) => Some(limit),
            (None, true) => Some(&amount.request),
            (None, false) => None,
        };
        let request = limit.filter(|_| guaranteed).unwrap_or(&amount.request);
        requests.insert(name.to_owned(), request.text.clone().into());
        if let Some(limit) = limit {
            limits.insert(name.to_owned(), limit.text.clone().into());
        }
    }
    match limits.is_empty() {
        true => json!({"requests": requests}),
        false => json!({"limits": limits, "requests": requests}),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn amounts() {
        let memory = Amount::memory("64Mi").unwrap();
        let cpu = Amount::cpu("100m").unwrap();
        assert_eq!(
            resources(Some(&cpu), &memory, false),
            json!({"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}})
        );
        assert_eq!(
            resources(Some(&cpu), &Amount::memory("32Mi / 0.25Gi").unwrap(), true),
            json!({"limits": {"cpu": "100m", "memory": "0.25Gi"}, "requests": {"cpu": "100m", "memory": "0.25Gi"}})
        );
        assert_eq!(memory.limit(), Some(67_108_864.0));
        for wrong in [
            "",
            "x",
            "64Mi/32Mi",
            "-1Gi",
            "64MB",
            "1e3",
            "64Mi/",
            "0",
            "1Mi",
            "inf",
            "99999999999999999999Ei",
            "64Mi/2Pi",
            ".",
        ] {
            assert!(Amount::memory(wrong).is_err(), "{wrong}");
        }
    }
}
