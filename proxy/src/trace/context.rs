//! W3C Trace Context.
#![allow(missing_docs)]
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub flags: TraceFlags,
}
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceState(Option<std::sync::Arc<str>>);

macro_rules! id {
    ($id:ident, $n:literal) => {
        impl $id {
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $n]) -> Self {
                Self(bytes)
            }
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $n] {
                self.0
            }
        }
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
id!(TraceId, 16);
id!(SpanId, 8);

impl TraceFlags {
    pub const SAMPLED: Self = Self(1);
    #[must_use]
    pub const fn from_byte(bits: u8) -> Self {
        Self(bits & 3)
    }
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.0
    }
}

impl TraceState {
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

#[must_use]
pub fn parse_tracestate<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> TraceState {
    let text = values.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
    TraceState((!text.is_empty()).then(|| text.into()))
}
