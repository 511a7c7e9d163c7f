//! What a pod's annotations ask for. A name or a value that cannot be understood is an error, which says what would be right.

mod quantity;

use serde_json::Value;

use crate::address;
use crate::names::{ANNOTATIONS, INJECT, PREFIX, STATUS};
use crate::pod;

pub use quantity::{Amount, resources};

/// The default of `tars.dev/env`.
const ENV: &str = "REDIS_URL";
/// The default of `tars.dev/proxy-cpu`: no limit, which would hold up a request until the next period.
const CPU: &str = "20m";
/// The default of `tars.dev/proxy-memory`.
const MEMORY: &str = "32Mi/256Mi";
/// The default of `tars.dev/agent-memory`.
const AGENT_MEMORY: &str = "256Mi";
/// Variables, or ports, that one annotation may name.
const MAX_ITEMS: usize = 32;
/// OpenTelemetry's backends cut names that are longer.
const MAX_SERVICE_NAME: usize = 255;

/// How the application's traffic gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its variables lead there.
    Explicit,
    /// Its connections are redirected.
    Transparent,
}

/// Variables that say where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// A URL or `host:port`.
    Whole(String),
    /// Host and port.
    Pair(String, String),
}

/// Where the learner keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentVolume {
    /// A directory that lives as long as the pod.
    EmptyDir,
    /// A PersistentVolumeClaim of that name.
    Claim(String),
}

/// What a pod asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes {
    /// `tars.dev/env`
    pub variables: Vec<Variable>,
    /// `tars.dev/upstream`, as the proxy takes it.
    pub upstream: Option<String>,
    /// `tars.dev/mode`
    pub mode: Mode,
    /// `tars.dev/ports`
    pub ports: Vec<u16>,
    /// `tars.dev/sample`, as the proxy takes it.
    pub sample: Option<String>,
    /// `tars.dev/service-name`
    pub service_name: Option<String>,
    /// `tars.dev/otlp-endpoint`
    pub otlp_endpoint: Option<String>,
    /// `tars.dev/infer-parent`
    pub infer_parent: Option<String>,
    /// `tars.dev/agent`
    pub agent: Option<AgentVolume>,
    /// `tars.dev/agent-memory`
    pub agent_memory: Amount,
    /// `tars.dev/log-level`
    pub log_level: Option<String>,
    /// `tars.dev/proxy-cpu`
    pub cpu: Amount,
    /// `tars.dev/proxy-memory`
    pub memory: Amount,
    /// Annotations without meaning in this mode.
    pub warnings: Vec<String>,
}

/// An annotation that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PREFIX}{name}: {why}")]
pub struct Bad {
    /// Behind the prefix.
    pub name: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl Wishes {
    /// Reads a pod's annotations. An empty one is as none.
    ///
    /// # Errors
    /// The first that cannot be understood.
    pub fn read(pod: &Value) -> Result<Self, Bad> {
        unknown(pod)?;
        let given = |name: &'static str| {
            let found = pod::meta(pod, "annotations", &format!("{PREFIX}{name}"));
            found.map(str::trim).filter(|text| !text.is_empty())
        };
        let or = |name, default| given(name).unwrap_or(default);
        let mode = match or("mode", "explicit") {
            "explicit" => Mode::Explicit,
            "transparent" => Mode::Transparent,
            _ => return bad("mode", "write explicit or transparent"),
        };
        let meaningless: &[&str] = match mode {
            Mode::Explicit => &["ports"],
            Mode::Transparent => &["env", "upstream"],
        };
        let warnings = meaningless.iter().filter(|name| given(name).is_some());
        let word = |mode: Mode| match mode {
            Mode::Explicit => "explicit",
            Mode::Transparent => "transparent",
        };
        Ok(Self {
            variables: read("env", or("env", ENV), variables)?,
            upstream: optional("upstream", given("upstream"), upstream)?,
            mode,
            ports: read("ports", or("ports", "6379"), ports)?,
            sample: optional("sample", given("sample"), sample)?,
            service_name: optional("service-name", given("service-name"), service_name)?,
            otlp_endpoint: optional("otlp-endpoint", given("otlp-endpoint"), otlp_endpoint)?,
            infer_parent: optional("infer-parent", given("infer-parent"), infer_parent)?,
            agent: optional("agent", given("agent"), agent)?.flatten(),
            agent_memory: read(
                "agent-memory",
                or("agent-memory", AGENT_MEMORY),
                Amount::memory,
            )?,
            log_level: optional("log-level", given("log-level"), log_level)?,
            cpu: read("proxy-cpu", or("proxy-cpu", CPU), Amount::cpu)?,
            memory: read("proxy-memory", or("proxy-memory", MEMORY), Amount::memory)?,
            warnings: warnings
                .map(|name| format!("{PREFIX}{name} means nothing in {} mode", word(mode)))
                .collect(),
        })
    }
}

/// Whether a pod asks for transparent mode, about which its namespace has a say.
#[must_use]
pub fn is_transparent(pod: &Value) -> bool {
    let mode = pod::meta(pod, "annotations", &format!("{PREFIX}mode"));
    mode.is_some_and(|mode| mode.trim() == "transparent")
}

fn bad<T>(name: &str, why: impl Into<String>) -> Result<T, Bad> {
    Err(Bad {
        name: name.to_owned(),
        why: why.into(),
    })
}

type Read<T> = Result<T, String>;

fn read<T>(name: &str, text: &str, how: impl Fn(&str) -> Read<T>) -> Result<T, Bad> {
    how(text).or_else(|why| bad(name, why))
}

