//! What hosts send to a disk they meet for the first time, CDB by CDB: each is answered, not refused.

use scsi::AdditionalSense;

use crate::harness::{A, Disk};

/// Linux 6: scsi_scan, sd and udev's scsi_id.
const LINUX: &[&[u8]] = &[
    &[0x12, 0, 0, 0, 36, 0],
    &[0x12, 0, 0, 0, 96, 0],
    &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0],
    &[0x12, 1, 0x00, 0, 255, 0],
    &[0x12, 1, 0x80, 0, 255, 0],
    &[0x12, 1, 0x83, 0, 255, 0],
    &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x08, 0, 0],
    &[0x00, 0, 0, 0, 0, 0],
    &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
    &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0x12, 1, 0xb0, 0, 64, 0],
    &[0x12, 1, 0xb1, 0, 64, 0],
    &[0x12, 1, 0xb2, 0, 255, 0],
    &[0x1a, 0, 0x3f, 0, 4, 0],
    &[0x1a, 0, 0x3f, 0, 192, 0],
    &[0x1a, 0x08, 0x08, 0, 4, 0],
    &[0x5a, 0x08, 0x08, 0, 0, 0, 0, 0, 64, 0],
    &[0xa3, 0x0c, 1, 0x93, 0, 0, 0, 0, 0, 64, 0, 0],
    &[0xa3, 0x0c, 3, 0x9e, 0, 0x12, 0, 0, 0, 64, 0, 0],
    &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0],
    &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0],
    &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

/// Windows: classpnp, disk and the partition manager.
const WINDOWS: &[&[u8]] = &[
    &[0x12, 1, 0x00, 0, 4, 0],
    &[0x12, 1, 0xb0, 0, 64, 0],
    &[0x12, 1, 0xb2, 0, 255, 0],
    &[0x1a, 0, 0x08, 0, 192, 0],
    &[0x1a, 0, 0x1c, 0, 192, 0],
    &[0x1a, 0x08, 0x3f, 0, 192, 0],
    &[0x2f, 0, 0, 0, 0, 0, 0, 0, 128, 0],
    &[0x1b, 0, 0, 0, 1, 0],
    &[0x03, 0, 0, 0, 18, 0],
    &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
    &[0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0],
];

/// QEMU's block driver over libiscsi.
const QEMU: &[&[u8]] = &[
    &[0x12, 0, 0, 0, 255, 0],
    &[0x1a, 0, 0x3f, 0, 255, 0],
    &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0],
    &[0x12, 1, 0xb0, 0, 255, 0],
];

#[test]
fn every_probe_is_answered() {
    for (host, cdbs) in [("Linux", LINUX), ("Windows", WINDOWS), ("QEMU", QEMU)] {
        let mut disk = Disk::new();
        for cdb in cdbs {
            let completion = disk.of(A, cdb, &[]);
            assert!(completion.sense.is_empty(), "{host} {cdb:02x?}: {:02x?}", completion.sense);
        }
    }
}

/// What they try and can do without: refused in the way they expect, so that they go on.
#[test]
fn probes_for_what_is_not_there_end_as_hosts_expect() {
    let mut disk = Disk::new();
    let opcode = AdditionalSense::INVALID_OPERATION_CODE;
    let field = AdditionalSense::INVALID_FIELD_IN_CDB;
    let probes: [(&str, &[u8], AdditionalSense); 5] = [
        ("ata_id: ATA PASS-THROUGH(16)", &[0x85, 8, 0x0e, 0, 0, 0, 1], opcode),
        ("ata_id: ATA PASS-THROUGH(12)", &[0xa1, 8, 0x0e, 1], opcode),
        ("smartctl: LOG SENSE of temperatures", &[0x4d, 0, 0x4d, 0, 0, 0, 0, 2, 0, 0], field),
        ("sd: I/O hints", &[0x1a, 0x08, 0x0a, 5, 255, 0], field),
        ("sd: referrals", &[0x12, 1, 0xb3, 0, 255, 0], field),
    ];
    for (who, cdb, additional) in probes {
        let info = disk.bad(cdb, &[]);
        assert_eq!((info.key, info.additional), (5, additional), "{who}");
    }
}

/// fstrim and mkfs of Linux: UNMAP of one extent, WRITE SAME(16) of zeroes with UNMAP.
#[test]
fn trim_frees_as_linux_sends_it() {
    let mut disk = Disk::new();
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&64_u64.to_be_bytes());
    list.extend_from_slice(&128_u32.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    disk.good(&[0x2a, 0, 0, 0, 0, 64, 0, 0, 128, 0], &[0x5a; 128 * 512]);
    disk.good(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list);
    let read = [0x28, 0, 0, 0, 0, 64, 0, 0, 128, 0];
    assert_eq!(disk.good(&read, &[]), [0; 128 * 512]);
    disk.good(&[0x2a, 0, 0, 0, 0, 64, 0, 0, 128, 0], &[0x5a; 128 * 512]);
    disk.good(&[0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 128, 0, 0], &[0; 512]);
    assert_eq!(disk.good(&read, &[]), [0; 128 * 512]);
}
