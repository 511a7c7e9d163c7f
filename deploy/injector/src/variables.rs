//! Explicit mode: the variables that say where Redis is lead to the proxy, and what they said becomes its upstreams.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::address::{self, REDIS_PORT, Unusable, Written};
use crate::annotations::Variable;
use crate::pod;
use crate::status::{Changed, Was};

/// References within references that are followed.
const MAX_DEPTH: usize = 4;
/// What cannot be known here: whether the variable will exist.
const OPTIONAL: &str =
    "is optional, so that nobody knows whether it will be there, and stays as it is";

/// Where the proxy listens for some variables, and where that leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// On 127.0.0.1.
    pub port: u16,
    /// `redis://host:port`; none if only the secret says it.
    pub upstream: Option<String>,
    /// A `valueFrom` that holds the whole URL, password included, which nobody here reads.
    pub secret: Option<Value>,
}

/// What rewriting the variables of a pod found.
#[derive(Debug, Default)]
pub struct Rewriting {
    /// One for each upstream.
    pub listeners: Vec<Listener>,
    /// `valueFrom`s that hold a host or a port: `$(UPSTREAM_VALUE_n)` stands for them.
    pub copies: Vec<Value>,
    /// For the status.
    pub changed: Vec<Changed>,
    /// What stays as it is, and why.
    pub warnings: Vec<String>,
    /// Some variable stays as it is because every port is taken.
    pub exhausted: bool,
    taken: HashSet<u64>,
    upstream: Option<String>,
}

/// A change of one container's variables.
enum Edit {
    Set(usize, String),
    Add(String, String),
}

/// The name of the proxy's variable for a copied `valueFrom`.
#[must_use]
pub fn copy_name(number: usize) -> String {
    format!("UPSTREAM_VALUE_{number}")
}

/// Rewrites the variables of all containers of these lists. Ports are given from `first` up, those that containers declare left out.
pub fn rewrite(
    pod: &mut Value,
    lists: &[&'static str],
    variables: &[Variable],
    upstream: Option<&str>,
    first: u16,
    taken: &[u16],
) -> Rewriting {
    let mut rewriting = Rewriting {
        taken: pod::ports(pod)
            .chain(taken.iter().copied().map(u64::from))
            .collect(),
        upstream: upstream.map(str::to_owned),
        ..Rewriting::default()
    };
    for list in lists {
        for number in 0..pod::list(pod, list).len() {
            let Some(container) = pod::list(pod, list).get(number) else {
                continue;
            };
            let edits = rewriting.container(list, container, variables, first);
            let container = pod::list_mut(pod, list).and_then(|all| all.get_mut(number));
            if let Some(container) = container {
                apply(container, edits);
            }
        }
    }
    if let (Some(upstream), true) = (upstream, rewriting.listeners.is_empty()) {
        // No variable: the application knows the port. Where none is free, `exhausted` says so.
        let _ = rewriting.listen(Some(upstream.to_owned()), None, first);
    }
    rewriting
}

fn apply(container: &mut Value, edits: Vec<Edit>) {
    let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) else {
        return;
    };
    for edit in edits {
        match edit {
            Edit::Set(at, value) => {
                if let Some(entry) = env.get_mut(at).and_then(Value::as_object_mut) {
                    entry.remove("valueFrom");
                    entry.insert("value".to_owned(), value.into());
                }
            }
            Edit::Add(name, value) => env.push(json!({"name": name, "value": value})),
        }
    }
}

impl Rewriting {
    fn container(
        &mut self,
        list: &str,
        container: &Value,
        variables: &[Variable],
        first: u16,
    ) -> Vec<Edit> {
        let none = Vec::new();
        let env = container
            .get("env")
            .and_then(Value::as_array)
            .unwrap_or(&none);
        let of = Container {
            list,
            name: pod::text(container, "name"),
            env,
            env_from: container
                .get("envFrom")
                .and_then(Value::as_array)
                .is_some_and(|from| !from.is_empty()),
            variables,
        };
        let unread = of.unread();
        if !unread.is_empty() {
            self.warnings.push(format!(
                "container {}: {} may come from envFrom, which is not read: set it in env, or take tars.dev/mode: transparent",
                of.name,
                unread.join(", ")
            ));
        }
        let mut edits = Vec::new();
        for variable in variables {
            let (name, edited) = match variable {
                Variable::Whole(name) => (name, self.whole(&of, name, first)),
                Variable::Pair(host, port) => (host, self.pair(&of, host, port, first)),
            };
            match edited {
                Ok(edited) => edits.extend(edited),
                Err(Unusable(why)) => self
                    .warnings
                    .push(format!("container {}: {name} {why}", of.name)),
            }
        }
        edits
    }

