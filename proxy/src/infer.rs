//! Which message an XADD without a context may belong to (`infer_parent`).
//!
//! A proxy can only infer, and a wrong link is worse than none. So the rule is narrow: the message of the latest delivery,
//! if that reply held exactly one, has reached the client, is not settled, and no newer read has been sent since. What
//! the rule would find is counted even where it is off, so that an operator can see whether it is safe to turn on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::deliveries::{Deliveries, Token};
use crate::trace::context::{SpanContext, TraceState};

/// Which of the reads that were sent a delivery answers, on its connection and on its listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    connection: u64,
    listener: u64,
}

/// The grouped messages of one reply.
#[derive(Clone, Debug)]
pub struct Latest {
    /// Which read was answered.
    pub order: Order,
    /// The last of them.
    pub token: Token,
    /// Its `process` span.
    pub context: SpanContext,
    /// What travels with its trace.
    pub trace_state: TraceState,
    /// How many there were.
    pub count: u32,
}

/// What the rule finds.
#[derive(Clone, Debug)]
pub enum Found {
    /// The one message being handled.
    One(SpanContext, TraceState),
    /// None is.
    None,
    /// Several may be.
    Several,
}

impl Found {
    /// The label of `tars_proxy_inferences_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::One(..) => "one",
            Self::None => "none",
            Self::Several => "several",
        }
    }
}

fn find(latest: Option<&Latest>, deliveries: &Deliveries) -> Found {
    match latest {
        Some(latest) if deliveries.lock().is_open(latest.token) => {
            if latest.count == 1 {
                Found::One(latest.context, latest.trace_state.clone())
            } else {
                Found::Several
            }
        }
        _ => Found::None,
    }
}

/// The rule over one connection.
#[derive(Debug, Default)]
pub struct Connection {
    latest: Option<Box<Latest>>,
    reads: u64,
}

impl Connection {
    /// A read is being sent: whatever was delivered before is not being handled any more.
    pub fn read_sent(&mut self, id: u64, listener: &Listener) -> Order {
        self.latest = None;
        self.reads += 1;
        Order {
            connection: self.reads,
            listener: listener.read_sent(id),
        }
    }

    /// A reply with grouped messages has reached the client.
    pub fn delivered(&mut self, id: u64, listener: &Listener, latest: Latest) {
        listener.delivered(id, latest.clone());
        if latest.order.connection == self.reads {
            self.latest = Some(Box::new(latest));
        }
    }

    /// Whether nothing at all would be found.
    #[inline]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.latest.is_none()
    }

    /// What an XADD sent now may belong to.
    #[must_use]
    pub fn find(&self, deliveries: &Deliveries) -> Found {
        find(self.latest.as_deref(), deliveries)
    }
}

/// The rule over all connections of a listener.
#[derive(Debug, Default)]
pub struct Listener {
    state: Mutex<State>,
    /// Whether there is a newest delivery: most producers need not ask further.
    delivered: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The latest delivery of each connection, until that connection reads again.
    latest: HashMap<u64, Latest>,
    /// The connection of the latest delivery of all; none since a newer read was sent anywhere.
    newest: Option<u64>,
    reads: u64,
}

impl Listener {
    fn read_sent(&self, connection: u64) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.latest.remove(&connection);
        state.newest = None;
        self.delivered.store(false, Ordering::Release);
        state.reads += 1;
        state.reads
    }

    fn delivered(&self, connection: u64, latest: Latest) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.order.listener == state.reads {
            state.newest = Some(connection);
            self.delivered.store(true, Ordering::Release);
        }
        state.latest.insert(connection, latest);
    }

    /// Whether nothing at all would be found.
    #[inline]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.delivered.load(Ordering::Acquire)
    }

    /// A connection is no more.
    pub fn closed(&self, connection: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.latest.remove(&connection);
        if state.newest == Some(connection) {
            state.newest = None;
            self.delivered.store(false, Ordering::Release);
        }
    }

    /// What an XADD sent now, on any connection, may belong to. A message that another connection was given and has not
    /// settled is a second candidate, whoever read last.
    #[must_use]
    pub fn find(&self, deliveries: &Deliveries) -> Found {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = state.newest else {
            return Found::None;
        };
        let found = find(state.latest.get(&newest), deliveries);
        if matches!(found, Found::One(..)) {
            // What is settled by now is forgotten on the way, so that it is passed over only once.
            let mut settled = Vec::new();
            let table = deliveries.lock();
            let several = state.latest.iter().any(|(connection, other)| {
                *connection != newest
                    && (table.is_open(other.token) || {
                        settled.push(*connection);
                        false
                    })
            });
            for connection in settled {
                state.latest.remove(&connection);
            }
            if several {
                return Found::Several;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
