//! `tars-proxy explain`: what would be done to messages, and how many bytes it would add, without doing it.
//!
//! From commands (a file, or what one types), a line for each XADD. From streams that exist, read with XREVRANGE and changed in
//! nothing, a line for each: what their latest entries would look like, and who might stumble over it.

mod client;
mod commands;
mod decide;
mod report;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use crate::config::{
    self, Config, ConfigError, Environment, Flags, Listener, StreamSettings, Upstream, UpstreamTls,
    parse_upstream,
};
use crate::tls;
use decide::{Decision, Reason};
use report::{CommandLine, CommandReport, StreamLine, StreamReport};

/// Commands are held in memory; more than this is no sample any more.
const MAX_INPUT: u64 = 64 << 20;

/// The subcommand's own flags; those of the configuration stand beside them.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Commands, as RESP or as one types them in redis-cli; - is the standard input [default: -]
    #[arg(value_name = "FILE", conflicts_with = "stream")]
    pub file: Option<PathBuf>,
    /// Look at the latest entries of this stream of --upstream instead (repeatable; password from REDISCLI_AUTH)
    #[arg(long, value_name = "KEY")]
    pub stream: Vec<String>,
    /// Entries to look at in each stream
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Database of the streams [default: 0, or that of --upstream-env]
    #[arg(long, value_name = "N")]
    pub db: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand. Returns what the process should exit with: 64 for a configuration that cannot be used, 1 if what was
/// asked for could not be looked at.
///
/// # Errors
/// If `out` or `err` cannot be written to.
pub fn run(
    args: &Args,
    flags: &Flags,
    env: &Environment,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    // Here the flag names the server to look at, whatever the listeners stand for.
    let own = match flags.upstream {
        None => flags.clone(),
        Some(_) => Flags {
            upstream: None,
            upstream_ca: None,
            upstream_cert: None,
            upstream_key: None,
            upstream_server_name: None,
            ..flags.clone()
        },
    };
    let config = match config::load(&own, env) {
        Ok((config, _)) => config,
        Err(error) => return writeln!(err, "{error}").map(|()| ConfigError::EXIT_CODE),
    };
    let (report, complete) = if args.stream.is_empty() {
        if args.file.is_none() && io::stdin().is_terminal() {
            writeln!(err, "reading commands from the terminal; end with Ctrl-D")?;
        }
        match read_input(args.file.as_deref()) {
            Ok(input) => {
                let report = explain_commands(&input, &config);
                let complete = report.unreadable.is_empty();
                (report.show(args.json), complete)
            }
            Err(error) => return writeln!(err, "{error}").map(|()| 1),
        }
    } else {
        let mut server = config.listeners.first().cloned().unwrap_or_default();
        match flags.upstream.as_deref().map(parse_upstream) {
            Some(Ok(upstream)) => {
                let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
                server.upstream = upstream;
                server.upstream_tls = UpstreamTls {
                    ca: path(&flags.upstream_ca),
                    cert: path(&flags.upstream_cert),
                    key: path(&flags.upstream_key),
                    server_name: flags.upstream_server_name.as_deref().map(Into::into),
                };
            }
            Some(Err(error)) => {
                return writeln!(err, "--upstream: {error}").map(|()| ConfigError::EXIT_CODE);
            }
            None => {}
        }
        let Some(upstream) = server.upstream.clone() else {
            return writeln!(err, "the listener's upstream is original, which is no server; name the one to look at with --upstream redis://host:port").map(|()| ConfigError::EXIT_CODE);
        };
        match explain_streams(args, &upstream, &server, env.get("REDISCLI_AUTH"), &config) {
            Ok(report) => {
                let complete = report.streams.iter().all(StreamLine::seen);
                (report.show(args.json), complete)
            }
            Err(error) => return writeln!(err, "{upstream}: {error}").map(|()| 1),
        }
    };
    out.write_all(report.as_bytes())?;
    Ok(u8::from(!complete))
}

