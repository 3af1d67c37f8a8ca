//! Where log lines go: standard error, as text with colours only on a terminal, or as JSON. As
//! a systemd service, text goes to the journal in its native protocol, so that `peer` and the
//! other fields stay fields and the level is the journal's priority.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::LogFormat;

/// In front of a field's name in the journal: `GROOVEBOX_PEER`.
#[cfg(target_os = "linux")]
const FIELD_PREFIX: &str = "GROOVEBOX";

/// Starts logging by a filter like `info` or `groovebox=debug`. A second call does nothing.
pub fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = match format {
        LogFormat::Text => journal().unwrap_or_else(text),
        LogFormat::Json => fmt::layer().json().with_writer(stderr).boxed(),
    };
    // Already set means that somebody else logs; that is just as well.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}

fn text() -> Box<dyn Layer<Registry> + Send + Sync> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let colours = stderr().is_terminal() && !set("NO_COLOR");
    fmt::layer().with_writer(stderr).with_ansi(colours).with_target(false).boxed()
}

/// The journal, where standard error leads into it: whoever sends that elsewhere wants the
/// lines there. None where the journal does not answer.
#[cfg(target_os = "linux")]
fn journal() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let own = rustix::fs::fstat(stderr()).ok()?;
    if !is_stream(&stream, own.st_dev, own.st_ino) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?;
    let layer = layer.with_field_prefix(Some(FIELD_PREFIX.to_owned()));
    Some(layer.with_syslog_identifier("groovebox".to_owned()).boxed())
}

#[cfg(not(target_os = "linux"))]
fn journal() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    None
}

/// Whether `JOURNAL_STREAM` (`systemd.exec(5)`: device and inode, in decimal) names this file.
#[cfg(target_os = "linux")]
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    let numbers = stream.split_once(':');
    let numbers = numbers.and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    numbers == Some((device, inode))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_was_named_is_the_journal() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "", ":", "8", "8:1234:5", "x:y"] {
            assert!(!is_stream(other, 8, 1234), "{other:?}");
        }
    }
}