fn optional<T>(
    name: &str,
    text: Option<&str>,
    how: impl Fn(&str) -> Read<T>,
) -> Result<Option<T>, Bad> {
    text.map(|text| read(name, text, how)).transpose()
}

/// A name that was mistyped would do nothing, and nobody would know.
fn unknown(pod: &Value) -> Result<(), Bad> {
    let annotations = pod
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"));
    let written = annotations.and_then(Value::as_object).into_iter().flatten();
    for name in written.filter_map(|(name, _)| name.strip_prefix(PREFIX)) {
        let known = ANNOTATIONS.iter().any(|known| known.name == name);
        if known
            || STATUS.strip_prefix(PREFIX) == Some(name)
            || INJECT.strip_prefix(PREFIX) == Some(name)
        {
            continue;
        }
        let alike = ANNOTATIONS
            .iter()
            .map(|known| {
                (
                    strsim::normalized_damerau_levenshtein(name, known.name),
                    known.name,
                )
            })
            .filter(|(alike, _)| *alike >= 0.5)
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let meant = alike.map_or(String::new(), |(_, name)| {
            format!("; {PREFIX}{name} was meant?")
        });
        return bad(name, format!("no annotation of that name is known{meant}"));
    }
    Ok(())
}

/// The parts of a list with commas; at least one.
fn items(text: &str) -> Read<Vec<&str>> {
    let items: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    match items.len() {
        0 => Err("the list is empty".to_owned()),
        1..=MAX_ITEMS => Ok(items),
        _ => Err(format!("the list has more than {MAX_ITEMS} items")),
    }
}

fn variables(text: &str) -> Read<Vec<Variable>> {
    let name = |text: &str| {
        let text = text.trim();
        let usual = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        let first = text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        match first && text.bytes().all(usual) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "`{text}` is no name of a variable; write NAME or HOST_NAME+PORT_NAME, with commas between them"
            )),
        }
    };
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for item in items(text)? {
        let variable = match item.split_once('+') {
            Some((host, port)) => Variable::Pair(name(host)?, name(port)?),
            None => Variable::Whole(name(item)?),
        };
        let names: &[&String] = match &variable {
            Variable::Whole(one) => &[one],
            Variable::Pair(host, port) => &[host, port],
        };
        for name in names {
            if seen.contains(*name) {
                return Err(format!("{name} is named twice"));
            }
            seen.push((*name).clone());
        }
        all.push(variable);
    }
    Ok(all)
}

fn upstream(text: &str) -> Read<String> {
    let wrong = || {
        "write redis://host:port, rediss://host:port or host:port, without user, password and database".to_owned()
    };
    let written = address::Written::read(text).map_err(|_| wrong())?;
    if !written.userinfo.is_empty() || !written.rest.trim_start_matches('/').is_empty() {
        return Err(wrong());
    }
    let is_url = !written.scheme.is_empty();
    if written.authority.contains("$(") || written.authority.is_empty() {
        return Err(wrong());
    }
    address::upstream(written.authority, written.tls(), is_url).map_err(|_| wrong())
}

fn ports(text: &str) -> Read<Vec<u16>> {
    let mut ports = Vec::new();
    for item in items(text)? {
        match item.parse() {
            Ok(port @ 1..) if !ports.contains(&port) => ports.push(port),
            Ok(1..) => {}
            _ => {
                return Err(format!(
                    "`{item}` is no port; write numbers from 1 to 65535, with commas between them"
                ));
            }
        }
    }
    Ok(ports)
}

fn sample(text: &str) -> Read<String> {
    let mut rules = Vec::new();
    for item in items(text)? {
        let (pattern, ratio) = item.rsplit_once('=').unwrap_or(("*", item));
        match ratio.trim().parse::<f64>() {
            Ok(0.0..=1.0) if !pattern.trim().is_empty() => {
                rules.push(format!("{}={}", pattern.trim(), ratio.trim()));
            }
            _ => {
                return Err(format!(
                    "`{item}` is no share; write 0.1, or by stream orders*=1,*=0.1"
                ));
            }
        }
    }
    Ok(rules.join(","))
}

fn service_name(text: &str) -> Read<String> {
    let usual = text.len() <= MAX_SERVICE_NAME
        && !text.contains("$(")
        && !text.chars().any(char::is_control);
    match usual {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a name has at most {MAX_SERVICE_NAME} bytes, no control characters and no $( )"
        )),
    }
}

fn otlp_endpoint(text: &str) -> Read<String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
        true => Ok(text.to_owned()),
        false => Err("write http://host:port or https://host:port".to_owned()),
    }
}

fn infer_parent(text: &str) -> Read<String> {
    match text {
        "off" | "connection" | "process" => Ok(text.to_owned()),
        _ => Err("write off, connection or process".to_owned()),
    }
}

fn agent(text: &str) -> Read<Option<AgentVolume>> {
    match (text, text.strip_prefix("claim:")) {
        ("enabled", _) => Ok(Some(AgentVolume::EmptyDir)),
        ("disabled", _) => Ok(None),
        (_, Some(name)) if is_dns_name(name) => Ok(Some(AgentVolume::Claim(name.to_owned()))),
        _ => Err("write enabled, disabled or claim:NAME of a PersistentVolumeClaim".to_owned()),
    }
}

fn is_dns_name(text: &str) -> bool {
    let usual = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(usual)
}

fn log_level(text: &str) -> Read<String> {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b"_=,:-".contains(&b);
    match text.bytes().all(usual) {
        true => Ok(text.to_owned()),
        false => Err(
            "write off, error, warn, info, debug or trace, or by module: info,tars_proxy=debug"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
