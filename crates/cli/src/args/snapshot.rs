//! The verbs on snapshots.

use clap::Subcommand;

/// Verbs on snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Make a snapshot of a volume, or of several volumes of a pool at one instant
    Create {
        /// Volumes, by name or identity
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
        /// Name of the snapshot, the same for all [default: the time in UTC]
        #[arg(long)]
        name: Option<String>,
    },
    /// List snapshots, oldest first
    List {
        /// Only those of this volume
        volume: Option<String>,
    },
    /// Show a snapshot
    Show {
        /// Snapshot
        #[arg(value_name = "VOLUME@SNAPSHOT", value_parser = snapshot)]
        snapshot: SnapshotName,
    },
    /// Give a volume back what it held; what it holds now is kept as a snapshot, too
    Rollback {
        /// Snapshot
        #[arg(value_name = "VOLUME@SNAPSHOT", value_parser = snapshot)]
        snapshot: SnapshotName,
        /// End the sessions of hosts that use the volume first; what they have mounted of it will not fit any more
        #[arg(long)]
        force: bool,
    },
    /// Keep a snapshot: neither schedules nor want of space delete it
    Keep {
        /// Snapshot
        #[arg(value_name = "VOLUME@SNAPSHOT", value_parser = snapshot)]
        snapshot: SnapshotName,
        /// Do not keep it any more
        #[arg(long)]
        off: bool,
    },
    /// Delete snapshots; clones of them stay
    Delete {
        /// Snapshots
        #[arg(required = true, value_name = "VOLUME@SNAPSHOT", value_parser = snapshot)]
        snapshots: Vec<SnapshotName>,
    },
}

/// A snapshot as it is named: `mail@before-update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotName {
    pub(crate) volume: String,
    pub(crate) snapshot: String,
}

/// Reads `VOLUME@SNAPSHOT`.
pub(super) fn snapshot(text: &str) -> Result<SnapshotName, String> {
    match text.split_once('@') {
        Some((volume, snapshot)) if !volume.is_empty() && !snapshot.is_empty() => {
            Ok(SnapshotName { volume: volume.to_owned(), snapshot: snapshot.to_owned() })
        }
        _ => Err("write VOLUME@SNAPSHOT, for example mail@before-update".to_owned()),
    }
}
