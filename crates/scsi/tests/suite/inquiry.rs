//! INQUIRY: standard data and vital product data (SPC-4 6.4 and 7.8, SBC-3 6.6).

use scsi::{AdditionalSense, BlockSize, LogicalUnitConfig};

use crate::harness::{A, B, Disk, config, identity, nexus};

fn inquiry(allocation_len: u16) -> Vec<u8> {
    let [high, low] = allocation_len.to_be_bytes();
    vec![0x12, 0, 0, high, low, 0]
}

fn page(disk: &mut Disk, code: u8) -> Vec<u8> {
    let data = disk.good(&[0x12, 1, code, 0xff, 0xff, 0], &[]);
    assert_eq!(data[..2], [0, code]);
    assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])) + 4, data.len());
    data
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn standard_data_describe_a_fixed_disk() {
    let data = Disk::new().good(&inquiry(260), &[]);
    assert_eq!(data.len(), 96);
    assert_eq!(data[0], 0, "connected direct-access device");
    assert_eq!(data[1], 0, "not removable");
    assert_eq!((data[2], data[3] & 0x0f), (6, 2), "SPC-4, response data format 2");
    assert_eq!(data[3] & 0xe0, 0, "no AERC, TrmTsk, NormACA");
    assert_eq!(usize::from(data[4]), data.len() - 5);
    assert_eq!(data[5], 0x38, "TPGS: implicit and explicit; 3PC; no SCCS, ACC, PROTECT");
    assert_eq!(&data[8..36], b"PALISADEvolume          0001");
    let versions: Vec<u64> = data[58..74].chunks(2).map(number).filter(|version| *version != 0).collect();
    assert_eq!(versions, [0x00a0, 0x0960, 0x0460, 0x04c0], "SAM-5, iSCSI, SPC-4, SBC-3");
}

#[test]
fn data_are_cut_to_any_allocation_length() {
    let mut disk = Disk::new();
    let whole = disk.good(&inquiry(u16::MAX), &[]);
    for len in 0..300 {
        let data = disk.good(&inquiry(len), &[]);
        assert_eq!(data, whole[..usize::from(len).min(whole.len())]);
    }
    for code in disk.good(&[0x12, 1, 0, 0, 255, 0], &[])[4..].to_vec() {
        let whole = page(&mut disk, code);
        for len in 0..=255 {
            assert_eq!(disk.good(&[0x12, 1, code, 0, len, 0], &[]), whole[..whole.len().min(len.into())]);
        }
    }
}

#[test]
fn pages_that_are_listed_exist_and_others_do_not() {
    let mut disk = Disk::new();
    let listed = page(&mut disk, 0)[4..].to_vec();
    assert_eq!(listed, [0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2]);
    for code in 0..=255 {
        let cdb = [0x12, 1, code, 0, 255, 0];
        if listed.contains(&code) {
            disk.good(&cdb, &[]);
        } else {
            let info = disk.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
            assert_eq!(info.field, Some((true, 2, None)));
        }
    }
}

