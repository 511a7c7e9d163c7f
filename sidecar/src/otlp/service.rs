//! Whose spans these are.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::Error;
use super::env::Env;

const SERVICE_NAME: &str = "service.name";

/// The service that the environment describes: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`
/// (`key=value,…`, percent-encoded; may hold a `service.name`, too, which counts less).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    name: Option<String>,
    attributes: Vec<(String, String)>,
}

impl Service {
    /// From the environment, or any other look-up of variables.
    ///
    /// # Errors
    /// When the attributes are not a list of pairs.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let env = Env(&lookup);
        let mut attributes = Vec::new();
        if let Some(variable) = env.get("OTEL_RESOURCE_ATTRIBUTES") {
            attributes = variable.pairs()?;
        }
        let own_name = attributes.iter().rev().find(|(key, _)| key == SERVICE_NAME);
        let own_name = own_name.map(|(_, value)| value.clone());
        attributes.retain(|(key, _)| key != SERVICE_NAME);
        let name = env
            .get("OTEL_SERVICE_NAME")
            .map(|variable| variable.value)
            .or(own_name);
        Ok(Self { name, attributes })
    }

    /// The service's name, if the environment gives one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The resource to export spans of `name` with; the environment's other attributes and `telemetry.sdk.*` go along.
    pub fn resource(&self, name: &str) -> Resource {
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(attributes)
            .with_service_name(name.to_owned())
            .build()
    }
}
