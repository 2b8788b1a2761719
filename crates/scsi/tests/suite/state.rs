//! READ CAPACITY, TEST UNIT READY, START STOP UNIT, PREVENT ALLOW, readiness and configuration.

use scsi::{
    AdditionalSense, Availability, BlockSize, ConfigError, Identity, LogicalUnit, LogicalUnitConfig,
    MediaCommand, Status,
};

use crate::harness::{BLOCKS, Disk, SenseInfo, TEST_UNIT_READY, cdb, config, identity, pattern};

const READ_CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn read_capacity_16(allocation_len: u32) -> Vec<u8> {
    let mut cdb = vec![0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb.extend_from_slice(&allocation_len.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

#[test]
fn capacity_is_the_last_block() {
    let mut disk = Disk::new();
    assert_eq!(disk.good(&READ_CAPACITY_10, &[]), [0, 0, 7, 0xff, 0, 0, 2, 0]);
    let data = disk.good(&read_capacity_16(32), &[]);
    assert_eq!(data[..16], [0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 2, 0, 0, 3, 0xc0, 0], "512e, LBPME, LBPRZ");
    assert_eq!(data[16..], [0; 16]);
    for len in 0..40 {
        let cut = disk.good(&read_capacity_16(len), &[]);
        assert_eq!(cut, data[..data.len().min(usize::try_from(len).unwrap())]);
    }
    let mut native = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 100));
    assert_eq!(native.good(&read_capacity_16(32), &[])[8..16], [0, 0, 0x10, 0, 0, 0, 0xc0, 0]);
}

/// SBC-3 5.15.2: all ones sends the host to READ CAPACITY(16).
#[test]
fn capacity_above_32_bits_is_all_ones() {
    for (blocks, wanted) in [(0xffff_ffff, 0xffff_fffe_u32), (1 << 32, u32::MAX), (1 << 40, u32::MAX)] {
        let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B512, blocks));
        assert_eq!(disk.good(&READ_CAPACITY_10, &[])[..4], wanted.to_be_bytes());
        assert_eq!(disk.good(&read_capacity_16(32), &[])[..8], (blocks - 1).to_be_bytes());
    }
}

#[test]
fn what_is_not_ready_says_so_but_answers_questions_about_itself() {
    let mut disk = Disk::new();
    for (availability, additional) in [
        (Availability::BecomingReady, AdditionalSense::BECOMING_READY),
        (Availability::ManualInterventionRequired, AdditionalSense::MANUAL_INTERVENTION_REQUIRED),
    ] {
        disk.unit.set_availability(availability);
        let medium: [(Vec<u8>, Vec<u8>); 6] = [
            (TEST_UNIT_READY.to_vec(), vec![]),
            (READ_CAPACITY_10.to_vec(), vec![]),
            (cdb(0x28, 0, 0, 1), vec![]),
            (cdb(0x2a, 0, 0, 1), pattern(1)),
            (cdb(0x35, 0, 0, 0), vec![]),
            (vec![0x1b, 0, 0, 0, 1, 0], vec![]),
        ];
        for (cdb, data) in &medium {
            let info = disk.bad(cdb, data);
            assert_eq!((info.key, info.additional), (2, additional), "{cdb:02x?}");
        }
        let own: [&[u8]; 4] = [
            &[0x12, 0, 0, 0, 96, 0],
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[0x1a, 0, 0x3f, 0, 255, 0],
            &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        ];
        for cdb in own {
            disk.good(cdb, &[]);
        }
        let sense = SenseInfo::parse(&disk.good(&[0x03, 0, 0, 0, 18, 0], &[]));
        assert_eq!((sense.key, sense.additional), (2, additional));
    }
    disk.unit.set_availability(Availability::Ready);
    assert_eq!(disk.run(&TEST_UNIT_READY, &[]).status, Status::Good);
    assert_eq!(disk.medium.log, []);
}

/// Stopping is a flush; the unit goes on for the other hosts. Nothing can be ejected.
#[test]
fn start_stop_unit_makes_data_safe() {
    let mut disk = Disk::new();
    let stop = |flags| [0x1b, 0, 0, 0, flags, 0];
    let all = MediaCommand::Flush { offset: 0, len: BLOCKS * 512 };
    assert_eq!(disk.asks(&stop(0x00), &[]), all);
    disk.good(&[0x1b, 1, 0, 0, 0, 0], &[]);
    assert_eq!(disk.medium.log, [all]);
    for flags in [0x01, 0x04, 0x05] {
        disk.good(&stop(flags), &[]);
    }
    assert_eq!(disk.medium.log.len(), 1);
    disk.good(&TEST_UNIT_READY, &[]);
    for power_condition in 1..16 {
        disk.illegal(&stop(power_condition << 4 | 1), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
    for load_eject in [0x02, 0x03] {
        let info = disk.illegal(&stop(load_eject), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 4, Some(1))));
    }
}

#[test]
fn removal_of_what_cannot_be_removed_can_be_prevented() {
    let mut disk = Disk::new();
    for prevent in [1, 0] {
        disk.good(&[0x1e, 0, 0, 0, prevent, 0], &[]);
    }
    for reserved in [2, 3] {
        disk.illegal(&[0x1e, 0, 0, 0, reserved, 0], &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn configurations_that_cannot_be_are_refused() {
    let with = |change: fn(&mut LogicalUnitConfig)| {
        let mut config = config();
        change(&mut config);
        LogicalUnit::new(config).err()
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|config| config.identity.naa[0] = 0x50), Some(ConfigError::NotNaa6));
    assert_eq!(with(|config| config.blocks = 0), Some(ConfigError::Capacity(0)));
    assert_eq!(with(|config| config.blocks = 1 << 54), Some(ConfigError::Capacity(1 << 54)));
    assert_eq!(with(|config| config.blocks = (1 << 54) - 1), None);
    assert_eq!(
        with(|config| config.physical_block_exponent = 16),
        Some(ConfigError::PhysicalBlockExponent(16))
    );
    type Change = fn(&mut Identity);
    let text: [(Change, &str); 5] = [
        (|identity| identity.serial.clear(), "serial"),
        (|identity| identity.serial = "x".repeat(65), "serial"),
        (|identity| identity.vendor = "NINECHARS".into(), "vendor"),
        (|identity| identity.product = "t\u{e9}l\u{e9}".into(), "product"),
        (|identity| identity.revision = "1\n".into(), "revision"),
    ];
    for (change, field) in text {
        let mut config = config();
        change(&mut config.identity);
        assert!(
            matches!(LogicalUnit::new(config), Err(ConfigError::Text { field: named, .. }) if named == field)
        );
    }
    let limits: [fn(&mut LogicalUnitConfig); 7] = [
        |config| config.limits.transfer_bytes_max = 0,
        |config| config.limits.transfer_bytes_optimal = 1000,
        |config| config.limits.unmap_bytes_max = 511,
        |config| config.limits.unmap_descriptors_max = 0,
        |config| config.limits.compare_and_write_bytes_max = 0,
        |config| config.limits.write_same_bytes_max = 513,
        |config| config.unmap_granularity_bytes = 100,
    ];
    for change in limits {
        assert!(matches!(with(change), Some(ConfigError::Limit { .. })));
    }
}
