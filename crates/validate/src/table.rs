//! The table of checks: everything that runs is here, once.

use crate::check::Need::{Nexuses, OtherUnit, Paths, Reservations, Scratch};
use crate::check::{Check, Group, Need};
use crate::checks::{
    atomic, cluster, commands, copy, identity, iscsi, paths, preemption, provisioning, registration, token,
    types, writing,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What checks of reservations need at least.
const PAIR: &[Need] = &[Reservations, Nexuses(2)];
const THREE: &[Need] = &[Reservations, Nexuses(3)];

macro_rules! checks {
    ($($group:ident $id:literal $(($required:ident))? [$needs:expr] $title:literal, $clause:literal => $action:path;)*) => {
        /// Every check, in the order in which they run.
        pub static CHECKS: &[Check] = &[$(Check {
            id: $id,
            group: Group::$group,
            title: $title,
            clause: $clause,
            needs: $needs,
            required: checks!(@required $($required)?),
            action: |scene| Box::pin($action(scene)),
        },)*];
    };
    (@required required) => { true };
    (@required) => { false };
}

checks! {
    Identity "identity.inquiry" (required) [&[]] "every path is the same disk",
        "SPC-4 INQUIRY, standard INQUIRY data" => identity::inquiry;
    Identity "identity.vpd-list" (required) [&[]] "the VPD pages listed are there",
        "SPC-4 Supported VPD Pages VPD page" => identity::page_list;
    Identity "identity.serial" (required) [&[]] "a serial number, the same on every path",
        "SPC-4 Unit Serial Number VPD page" => identity::serial;
    Identity "identity.names" (required) [&[]] "a unique name that clusters and multipath take",
        "SPC-4 7.8.6 Device Identification; Validate SCSI device Vital Product Data" => identity::names;
    Identity "identity.coherence" (required) [&[]] "device identification differs in port fields only",
        "SPC-4 7.8.6 Device Identification; tcmu-runner#452" => identity::coherence;
    Identity "identity.capacity" (required) [&[]] "both READ CAPACITY agree on every path",
        "SBC-3 5.15 and 5.16" => identity::sizes;
    Identity "identity.physical-block" [&[]] "physical blocks are reported (512e)",
        "SBC-3 5.16.2, LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT" => identity::physical_blocks;
    Identity "identity.block-limits" [&[]] "block limits that can be meant",
        "SBC-3 6.6.3 Block Limits" => identity::limits;
    Identity "identity.lun-list" (required) [&[]] "the unit is in REPORT LUNS",
        "SPC-4 6.33" => identity::lun_list;

    Paths "paths.tpgs" [&[]] "INQUIRY and REPORT TARGET PORT GROUPS agree on ALUA",
        "SPC-4 INQUIRY, TPGS field" => paths::tpgs;
    Paths "paths.same-groups" [&[Paths(2)]] "REPORT TARGET PORT GROUPS is the same on every path",
        "SPC-4 REPORT TARGET PORT GROUPS; tcmu-runner#452" => paths::same_groups;
    Paths "paths.sound-groups" [&[]] "target port groups make sense",
        "SPC-4 REPORT TARGET PORT GROUPS, asymmetric access states" => paths::sound_groups;
    Paths "paths.listed-ports" [&[]] "each path's port and group are among those reported",
        "SPC-4 7.8.6 Device Identification, target port group and relative target port" => paths::listed_ports;
    Paths "paths.states" [&[]] "each path does what the state of its group says",
        "SPC-4 5.15.2 Asymmetric access states" => paths::states;
    Paths "paths.distinct-ports" [&[]] "relative target port identifiers tell ports apart",
        "SPC-4 7.8.6 Device Identification, relative target port identifier" => paths::distinct_ports;
    Paths "paths.same-data" [&[Paths(2), Scratch(4 * KIB)]] "what one path writes every path reads",
        "SAM-5 4.5" => paths::same_data;

    Commands "commands.consistent" [&[]] "commands reported as supported are",
        "SPC-4 6.35" => commands::consistent;
    Commands "commands.described" [&[]] "each command is described as it is listed",
        "SPC-4 6.35.3" => commands::described;
    Commands "commands.expected" [&[]] "what hosts of today send is supported",
        "SPC-4 6.35; hosts' behaviour" => commands::expected;
    Commands "commands.unknown" (required) [&[]] "a reserved operation code is refused",
        "SPC-4 4.3; INVALID COMMAND OPERATION CODE" => commands::unknown;
    Commands "commands.out-of-range" (required) [&[]] "blocks past the end are refused",
        "SBC-3 4.5; LOGICAL BLOCK ADDRESS OUT OF RANGE" => commands::out_of_range;

    Cluster "cluster.potential-disk" (required) [&[]] "a disk that a cluster takes",
        "Cluster validation: List Potential Cluster Disks" => cluster::potential;
    Cluster "cluster.latency" (required) [&[]] "accesses are answered in time",
        "Cluster validation: Validate Disk Access Latency" => cluster::latency;
    Cluster "cluster.pr-capabilities" (required) [&[]] "all six types of persistent reservation",
        "SPC-4 PERSISTENT RESERVE IN, REPORT CAPABILITIES" => registration::capabilities;
    Cluster "cluster.pr-register" (required) [PAIR] "keys are registered, changed, removed",
        "SPC-4 PERSISTENT RESERVE OUT, REGISTER" => registration::registering;
    Cluster "cluster.pr-reserve-read" (required) [PAIR] "a reservation is read right after it is made",
        "SPC-4 PERSISTENT RESERVE IN, READ RESERVATION; esos#62" => registration::reserving;
    Cluster "cluster.pr-release" (required) [PAIR] "RELEASE, and unit attention 2Ah/04h on every path",
        "SPC-4 Releasing a persistent reservation; scst#155" => registration::releasing;
    Cluster "cluster.pr-types" (required) [THREE] "six types: who may do what",
        "SPC-4 and SBC-3, commands allowed under reservations" => types::matrix;
    Cluster "cluster.pr-unregister" (required) [PAIR] "unregistering the holder releases",
        "SPC-4 Unregistering" => registration::unregistering;
    Cluster "cluster.pr-clear" (required) [PAIR] "CLEAR, and unit attention 2Ah/03h on every path",
        "SPC-4 Clearing a persistent reservation" => registration::clearing;
    Cluster "cluster.pr-preempt" (required) [PAIR] "PREEMPT, and unit attention 2Ah/05h to the victim",
        "SPC-4 Preempting a persistent reservation; scst#155" => preemption::preempting;
    Cluster "cluster.pr-preempt-abort" (required) [PAIR] "PREEMPT AND ABORT does the same",
        "SPC-4 Preempting and aborting" => preemption::aborting;
    Cluster "cluster.pr-preempt-all" (required) [PAIR] "PREEMPT with key 0 takes from all registrants",
        "SPC-4 Preempting, All Registrants" => preemption::all_registrants;
    Cluster "cluster.pr-late-writes" (required) [&[Reservations, Nexuses(2), Scratch(2 * MIB)]]
        "no write of a victim lands after PREEMPT AND ABORT",
        "SPC-4 Preempting and aborting; SAM-5 5.6 Aborting commands" => preemption::late_writes;
    Cluster "cluster.pr-generation" (required) [PAIR] "PRGENERATION counts what it has to",
        "SPC-4 PERSISTENT RESERVE IN, READ KEYS" => registration::generation;
    Cluster "cluster.pr-full-status" [PAIR] "READ FULL STATUS names every initiator port",
        "SPC-4 PERSISTENT RESERVE IN, READ FULL STATUS" => registration::everyone;
    Cluster "cluster.pr-nexus-loss" (required) [PAIR] "registrations outlive sessions",
        "SPC-4 Persistent reservations; SAM-5 6.3.4 I_T nexus loss" => registration::nexus_loss;
    Cluster "cluster.pr-power-loss" [&[Reservations]] "APTPL is taken and reported",
        "SPC-4 PERSISTENT RESERVE OUT, APTPL" => registration::power_loss;
    Cluster "cluster.pr-nonsense" (required) [&[Reservations]] "what makes no sense is refused",
        "SPC-4 PERSISTENT RESERVE OUT" => registration::nonsense;
    Cluster "cluster.spc2-reserve" [PAIR] "RESERVE(6) of old hosts",
        "SPC-2 RESERVE(6) and RELEASE(6); SPC-4 exceptions to them" => types::spc2;
    Cluster "cluster.arbitration" (required) [PAIR] "the owner defends, a challenger takes over",
        "Cluster validation: Validate Disk Arbitration" => preemption::arbitration;
    Cluster "cluster.multiple-arbitration" (required) [THREE] "of many challengers one wins",
        "Cluster validation: Validate Multiple Arbitration" => preemption::many;
    Cluster "cluster.failover" (required) [&[Reservations, Nexuses(2), Scratch(64 * KIB)]]
        "the next owner has the data, the last one is out",
        "Cluster validation: Validate Disk Failover" => cluster::failover;
    Cluster "cluster.simultaneous-failover" (required) [&[Reservations, Nexuses(2), OtherUnit]]
        "all disks move at once",
        "Cluster validation: Validate Simultaneous Failover" => cluster::all_at_once;

    Vaai "vaai.ats-limit" [&[Scratch(KIB)]] "COMPARE AND WRITE is announced and limited",
        "SBC-3 5.2; 6.6.3 MAXIMUM COMPARE AND WRITE LENGTH" => atomic::limit;
    Vaai "vaai.ats-match" [&[Scratch(8 * KIB)]] "COMPARE AND WRITE writes on a match",
        "SBC-3 5.2" => atomic::matching;
    Vaai "vaai.ats-miscompare" [&[Scratch(4 * KIB)]] "a miscompare tells its offset and writes nothing",
        "SBC-3 5.2; MISCOMPARE DURING VERIFY OPERATION" => atomic::different;
    Vaai "vaai.ats-concurrent" [&[Scratch(4 * KIB), Nexuses(2)]] "concurrent heartbeats have one winner",
        "SBC-3 5.2: uninterrupted series of actions" => atomic::concurrent;
    Vaai "vaai.write-same" [&[Scratch(MIB + 8 * KIB)]] "WRITE SAME fills its range and nothing else",
        "SBC-3 5.46 WRITE SAME(16)" => writing::same;
    Vaai "vaai.unmap" [&[Scratch(MIB + 8 * KIB)]] "UNMAP empties its range and nothing else",
        "SBC-3 5.28 and 4.7.3" => provisioning::unmap;
    Vaai "vaai.xcopy-parameters" [&[]] "EXTENDED COPY tells its limits",
        "SPC-4 RECEIVE COPY OPERATING PARAMETERS" => copy::parameters;
    Vaai "vaai.xcopy" [&[Scratch(8 * MIB)]] "EXTENDED COPY inside the unit, 4 and 64 MiB",
        "SPC-4 EXTENDED COPY(LID1), block to block segments" => copy::inside;
    Vaai "vaai.xcopy-between" [&[Scratch(4 * MIB), OtherUnit]] "EXTENDED COPY to another unit",
        "SPC-4 EXTENDED COPY(LID1), identification descriptor CSCDs" => copy::between;
    Vaai "vaai.xcopy-refused" [&[Scratch(4 * KIB)]] "copies that cannot be are refused",
        "SPC-4 EXTENDED COPY(LID1), errors" => copy::refused;
    Vaai "vaai.tp-stun" [&[]] "a thin unit warns before it is full",
        "SBC-3 Logical block provisioning thresholds; thin provisioning stun" => provisioning::stun;
    Vaai "vaai.device-loss" (required) [&[]] "a unit that is gone says so (PDL)",
        "SAM-5 5.11 Incorrect logical unit numbers; LOGICAL UNIT NOT SUPPORTED" => identity::absent_unit;

    Thin "thin.pages" [&[]] "capacity, B0h and B2h agree on thin provisioning",
        "SBC-3 6.6.4; HLK Thin Provisioning SCSI Compliance" => provisioning::pages;
    Thin "thin.log-page" [&[]] "the log page of resources",
        "SBC-3 Logical Block Provisioning log page; HLK Thin Provisioning SCSI Compliance" => provisioning::log_page;
    Thin "thin.thresholds" [&[]] "the mode page of thresholds",
        "SBC-3 Logical Block Provisioning mode page" => provisioning::thresholds;
    Thin "thin.lba-status" [&[]] "GET LBA STATUS covers what it is asked for",
        "SBC-3 5.6; HLK Thin Provisioning SCSI Compliance" => provisioning::lba_status;
    Thin "thin.deallocation" [&[Scratch(4 * MIB)]] "unmapped blocks are deallocated",
        "SBC-3 4.7.3; HLK Thin Provisioning SCSI Compliance" => provisioning::deallocation;

    Odx "odx.limits" [&[]] "the limits of tokens are told",
        "SPC-4 Third-Party Copy VPD page; SBC-3 Block Device ROD Token Limits" => token::limits;
    Odx "odx.copy" [&[Scratch(2 * MIB), Nexuses(2)]] "a token carries data through another nexus",
        "SBC-3 POPULATE TOKEN and WRITE USING TOKEN" => token::copy;
    Odx "odx.zero" [&[Scratch(MIB + 4 * KIB)]] "the zero token writes zeroes",
        "SBC-3 Block device zero ROD token" => token::zero;
    Odx "odx.forged" [&[Scratch(MIB)]] "a forged token is refused",
        "SPC-4 ROD tokens; INVALID TOKEN OPERATION" => token::forged;
    Odx "odx.invalid" [&[Scratch(MIB)]] "what is no token is refused as that",
        "SPC-4 ROD tokens; INVALID TOKEN OPERATION, UNSUPPORTED TOKEN TYPE and INVALID TOKEN LENGTH" => token::invalid;
    Odx "odx.ended" [&[Scratch(2 * MIB)]] "deleted and expired tokens are refused",
        "SBC-3 WRITE USING TOKEN, DEL_TKN; POPULATE TOKEN, INACTIVITY TIMEOUT" => token::ended;
    Odx "odx.out-of-range" [&[Scratch(KIB)]] "no token for blocks past the end",
        "SBC-3 POPULATE TOKEN; LOGICAL BLOCK ADDRESS OUT OF RANGE" => token::out_of_range;

    Iscsi "iscsi.digests" (required) [&[]] "header and data digests",
        "RFC 7143 13.1; HLK iSCSI Target Digest Test" => iscsi::digests;
    Iscsi "iscsi.discovery" (required) [&[]] "SendTargets names the target",
        "RFC 7143 Appendix C" => iscsi::discovery;
    Iscsi "iscsi.reinstatement" (required) [&[]] "a login with the same ISID replaces the session",
        "RFC 7143 6.3.5" => iscsi::reinstatement;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_begin_with_their_group() {
        let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CHECKS.len());
        for check in CHECKS {
            assert!(check.id.starts_with(&format!("{}.", check.group.name())), "{}", check.id);
            assert!(!check.clause.is_empty() && !check.title.is_empty());
        }
    }

    #[test]
    fn every_row_of_cluster_validation_is_there() {
        for row in [
            "Potential",
            "Latency",
            "Disk Arbitration",
            "Multiple Arbitration",
            "Disk Failover",
            "Simultaneous",
        ] {
            assert!(CHECKS.iter().any(|check| check.clause.contains(row)), "{row}");
        }
    }
}
