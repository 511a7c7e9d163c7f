//! `tars-proxy intercept`: sends connections that are made here to ports of Redis to a port of this machine, where
//! [`original`](crate::original) takes them up.
//!
//! The rules are in a table of nf_tables that is this program's alone: `rules` writes and reads them, `kernel` speaks to the
//! kernel. Nothing else is needed, no shell and no other program, so that it runs from an image that holds nothing but itself.

mod kernel;
mod netlink;
mod rules;

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::config::ConfigError;
use kernel::Kernel;
use rules::{Object, Rule};

/// The users of meshes' own proxies (Istio: 1337; Linkerd: 2102; and 65532, the user of many images that are proxies), whose
/// connections come from a client that was redirected already.
const MESH_UIDS: [u32; 3] = [1337, 2102, 65532];

/// More ports than anybody has servers of Redis on.
const MAX_PORTS: usize = 64;
/// The same of users.
const MAX_UIDS: usize = 64;

/// The operating system refuses (`sysexits.h`, EX_OSERR).
const REFUSED: u8 = 71;
/// With `--check`: it is not as it should be.
const DIFFERS: u8 = 1;

/// Arguments of `intercept`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// TCP ports whose connections are redirected, with commas between them
    #[arg(long, value_name = "PORTS", value_delimiter = ',', default_value = "6379", value_parser = clap::value_parser!(u16).range(1..))]
    pub ports: Vec<u16>,
    /// Where the proxy listens, with --upstream original
    #[arg(long, value_name = "PORT", default_value = "16380", value_parser = clap::value_parser!(u16).range(1..))]
    pub to: u16,
    /// Users whose connections are left alone, with commas between them: the proxy's. Those of meshes are left alone, too
    #[arg(
        long,
        value_name = "UIDS",
        value_delimiter = ',',
        default_value = "8277"
    )]
    pub except_uid: Vec<u32>,
    /// Change nothing: exit with 0 if connections are redirected so, 1 if not
    #[arg(long, conflicts_with = "remove")]
    pub check: bool,
    /// Redirect nothing any more
    #[arg(long)]
    pub remove: bool,
}

/// Does it, says what was done, and returns what the process should exit with.
///
/// # Errors
/// If `out` or `err` cannot be written to.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let wanted = match wanted(args) {
        Ok(wanted) => wanted,
        Err(why) => return writeln!(err, "{why}").map(|()| ConfigError::EXIT_CODE),
    };
    let done = Kernel::open().and_then(|mut kernel| {
        if args.remove {
            kernel.change(rules::remove())?;
            return Ok(vec!["nothing is redirected any more".to_owned()]);
        }
        if args.check {
            return Ok(differences(&wanted, &kernel.objects()?));
        }
        if !differences(&wanted, &kernel.objects()?).is_empty() {
            kernel.change(rules::replace(&wanted))?;
        }
        Ok(wanted.iter().map(Rule::to_string).collect())
    });
    let (lines, differs) = match done {
        Ok(lines) if args.check && !lines.is_empty() => (lines, true),
        Ok(lines) => (lines, false),
        Err(error) => return writeln!(err, "{error}").map(|()| REFUSED),
    };
    if differs {
        for line in lines {
            writeln!(err, "{line}")?;
        }
        return Ok(DIFFERS);
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(0)
}

/// The rules that the arguments ask for, in the one order in which they are written.
fn wanted(args: &Args) -> Result<Vec<Rule>, String> {
    let (ports, to) = (BTreeSet::from_iter(&args.ports), args.to);
    if ports.contains(&to) {
        return Err(format!(
            "--ports: {to} is where connections are redirected to (--to); leave it out"
        ));
    }
    let uids = BTreeSet::from_iter(args.except_uid.iter().chain(&MESH_UIDS));
    let at_most = |what: &str, most: usize, number: usize| match number > most {
        true => Err(format!("{what}: there are {number}; give {most} at most")),
        false => Ok(()),
    };
    at_most("--ports", MAX_PORTS, ports.len())?;
    at_most("--except-uid", MAX_UIDS, uids.len())?;
    // (uid_t)-1 is nobody: the kernel would compare it with the sockets of its own.
    if uids.contains(&u32::MAX) {
        return Err(format!("--except-uid: {} is no user", u32::MAX));
    }
    let except = uids.into_iter().map(|uid| Rule::Except(*uid));
    let redirect = ports
        .into_iter()
        .map(|port| Rule::Redirect { port: *port, to });
    Ok(except.chain(redirect).collect())
}

/// What is not as it should be, a line each.
fn differences(wanted: &[Rule], found: &[Object]) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut tables, mut chains, mut present) = (0, 0, Vec::new());
    for object in found {
        match object {
            Object::Table { active } => {
                tables += 1;
                if !active {
                    lines.push("the table is there, but asleep".to_owned());
                }
            }
            Object::Chain { ours: true } => chains += 1,
            Object::Chain { ours: false } => lines.push(
                "not expected: a chain that is not as this program makes it, or is none of its own"
                    .to_owned(),
            ),
            Object::Rule(rule) => present.push(*rule),
        }
    }
    if tables == 0 {
        return vec![format!(
            "there is no table inet {}: nothing is redirected",
            rules::TABLE
        )];
    }
    if chains == 0 {
        lines.push("missing: the chain that the rules belong in".to_owned());
    }
    for rule in wanted.iter().filter(|rule| !present.contains(rule)) {
        lines.push(format!("missing: {rule}"));
    }
    for rule in present.iter().filter(|rule| !wanted.contains(rule)) {
        lines.push(format!("not expected: {rule}"));
    }
    if lines.is_empty() && present != wanted {
        lines.push("the rules are in another order, or there more than once".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests;
