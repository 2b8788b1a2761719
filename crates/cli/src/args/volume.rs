//! The verbs on volumes.

use super::{percent, size};
use clap::{Subcommand, ValueEnum};

/// Verbs on volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Make a volume; no host sees it until it is granted
    Create {
        /// Name of the new volume
        name: String,
        /// Size, for example 10G, 512MiB or 64TiB (powers of 1024)
        #[arg(value_parser = size)]
        size: u64,
        /// Pool that holds it; needed if there are several
        #[arg(long)]
        pool: Option<String>,
        /// Logical block size in bytes
        #[arg(long, default_value = "512", value_parser = ["512", "4096"])]
        block_size: String,
        /// Reserve all its space now, so that no write ever fails for want of it
        #[arg(long)]
        thick: bool,
        /// When a write is acknowledged
        #[arg(long, value_enum, default_value_t = Cache::Durable)]
        cache: Cache,
        /// Whether hosts may have copies done here: EXTENDED COPY, ODX
        #[arg(long, value_enum, default_value_t = Switch::On)]
        offload: Switch,
        /// Whether it is stored encrypted [default: as its pool does with new volumes]
        #[arg(long, value_enum)]
        encrypt: Option<Switch>,
    },
    /// List volumes
    List,
    /// Show a volume
    Show {
        /// Volume, by name or identity
        volume: String,
    },
    /// Grow a volume, while hosts use it
    Resize {
        /// Volume, by name or identity
        volume: String,
        /// New size
        #[arg(value_parser = size)]
        size: u64,
    },
    /// Rename a volume; its target name, NAA and serial number stay
    Rename {
        /// Volume, by name or identity
        volume: String,
        /// New name
        name: String,
    },
    /// Change a volume
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["warn", "offload", "read_only", "template", "limit", "snapshot_reserve", "snapshot_warn", "on_short"]))]
    Set {
        /// Volume, by name or identity
        volume: String,
        /// Warn you, and its hosts, when so much of its size is taken: 80%, or off
        #[arg(long, value_name = "PERCENT", value_parser = percent)]
        warn: Option<u8>,
        /// Whether hosts may have copies done here: EXTENDED COPY, ODX
        #[arg(long, value_enum)]
        offload: Option<Switch>,
        /// Whether it is read-only for every host
        #[arg(long, value_enum)]
        read_only: Option<Switch>,
        /// Whether it is a template: read-only, made to be cloned, not deleted while there are clones
        #[arg(long, value_enum)]
        template: Option<Switch>,
        #[command(flatten)]
        space: super::VolumeSpace,
    },
    /// Delete a volume and all data on it
    Delete {
        /// Volume, by name or identity
        volume: String,
        /// Delete it although hosts use it
        #[arg(long)]
        force: bool,
        /// Delete its snapshots, too
        #[arg(long)]
        with_snapshots: bool,
    },
    /// Make a clone independent of what it was made of, in the background
    Detach {
        /// Volume, by name or identity
        volume: String,
        /// Do not go on with it
        #[arg(long)]
        cancel: bool,
    },
    /// List the ranges of bytes in which two snapshots or volumes differ, one a line: offset and length
    Diff {
        /// The one
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        from: String,
        /// The other
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        to: String,
    },
    /// Make a thin volume with the content of another, as it is now or in a snapshot; takes no time and no space
    Clone {
        /// Volume, by name or identity, or a snapshot of it
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        source: String,
        /// Name of the new volume
        name: String,
        /// No host may write to it: to show hosts a snapshot as it is
        #[arg(long)]
        read_only: bool,
    },
    /// Let a host use a volume
    Grant {
        /// Volume, by name or identity
        volume: String,
        /// Host, by name or identity
        host: String,
        /// It may only read
        #[arg(long)]
        read_only: bool,
    },
    /// Take a volume away from a host; its sessions on it end
    Revoke {
        /// Volume, by name or identity
        volume: String,
        /// Host, by name or identity
        host: String,
    },
    /// Show what hosts have reserved and registered on a volume, as clusters do
    Reservations {
        /// Volume, by name or identity
        volume: String,
        /// End them all: any host that is granted the volume may write then, also one that a cluster has fenced off
        #[arg(long)]
        clear: bool,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On
    On,
    /// Off
    Off,
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch == Switch::On
    }
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cache {
    /// When it is on stable storage
    Durable,
    /// When the kernel has it: survives the daemon's end, not the machine's; hosts are told of a write cache
    Buffered,
}
