//! Logical block provisioning thresholds: log page 0Ch (SBC-3 6.4.4), mode pages 1Ch/02h (6.5.9) and 01h (6.5.8),
//! and the unit attention (4.7.3.7.6). What HLK's thin provisioning tests read is asserted byte by byte.

use scsi::{AdditionalSense, BlockSize, LogicalUnitConfig, Resources, SpaceWarning, Status};

use crate::harness::{A, B, Disk, SenseInfo, TEST_UNIT_READY, config, identity};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TOLD: Option<AdditionalSense> = Some(AdditionalSense::SOFT_THRESHOLD_REACHED);
const CHANGED: Option<AdditionalSense> = Some(AdditionalSense::MODE_PARAMETERS_CHANGED);

/// Of a pool of 10 GiB, `available` MiB are left, and `used` the volume's.
fn space(available: u64, used: u64) -> Resources {
    Resources { pool_bytes: 10 * GIB, available_bytes: available * MIB, used_bytes: used * MIB }
}

/// A thin disk of 1 GiB that warns when its pool is 80 % full, or itself 50 %.
fn warned() -> Disk {
    let mut disk = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B512, GIB / 512));
    disk.unit.set_space_warning(SpaceWarning { pool_used_percent: Some(80), volume_used_percent: Some(50) });
    disk.unit.resources_changed(space(9000, 10));
    while disk.told(A).is_some() || disk.told(B).is_some() {}
    disk
}

fn log_sense(page: u8, subpage: u8, pointer: u16, len: u16) -> [u8; 10] {
    let ([p0, p1], [l0, l1]) = (pointer.to_be_bytes(), len.to_be_bytes());
    [0x4d, 0, 0x40 | page, subpage, 0, p0, p1, l0, l1, 0]
}

/// The Logical Block Provisioning mode page by MODE SENSE(10), `control` being PC.
fn page(disk: &mut Disk, control: u8) -> Vec<u8> {
    disk.good(&[0x5a, 0x08, control << 6 | 0x1c, 0x02, 0, 0, 0, 1, 0, 0], &[])[8..].to_vec()
}

fn select(disk: &mut Disk, page: &[u8]) {
    let list = [&[0; 8][..], page].concat();
    let len = u8::try_from(list.len()).unwrap();
    disk.good(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, len, 0], &list);
}

/// What `id` hears, and the INFORMATION of it.
fn heard(disk: &mut Disk, id: scsi::NexusId) -> Option<(AdditionalSense, Option<u64>)> {
    let completion = disk.of(id, &TEST_UNIT_READY, &[]);
    (completion.status == Status::CheckCondition).then(|| {
        let info = SenseInfo::of(&completion);
        (info.additional, info.information)
    })
}

#[test]
fn spc_4_7_3_17_supported_log_pages() {
    let mut disk = Disk::new();
    assert_eq!(disk.good(&log_sense(0, 0, 0, 255), &[]), [0, 0, 0, 2, 0x00, 0x0c]);
    assert_eq!(disk.good(&log_sense(0, 0xff, 0, 255), &[]), [0x40, 0xff, 0, 6, 0, 0, 0, 0xff, 0x0c, 0]);
    let mut thick = Disk::with(LogicalUnitConfig { thin: false, ..config() });
    assert_eq!(thick.good(&log_sense(0, 0, 0, 255), &[]), [0, 0, 0, 1, 0]);
    assert_eq!(thick.good(&log_sense(0, 0xff, 0, 255), &[]), [0x40, 0xff, 0, 4, 0, 0, 0, 0xff]);
    thick.illegal(&log_sense(0x0c, 0, 0, 255), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

#[test]
fn sbc_3_6_4_4_log_page_as_hlk_reads_it() {
    let mut disk = Disk::new();
    // 100.5 MiB left is 100 whole sets, 3 MiB and a byte take a fourth.
    disk.medium.resources =
        Some(Resources { pool_bytes: GIB, available_bytes: 100 * MIB + MIB / 2, used_bytes: 3 * MIB + 1 });
    let data = disk.good(&log_sense(0x0c, 0, 0, 255), &[]);
    // DS, not SPF, subpage 0; length a multiple of 12.
    assert_eq!(data[..4], [0x8c, 0, 0, 24]);
    // Code, FORMAT AND LINKING 3, PARAMETER LENGTH 8, count, scope.
    assert_eq!(data[4..16], [0, 1, 3, 8, 0, 0, 0, 100, 2, 0, 0, 0]);
    assert_eq!(data[16..], [0, 2, 3, 8, 0, 0, 0, 4, 1, 0, 0, 0]);
    // Sets are those of VPD page B2h.
    let vpd = disk.good(&[0x12, 1, 0xb2, 0, 255, 0], &[]);
    assert_eq!(vpd, [0, 0xb2, 0, 4, 11, 0xe4, 2, 0]);
    assert_eq!(512_u64 << vpd[4], MIB);
    let mut large = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 1 << 20));
    assert_eq!(large.good(&[0x12, 1, 0xb2, 0, 255, 0], &[])[4], 8);
}

