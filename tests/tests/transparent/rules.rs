//! `tars-proxy intercept`, looked at with `nft`.

use tars_tests::pod::{self, intercept, intercept_with, run_program, said};

const RULES: &str = "\
table inet tars {
\tchain output {
\t\ttype nat hook output priority -101; policy accept;
\t\tmeta skuid 1337 return
\t\tmeta skuid 2102 return
\t\tmeta skuid 8277 return
\t\tmeta skuid 65532 return
\t\ttcp dport 6379 tcp flags syn / fin,syn,rst,ack redirect to :16380
\t\ttcp dport 7000 tcp flags syn / fin,syn,rst,ack redirect to :16380
\t}
}
";

fn nft(line: &str) -> String {
    run_program("nft", line.split(' '))
}

/// With the numbers of tables, chains and rules: whether they are the same ones.
fn list() -> String {
    nft("-u -a list ruleset")
}

#[track_caller]
fn ends(args: &str, code: i32, says: &str) {
    let output = intercept(args);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{args}: {text}");
    assert!(text.contains(says), "{args}: {text}");
}

#[test]
fn rules_are_made_once_changed_as_a_whole_and_removed() {
    let test = "rules::rules_are_made_once_changed_as_a_whole_and_removed";
    pod::run(test, |_| {
        nft("add table inet other");
        let before = list();
        ends("--check", 1, "there is no table inet tars");
        ends("--remove", 0, "nothing is redirected any more");
        assert_eq!(list(), before);

        let ports = "--ports 7000,6379";
        ends(ports, 0, "tcp dport 7000 redirect to :16380");
        assert_eq!(nft("-u list table inet tars"), RULES);
        let made = list();
        ends(&format!("{ports} --check"), 0, "");
        ends(ports, 0, "meta skuid 8277 return");
        assert_eq!(list(), made, "nothing to do is nothing done");

        let other = "--ports 7001 --to 9 --except-uid 5,6";
        let check = format!("{other} --check");
        ends(&check, 1, "missing: tcp dport 7001 redirect to :9\n");
        ends(
            &check,
            1,
            "not expected: tcp dport 6379 redirect to :16380\n",
        );
        ends(&check, 1, "missing: meta skuid 5 return\n");
        assert_eq!(list(), made, "looking changes nothing");
        ends(other, 0, "tcp dport 7001 redirect to :9");
        ends(&check, 0, "");
        ends(
            "--check",
            1,
            "not expected: tcp dport 7001 redirect to :9\n",
        );

        ends("--remove", 0, "nothing is redirected any more");
        ends("--remove", 0, "nothing is redirected any more");
        assert_eq!(list(), before);
    });
}

#[test]
fn what_others_did_to_the_table_is_told_and_put_right() {
    let test = "rules::what_others_did_to_the_table_is_told_and_put_right";
    pod::run(test, |_| {
        let ports = "--ports 6379,7000";
        for (change, told) in [
            (
                "add rule inet tars output counter",
                "not expected: a rule that was not made by this program",
            ),
            (
                "add rule inet tars output tcp dport 6379 redirect to :16380",
                "not expected: a rule that was not made by this program",
            ),
            (
                "add rule inet tars output meta skuid 1337 return",
                "in another order, or there more than once",
            ),
            (
                "insert rule inet tars output meta skuid 0 return",
                "not expected: meta skuid 0 return",
            ),
            (
                "insert rule inet tars output ip daddr 10.0.0.1 tcp dport 6379 redirect to :16380",
                "not expected: a rule that was not made by this program",
            ),
            (
                "flush chain inet tars output",
                "missing: meta skuid 8277 return",
            ),
            (
                "add chain inet tars input { type nat hook input priority 0 ; }",
                "not expected: a chain",
            ),
            ("add table inet tars { flags dormant ; }", "asleep"),
            (
                "delete table inet tars",
                "there is no table inet tars: nothing is redirected",
            ),
        ] {
            ends(ports, 0, "");
            nft(change);
            ends(&format!("{ports} --check"), 1, told);
            ends(ports, 0, "");
            assert_eq!(nft("-u list table inet tars"), RULES, "after: {change}");
        }
    });
}

#[test]
fn what_stands_in_the_way_is_said() {
    pod::run("rules::what_stands_in_the_way_is_said", |_| {
        for privileges in [
            "--bounding-set=-net_admin",
            "--reuid 8277 --regid 8277 --clear-groups",
        ] {
            for args in ["", "--check", "--remove"] {
                let output = intercept_with(privileges, args);
                let text = said(&output);
                // Where programs are built need not be everybody's.
                if output.status.code() == Some(126) || output.status.code() == Some(127) {
                    continue;
                }
                assert_eq!(output.status.code(), Some(71), "{privileges}: {text}");
                assert!(text.contains("NET_ADMIN"), "{text}");
            }
        }
        ends(
            "--ports 6379,16380",
            64,
            "16380 is where connections are redirected to",
        );
        ends("--ports 0", 64, "0 is not in 1..");
        ends("--ports redis", 64, "invalid value");
        assert_eq!(list(), "", "and nothing was changed");
    });
}
