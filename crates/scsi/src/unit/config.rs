//! What a logical unit is told when it is made.

use crate::command::Feature;
use thiserror::Error;

/// Size of a logical block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes ("4Kn").
    B4096,
}

impl BlockSize {
    /// Bytes in a block.
    pub const fn bytes(self) -> u32 {
        1 << self.shift()
    }

    /// log2 of the bytes in a block.
    pub const fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// Logical blocks per 4 KiB physical block as an exponent (LBPPBE): 3 for 512e, 0 for 4Kn.
    pub const fn exponent_of_4k(self) -> u8 {
        match self {
            Self::B512 => 3,
            Self::B4096 => 0,
        }
    }
}

/// Who the volume is; the same for life, on every path (INQUIRY, VPD 80h and 83h).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// NAA IEEE Registered Extended (6h) designator: the first four bits are 6.
    pub naa: [u8; 16],
    /// PRODUCT SERIAL NUMBER: printable ASCII, 1 to [`Identity::SERIAL_MAX`] bytes.
    pub serial: String,
    /// T10 VENDOR IDENTIFICATION: printable ASCII, at most 8 bytes.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION: printable ASCII, at most 16 bytes.
    pub product: String,
    /// PRODUCT REVISION LEVEL: printable ASCII, at most 4 bytes.
    pub revision: String,
}

impl Identity {
    /// Longest serial number, in bytes.
    pub const SERIAL_MAX: usize = 64;
}

/// Bounds on single commands, in bytes; all multiples of the block size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// MAXIMUM TRANSFER LENGTH of READ, WRITE, WRITE AND VERIFY and VERIFY with data.
    pub transfer_bytes_max: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub transfer_bytes_optimal: u32,
    /// MAXIMUM UNMAP LBA COUNT, summed over all descriptors of a command.
    pub unmap_bytes_max: u64,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
    pub unmap_descriptors_max: u32,
    /// MAXIMUM COMPARE AND WRITE LENGTH (capped at 255 blocks by the CDB's field).
    pub compare_and_write_bytes_max: u32,
    /// MAXIMUM WRITE SAME LENGTH.
    pub write_same_bytes_max: u64,
    /// MAXIMUM ATOMIC TRANSFER LENGTH, at any logical block; 0: there is no WRITE ATOMIC(16).
    pub atomic_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: u32 = 1 << 10;
        const MIB: u32 = 1 << 20;
        const MIB_LONG: u64 = 1 << 20;
        Self {
            transfer_bytes_max: 8 * MIB,
            transfer_bytes_optimal: MIB,
            unmap_bytes_max: 512 * MIB_LONG,
            unmap_descriptors_max: 256,
            compare_and_write_bytes_max: 64 * KIB,
            // Below 65536 blocks: test suites write as much as WRITE SAME takes with one WRITE.
            write_same_bytes_max: 16 * MIB_LONG,
            atomic_bytes_max: 0,
        }
    }
}

/// Task management functions the transport really performs, for REPORT SUPPORTED TASK MANAGEMENT
/// FUNCTIONS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagement {
    /// ABORT TASK.
    pub abort_task: bool,
    /// ABORT TASK SET.
    pub abort_task_set: bool,
    /// CLEAR TASK SET.
    pub clear_task_set: bool,
    /// LOGICAL UNIT RESET.
    pub logical_unit_reset: bool,
    /// TARGET RESET (iSCSI: TARGET WARM RESET).
    pub target_reset: bool,
}

impl Default for TaskManagement {
    fn default() -> Self {
        Self {
            abort_task: true,
            abort_task_set: true,
            clear_task_set: true,
            logical_unit_reset: true,
            target_reset: true,
        }
    }
}

/// Everything about a logical unit that does not change while it runs, and the state it starts in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogicalUnitConfig {
    /// Who it is.
    pub identity: Identity,
    /// Logical block size.
    pub block_size: BlockSize,
    /// Capacity in logical blocks, not 0.
    pub blocks: u64,
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT, 0 to 15.
    pub physical_block_exponent: u8,
    /// Writes may be acknowledged once cached: WCE = 1, and a host may clear it.
    pub write_cache: bool,
    /// Thin: LBPME, UNMAP and WRITE SAME with UNMAP.
    pub thin: bool,
    /// Takes no writes from anyone.
    pub read_only: bool,
    /// Offered for copy offload: EXTENDED COPY and ROD tokens (3PC).
    pub offload: bool,
    /// The volume can be sanitized: SANITIZE.
    pub sanitize: bool,
    /// The volume is encrypted, so that it can be sanitized by another key: SANITIZE with CRYPTOGRAPHIC ERASE.
    pub crypto_erase: bool,
    /// Bounds on single commands.
    pub limits: Limits,
    /// OPTIMAL UNMAP GRANULARITY in bytes; 0: not reported. Below 32 KiB Windows stops trimming.
    pub unmap_granularity_bytes: u32,
    /// What the transport can do.
    pub task_management: TaskManagement,
}

