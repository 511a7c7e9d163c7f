//! SIGHUP changes rules and drops no connection.

use tars_tests::process::Signal;
use tars_tests::server::Kind;
use tars_tests::stage::Stage;

use crate::{bulks, stored};

const STRIP: &str = "[[stream]]\npattern = \"s\"\ndeliver = \"strip\"\n";
const UNTRACED: &str = "[[stream]]\npattern = \"s\"\ntrace = false\n";

#[test]
fn a_reload_changes_the_rules_of_connections_that_are_open() {
    let mut stage = Stage::configured(Kind::Redis82, |proxy| proxy.config(STRIP));
    let mut client = stage.connect();
    client.call(&["SELECT", "2"]);
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    assert_eq!(
        bulks(&client.call(&["XRANGE", "s", "-", "+"])),
        ["1-1", "f", "v"]
    );
    let opened = stage.proxy.metric("tars_proxy_connections_total", &[]);
    stage.proxy.rewrite_config(UNTRACED);
    stage.proxy.signal(Signal::HUP);
    stage.proxy.wait_log("configuration reloaded");
    assert_eq!(bulks(&client.call(&["XRANGE", "s", "-", "+"])).len(), 5);
    client.call(&["XADD", "s", "2-1", "f", "v"]);
    stage.direct("SELECT 2");
    assert_eq!(stored(&stage, "s"), ["f", "v"]);
    assert_eq!(
        stage.proxy.metric("tars_proxy_connections_total", &[]),
        opened
    );
}

#[test]
fn a_reload_that_fails_keeps_the_old_rules() {
    let mut stage = Stage::configured(Kind::Redis70, |proxy| proxy.config(UNTRACED));
    let mut client = stage.connect();
    for (broken, said) in [
        ("[[stream]]\npattern = \"s\"\ntrase = true\n", "`trace`"),
        ("[[stream]\n", "the configuration in force stays"),
    ] {
        stage.proxy.rewrite_config(broken);
        stage.proxy.signal(Signal::HUP);
        stage.proxy.wait_log(said);
        client.call(&["XADD", "s", "*", "f", "v"]);
        assert_eq!(stored(&stage, "s"), ["f", "v"]);
    }
    assert!(
        stage
            .proxy
            .stderr()
            .contains("the configuration in force stays")
    );
}

#[test]
fn a_delivery_under_way_is_settled_after_a_reload() {
    let mut stage = Stage::configured(Kind::Valkey, |proxy| proxy.config(""));
    crate::make_group(&stage, "s");
    let mut client = stage.connect();
    client.call(&["XADD", "s", "1-1", "f", "v"]);
    client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
    stage.proxy.rewrite_config(UNTRACED);
    stage.proxy.signal(Signal::HUP);
    stage.proxy.wait_log("configuration reloaded");
    client.call(&["XACK", "s", "g", "1-1"]);
    assert!(
        stage
            .wait_span("process s", "1-1")
            .attr("tars.outcome")
            .is_null()
    );
}
