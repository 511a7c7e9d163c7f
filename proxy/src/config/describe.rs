//! A configuration as JSON, in the shape of the file, and in a few lines. There is nothing secret in it: an upstream with a
//! password is refused, and of a variable that holds one only the name is shown.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::rules::{Override, StreamRule};
use super::value::{Choice as _, show_duration, show_size};
use super::{Config, Listener, Pattern, show_upstream};

impl Config {
    /// What `/config` and `check-config --print` show: every setting under its key of the file, and with it what the
    /// environment of OpenTelemetry decides.
    #[must_use]
    pub fn describe(&self) -> Value {
        let rules = &self.rules;
        let limits = &self.limits;
        json!({
            "config": self.file.as_ref().map(|path| path.display().to_string()),
            "admin": self.admin.to_string(),
            "workers": self.workers,
            "region": self.region.as_deref(),
            "relation": rules.relation.name(),
            "process_timeout": show_duration(rules.process_timeout),
            "drain_timeout": show_duration(self.drain_timeout),
            "no_trace": !self.trace,
            "log_level": self.log.level,
            "log_format": self.log.format.name(),
            "listener": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "stream": rules.streams.iter().map(stream).collect::<Vec<_>>(),
            "deliver": overrides(&rules.deliver, |deliver| json!(deliver.name())),
            "sample": overrides(&rules.sample, |ratio| json!(ratio)),
            "limits": {
                "max_message_bytes": show_size(limits.max_message_bytes),
                "max_held_bytes": show_size(limits.max_held_bytes),
                "max_pending_replies": limits.max_pending_replies,
                "max_pending_bytes": show_size(limits.max_pending_bytes),
                "max_deliveries": limits.max_deliveries,
                "max_metric_names": limits.max_metric_names,
                "max_recent_spans": limits.max_recent_spans,
                "max_connections": limits.max_connections,
            },
            "service_name": &*self.service_name,
            "sampler": { "ratio": rules.sampler.ratio, "parent_based": rules.sampler.parent_based },
        })
    }

    /// What is of interest in a few lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for listener in &self.listeners {
            let service = listener.service_name.as_ref().unwrap_or(&self.service_name);
            let _ = writeln!(
                out,
                "listen {}{} -> {}{}, service {service}, infer_parent {}",
                listener.listen,
                if listener.tls.is_some() { " (TLS)" } else { "" },
                show_upstream(listener.upstream.as_ref()),
                match &listener.upstream_env {
                    Some(name) => format!(" (user, password and database of {name})"),
                    None => String::new(),
                },
                listener.infer_parent.name()
            );
        }
        let rules = &self.rules;
        let _ = writeln!(out, "admin {}, workers {}", self.admin, self.workers);
        if !self.trace {
            out.push_str("no trace: everything is forwarded as it is\n");
            return out;
        }
        let parent_based = if rules.sampler.parent_based {
            "parent-based, "
        } else {
            ""
        };
        let ruled = !rules.sample.is_empty()
            || (rules.streams.iter())
                .any(|rule| !rule.trace || rule.force || rule.sample.is_some());
        let otherwise = if ruled {
            " where no rule says otherwise"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "relation {}, process_timeout {}, sampled {parent_based}{} of new traces{otherwise}",
            rules.relation.name(),
            show_duration(rules.process_timeout),
            rules.sampler.ratio
        );
        if rules.streams.is_empty() && rules.deliver.is_empty() && rules.sample.is_empty() {
            out.push_str("no stream rules\n");
        }
        let mut line = |pattern: &Pattern, by: &str, effect: &str| {
            let pattern = pattern.as_str().escape_debug();
            let _ = writeln!(out, "stream {pattern}{by}: {effect}");
        };
        for rule in &rules.streams {
            line(&rule.pattern, "", &effect(rule));
        }
        let by = " (flag or variable)";
        for over in &rules.deliver {
            line(&over.pattern, by, &format!("deliver {}", over.value.name()));
        }
        for over in &rules.sample {
            line(&over.pattern, by, &format!("sampled {}", over.value));
        }
        out
    }
}

/// What a rule does.
fn effect(rule: &StreamRule) -> String {
    let deliver = format!("deliver {}", rule.deliver.name());
    match (rule.trace, rule.force, rule.sample) {
        (false, ..) => "not traced, everything is forwarded as it is".to_owned(),
        (true, true, _) => format!("every message sampled (force), {deliver}"),
        (true, false, Some(ratio)) => format!("sampled {ratio}, {deliver}"),
        (true, false, None) => format!("sampled as above, {deliver}"),
    }
}

fn listener(listener: &Listener) -> Value {
    let (upstream, tls) = (&listener.upstream_tls, listener.tls.as_ref());
    let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string());
    json!({
        "listen": listener.listen.to_string(),
        "upstream": show_upstream(listener.upstream.as_ref()),
        "upstream_env": listener.upstream_env.as_deref(),
        "upstream_ca": path(upstream.ca.as_ref()),
        "upstream_cert": path(upstream.cert.as_ref()),
        "upstream_key": path(upstream.key.as_ref()),
        "upstream_server_name": upstream.server_name.as_deref(),
        "tls_cert": path(tls.map(|tls| &tls.cert)),
        "tls_key": path(tls.map(|tls| &tls.key)),
        "tls_client_ca": path(tls.and_then(|tls| tls.client_ca.as_ref())),
        "service_name": listener.service_name.as_deref(),
        "infer_parent": listener.infer_parent.name(),
    })
}

fn stream(rule: &StreamRule) -> Value {
    json!({
        "pattern": rule.pattern.as_str(),
        "trace": rule.trace,
        "deliver": rule.deliver.name(),
        "sample": rule.sample,
        "force": rule.force,
    })
}

fn overrides<T>(overrides: &[Override<T>], value: impl Fn(&T) -> Value) -> Value {
    let show = |over: &Override<T>| json!({ "pattern": over.pattern.as_str(), "value": value(&over.value) });
    overrides.iter().map(show).collect()
}
