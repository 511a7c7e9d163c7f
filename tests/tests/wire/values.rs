//! Large values, and replies of scripts.

use tars_tests::dialogue::Dialogue;
use tars_tests::resp::encode;
use tars_tests::server::Kind;
use tars_tests::stage::{self, Stage};

#[test]
fn twenty_megabytes_each_way() {
    let value = vec![b'x'; 20 << 20];
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        client.command(&[b"SET".as_slice(), b"k", &value]);
        assert_eq!(client.reply(), b"+OK\r\n");
        client.command(&["GET", "k"]);
        let reply = client.reply();
        assert_eq!(
            reply.len(),
            value.len() + b"$20971520\r\n\r\n".len(),
            "{kind}"
        );
        assert!(reply.ends_with(b"xx\r\n"));
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
        assert_eq!(stage.raw_relays(), 0.0);
    }
}

#[test]
fn a_message_of_twenty_megabytes_passes_as_it_is() {
    let value = vec![b'x'; 20 << 20];
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        stage.direct("XGROUP CREATE s g $ MKSTREAM");
        let mut client = stage.connect();
        client.command(&[b"XADD".as_slice(), b"s", b"1-1", b"f", &value]);
        assert_eq!(client.reply(), b"$3\r\n1-1\r\n");
        client.command(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        let entry = [
            b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n".as_slice(),
            &encode(&[b"f".as_slice(), &value]),
        ]
        .concat();
        assert!(client.reply() == entry, "{kind}: the entry differs");
        let skipped = stage.proxy.metric(
            "tars_proxy_contexts_skipped_total",
            &[("reason", "too_large")],
        );
        let passed = stage.proxy.metric(
            "tars_proxy_contexts_extracted_total",
            &[("source", "too_large")],
        );
        assert_eq!((skipped, passed), (1.0, 1.0), "{kind}");
        stage::prove(&mut client, "proof");
        stage.wait_spans(|spans| stage::proved(spans, "proof"));
    }
}

#[test]
fn scripts_answer_with_anything() {
    let nested = "return{1,{2,{3,{4,'deep'}},false},{},redis.status_reply('FINE')}";
    let set = "redis.setresp(3)return{map={a=1,b={c='d'}}}";
    let typed = "redis.setresp(3)return{{double=1.5},true,{set={x=true}},{big_number='123'},redis.call('HGETALL','h')}";
    let fails = "return{1,redis.error_reply('MINE')}";
    let throws = "return(redis.call('LPUSH','h','x'))";
    for hello in ["HELLO 2", "HELLO 3"] {
        let scripts: Vec<String> = [nested, set, typed, fails, throws]
            .iter()
            .map(|script| format!("EVAL {script} 0"))
            .collect();
        let commands: Vec<&str> = [hello, "HSET h f v"]
            .into_iter()
            .chain(scripts.iter().map(String::as_str))
            .collect();
        Dialogue::new()
            .with_client_ids()
            .commands(&commands)
            .check_all();
    }
}

#[test]
fn spans_follow_the_database() {
    for kind in Kind::ALL {
        let stage = Stage::of(kind);
        let mut client = stage.connect();
        // The same stream, group and id in two databases are two messages.
        for database in ["0", "5"] {
            client.call(&["SELECT", database]);
            client.call(&["XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"]);
            client.call(&["XADD", "s", "1-1", "f", database]);
            client.call(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"]);
        }
        assert_eq!(
            stage.proxy.metric("tars_proxy_deliveries", &[]),
            2.0,
            "{kind}"
        );
        let mut other = stage.connect();
        other.send(tars_tests::resp::pipeline(&[
            "XACK s g 1-1",
            "SELECT 5",
            "XACK s g 1-1",
        ]));
        assert_eq!(
            other.replies(3),
            [b":1\r\n".as_slice(), b"+OK\r\n", b":1\r\n"]
        );
        let sent = stage.wait_named("send s", 2);
        let processed = stage.wait_named("process s", 2);
        for (sent, processed) in sent.iter().zip(&processed) {
            assert!(processed.is_child_of(sent), "{kind}");
            assert!(processed.attr("tars.outcome").is_null(), "{processed:?}");
        }
    }
}
