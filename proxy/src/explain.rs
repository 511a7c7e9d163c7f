//! Dry run.
/// Args.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// File with commands, as RESP or as one types them in redis-cli; - is the standard input [default: -]
    #[arg(value_name = "FILE", conflicts_with = "stream")]
    pub file: Option<std::path::PathBuf>,
    /// Look at the latest entries of this stream instead (repeatable)
    #[arg(long, value_name = "KEY")]
    pub stream: Vec<String>,
    /// Entries to look at in each stream
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
use std::io::{self, Write};
/// x
pub fn run(_: &Args, _: &crate::config::Config, _: &crate::config::Environment, _: &mut impl Write, _: &mut impl Write) -> io::Result<u8> { Ok(0) }