impl LogicalUnitConfig {
    /// A thin, writable unit with 4 KiB physical blocks, 32 KiB unmap granularity and no write cache.
    pub fn new(identity: Identity, block_size: BlockSize, blocks: u64) -> Self {
        Self {
            identity,
            block_size,
            blocks,
            physical_block_exponent: block_size.exponent_of_4k(),
            write_cache: false,
            thin: true,
            read_only: false,
            offload: true,
            sanitize: false,
            crypto_erase: false,
            limits: Limits::default(),
            unmap_granularity_bytes: 32 << 10,
            task_management: TaskManagement::default(),
        }
    }

    /// Whether the unit has the commands that need `feature`.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::Any => true,
            Feature::Thin => self.thin,
            Feature::Offload => self.offload,
            Feature::Sanitize => self.sanitize,
            Feature::CryptoErase => self.sanitize && self.crypto_erase,
            Feature::Atomic => self.limits.atomic_bytes_max > 0,
        }
    }

    /// Checks what the type system does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.identity.validate()?;
        check_capacity(self.block_size, self.blocks)?;
        if self.physical_block_exponent > 15 {
            return Err(ConfigError::PhysicalBlockExponent(self.physical_block_exponent));
        }
        self.limits.validate(self.block_size)?;
        let granularity = self.unmap_granularity_bytes;
        aligned(self.block_size, "unmap_granularity_bytes", u64::from(granularity))
    }
}

/// Why a configuration cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// The designator's first four bits are not 6.
    #[error("the NAA designator does not start with 6h")]
    NotNaa6,
    /// A text field is too long, empty where it must not be, or not printable ASCII.
    #[error("{field} must be printable ASCII of at most {max} bytes")]
    Text {
        /// Which one.
        field: &'static str,
        /// Bytes allowed.
        max: usize,
    },
    /// No blocks, or more bytes than 63 bits count.
    #[error("a capacity of {0} blocks cannot be addressed")]
    Capacity(u64),
    /// More than four bits.
    #[error("physical block exponent {0} is above 15")]
    PhysicalBlockExponent(u8),
    /// A limit is zero, not a multiple of the block size, or above another one.
    #[error("{field} cannot be {bytes} bytes")]
    Limit {
        /// Which one.
        field: &'static str,
        /// Its value.
        bytes: u64,
    },
}

/// A capacity has at least one block, and every byte offset in it fits 63 bits.
pub(crate) fn check_capacity(block_size: BlockSize, blocks: u64) -> Result<(), ConfigError> {
    let bytes_max = i64::MAX.unsigned_abs();
    if blocks == 0 || blocks > bytes_max >> block_size.shift() {
        return Err(ConfigError::Capacity(blocks));
    }
    Ok(())
}

impl Identity {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.naa[0] >> 4 != 6 {
            return Err(ConfigError::NotNaa6);
        }
        text("serial", &self.serial, 1, Self::SERIAL_MAX)?;
        text("vendor", &self.vendor, 1, 8)?;
        text("product", &self.product, 1, 16)?;
        text("revision", &self.revision, 1, 4)
    }
}

impl Limits {
    fn validate(&self, block_size: BlockSize) -> Result<(), ConfigError> {
        let fields = [
            ("transfer_bytes_max", u64::from(self.transfer_bytes_max)),
            ("transfer_bytes_optimal", u64::from(self.transfer_bytes_optimal)),
            ("unmap_bytes_max", self.unmap_bytes_max),
            ("compare_and_write_bytes_max", u64::from(self.compare_and_write_bytes_max)),
            ("write_same_bytes_max", self.write_same_bytes_max),
        ];
        for (field, bytes) in fields {
            if bytes == 0 {
                return Err(ConfigError::Limit { field, bytes });
            }
            aligned(block_size, field, bytes)?;
        }
        aligned(block_size, "atomic_bytes_max", u64::from(self.atomic_bytes_max))?;
        // SBC-4 6.6.4: no longer than other transfers.
        if self.atomic_bytes_max > self.transfer_bytes_max {
            let bytes = u64::from(self.atomic_bytes_max);
            return Err(ConfigError::Limit { field: "atomic_bytes_max", bytes });
        }
        if self.unmap_descriptors_max == 0 {
            return Err(ConfigError::Limit { field: "unmap_descriptors_max", bytes: 0 });
        }
        Ok(())
    }
}

fn aligned(block_size: BlockSize, field: &'static str, bytes: u64) -> Result<(), ConfigError> {
    if bytes.is_multiple_of(u64::from(block_size.bytes())) {
        Ok(())
    } else {
        Err(ConfigError::Limit { field, bytes })
    }
}

fn text(field: &'static str, value: &str, min: usize, max: usize) -> Result<(), ConfigError> {
    let printable = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && (min..=max).contains(&value.len()) {
        Ok(())
    } else {
        Err(ConfigError::Text { field, max })
    }
}