/// SPC-4 6.4.1: a page code without EVPD is an error (libiscsi's Inquiry.EVPD).
#[test]
fn a_page_code_needs_evpd() {
    let mut disk = Disk::new();
    for code in 1..=255 {
        disk.illegal(&[0x12, 0, code, 0, 255, 0], &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
}

#[test]
fn the_serial_number_is_the_identity_s() {
    assert_eq!(page(&mut Disk::new(), 0x80)[4..], *b"0123456789abcdef");
}

/// Code set, association, type and value of each designator.
fn designators(data: &[u8]) -> Vec<(u8, u8, u8, Vec<u8>)> {
    let mut rest = &data[4..];
    let mut all = Vec::new();
    while let [first, second, 0, len, ..] = *rest {
        let (value, next) = rest[4..].split_at(len.into());
        if second & 0x80 != 0 {
            assert_eq!(first >> 4, 5, "PIV is set, so the protocol is iSCSI");
        }
        all.push((first & 0x0f, (second >> 4) & 3, second & 0x0f, value.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    all
}

#[test]
fn the_unit_has_one_identity_on_every_path_and_each_path_its_own_port() {
    let mut disk = Disk::new();
    let mut elsewhere = nexus("b");
    elsewhere.target_port.relative_id = 0x0102;
    elsewhere.target_port.portal_group_tag = 0x1f;
    disk.unit.add_nexus(B, elsewhere);
    let cdb = [0x12, 1, 0x83, 1, 0, 0];
    let [here, there] = [A, B].map(|id| designators(&disk.of(id, &cdb, &[]).data_in.concat()));
    let unit = |designators: &[(u8, u8, u8, Vec<u8>)]| -> Vec<_> {
        designators.iter().filter(|designator| designator.1 == 0).cloned().collect()
    };
    assert_eq!(unit(&here), unit(&there));
    assert_eq!(here[0], (1, 0, 3, identity().naa.to_vec()), "NAA first: hosts take the first");
    assert_eq!(here[1], (2, 0, 1, b"PALISADEvolume          0123456789abcdef".to_vec()));
    assert_eq!(there[2], (1, 1, 4, vec![0, 0, 1, 2]), "relative target port");
    assert_eq!(there[3], (1, 1, 5, vec![0, 0, 0, 0x1f]), "target port group");
    assert_eq!(there[4], (3, 1, 8, b"iqn.2026-01.test:volume,t,0x001f\0\0\0\0".to_vec()));
    assert_eq!(there[5], (3, 2, 8, b"iqn.2026-01.test:volume\0".to_vec()));
    assert_eq!(there.len(), 6);
    assert_ne!(here[2], there[2]);
}

#[test]
fn the_longest_iscsi_name_fits() {
    let mut disk = Disk::new();
    let mut long = nexus("b");
    long.target_port.target_name = format!("iqn.2026-01.test:{}", "x".repeat(223 - 17));
    disk.unit.add_nexus(B, long);
    let data = disk.of(B, &[0x12, 1, 0x83, 0xff, 0xff, 0], &[]).data_in.concat();
    let designators = designators(&data);
    assert_eq!(designators.len(), 6);
    assert!(designators[4..].iter().all(|designator| designator.3.len() % 4 == 0));
}

#[test]
fn extended_inquiry_claims_simple_tasks_and_tells_of_a_cache() {
    let data = page(&mut Disk::new(), 0x86);
    assert_eq!((data.len(), data[5], data[6]), (64, 0x01, 0));
    assert!(data[7..].iter().all(|byte| *byte == 0));
    let cached = page(&mut Disk::with(LogicalUnitConfig { write_cache: true, ..config() }), 0x86);
    assert_eq!(cached[6], 0x01, "V_SUP");
}

#[test]
fn block_limits_count_blocks() {
    for (block_size, factor) in [(BlockSize::B512, 512), (BlockSize::B4096, 4096)] {
        let config = LogicalUnitConfig::new(identity(), block_size, 10_000);
        let limits = config.limits;
        let data = page(&mut Disk::with(config), 0xb0);
        assert_eq!(data.len(), 64, "SBC-3 page length 3Ch");
        assert_eq!(data[4], 1, "WSNZ");
        assert_eq!(u32::from(data[5]) * factor, limits.compare_and_write_bytes_max);
        assert_eq!(number(&data[6..8]) * u64::from(factor), 4096, "granularity: a physical block");
        assert_eq!(number(&data[8..12]) * u64::from(factor), limits.transfer_bytes_max.into());
        assert_eq!(number(&data[12..16]) * u64::from(factor), limits.transfer_bytes_optimal.into());
        assert_eq!(number(&data[20..24]) * u64::from(factor), limits.unmap_bytes_max);
        assert_eq!(number(&data[24..28]), limits.unmap_descriptors_max.into());
        // Windows 11 stops trimming below 32 KiB.
        assert_eq!(number(&data[28..32]) * u64::from(factor), 32 << 10);
        assert_eq!(number(&data[32..36]), 1 << 31, "UGAVALID, alignment 0");
        assert_eq!(number(&data[36..44]) * u64::from(factor), limits.write_same_bytes_max);
        assert!(data[44..].iter().all(|byte| *byte == 0), "no atomic writes");
    }
}

/// libiscsi calls more than 2^20 blocks insane, and with WRITE SAME allowed for 65536 blocks would send them
/// in one WRITE.
#[test]
fn default_limits_are_ones_test_suites_take() {
    let data = page(&mut Disk::new(), 0xb0);
    assert!((8..=1 << 20).contains(&number(&data[20..24])));
    assert!(number(&data[36..44]) < 65_536 || number(&data[8..12]) >= 65_536);
}

#[test]
fn the_compare_and_write_limit_is_a_byte() {
    let mut config = config();
    config.limits.compare_and_write_bytes_max = 1 << 20;
    assert_eq!(page(&mut Disk::with(config), 0xb0)[5], 255);
}

#[test]
fn the_disk_does_not_rotate_and_is_thin() {
    let mut disk = Disk::new();
    let characteristics = page(&mut disk, 0xb1);
    assert_eq!((characteristics.len(), number(&characteristics[4..6])), (64, 1));
    let provisioning = page(&mut disk, 0xb2);
    assert_eq!(
        provisioning,
        [0, 0xb2, 0, 4, 11, 0xe4, 2, 0],
        "LBPU LBPWS LBPWS10 LBPRZ, thin, sets of 2^11 blocks"
    );
}
