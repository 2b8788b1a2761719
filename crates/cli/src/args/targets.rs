//! The verbs on targets.

use clap::Subcommand;

/// Verbs on targets.
#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Make a target without volumes
    Create {
        /// Name of the new target; its iSCSI name is made of it and never changes
        name: String,
    },
    /// List targets
    List,
    /// Show a target
    Show {
        /// Target, by name or iSCSI name
        target: String,
    },
    /// Put a volume into a target: hosts that were granted the volume see it there, those that are connected at once
    Map {
        /// Target, by name or iSCSI name
        target: String,
        /// Volume, by name or identity
        volume: String,
        /// Its number in the target, 0 to 255 [default: the lowest free one]
        #[arg(long, value_name = "N")]
        lun: Option<u64>,
    },
    /// Take a volume out of a target; what hosts have on the way to it is answered first
    Unmap {
        /// Target, by name or iSCSI name
        target: String,
        /// Volume, by name or identity
        volume: String,
    },
    /// Delete a target; its volumes stay
    Delete {
        /// Target, by name or iSCSI name
        target: String,
        /// Delete although hosts are connected; their sessions end
        #[arg(long)]
        force: bool,
    },
}
