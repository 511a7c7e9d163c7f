//! Commands that are a line: classified and followed, never rewritten.

use super::command::Kind;
use super::scan::Span32;
use super::{Context, Raw, Requests};

impl Requests {
    /// An inline command is classified and followed, never rewritten.
    pub(super) fn inline(&mut self, args: &[Vec<u8>], cx: &mut Context) -> Result<(), Raw> {
        let kind = Kind::of(args.first().map_or(&[][..], Vec::as_slice));
        cx.worker.counters.command(kind);
        let argc = args.len();
        if !kind.needs_arguments() {
            return self.plain_command(kind, u32::try_from(argc).unwrap_or(u32::MAX), cx);
        }
        if kind == Kind::Client {
            let subcommand = args.get(1).map_or(&[][..], Vec::as_slice);
            return self.client(subcommand, args.get(2).map(Vec::as_slice), argc, cx);
        }
        if kind == Kind::Cluster {
            return self.cluster(args.get(1).map_or(&[][..], Vec::as_slice), cx);
        }
        // The same parsers as for arrays, over the arguments laid end to end.
        let mut flat = Vec::new();
        let mut spans = Vec::new();
        for arg in args {
            let start = u32::try_from(flat.len()).unwrap_or(u32::MAX);
            flat.extend_from_slice(arg);
            spans.push(Span32 {
                start,
                end: u32::try_from(flat.len()).unwrap_or(u32::MAX),
            });
        }
        if kind == Kind::Xadd {
            self.xadd_as_it_is(&flat, &spans, "inline", cx);
            return Ok(());
        }
        self.parsed_command(kind, &flat, &spans, cx)
    }
}