fn read_input(file: Option<&Path>) -> Result<Vec<u8>, String> {
    let (name, input): (_, Box<dyn Read>) = match file.filter(|file| *file != Path::new("-")) {
        None => ("standard input".to_owned(), Box::new(io::stdin())),
        Some(file) => {
            let name = file.display().to_string();
            let opened = File::open(file)
                .map_err(|error| format!("{name}: the file cannot be read ({error})"))?;
            (name, Box::new(opened))
        }
    };
    let mut bytes = Vec::new();
    match input.take(MAX_INPUT + 1).read_to_end(&mut bytes) {
        Ok(n) if n as u64 > MAX_INPUT => Err(format!(
            "{name}: there are more than 64MiB; give a part of it"
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{name}: it cannot be read ({error})")),
    }
}

/// A line for each XADD.
fn explain_commands(input: &[u8], config: &Config) -> CommandReport {
    let mut report = CommandReport::default();
    for (number, command) in (1..).zip(commands::Commands::new(input)) {
        let args = match command {
            Ok(args) => args,
            Err(why) => {
                report.unreadable.push(format!("command {number}: {why}"));
                continue;
            }
        };
        report.read += 1;
        if !args
            .first()
            .is_some_and(|name| name.eq_ignore_ascii_case(b"XADD"))
        {
            continue;
        }
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let stream = args.get(1).copied().unwrap_or_default();
        let decision = match allowed(
            config,
            &config.rules.rule_for(stream),
            decide::command_bytes(&args),
        ) {
            Ok(()) => decide::plan(&args),
            Err(reason) => Decision::skip(reason),
        };
        report
            .xadds
            .push(CommandLine::new(number, stream, decision));
    }
    report
}

/// A line for each stream.
fn explain_streams(
    args: &Args,
    upstream: &Upstream,
    server: &Listener,
    password: Option<&str>,
    config: &Config,
) -> Result<StreamReport, client::Error> {
    let tls = tls::connector(server)?;
    let mut client = client::Client::connect(&upstream.address, tls.as_ref())?;
    let login = &server.login;
    match (password, &login.password) {
        (Some(password), _) => client.call(&[b"AUTH", password.as_bytes()]).map(drop)?,
        (None, Some(password)) if login.user.is_empty() => {
            client.call(&[b"AUTH", password]).map(drop)?;
        }
        (None, Some(password)) => client.call(&[b"AUTH", &login.user, password]).map(drop)?,
        (None, None) => {}
    }
    let database = args.db.unwrap_or(login.database);
    if database != 0 {
        client.call(&[b"SELECT", database.to_string().as_bytes()])?;
    }
    let mut report = StreamReport {
        upstream: upstream.to_string(),
        streams: Vec::new(),
    };
    for stream in &args.stream {
        let key = stream.as_bytes();
        let settings = config.rules.rule_for(key);
        let rule = config
            .rules
            .matching(key)
            .map(|rule| rule.pattern.as_str().to_owned());
        let rules = &config.rules;
        let flag = rules.deliver.iter().any(|over| over.pattern.matches(key))
            || rules.sample.iter().any(|over| over.pattern.matches(key));
        let mut line = StreamLine::new(stream, rule, flag, &settings, rules.sampler.ratio);
        match client.latest(key, args.count) {
            Ok(entries) => line.measure(entries.iter().map(|fields| {
                let fields: Vec<(&[u8], &[u8])> = fields
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
                let decision = match allowed(config, &settings, decide::fields_bytes(&fields)) {
                    Ok(()) => decide::decide(&fields),
                    Err(reason) => Decision::skip(reason),
                };
                (decide::payload_bytes(&fields), decision)
            })),
            // The server's answer about this stream; the connection is as good as before.
            Err(client::Error::Refused(why)) if why.starts_with("NOAUTH") => {
                line.error = Some(format!("{why} Give the password in REDISCLI_AUTH."));
            }
            Err(client::Error::Refused(why)) => line.error = Some(why),
            Err(error) => return Err(error),
        }
        report.streams.push(line);
    }
    Ok(report)
}

/// Whether the configuration lets the proxy look into a message of this size at all.
fn allowed(config: &Config, settings: &StreamSettings, bytes: usize) -> Result<(), Reason> {
    if !config.trace {
        Err(Reason::NoTrace)
    } else if !settings.trace {
        Err(Reason::Rule)
    } else if bytes > config.limits.max_message_bytes {
        Err(Reason::TooLarge)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
