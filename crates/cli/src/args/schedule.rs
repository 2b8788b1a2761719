//! The verbs on schedules.

use api::KeepSnapshots;
use clap::Subcommand;

/// Verbs on schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Have snapshots made by the clock, and old ones deleted
    Create {
        /// Name of the new schedule
        name: String,
        /// Volumes of one pool, all at one instant
        #[arg(long = "volume", required = true, num_args = 1.., value_name = "VOLUME")]
        volumes: Vec<String>,
        /// How often, in UTC: 15m, 1h, daily@02:30, weekly@sun@02:30
        #[arg(long)]
        every: String,
        /// How many of its snapshots to keep: last=3,hourly=24,daily=7,weekly=4,monthly=12
        #[arg(long, value_name = "PERIOD=N,...", value_parser = keep)]
        keep: KeepSnapshots,
        /// What snapshots are called [default: {schedule}-{date}-{time}]
        #[arg(long, value_name = "PATTERN")]
        name_pattern: Option<String>,
    },
    /// List schedules
    List,
    /// Show a schedule
    Show {
        /// Schedule, by name or identity
        schedule: String,
    },
    /// Have a schedule run again, from its next usual time on
    Enable {
        /// Schedule, by name or identity
        schedule: String,
    },
    /// Have a schedule not run
    Disable {
        /// Schedule, by name or identity
        schedule: String,
    },
    /// Delete a schedule; its snapshots stay
    Delete {
        /// Schedule, by name or identity
        schedule: String,
    },
}

/// `hourly=24,daily=7`
fn keep(text: &str) -> Result<KeepSnapshots, String> {
    let mut keep = KeepSnapshots::default();
    for part in text.split(',') {
        let (period, number) = part.split_once('=').ok_or("write for example hourly=24,daily=7")?;
        let number = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        let place = match period {
            "last" => &mut keep.last,
            "hourly" => &mut keep.hourly,
            "daily" => &mut keep.daily,
            "weekly" => &mut keep.weekly,
            "monthly" => &mut keep.monthly,
            _ => return Err(format!("`{period}` is none of last, hourly, daily, weekly, monthly")),
        };
        *place = number;
    }
    Ok(keep)
}
