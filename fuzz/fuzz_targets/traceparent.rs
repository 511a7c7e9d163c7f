//! Any bytes as a `traceparent`: never a panic, and what is taken is written back as it was meant.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tars_proxy::trace::context::parse_traceparent;

fuzz_target!(|value: &[u8]| {
    if let Some(context) = parse_traceparent(value) {
        let written = context.traceparent();
        assert_eq!(written.get(3..52), value.get(3..52), "the ids are the same");
        assert_eq!(parse_traceparent(&written), Some(context));
    }
});