#[test]
fn spc_4_6_6_parameter_pointer_and_allocation_length() {
    let mut disk = Disk::new();
    disk.medium.resources = Some(space(5, 6));
    let whole = disk.good(&log_sense(0x0c, 0, 1, 255), &[]);
    assert_eq!(whole.len(), 28);
    let second = disk.good(&log_sense(0x0c, 0, 2, 255), &[]);
    assert_eq!((second.len(), &second[..6]), (16, &[0x8c, 0, 0, 12, 0, 2][..]));
    for len in 0..=28 {
        assert_eq!(disk.good(&log_sense(0x0c, 0, 0, len), &[]), whole[..usize::from(len)]);
    }
    let info = disk.illegal(&log_sense(0x0c, 0, 3, 255), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 5, None)));
    disk.illegal(&log_sense(0, 0, 1, 255), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
}

#[test]
fn log_sense_refuses_what_it_does_not_have() {
    let mut disk = Disk::new();
    let info = disk.illegal(&log_sense(0x0d, 0, 0, 255), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 2, Some(5))));
    let info = disk.illegal(&log_sense(0x0c, 0xff, 0, 255), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(info.field, Some((true, 3, None)));
    // SP: nothing is saved; PPC: nothing is remembered.
    for flag in [1, 2] {
        let mut cdb = log_sense(0x0c, 0, 0, 255);
        cdb[1] = flag;
        disk.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    }
    // Who does not know how much there is says so.
    assert_eq!(disk.good(&log_sense(0x0c, 0, 2, 255), &[])[4..], [0, 2, 3, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sbc_3_6_5_9_mode_page_follows_the_administrator() {
    let mut disk = warned();
    let current = page(&mut disk, 0);
    assert_eq!(current[..16], [0x5c, 2, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Enabled, decreasing, resource 1: 20 % of 10 GiB; increasing, resource 2: half of 1 GiB.
    assert_eq!(current[16..24], [0x80, 1, 0, 0, 0, 0, 8, 0]);
    assert_eq!(current[24..], [0x81, 2, 0, 0, 0, 0, 2, 0]);
    assert_eq!(page(&mut disk, 2), current, "defaults");
    let mask = page(&mut disk, 1);
    assert_eq!(mask[4..16], [0; 12]);
    assert_eq!(mask[16..24], [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(mask[24..], mask[16..24]);
    let mut none = Disk::new();
    assert_eq!(page(&mut none, 0)[16..], [0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
    let mut thick = Disk::with(LogicalUnitConfig { thin: false, ..config() });
    let cdb = [0x1a, 0x08, 0x1c, 0x02, 255, 0];
    thick.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(thick.good(&[0x1a, 0x08, 0x41, 0, 255, 0], &[])[4..], [1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn sbc_3_4_7_3_7_every_nexus_is_told_once_with_the_descriptor() {
    let mut disk = warned();
    disk.unit.resources_changed(space(2049, 10));
    assert_eq!(disk.told(A), None);
    disk.unit.resources_changed(space(2047, 10));
    for id in [A, B] {
        assert_eq!(heard(&mut disk, id), Some((AdditionalSense::SOFT_THRESHOLD_REACHED, Some(16))));
        assert_eq!(disk.told(id), None);
    }
    // To and fro across the center, and further on: nothing new.
    for available in [2048, 2047, 1000, 2048, 0] {
        disk.unit.resources_changed(space(available, 10));
        assert_eq!(disk.told(A), None, "{available}");
    }
    // Well again, and once more short.
    disk.unit.resources_changed(space(3000, 10));
    assert_eq!(disk.told(A), None);
    disk.unit.resources_changed(space(2000, 10));
    assert_eq!((disk.told(A), disk.told(B)), (TOLD, TOLD));
}

#[test]
fn the_volume_s_own_space_has_a_threshold_of_its_own() {
    let mut disk = warned();
    disk.unit.resources_changed(space(9000, 512));
    assert_eq!(disk.told(A), None, "inside the range");
    disk.unit.resources_changed(space(9000, 513));
    assert_eq!(heard(&mut disk, A), Some((AdditionalSense::SOFT_THRESHOLD_REACHED, Some(24))));
    disk.unit.resources_changed(space(2000, 514));
    assert_eq!(heard(&mut disk, A), Some((AdditionalSense::SOFT_THRESHOLD_REACHED, Some(16))));
    // B hears of both, the pool's first.
    assert_eq!(heard(&mut disk, B).unwrap().1, Some(16));
    assert_eq!(heard(&mut disk, B).unwrap().1, Some(24));
    assert_eq!(disk.told(B), None);
}

#[test]
fn a_host_sets_a_threshold_and_hears_of_it() {
    let mut disk = warned();
    let mut mine = page(&mut disk, 0);
    mine[16] = 0x80;
    mine[20..24].copy_from_slice(&5000_u32.to_be_bytes());
    mine[24] = 0x01;
    select(&mut disk, &mine);
    assert_eq!(page(&mut disk, 0), mine);
    assert_eq!(disk.told(B), CHANGED);
    disk.unit.resources_changed(space(4000, 800));
    assert_eq!((heard(&mut disk, A).unwrap().1, disk.told(A)), (Some(16), None), "the other one is disabled");
    // Set to what is passed already: told at once, to those who hear of the change, too.
    mine[20..24].copy_from_slice(&4500_u32.to_be_bytes());
    select(&mut disk, &mine);
    assert_eq!(disk.told(A), TOLD);
    // The administrator's word does not take a host's away, but is the default again after a reset.
    disk.unit.set_space_warning(SpaceWarning { pool_used_percent: Some(90), volume_used_percent: None });
    assert_eq!(page(&mut disk, 0), mine);
    disk.unit.reset();
    assert_eq!(disk.told(A), Some(AdditionalSense::BUS_DEVICE_RESET));
    assert_eq!(page(&mut disk, 0)[16..], [0x80, 1, 0, 0, 0, 0, 4, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_of_the_page_cannot_be_changed_is_refused() {
    let mut disk = warned();
    let good = page(&mut disk, 0);
    // SITUA, type, arming, resource, reserved.
    for (at, bits) in [(4, 1), (16, 0x08), (16, 0x01), (17, 2), (18, 1), (25, 1)] {
        let mut bad = good.clone();
        bad[at] ^= bits;
        let list = [&[0; 8][..], &bad].concat();
        let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, 0, u8::try_from(list.len()).unwrap(), 0];
        let info = disk.illegal(&cdb, &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(info.field, Some((false, u16::try_from(8 + at).unwrap(), None)));
    }
    let mut short = good.clone();
    short[3] = 20;
    let list = [&[0; 8][..], &short].concat();
    let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, 0, u8::try_from(list.len()).unwrap(), 0];
    let info = disk.illegal(&cdb, &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    assert_eq!(info.field, Some((false, 10, None)));
    assert_eq!(page(&mut disk, 0), good);
}

#[test]
fn sbc_3_6_5_8_lbpere_silences_thresholds() {
    let mut disk = warned();
    let recovery = disk.good(&[0x1a, 0x08, 0x01, 0, 255, 0], &[])[4..].to_vec();
    assert_eq!(recovery, [1, 10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0]);
    let silent = [1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    select(&mut disk, &silent);
    assert_eq!(disk.told(B), CHANGED);
    disk.unit.resources_changed(space(100, 900));
    assert_eq!((disk.told(A), disk.told(B)), (None, None));
    select(&mut disk, &recovery);
    assert_eq!((disk.told(A), disk.told(A), disk.told(A)), (TOLD, TOLD, None), "both, as both are reached");
}

#[test]
fn a_larger_pool_moves_the_default_threshold() {
    let mut disk = warned();
    disk.unit.resources_changed(Resources { pool_bytes: 20 * GIB, ..space(9000, 10) });
    assert_eq!((disk.told(A), disk.told(A)), (CHANGED, None));
    assert_eq!(page(&mut disk, 0)[20..24], 4096_u32.to_be_bytes());
    disk.told(B);
    disk.unit.set_space_warning(SpaceWarning::default());
    assert_eq!((disk.told(A), disk.told(B)), (CHANGED, CHANGED));
    disk.unit.resources_changed(space(0, 1024));
    assert_eq!(disk.told(A), None, "nobody wants to be warned");
}

#[test]
fn asking_for_the_log_page_is_a_look_as_well() {
    let mut disk = warned();
    disk.medium.resources = Some(space(2000, 10));
    assert_eq!(disk.good(&log_sense(0x0c, 0, 0, 255), &[])[8..12], 2000_u32.to_be_bytes());
    assert_eq!(disk.told(A), TOLD);
}

#[test]
fn percents_of_any_pool_do_not_overflow() {
    let mut disk = Disk::with(config());
    for percent in [0, 1, 100, 255] {
        disk.unit.set_space_warning(SpaceWarning {
            pool_used_percent: Some(percent),
            volume_used_percent: Some(percent),
        });
        let huge = Resources { pool_bytes: u64::MAX, available_bytes: u64::MAX, used_bytes: u64::MAX };
        disk.unit.resources_changed(huge);
        while disk.told(A).is_some() {}
    }
    disk.medium.resources =
        Some(Resources { pool_bytes: u64::MAX, available_bytes: u64::MAX, used_bytes: u64::MAX });
    assert_eq!(disk.good(&log_sense(0x0c, 0, 0, 255), &[])[8..12], [0xff; 4]);
}
