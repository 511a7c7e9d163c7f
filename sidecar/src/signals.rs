//! SIGTERM, SIGINT and SIGHUP as events.
//!
//! The first SIGTERM or SIGINT asks for an orderly end, a second one ends the process at once: whoever presses Ctrl-C
//! twice does not want to wait.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT: end in an orderly way. Comes once.
    Shutdown,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of this process from now on.
#[derive(Debug)]
pub struct Signals {
    stop: Option<Stop>,
    reload: Signal,
}

#[derive(Debug)]
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their defaults. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let stop = Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Self {
            stop: Some(stop),
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// The next event. Once it has told of a shutdown, a task of this runtime waits for the second SIGTERM or SIGINT
    /// and exits on it with 128 and the signal's number, whether or not anyone still asks for events.
    pub async fn next(&mut self) -> Event {
        let stopped = async {
            match &mut self.stop {
                Some(stop) => stop.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stopped => {}
            _ = self.reload.recv() => return Event::Reload,
        }
        if let Some(mut stop) = self.stop.take() {
            tokio::spawn(async move {
                let kind = stop.next().await;
                tracing::warn!("second signal to stop: exiting at once");
                process::exit(128 + kind.as_raw_value());
            });
        }
        Event::Shutdown
    }
}

impl Stop {
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::env;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Set in the child process: signals are sent to that one, not to the test runner.
    const CHILD: &str = "TARS_TEST_SIGNALS_CHILD";

    /// What the child does: says each event on standard output.
    #[test]
    #[ignore = "started by the test below, in a process of its own"]
    fn child() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = Signals::new().unwrap();
            say("\nlistening");
            loop {
                let event = signals.next().await;
                say(&format!("{event:?}"));
                if event == Event::Shutdown {
                    // Nobody asks for events any more, as in a drain.
                    std::future::pending::<()>().await;
                }
            }
        });
    }

    fn say(line: &str) {
        let mut out = io::stdout();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    }

    fn kill(child: &Child, signal: &str) {
        let command = format!("kill -s {signal} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    }

    fn stopped_twice(first: &str, second: &str) -> Option<i32> {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "signals::tests::child",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = |wanted: &str| {
            assert!(
                lines.any(|line| line.unwrap() == wanted),
                "the child never said {wanted:?}"
            );
        };
        until("listening");
        kill(&child, "HUP");
        until("Reload");
        kill(&child, "HUP");
        until("Reload");
        kill(&child, first);
        until("Shutdown");
        kill(&child, second);
        child.wait().unwrap().code()
    }

    #[test]
    fn the_second_signal_exits_even_if_nobody_listens() {
        assert_eq!(stopped_twice("TERM", "INT"), Some(130));
        assert_eq!(stopped_twice("INT", "TERM"), Some(143));
    }
}
