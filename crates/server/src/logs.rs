//! Logs, on the standard error.

use crate::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts logging: `info` and up, or what `RUST_LOG` says. A second call in one process changes nothing.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => logs.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
}