    /// A URL, or `host:port`.
    fn whole(&mut self, of: &Container<'_>, name: &str, first: u16) -> Result<Vec<Edit>, Unusable> {
        let Some((at, entry)) = of.find(name) else {
            return Ok(Vec::new());
        };
        if let Some(reference) = entry.get("valueFrom") {
            let secret = copyable(reference)?;
            let port = self.listen(self.upstream.clone(), Some(secret.clone()), first)?;
            let scheme = if holds_address(name) { "" } else { "redis://" };
            let now = format!("{scheme}127.0.0.1:{port}");
            self.changed
                .push(of.changed(name, Was::ValueFrom(reference.clone()), now.clone()));
            return Ok(vec![Edit::Set(at, now)]);
        }
        let value = pod::text(entry, "value");
        if value.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(other) = value
            .strip_prefix("$(")
            .and_then(|rest| rest.strip_suffix(')'))
            .filter(|name| !name.contains(')'))
        {
            return match of.is_rewritten(other) {
                true => Ok(Vec::new()),
                false => Err(Unusable(format!(
                    "is a copy of {other}, and stays as it is: name {other} in tars.dev/env"
                ))),
            };
        }
        let written = Written::read(value)?;
        let is_url = !written.scheme.is_empty();
        let upstream = match self.upstream.clone() {
            Some(upstream) => upstream,
            None => {
                let authority = self.expand(of, written.authority, at, 0)?;
                address::upstream(&authority, written.tls(), is_url)?
            }
        };
        if written.tls() && written.rest.contains("ssl") {
            self.warnings.push(format!(
                "container {}: {name} keeps its options of TLS behind the `?`, and the proxy makes the TLS now; take them out if the client refuses them",
                of.name
            ));
        }
        let port = self.listen(Some(upstream), None, first)?;
        let (scheme, server) = (written.plain_scheme(), format!("127.0.0.1:{port}"));
        let was = Was::Server(format!("{}{}", written.scheme, written.authority));
        self.changed
            .push(of.changed(name, was, format!("{scheme}{server}")));
        Ok(vec![Edit::Set(at, written.with(&scheme, &server))])
    }

    /// Host and port in variables of their own. Without the port's, clients take 6379: then it is added.
    fn pair(
        &mut self,
        of: &Container<'_>,
        host: &str,
        port: &str,
        first: u16,
    ) -> Result<Vec<Edit>, Unusable> {
        let Some((host_at, host_entry)) = of.find(host) else {
            return Ok(Vec::new());
        };
        if host_entry.get("valueFrom").is_none() && pod::text(host_entry, "value").is_empty() {
            return Ok(Vec::new());
        }
        let port_entry = of.find(port);
        if port_entry.is_none() && of.env_from {
            return Err(Unusable(format!(
                "stays as it is: {port} may come from envFrom, which is not read"
            )));
        }
        let (host_text, host_was) = self.half(of, host_at, host_entry)?;
        let (port_text, port_was) = match port_entry {
            Some((at, entry)) => self.half(of, at, entry)?,
            None => (REDIS_PORT.to_string(), Was::Absent),
        };
        let host_text = match host_text.parse::<std::net::Ipv6Addr>() {
            Ok(_) => format!("[{host_text}]"),
            Err(_) => host_text,
        };
        let upstream = match self.upstream.clone() {
            Some(upstream) => upstream,
            None => address::upstream(&format!("{host_text}:{port_text}"), false, false)?,
        };
        let local = self.listen(Some(upstream), None, first)?.to_string();
        self.changed
            .push(of.changed(host, host_was, "127.0.0.1".to_owned()));
        self.changed.push(of.changed(port, port_was, local.clone()));
        let port_edit = match port_entry {
            Some((at, _)) => Edit::Set(at, local),
            None => Edit::Add(port.to_owned(), local),
        };
        Ok(vec![Edit::Set(host_at, "127.0.0.1".to_owned()), port_edit])
    }

    /// Host or port: what it leads to, and what it was.
    fn half(
        &mut self,
        of: &Container<'_>,
        at: usize,
        entry: &Value,
    ) -> Result<(String, Was), Unusable> {
        if let Some(reference) = entry.get("valueFrom") {
            return Ok((self.copy(reference)?, Was::ValueFrom(reference.clone())));
        }
        let value = pod::text(entry, "value");
        Ok((self.expand(of, value, at, 0)?, Was::Value(value.to_owned())))
    }

    /// A reference to what the proxy gets a copy of.
    fn copy(&mut self, reference: &Value) -> Result<String, Unusable> {
        let reference = copyable(reference)?;
        let known = self.copies.iter().position(|known| known == reference);
        let number = known.unwrap_or_else(|| {
            self.copies.push(reference.clone());
            self.copies.len() - 1
        });
        Ok(format!("$({})", copy_name(number)))
    }

