#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn args(line: &str) -> Args {
    let line = ["tars-proxy", "intercept"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::try_parse_from(line).unwrap().command {
        Some(Command::Intercept(args)) => args,
        _ => unreachable!("intercept was written"),
    }
}

fn lines(line: &str) -> Result<Vec<String>, String> {
    wanted(&args(line)).map(|rules| rules.iter().map(Rule::to_string).collect())
}

#[test]
fn users_come_before_ports_each_once() {
    let expected = [
        "meta skuid 1337 return",
        "meta skuid 2102 return",
        "meta skuid 8277 return",
        "meta skuid 65532 return",
        "tcp dport 6379 redirect to :16380",
    ];
    assert_eq!(lines("").unwrap(), expected);
    let line = "--ports 7000,6379,7000 --to 1 --except-uid 5,1337 --except-uid 5";
    let expected = [
        "meta skuid 5 return",
        "meta skuid 1337 return",
        "meta skuid 2102 return",
        "meta skuid 65532 return",
        "tcp dport 6379 redirect to :1",
        "tcp dport 7000 redirect to :1",
    ];
    assert_eq!(lines(line).unwrap(), expected);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    assert_eq!(
        lines("--ports 6379,16380").unwrap_err(),
        "--ports: 16380 is where connections are redirected to (--to); leave it out"
    );
    let many: Vec<_> = (1..=65).map(|port: u16| port.to_string()).collect();
    assert_eq!(
        lines(&format!("--ports {}", many.join(","))).unwrap_err(),
        "--ports: there are 65; give 64 at most"
    );
    assert_eq!(
        lines("--except-uid 4294967295").unwrap_err(),
        "--except-uid: 4294967295 is no user"
    );
    for line in [
        "--ports 0",
        "--ports 65536",
        "--ports a",
        "--ports 6379;6380",
        "--ports",
        "--to 0",
        "--except-uid root",
        "--except-uid -1",
        "--check --remove",
    ] {
        let line = ["tars-proxy", "intercept"]
            .into_iter()
            .chain(line.split(' '));
        assert!(Cli::try_parse_from(line).is_err());
    }
}

#[test]
fn every_difference_is_told() {
    let wanted = wanted(&args("--except-uid 1337")).unwrap();
    let table = Object::Table { active: true };
    let chain = Object::Chain { ours: true };
    let rules = || wanted.iter().copied().map(Object::Rule);
    let right: Vec<_> = [table, chain].into_iter().chain(rules()).collect();
    assert!(differences(&wanted, &right).is_empty());
    let other = Rule::Redirect { port: 1, to: 16380 };

    let without = |left_out: Object| right.iter().copied().filter(move |o| *o != left_out);
    for (found, expected) in [
        (vec![], "there is no table inet tars: nothing is redirected"),
        (
            [Object::Table { active: false }]
                .into_iter()
                .chain(without(table))
                .collect(),
            "the table is there, but asleep",
        ),
        (
            without(chain)
                .chain([Object::Chain { ours: false }])
                .collect(),
            "not expected: a chain that is not as this program makes it, or is none of its own\n\
             missing: the chain that the rules belong in",
        ),
        (
            without(Object::Rule(wanted[3]))
                .chain([Object::Rule(other)])
                .collect(),
            "missing: tcp dport 6379 redirect to :16380\nnot expected: tcp dport 1 redirect to :16380",
        ),
        (
            right
                .iter()
                .copied()
                .chain([Object::Rule(Rule::Foreign)])
                .collect(),
            "not expected: a rule that was not made by this program",
        ),
        (
            right.iter().copied().rev().collect(),
            "the rules are in another order, or there more than once",
        ),
    ] {
        assert_eq!(differences(&wanted, &found).join("\n"), expected);
    }
}
