//! MODE SENSE and MODE SELECT (SPC-4 6.9 to 6.12, 7.5; SBC-3 6.5).

use scsi::{AdditionalSense, BlockSize, Durability, LogicalUnitConfig, MediaCommand, SenseKey, Status};

use crate::harness::{A, B, BLOCKS, Disk, SenseInfo, cdb, config, durability, identity, pattern};

const DBD: u8 = 0x08;
const RECOVERY: u8 = 0x01;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const EXCEPTIONS: u8 = 0x1c;
const ALL: u8 = 0x3f;
const CURRENT: u8 = 0x00;
const CHANGEABLE: u8 = 0x40;
const DEFAULT: u8 = 0x80;
const SAVED: u8 = 0xc0;

fn sense_6(flags: u8, page: u8) -> [u8; 6] {
    [0x1a, flags, page, 0, 255, 0]
}

fn sense_10(flags: u8, page: u8) -> [u8; 10] {
    [0x5a, flags, page, 0, 0, 0, 0, 2, 0, 0]
}

/// The pages of a MODE SENSE(6) without block descriptor.
fn pages(disk: &mut Disk, page: u8) -> Vec<u8> {
    let data = disk.good(&sense_6(DBD, page), &[]);
    assert_eq!(usize::from(data[0]) + 1, data.len());
    assert_eq!(data[3], 0);
    data[4..].to_vec()
}

fn select_6(list: &[u8]) -> [u8; 6] {
    [0x15, 0x10, 0, 0, u8::try_from(list.len()).unwrap(), 0]
}

fn select_10(list: &[u8]) -> [u8; 10] {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    [0x55, 0x10, 0, 0, 0, 0, 0, high, low, 0]
}

/// A MODE SELECT(6) list of `pages`.
fn list(pages: &[u8]) -> Vec<u8> {
    [&[0; 4][..], pages].concat()
}

/// The control page with SWP or D_SENSE.
fn control(swp: bool, d_sense: bool) -> Vec<u8> {
    vec![CONTROL, 10, 0x02 | u8::from(d_sense) << 2, 0x10, u8::from(swp) << 3, 0, 0, 0, 0, 0, 0, 0]
}

fn select(disk: &mut Disk, pages: &[u8]) {
    let list = list(pages);
    disk.good(&select_6(&list), &list);
}

#[test]
fn every_page_alone_and_all_together() {
    let mut disk = Disk::new();
    let all = pages(&mut disk, ALL);
    let each: Vec<u8> =
        [RECOVERY, CACHING, CONTROL, EXCEPTIONS].iter().flat_map(|page| pages(&mut disk, *page)).collect();
    assert_eq!(all, each);
    let provisioning = disk.good(&[0x1a, DBD, EXCEPTIONS, 2, 255, 0], &[])[4..].to_vec();
    assert_eq!((provisioning.len(), &provisioning[..4]), (32, &[0x40 | EXCEPTIONS, 2, 0, 28][..]));
    for page in [RECOVERY, CACHING, CONTROL, EXCEPTIONS, ALL] {
        // Subpage FFh: all subpages, which only one page has beside 00h.
        let with_subpages = disk.good(&[0x1a, DBD, page, 0xff, 255, 0], &[])[4..].to_vec();
        let subpages = if page == EXCEPTIONS || page == ALL { &provisioning[..] } else { &[] };
        assert_eq!(with_subpages, [&pages(&mut disk, page), subpages].concat());
        for subpage in [1, 3, 0xfe] {
            let cdb = [0x1a, DBD, page, subpage, 255, 0];
            let info = disk.illegal(&cdb, &[], AdditionalSense::INVALID_FIELD_IN_CDB);
            assert_eq!(info.field, Some((true, 3, None)));
        }
    }
}

#[test]
fn other_pages_do_not_exist() {
    let mut disk = Disk::new();
    for page in (0..ALL).filter(|page| ![RECOVERY, CACHING, CONTROL, EXCEPTIONS].contains(page)) {
        let info = disk.illegal(&sense_6(0, page), &[], AdditionalSense::INVALID_FIELD_IN_CDB);
        assert_eq!(info.field, Some((true, 2, Some(5))));
    }
}

