//! What a load run tells: once a second while it runs, and in full at its end.

use serde::Serialize;

use crate::verify::FaultReport;

/// A glance at a running load. Rates are over the last interval.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// What is being done: `verify` reads everything back, `load` runs the workload.
    pub phase: &'static str,
    /// Seconds since this phase began.
    pub elapsed_seconds: f64,
    /// Share of the verify phase done, 0 to 1; of the configured time in the load phase.
    pub done: f64,
    /// Commands completed per second.
    pub iops: f64,
    /// Bytes moved per second.
    pub bytes_per_second: f64,
    /// Mean latency in microseconds; 0 if nothing was completed.
    pub mean_latency_us: f64,
    /// Failed commands so far.
    pub errors: u64,
    /// Connections made again so far.
    pub reconnects: u64,
    /// Sessions that are logged in now.
    pub connected: u32,
    /// Faulty blocks found so far.
    pub faults: u64,
}

/// The full account of a run. Everything in it is about the load phase unless it says otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// The volume's URLs, without secrets.
    pub targets: Vec<String>,
    /// The workload as [`Pattern`](super::Pattern) prints it.
    pub pattern: String,
    /// Lengths of commands as [`BlockSizes`](super::BlockSizes) prints them.
    pub block_sizes: String,
    /// Commands in flight in each session.
    pub depth: u32,
    /// Sessions.
    pub sessions: u32,
    /// TCP connections of each session.
    pub connections: u16,
    /// Threads that drove them.
    pub threads: u32,
    /// Seed of addresses and lengths.
    pub seed: u64,
    /// How long commands were issued, in seconds.
    pub seconds: f64,
    /// Commands completed with status GOOD per second.
    pub iops: f64,
    /// Bytes moved by them per second.
    pub bytes_per_second: f64,
    /// The reads among them.
    pub reads: Direction,
    /// The writes among them.
    pub writes: Direction,
    /// Commands that failed on a working connection.
    pub errors: u64,
    /// Those failures by what the target said, most frequent first.
    pub error_kinds: Vec<ErrorCount>,
    /// Commands the target turned away for the moment (BUSY, TASK SET FULL, UNIT ATTENTION) and
    /// that were issued again. They are not errors.
    pub retries: u64,
    /// Connections made again after they broke.
    pub reconnects: u64,
    /// Why connections broke, most frequent first.
    pub reconnect_kinds: Vec<ErrorCount>,
    /// The longest time a session had commands in flight and completed none, in milliseconds.
    pub longest_stall_ms: f64,
    /// Processor time of this process during the load, in seconds.
    pub cpu_seconds: f64,
    /// The same per completed command, in microseconds.
    pub cpu_us_per_io: f64,
    /// What verification found; `None` if it was not asked for.
    pub verify: Option<VerifyReport>,
}

/// The commands of one direction.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Direction {
    /// Completed with status GOOD.
    pub commands: u64,
    /// Bytes they moved.
    pub bytes: u64,
    /// Completed per second.
    pub iops: f64,
    /// Moved per second.
    pub bytes_per_second: f64,
    /// From first submission to completion, over any reconnects between.
    pub latency: LatencyReport,
}

/// A latency distribution in microseconds; percentiles are exact to three digits.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LatencyReport {
    /// Shortest.
    pub min_us: f64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 % are at most this long.
    pub p90_us: f64,
    /// 99 % are at most this long.
    pub p99_us: f64,
    /// 99.9 % are at most this long.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
}

/// How often something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// What happened, for people.
    pub what: String,
    /// How often.
    pub count: u64,
}

/// What the verification found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// The file with the record of acknowledged writes.
    pub file: String,
    /// Identity of the stamps, the same over all runs with one file.
    pub run_id: String,
    /// Bytes covered by one stamp.
    pub stamp_bytes: u32,
    /// Whether the file came from an earlier run, so that everything was read back first.
    pub resumed: bool,
    /// Stamps with an acknowledged write that were read back before the load began.
    pub checked_at_start: u64,
    /// Of those checked at the start, how many held a write that was in flight at the
    /// interruption and was never acknowledged.
    pub unacknowledged_found: u64,
    /// Stamps checked by reads while the load ran.
    pub checked_while_running: u64,
    /// How many faults were found in all.
    pub fault_count: u64,
    /// The first of them.
    pub faults: Vec<FaultReport>,
}
