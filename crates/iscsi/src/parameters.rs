//! What is negotiated: what one side offers ([`Offer`]) and what was agreed ([`Parameters`]).

/// Range of MaxRecvDataSegmentLength, MaxBurstLength and FirstBurstLength, bytes (RFC 7143 §13.12-14).
pub const SEGMENT_LENGTH_RANGE: core::ops::RangeInclusive<u32> = 512..=(1 << 24) - 1;

/// MaxRecvDataSegmentLength before anything is declared, bytes (RFC 7143 §13.12).
pub const DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH: u32 = 8192;

/// Purpose of a session (RFC 7143 §13.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionType {
    /// Only SendTargets and logout.
    Discovery,
    /// SCSI commands to one target.
    #[default]
    Normal,
}

/// Which digests one side is willing to use, in order of preference (RFC 7143 §13.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DigestOffer {
    /// None only.
    None,
    /// CRC32C only.
    Crc32c,
    /// Either, none liked better. A target takes the initiator's first choice.
    #[default]
    PreferNone,
    /// Either, CRC32C liked better. A target takes the initiator's first choice.
    PreferCrc32c,
}

/// What one side offers or allows in a login. Values out of their RFC range are brought into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// HeaderDigest.
    pub header_digest: DigestOffer,
    /// DataDigest.
    pub data_digest: DigestOffer,
    /// MaxRecvDataSegmentLength this side declares, bytes.
    pub max_recv_data_segment_length: u32,
    /// MaxBurstLength, bytes (the lower of both sides' wins).
    pub max_burst_length: u32,
    /// FirstBurstLength, bytes (the lower of both sides' wins).
    pub first_burst_length: u32,
    /// InitialR2T (Yes if either side says so).
    pub initial_r2t: bool,
    /// ImmediateData (Yes if both sides say so).
    pub immediate_data: bool,
    /// MaxOutstandingR2T, tasks' R2Ts at a time (the lower wins).
    pub max_outstanding_r2t: u16,
    /// MaxConnections, connections of the session (the lower wins).
    pub max_connections: u16,
    /// DefaultTime2Wait, seconds (the higher wins).
    pub default_time2wait_s: u16,
    /// DefaultTime2Retain, seconds (the lower wins).
    pub default_time2retain_s: u16,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            header_digest: DigestOffer::default(),
            data_digest: DigestOffer::default(),
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 1 << 20,
            first_burst_length: 256 << 10,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 8,
            max_connections: 1,
            default_time2wait_s: 2,
            default_time2retain_s: 0,
        }
    }
}

/// What a session's sides agreed upon; starts as the RFC's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Header digest is CRC32C.
    pub header_digest: bool,
    /// Data digest is CRC32C.
    pub data_digest: bool,
    /// Longest data segment this side takes, bytes.
    pub own_max_recv_data_segment_length: u32,
    /// Longest data segment the other side takes, bytes.
    pub peer_max_recv_data_segment_length: u32,
    /// MaxBurstLength, bytes.
    pub max_burst_length: u32,
    /// FirstBurstLength, bytes.
    pub first_burst_length: u32,
    /// InitialR2T: no unsolicited Data-Out PDUs.
    pub initial_r2t: bool,
    /// ImmediateData: data may come inside the command.
    pub immediate_data: bool,
    /// MaxOutstandingR2T of a task.
    pub max_outstanding_r2t: u16,
    /// DefaultTime2Wait, seconds.
    pub default_time2wait_s: u16,
    /// DefaultTime2Retain, seconds.
    pub default_time2retain_s: u16,
    /// MaxConnections.
    pub max_connections: u16,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u8,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            own_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            peer_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            max_burst_length: 256 << 10,
            first_burst_length: 64 << 10,
            initial_r2t: true,
            immediate_data: true,
            max_outstanding_r2t: 1,
            default_time2wait_s: 2,
            default_time2retain_s: 20,
            max_connections: 1,
            error_recovery_level: 0,
        }
    }
}
