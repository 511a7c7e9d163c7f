//! Any bytes as a `traceparent`: never a panic, and what is accepted says the same after it was written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tars_proxy::trace::context::parse_traceparent;

fuzz_target!(|value: &[u8]| {
    if let Some(context) = parse_traceparent(value) {
        let written = context.traceparent();
        assert_eq!(parse_traceparent(&written), Some(context));
        assert_eq!(written[3..52], value[3..52]);
        assert!(value.len() == written.len() || (value[..2] != *b"00" && value[55] == b'-'));
    }
});
