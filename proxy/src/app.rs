//! All wiring.

use std::io;

use crate::config::{Config, ConfigError, Reloaded};

/// Serves until told to stop. `reload` reads the configuration again (SIGHUP).
///
/// # Errors
/// If an address cannot be listened at.
pub fn run(
    config: Config,
    reload: impl Fn(&Config) -> Result<Reloaded, ConfigError>,
) -> io::Result<()> {
    // >>> connect listeners, admin and exporters here <<<
    drop((config, reload));
    Ok(())
}