#[test]
fn nothing_is_saved_and_nothing_can_be() {
    let mut disk = Disk::new();
    disk.illegal(&sense_6(0, SAVED | ALL), &[], AdditionalSense::SAVING_NOT_SUPPORTED);
    disk.illegal(&sense_10(0, SAVED | CACHING), &[], AdditionalSense::SAVING_NOT_SUPPORTED);
    let list = list(&control(false, false));
    let mut save = select_6(&list);
    save[1] |= 1;
    disk.illegal(&save, &list, AdditionalSense::INVALID_FIELD_IN_CDB);
    let all = pages(&mut disk, ALL);
    assert!([0, 12, 32, 44].iter().all(|at| all[*at] & 0x80 == 0), "PS");
}

#[test]
fn the_control_page_holds_legal_values() {
    let page = pages(&mut Disk::new(), CONTROL);
    assert_eq!(page, control(false, false));
    assert_eq!(pages(&mut Disk::new(), CHANGEABLE | CONTROL), [CONTROL, 10, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn headers_tell_write_protection_and_dpo_fua() {
    let mut disk = Disk::new();
    assert_eq!(disk.good(&sense_6(0, ALL), &[])[2], 0x10);
    assert_eq!(disk.good(&sense_10(0, ALL), &[])[3], 0x10);
    disk.unit.set_read_only(true);
    assert_eq!(disk.told(A), Some(AdditionalSense::MODE_PARAMETERS_CHANGED));
    assert_eq!(disk.good(&sense_6(0, ALL), &[])[2], 0x90);
    assert_eq!(disk.good(&sense_10(0, ALL), &[])[3], 0x90);
    disk.unit.set_read_only(false);
    disk.told(A);
    disk.unit.set_nexus_read_only(A, true);
    disk.told(A);
    assert_eq!(disk.good(&sense_6(0, ALL), &[])[2], 0x90);
    assert_eq!(disk.of(B, &sense_6(0, ALL), &[]).status, Status::CheckCondition, "told of the first change");
    disk.told(B);
    assert_eq!(disk.of(B, &sense_6(0, ALL), &[]).data_in.concat()[2], 0x10);
}

#[test]
fn block_descriptors_come_short_long_or_not_at_all() {
    let blocks = u32::try_from(BLOCKS).unwrap().to_be_bytes();
    let mut disk = Disk::new();
    let six = disk.good(&sense_6(0, CACHING), &[]);
    assert_eq!((six[3], &six[4..12]), (8, &[&blocks[..], &[0, 0, 2, 0]].concat()[..]));
    let ten = disk.good(&sense_10(0, CACHING), &[]);
    assert_eq!(ten[..8], [0, 6 + 8 + 20, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(ten[8..], six[4..]);
    let none = disk.good(&sense_10(DBD, CACHING), &[]);
    assert_eq!((&none[..8], none.len()), (&[0, 6 + 20, 0, 0x10, 0, 0, 0, 0][..], 28));
    let long = disk.good(&sense_10(0x10, CACHING), &[]);
    assert_eq!(long[..8], [0, 6 + 16 + 20, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(long[8..24], [0, 0, 0, 0, blocks[0], blocks[1], blocks[2], blocks[3], 0, 0, 0, 0, 0, 0, 2, 0]);
    let mut large = Disk::with(LogicalUnitConfig::new(identity(), BlockSize::B4096, 1 << 40));
    assert_eq!(large.good(&sense_6(0, CACHING), &[])[4..12], [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
}

#[test]
fn sense_data_are_cut_to_any_allocation_length() {
    let mut disk = Disk::new();
    let whole = disk.good(&sense_6(0, ALL), &[]);
    for len in 0..=255 {
        let data = disk.good(&[0x1a, 0, ALL, 0, len, 0], &[]);
        assert_eq!(data, whole[..whole.len().min(len.into())]);
    }
}

/// libiscsi's ModeSense6.Control-SWP.
#[test]
fn software_write_protect_protects() {
    let mut disk = Disk::new();
    select(&mut disk, &control(true, false));
    assert_eq!(pages(&mut disk, CONTROL), control(true, false));
    assert_eq!(disk.good(&sense_6(0, ALL), &[])[2], 0x90);
    let info = disk.bad(&cdb(0x2a, 0, 0, 1), &pattern(1));
    let wanted = (SenseKey::DataProtect.code(), AdditionalSense::SOFTWARE_WRITE_PROTECTED);
    assert_eq!((info.key, info.additional), wanted);
    disk.good(&cdb(0x28, 0, 0, 1), &[]);
    select(&mut disk, &control(false, false));
    disk.good(&cdb(0x2a, 0, 0, 1), &pattern(1));
}

#[test]
fn descriptor_sense_changes_every_nexus_s_sense() {
    let mut disk = Disk::new();
    let fixed = disk.run(&cdb(0x88, 0, u64::MAX, 1), &[]).sense;
    assert_eq!(fixed[0], 0x70);
    select(&mut disk, &control(false, true));
    let descriptor = disk.run(&cdb(0x88, 0, u64::MAX, 1), &[]).sense;
    assert_eq!(descriptor[0], 0x72);
    assert_eq!(SenseInfo::parse(&fixed), SenseInfo::parse(&descriptor));
    assert_eq!(disk.of(B, &[0x12, 0, 9, 0, 0, 0], &[]).sense[0], 0x72);
}

#[test]
fn others_are_told_of_a_change_and_only_of_a_change() {
    let mut disk = Disk::new();
    select(&mut disk, &control(false, false));
    assert_eq!(disk.told(B), None);
    select(&mut disk, &control(true, false));
    assert_eq!(disk.told(A), None);
    assert_eq!(disk.told(B), Some(AdditionalSense::MODE_PARAMETERS_CHANGED));
    assert_eq!(disk.told(B), None);
}

#[test]
fn the_write_cache_can_be_switched_off_where_there_is_one() {
    let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
    assert_eq!(pages(&mut disk, CACHING)[2], 0x04);
    assert_eq!(pages(&mut disk, CHANGEABLE | CACHING)[2], 0x04);
    let mut off = pages(&mut disk, CACHING);
    off[2] = 0;
    select(&mut disk, &off);
    let flush = MediaCommand::Flush { offset: 0, len: BLOCKS * 512 };
    assert_eq!(disk.medium.log, [flush], "what was cached is made stable first (SBC-3 6.5.5)");
    assert_eq!(pages(&mut disk, CACHING)[2], 0);
    assert_eq!(pages(&mut disk, DEFAULT | CACHING)[2], 0x04);
    assert_eq!(durability(&disk.asks(&cdb(0x2a, 0, 0, 1), &pattern(1))), Durability::Stable);
    let mut on = off;
    on[2] = 0x04;
    select(&mut disk, &on);
    assert_eq!(durability(&disk.asks(&cdb(0x2a, 0, 0, 1), &pattern(1))), Durability::Cached);
}

#[test]
fn a_write_cache_that_is_not_there_cannot_be_switched_on() {
    let mut disk = Disk::new();
    assert_eq!(pages(&mut disk, CACHING)[2], 0);
    assert_eq!(pages(&mut disk, CHANGEABLE | CACHING)[2..], [0; 18]);
    let mut on = pages(&mut disk, CACHING);
    on[2] = 0x04;
    let list = list(&on);
    let info = disk.illegal(&select_6(&list), &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
    assert_eq!(info.field, Some((false, 4 + 2, None)));
}

/// SPC-4 6.9: a value that cannot be changed is an error, bit by bit, and then nothing changes.
#[test]
fn only_changeable_bits_change() {
    for code in [CACHING, CONTROL, EXCEPTIONS] {
        let mut disk = Disk::with(LogicalUnitConfig { write_cache: true, ..config() });
        let current = pages(&mut disk, code);
        let mask = pages(&mut disk, CHANGEABLE | code);
        for byte in 2..current.len() {
            for bit in 0..8 {
                let mut page = current.clone();
                page[byte] ^= 1 << bit;
                // A good page before it must not take effect either.
                let list = list(&[control(true, true), page].concat());
                let allowed = mask[byte] & 1 << bit != 0;
                if !allowed && code != CONTROL {
                    let info = disk.illegal(
                        &select_6(&list),
                        &list,
                        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST,
                    );
                    assert_eq!(info.field, Some((false, u16::try_from(16 + byte).unwrap(), None)));
                    assert_eq!(pages(&mut disk, CONTROL), control(false, false));
                } else if !allowed {
                    let _ = disk.bad(&select_6(&list), &list);
                    assert_eq!(pages(&mut disk, CONTROL), control(false, false));
                }
            }
        }
        select(&mut disk, &current);
    }
}

#[test]
fn a_cut_list_is_refused() {
    let mut disk = Disk::new();
    let whole = list(&control(true, true));
    for len in 1..whole.len() {
        if len == 4 {
            continue;
        }
        let part = &whole[..len];
        disk.illegal(&select_6(part), part, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }
    disk.good(&select_6(&[]), &[]);
    disk.good(&select_6(&whole[..4]), &whole[..4]);
    assert_eq!(pages(&mut disk, CONTROL), control(false, false));
}

#[test]
fn pages_have_to_be_ours() {
    let mut disk = Disk::new();
    let invalid = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    // Unknown page, subpage format, wrong length.
    for (page, at) in [(vec![0x02, 0x0e], 4), (vec![0x4a, 0x05, 0, 4], 4), (vec![CONTROL, 0x0b], 5)] {
        let mut page = page;
        page.resize(20, 0);
        let list = list(&page);
        let info = disk.illegal(&select_6(&list), &list, invalid);
        assert_eq!(info.field.map(|field| (field.0, field.1)), Some((false, at)));
    }
    // PF clear: vendor-specific.
    let list = list(&control(true, false));
    let mut vendor = select_6(&list);
    vendor[1] = 0;
    disk.illegal(&vendor, &list, AdditionalSense::INVALID_FIELD_IN_CDB);
    // PS comes back from MODE SENSE on other disks; hosts do not always clear it.
    let mut page = control(true, false);
    page[0] |= 0x80;
    select(&mut disk, &page);
    assert_eq!(pages(&mut disk, CONTROL), control(true, false));
}

#[test]
fn block_descriptors_may_only_say_what_is() {
    let mut disk = Disk::new();
    let page = control(true, false);
    for (flags, long) in [(0, false), (0x10, true)] {
        let sensed = disk.good(&sense_10(flags, CONTROL), &[]);
        let len = if long { 16 } else { 8 };
        let mut list = vec![0, 0, 0, 0, u8::from(long), 0, 0, len];
        list.extend_from_slice(&sensed[8..8 + usize::from(len)]);
        list.extend_from_slice(&page);
        disk.good(&select_10(&list), &list);
        let blocks_len = if long { 8 } else { 4 };
        list[8..8 + blocks_len].fill(0);
        disk.good(&select_10(&list), &list);
        list[8 + blocks_len - 1] = 1;
        let info = disk.illegal(&select_10(&list), &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(info.field, Some((false, 8, None)));
        list[7] = 7;
        let info = disk.illegal(&select_10(&list), &list, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST);
        assert_eq!(info.field, Some((false, 6, None)));
    }
    let block_size_4096 = [&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x10, 0][..], &page].concat();
    let info = disk.illegal(
        &select_6(&block_size_4096),
        &block_size_4096,
        AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST,
    );
    assert_eq!(info.field, Some((false, 4, None)));
}

#[test]
fn both_sizes_select_the_same() {
    let mut disk = Disk::new();
    let list = [&[0; 8][..], &control(true, true)].concat();
    disk.good(&select_10(&list), &list);
    assert_eq!(pages(&mut disk, CONTROL), control(true, true));
    assert_eq!(pages(&mut disk, DEFAULT | CONTROL), control(false, false));
    assert_eq!(pages(&mut disk, CURRENT | CONTROL), control(true, true));
}

#[test]
fn a_reset_brings_defaults_back() {
    let mut disk = Disk::new();
    select(&mut disk, &control(true, true));
    disk.unit.reset();
    assert_eq!(disk.told(A), Some(AdditionalSense::BUS_DEVICE_RESET));
    assert_eq!(pages(&mut disk, CONTROL), control(false, false));
}