    /// The text with `$(NAME)` replaced as the kubelet will: by variables before it. What every container has (the variables of
    /// Services) is left to the kubelet.
    fn expand(
        &mut self,
        of: &Container<'_>,
        text: &str,
        before: usize,
        depth: usize,
    ) -> Result<String, Unusable> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((front, behind)) = rest.split_once("$(") {
            let Some((name, behind)) = behind
                .split_once(')')
                .filter(|_| !front.ends_with('$') && depth < MAX_DEPTH)
            else {
                return Err(Unusable(
                    "holds a reference that could not be followed, and stays as it is".to_owned(),
                ));
            };
            expanded.push_str(front);
            let found = of
                .env
                .iter()
                .take(before)
                .rposition(|entry| pod::text(entry, "name") == name);
            match found.and_then(|at| Some((at, of.env.get(at)?))) {
                Some((_, entry)) if entry.get("valueFrom").is_some() => {
                    let reference = entry.get("valueFrom").unwrap_or(&Value::Null);
                    expanded.push_str(&self.copy(reference)?);
                }
                Some((at, entry)) => {
                    expanded.push_str(&self.expand(
                        of,
                        pod::text(entry, "value"),
                        at,
                        depth + 1,
                    )?);
                }
                None if !of.env_from && name.contains("_SERVICE_") => {
                    // Writing to a string cannot fail.
                    let _ = write!(expanded, "$({name})");
                }
                None => {
                    return Err(Unusable(format!(
                        "refers to {name}, which this container's env does not define before it, and stays as it is"
                    )));
                }
            }
            rest = behind;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// The port for an upstream: that of the same one, or the next that is free.
    fn listen(
        &mut self,
        upstream: Option<String>,
        secret: Option<Value>,
        first: u16,
    ) -> Result<u16, Unusable> {
        let same = |known: &&Listener| known.upstream == upstream && known.secret == secret;
        if let Some(known) = self.listeners.iter().find(same) {
            return Ok(known.port);
        }
        // A server in the pod itself may have that port.
        let own = |port: u16| {
            upstream
                .as_deref()
                .is_some_and(|upstream| upstream.ends_with(&format!(":{port}")))
        };
        let free = |port: &u16| !self.taken.contains(&u64::from(*port)) && !own(*port);
        // Whoever found none need not look again: the pod gets no proxy.
        let found = match self.exhausted {
            true => None,
            false => (first..=u16::MAX).find(free),
        };
        let Some(port) = found else {
            self.exhausted = true;
            return Err(Unusable(
                "stays as it is: no port is free for the proxy".to_owned(),
            ));
        };
        self.taken.insert(port.into());
        self.listeners.push(Listener {
            port,
            upstream,
            secret,
        });
        Ok(port)
    }
}

/// A container that is looked at.
struct Container<'a> {
    list: &'a str,
    name: &'a str,
    env: &'a [Value],
    env_from: bool,
    variables: &'a [Variable],
}

impl<'a> Container<'a> {
    /// The entry that counts: the last of that name.
    fn find(&self, name: &str) -> Option<(usize, &'a Value)> {
        let at = self
            .env
            .iter()
            .rposition(|entry| pod::text(entry, "name") == name)?;
        Some((at, self.env.get(at)?))
    }

    /// The variables that are not in `env`, and may be among those that come as a whole.
    fn unread(&self) -> Vec<&str> {
        let names = self.variables.iter().map(|variable| match variable {
            Variable::Whole(name) | Variable::Pair(name, _) => name.as_str(),
        });
        names
            .filter(|name| self.env_from && self.find(name).is_none())
            .collect()
    }

    fn is_rewritten(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| match variable {
            Variable::Whole(one) => one == name,
            Variable::Pair(..) => false,
        })
    }

    fn changed(&self, name: &str, was: Was, now: String) -> Changed {
        Changed {
            list: self.list.to_owned(),
            container: self.name.to_owned(),
            name: name.to_owned(),
            was,
            now,
        }
    }
}

/// A `valueFrom` that means the same in the proxy's container.
fn copyable(reference: &Value) -> Result<&Value, Unusable> {
    let of = |kind| reference.get(kind);
    let key = of("secretKeyRef").or_else(|| of("configMapKeyRef"));
    match key {
        Some(key) if key.get("optional").and_then(Value::as_bool) == Some(true) => {
            Err(Unusable(OPTIONAL.to_owned()))
        }
        None if of("fieldRef").is_none() => Err(Unusable(
            "has a valueFrom that is not known here, and stays as it is".to_owned(),
        )),
        _ => Ok(reference),
    }
}

/// Whether a variable whose value nobody reads holds `host:port`, by its name, and not a URL.
fn holds_address(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
    !any(&["URL", "URI", "DSN"]) && any(&["ADDR", "ENDPOINT", "HOST", "SERVER"])
}
