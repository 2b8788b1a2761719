//! The command line of keys.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What opens a pool.
#[derive(Debug, Args)]
pub(crate) struct KeyOptions {
    /// File of 32 bytes to 64 KiB, on the daemon's machine, which unlocks the pool by itself when the daemon starts
    #[arg(long, value_name = "PATH", conflicts_with = "passphrase_file")]
    pub(crate) key_file: Option<String>,
    /// File with a passphrase, without the end of its line [default: asked for, or a line of the standard input]
    #[arg(long, value_name = "PATH")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Verbs on the passphrases and key files of a pool.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Let another passphrase or key file open the pool, too
    Add {
        /// Pool, by name or identity
        pool: String,
        #[command(flatten)]
        key: KeyOptions,
    },
    /// Put a passphrase or key file in the place of another
    Change {
        /// Pool, by name or identity
        pool: String,
        /// Slot, as `pool show` numbers them
        slot: u8,
        #[command(flatten)]
        key: KeyOptions,
    },
    /// Let a passphrase or key file open the pool no more; the last one stays
    Remove {
        /// Pool, by name or identity
        pool: String,
        /// Slot, as `pool show` numbers them
        slot: u8,
    },
}
