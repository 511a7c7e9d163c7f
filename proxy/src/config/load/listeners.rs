//! Which listeners there are, and whether their addresses can all be had.

use std::collections::BTreeSet;

use super::{Loader, address, strongest};
use crate::config::address::LISTEN_PORT;
use crate::config::error::{Origin, Problem};
use crate::config::source::Table;
use crate::config::value::{self, Parsed};
use crate::config::{
    Address, Config, Environment, Listener, ListenerTls, Login, Upstream, UpstreamTls,
};
use crate::config::{login, names, parse_upstream, show_upstream};

fn upstream(text: &str) -> Parsed<Option<Upstream>> {
    parse_upstream(text).map_err(|error| error.to_string())
}

impl Loader {
    /// The file's listeners, or the one that flags and environment describe.
    pub(super) fn listeners(&mut self, env: &Environment) -> Vec<Listener> {
        if self.file.listeners.is_empty() {
            self.file.listeners.push(Table::default());
        }
        if self.file.listeners.len() > 1 {
            self.refuse_ambiguous();
        }
        let tables = std::mem::take(&mut self.file.listeners);
        let listeners = tables
            .iter()
            .map(|table| self.listener(table, env))
            .collect();
        self.file.listeners = tables;
        listeners
    }

    fn listener(&mut self, table: &Table, env: &Environment) -> Listener {
        let default = Listener::default();
        let said = self.of_listener(table, "upstream", upstream);
        let upstream_env = self.of_listener(table, "upstream_env", value::variable);
        let of_env = upstream_env
            .as_ref()
            .and_then(|name| self.upstream_of(name, table, env));
        let (of_env, login) = of_env.unzip();
        Listener {
            listen: self
                .of_listener(table, "listen", address(LISTEN_PORT))
                .unwrap_or(default.listen),
            upstream: said.or(of_env.map(Some)).unwrap_or(default.upstream),
            upstream_env,
            login: login.unwrap_or_default(),
            upstream_tls: UpstreamTls {
                ca: self.of_listener(table, "upstream_ca", value::path),
                cert: self.of_listener(table, "upstream_cert", value::path),
                key: self.of_listener(table, "upstream_key", value::path),
                server_name: self.of_listener(table, "upstream_server_name", value::server_name),
            },
            tls: self.listener_tls(table),
            service_name: self.of_listener(table, "service_name", value::name),
            infer_parent: self
                .of_listener(table, "infer_parent", value::choice)
                .unwrap_or_default(),
        }
    }

    /// What the URL in a variable comes to. Nothing of it is repeated.
    fn upstream_of(
        &mut self,
        name: &str,
        table: &Table,
        env: &Environment,
    ) -> Option<(Upstream, Login)> {
        let read = match env.get(name) {
            Some(text) => login::read(text)
                .map_err(|why| format!("the variable {name} is no URL of a Redis server: {why}")),
            None => Err(format!(
                "there is no variable {name}, or it is empty; its value is the server's URL"
            )),
        };
        match read {
            Ok(read) => Some(read),
            Err(message) => {
                let origin = self.place(Some(table), "upstream_env");
                self.problems.push(Problem { origin, message });
                None
            }
        }
    }

    fn listener_tls(&mut self, table: &Table) -> Option<ListenerTls> {
        let cert = self.of_listener(table, "tls_cert", value::path);
        let key = self.of_listener(table, "tls_key", value::path);
        let client_ca = self.of_listener(table, "tls_client_ca", value::path);
        Some(ListenerTls {
            cert: cert?,
            key: key?,
            client_ca,
        })
    }

    fn of_listener<T>(
        &mut self,
        table: &Table,
        key: &str,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let given = [table, &self.env.settings, &self.flags.settings].map(|table| table.get(key));
        strongest(&mut self.problems, given, parse)
    }

    /// A flag or a variable cannot mean one of several listeners, nor go over values that were made to differ.
    fn refuse_ambiguous(&mut self) {
        let tables = &self.file.listeners;
        for key in names::LISTENER {
            let values: BTreeSet<_> = tables
                .iter()
                .filter_map(|t| t.get(key))
                .map(|given| &given.text)
                .collect();
            let message = if *key == "listen" {
                format!(
                    "the file has {} listeners; say in each [[listener]] where it listens",
                    tables.len()
                )
            } else if values.len() > 1 {
                format!(
                    "the file gives its listeners different values of {key}; leave one or the other out"
                )
            } else {
                continue;
            };
            let given = [&self.env, &self.flags]
                .into_iter()
                .filter_map(|source| source.settings.get(key));
            self.problems
                .extend(given.map(|given| given.problem(message.clone())));
        }
    }

