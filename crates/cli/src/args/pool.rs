//! The command line of pools.

use super::volume::Switch;
use super::{Key, KeyOptions, PoolSpace, percent};
use clap::Subcommand;
use std::path::PathBuf;

/// Verbs on pools.
#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Make a pool of disks
    Create {
        /// Name of the new pool
        name: String,
        /// Block device or file; PATH:SIZE makes a sparse file; ram:SIZE is memory, lost when the daemon stops
        #[arg(long = "disk", required = true, num_args = 1.., value_name = "PATH[:SIZE]")]
        disks: Vec<String>,
        /// Give it keys, and encrypt every new volume in it unless that is made with --encrypt off
        #[arg(long)]
        encrypt: bool,
        #[command(flatten)]
        key: KeyOptions,
    },
    /// List pools
    List,
    /// Show a pool
    Show {
        /// Pool, by name or identity
        pool: String,
    },
    /// Give a pool more space by growing a disk it has
    Extend {
        /// Pool, by name or identity
        pool: String,
        /// PATH:NEWSIZE for a file; PATH for a device that has grown already
        #[arg(long, value_name = "PATH[:NEWSIZE]")]
        disk: String,
    },
    /// Change a pool
    #[command(group = clap::ArgGroup::new("pool_change").required(true).multiple(true).args(["warn", "limit", "on_short"]))]
    Set {
        /// Pool, by name or identity
        pool: String,
        /// Warn you, and hosts of its thin volumes, when so much of it is taken: 80%, or off
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        warn: Option<u8>,
        #[command(flatten)]
        space: PoolSpace,
    },
    /// Let hosts use the encrypted volumes of a pool, until the daemon stops or the pool is locked
    Unlock {
        /// Pool, by name or identity
        pool: String,
        #[command(flatten)]
        key: KeyOptions,
    },
    /// Forget the keys of a pool: hosts are told that its encrypted volumes are not ready
    Lock {
        /// Pool, by name or identity
        pool: String,
    },
    /// Give a pool keys for encrypted volumes, or say whether new volumes are encrypted
    Encrypt {
        /// Pool, by name or identity
        pool: String,
        /// Whether new volumes are encrypted unless something else is asked for
        #[arg(long, value_enum, default_value_t = Switch::On)]
        new_volumes: Switch,
        #[command(flatten)]
        key: KeyOptions,
    },
    /// Passphrases and key files that open a pool
    #[command(subcommand)]
    Key(Key),
    /// Make a new pool key, which from then on only the passphrases and key files given here open
    Rekey {
        /// Pool, by name or identity
        pool: String,
        /// Key file that still opens the pool, on the daemon's machine; may be given several times
        #[arg(long = "key-file", value_name = "PATH")]
        key_files: Vec<String>,
        /// File with a passphrase that still opens the pool; may be given several times
        #[arg(long = "passphrase-file", value_name = "PATH")]
        passphrase_files: Vec<PathBuf>,
    },
    /// Delete an empty pool; its disks are free for other uses
    Delete {
        /// Pool, by name or identity
        pool: String,
        /// Forget a pool that is offline although it has volumes; what is on its disks stays there
        #[arg(long)]
        force: bool,
    },
}
