//! W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceFlags(u8);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext { pub trace_id: TraceId, pub span_id: SpanId, pub flags: TraceFlags }
#[derive(Clone, Debug, Default)]
pub struct TraceState(Option<std::sync::Arc<str>>);