    /// Addresses that cannot all be had.
    pub(super) fn conflicts(&mut self, config: &Config) {
        let admin_at = self.place(None, "admin");
        let mut taken = vec![(&config.admin, admin_at)];
        for (listener, table) in config.listeners.iter().zip(&self.file.listeners) {
            let listen = &listener.listen;
            let origin = self.place(Some(table), "listen");
            let other = taken.iter().find(|(address, _)| *address == listen);
            // Port 0 is a free port each time.
            if let (Some((_, other)), true) = (other, listen.accepts(listen)) {
                let message =
                    format!("{listen} is taken by {other}; each needs an address of its own");
                self.problems.push(Problem {
                    origin: origin.clone(),
                    message,
                });
            }
            if let Some(upstream) = &listener.upstream
                && listener.listen.accepts(&upstream.address)
            {
                let message = format!(
                    "{upstream} is this listener itself ({origin}); name the Redis behind it"
                );
                let origin = match self.place(Some(table), "upstream") {
                    Origin::Default(_) if listener.upstream_env.is_some() => {
                        self.place(Some(table), "upstream_env")
                    }
                    said => said,
                };
                self.problems.push(Problem { origin, message });
            }
            let found = self.tls_conflicts(listener, table);
            self.problems.extend(found);
            taken.push((&listener.listen, origin));
        }
        self.original_conflicts(config);
    }

    /// What is redirected comes over TCP, and one listener takes all of it: a server is one server, whoever was redirected from it.
    fn original_conflicts(&mut self, config: &Config) {
        let listeners = config.listeners.iter().zip(&self.file.listeners);
        let mut originals = listeners.filter(|(listener, _)| listener.upstream.is_none());
        let mut found = Vec::new();
        if let Some((listener, table)) = originals.next()
            && matches!(listener.listen, Address::Unix(_))
        {
            let message = format!(
                "{} is a Unix socket, and nothing is redirected there; write host:port",
                listener.listen
            );
            found.push((Some(table), "listen", message));
        }
        let of_env = config.listeners.iter().zip(&self.file.listeners);
        let mut of_env = of_env.filter(|(l, _)| l.upstream.is_none() && l.upstream_env.is_some());
        if let Some((_, table)) = of_env.next() {
            let message = "with upstream original there is no one server that the URL could be for; leave one or the other out";
            found.push((Some(table), "upstream_env", message.to_owned()));
        }
        if let Some((_, table)) = originals.next() {
            let message = "there is a listener before it with upstream original; redirect all ports to that one".to_owned();
            found.push((Some(table), "upstream", message));
        }
        let found = found.into_iter().map(|(table, key, message)| Problem {
            origin: self.place(table, key),
            message,
        });
        let found: Vec<_> = found.collect();
        self.problems.extend(found);
    }

    /// Settings of TLS that cannot be in force together with the others.
    fn tls_conflicts(&self, listener: &Listener, table: &Table) -> Vec<Problem> {
        let given = |key: &str| {
            [&self.flags.settings, &self.env.settings, table]
                .into_iter()
                .find_map(|table| table.get(key))
        };
        let mut found = Vec::new();
        let mut needs = |key: &'static str, other: &str| {
            if let (Some(key), None) = (given(key), given(other)) {
                found.push(key.problem(format!("{other} is missing; give both or neither")));
            }
        };
        needs("upstream_cert", "upstream_key");
        needs("upstream_key", "upstream_cert");
        needs("tls_cert", "tls_key");
        needs("tls_key", "tls_cert");
        needs("tls_client_ca", "tls_cert");
        let upstream = listener.upstream.as_ref();
        if upstream.and_then(Upstream::tls_host).is_none() {
            let why = match upstream.map(|upstream| &upstream.address) {
                Some(Address::Tcp { .. }) => "; write rediss://, or leave this out",
                Some(Address::Unix(_)) => ", as Unix sockets are; leave this out",
                None => " by the proxy; leave this out",
            };
            let message = format!("{} is reached without TLS{why}", show_upstream(upstream));
            let keys = names::LISTENER
                .iter()
                .filter(|key| key.starts_with("upstream_") && **key != "upstream_env");
            let given = keys.filter_map(|key| given(key));
            found.extend(given.map(|given| given.problem(message.clone())));
        }
        if let (Some(given), Address::Unix(_)) = (given("tls_cert"), &listener.listen) {
            let message = format!("{} is a Unix socket; TLS needs host:port", listener.listen);
            found.push(given.problem(message));
        }
        if let (Some(given), None) = (given("tls_cert"), upstream) {
            let message = "what is redirected here is passed on as it is (upstream = \"original\"), TLS too; leave this out";
            found.push(given.problem(message.to_owned()));
        }
        found
    }

    /// Where the value in force was written.
    fn place(&self, table: Option<&Table>, key: &'static str) -> Origin {
        let weakest = table.unwrap_or(&self.file.settings);
        [&self.flags.settings, &self.env.settings, weakest]
            .into_iter()
            .find_map(|table| table.get(key))
            .map_or(Origin::Default(key), |given| given.origin.clone())
    }
}
