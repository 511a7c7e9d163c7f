//! Any lines as the values of a `tracestate`: never a panic, never more than is passed on, and what is accepted says the
//! same when it is read again, also after a member was added.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tars_proxy::trace::context::parse_tracestate;

fuzz_target!(|lines: &[u8]| {
    let mut state = parse_tracestate(lines.split(|&byte| byte == b'\n'));
    assert!(state.as_str().len() <= 512);
    assert_eq!(parse_tracestate([state.as_str().as_bytes()]), state);

    assert!(state.insert("fuzz", "1"));
    assert!(state.as_str().starts_with("fuzz=1"));
    assert!(state.as_str().len() <= 512 && state.as_str().split(',').count() <= 32);
    assert_eq!(parse_tracestate([state.as_str().as_bytes()]), state);
});
