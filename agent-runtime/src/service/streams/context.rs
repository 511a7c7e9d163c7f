//! The context of an entry, and of what is announced: W3C Trace Context, level 2.

use std::str::{self, FromStr as _};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// `00-TRACE-SPAN-FLAGS`, in bytes; later versions may have more behind it.
const LENGTH: usize = 55;
/// The longest `traceparent` that is looked at.
pub const MOST_TRACEPARENT: usize = 256;
/// The longest `tracestate`: the specification wants 512 at least to be passed on.
pub const MOST_TRACESTATE: usize = 4 << 10;

/// The context that two fields say; none if they say none.
#[must_use]
pub fn read(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<SpanContext> {
    let text = str::from_utf8(traceparent).ok()?;
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = head.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sound = [(version, 2), (trace, 32), (span, 16), (flags, 2)]
        .iter()
        .all(|(part, length)| part.len() == *length && part.bytes().all(is_hexadecimal));
    let ends = rest.is_empty() || (version != "00" && rest.starts_with('-'));
    if !sound || !ends || version == "ff" {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let state = tracestate
        .and_then(|state| str::from_utf8(state).ok())
        .and_then(|state| TraceState::from_str(state).ok());
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(flags),
        true,
        state.unwrap_or_default(),
    );
    context.is_valid().then_some(context)
}

fn is_hexadecimal(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// A context as `traceparent`.
#[must_use]
pub fn write(context: &SpanContext) -> String {
    format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";

    #[test]
    fn a_context_is_read_and_written_again() {
        let context = read(PARENT.as_bytes(), Some(b"a=1,b=2")).expect("a context");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_state().header(), "a=1,b=2");
        assert_eq!(write(&context), PARENT);
        let later = format!("cc{}-more", &PARENT[2..]);
        assert!(read(later.as_bytes(), Some(b"\xff")).is_some());
    }

    #[test]
    fn what_is_no_context_is_none() {
        for text in [
            "",
            "-",
            "00-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "00-00000000000000000000000000000000-b7ad6b7169203331-03",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-03",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "00-0af7651916cd43dd8448eb211c80319c-000b7ad6b7169203331",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_03",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03x",
        ] {
            assert_eq!(read(text.as_bytes(), None), None, "{text}");
        }
        assert_eq!(read(&[0xff; 55], None), None);
        let wide = format!("{}é", &PARENT[..54]);
        assert_eq!(read(wide.as_bytes(), None), None);
    }
}
