//! Names of commands and of additional sense codes, for people who read reports.

use scsi::Cdb;
use scsi::command::{Lookup, find};

/// Commands, by operation code and, where it has any, service action.
const COMMANDS: [(u8, Option<u8>, &str); 43] = [
    (0x16, None, "RESERVE(6)"),
    (0x17, None, "RELEASE(6)"),
    (0x1d, None, "SEND DIAGNOSTIC"),
    (0x1c, None, "RECEIVE DIAGNOSTIC RESULTS"),
    (0x37, None, "READ DEFECT DATA(10)"),
    (0x3b, None, "WRITE BUFFER"),
    (0x3c, None, "READ BUFFER"),
    (0x4c, None, "LOG SELECT"),
    (0x4d, None, "LOG SENSE"),
    (0x56, None, "RESERVE(10)"),
    (0x57, None, "RELEASE(10)"),
    (0x5e, Some(0), "PERSISTENT RESERVE IN, READ KEYS"),
    (0x5e, Some(1), "PERSISTENT RESERVE IN, READ RESERVATION"),
    (0x5e, Some(2), "PERSISTENT RESERVE IN, REPORT CAPABILITIES"),
    (0x5e, Some(3), "PERSISTENT RESERVE IN, READ FULL STATUS"),
    (0x5f, Some(0), "PERSISTENT RESERVE OUT, REGISTER"),
    (0x5f, Some(1), "PERSISTENT RESERVE OUT, RESERVE"),
    (0x5f, Some(2), "PERSISTENT RESERVE OUT, RELEASE"),
    (0x5f, Some(3), "PERSISTENT RESERVE OUT, CLEAR"),
    (0x5f, Some(4), "PERSISTENT RESERVE OUT, PREEMPT"),
    (0x5f, Some(5), "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"),
    (0x5f, Some(6), "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY"),
    (0x5f, Some(7), "PERSISTENT RESERVE OUT, REGISTER AND MOVE"),
    (0x5f, Some(8), "PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION"),
    (0x83, Some(0x00), "EXTENDED COPY(LID1)"),
    (0x83, Some(0x01), "EXTENDED COPY(LID4)"),
    (0x83, Some(0x10), "POPULATE TOKEN"),
    (0x83, Some(0x11), "WRITE USING TOKEN"),
    (0x83, Some(0x1c), "COPY OPERATION ABORT"),
    (0x84, Some(0x00), "RECEIVE COPY STATUS(LID1)"),
    (0x84, Some(0x01), "RECEIVE COPY DATA(LID1)"),
    (0x84, Some(0x03), "RECEIVE COPY OPERATING PARAMETERS"),
    (0x84, Some(0x04), "RECEIVE COPY FAILURE DETAILS(LID1)"),
    (0x84, Some(0x05), "RECEIVE COPY STATUS(LID4)"),
    (0x84, Some(0x06), "RECEIVE COPY DATA(LID4)"),
    (0x84, Some(0x07), "RECEIVE ROD TOKEN INFORMATION"),
    (0x84, Some(0x08), "REPORT ALL ROD TOKENS"),
    (0xa3, Some(0x05), "REPORT IDENTIFYING INFORMATION"),
    (0xa3, Some(0x0a), "REPORT TARGET PORT GROUPS"),
    (0xa3, Some(0x0f), "REPORT TIMESTAMP"),
    (0xa4, Some(0x0a), "SET TARGET PORT GROUPS"),
    (0xb7, None, "READ DEFECT DATA(12)"),
    (0xa2, None, "SECURITY PROTOCOL IN"),
];

/// Additional sense codes (SPC-4 table 56), those that targets of disks report.
const SENSES: [(u8, u8, &str); 55] = [
    (0x00, 0x00, "NO ADDITIONAL SENSE INFORMATION"),
    (0x04, 0x00, "LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE"),
    (0x04, 0x01, "LOGICAL UNIT IS IN PROCESS OF BECOMING READY"),
    (0x04, 0x0a, "LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION"),
    (0x04, 0x0b, "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE"),
    (0x04, 0x0c, "LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE"),
    (0x04, 0x14, "LOGICAL UNIT NOT READY, SPACE ALLOCATION IN PROGRESS"),
    (0x08, 0x04, "UNREACHABLE COPY TARGET"),
    (0x0d, 0x01, "THIRD PARTY DEVICE FAILURE"),
    (0x0d, 0x02, "COPY TARGET DEVICE NOT REACHABLE"),
    (0x0e, 0x03, "INVALID FIELD IN COMMAND INFORMATION UNIT"),
    (0x11, 0x00, "UNRECOVERED READ ERROR"),
    (0x1a, 0x00, "PARAMETER LIST LENGTH ERROR"),
    (0x1d, 0x00, "MISCOMPARE DURING VERIFY OPERATION"),
    (0x20, 0x00, "INVALID COMMAND OPERATION CODE"),
    (0x21, 0x00, "LOGICAL BLOCK ADDRESS OUT OF RANGE"),
    (0x23, 0x00, "INVALID TOKEN OPERATION, CAUSE NOT REPORTABLE"),
    (0x23, 0x01, "INVALID TOKEN OPERATION, UNSUPPORTED TOKEN TYPE"),
    (0x23, 0x02, "INVALID TOKEN OPERATION, REMOTE TOKEN USAGE NOT SUPPORTED"),
    (0x23, 0x04, "INVALID TOKEN OPERATION, TOKEN UNKNOWN"),
    (0x23, 0x05, "INVALID TOKEN OPERATION, TOKEN CORRUPT"),
    (0x23, 0x06, "INVALID TOKEN OPERATION, TOKEN REVOKED"),
    (0x23, 0x07, "INVALID TOKEN OPERATION, TOKEN EXPIRED"),
    (0x23, 0x08, "INVALID TOKEN OPERATION, TOKEN CANCELLED"),
    (0x23, 0x09, "INVALID TOKEN OPERATION, TOKEN DELETED"),
    (0x23, 0x0a, "INVALID TOKEN OPERATION, INVALID TOKEN LENGTH"),
    (0x24, 0x00, "INVALID FIELD IN CDB"),
    (0x25, 0x00, "LOGICAL UNIT NOT SUPPORTED"),
    (0x26, 0x00, "INVALID FIELD IN PARAMETER LIST"),
    (0x26, 0x04, "INVALID RELEASE OF PERSISTENT RESERVATION"),
    (0x26, 0x06, "TOO MANY TARGET DESCRIPTORS"),
    (0x26, 0x08, "TOO MANY SEGMENT DESCRIPTORS"),
    (0x27, 0x00, "WRITE PROTECTED"),
    (0x27, 0x07, "SPACE ALLOCATION FAILED WRITE PROTECT"),
    (0x29, 0x00, "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED"),
    (0x29, 0x01, "POWER ON OCCURRED"),
    (0x29, 0x02, "SCSI BUS RESET OCCURRED"),
    (0x29, 0x03, "BUS DEVICE RESET FUNCTION OCCURRED"),
    (0x29, 0x07, "I_T NEXUS LOSS OCCURRED"),
    (0x2a, 0x01, "MODE PARAMETERS CHANGED"),
    (0x2a, 0x03, "RESERVATIONS PREEMPTED"),
    (0x2a, 0x04, "RESERVATIONS RELEASED"),
    (0x2a, 0x05, "REGISTRATIONS PREEMPTED"),
    (0x2a, 0x06, "ASYMMETRIC ACCESS STATE CHANGED"),
    (0x2a, 0x09, "CAPACITY DATA HAS CHANGED"),
    (0x2c, 0x00, "COMMAND SEQUENCE ERROR"),
    (0x2f, 0x00, "COMMANDS CLEARED BY ANOTHER INITIATOR"),
    (0x38, 0x07, "THIN PROVISIONING SOFT THRESHOLD REACHED"),
    (0x39, 0x00, "SAVING PARAMETERS NOT SUPPORTED"),
    (0x3f, 0x03, "INQUIRY DATA HAS CHANGED"),
    (0x3f, 0x0e, "REPORTED LUNS DATA HAS CHANGED"),
    (0x44, 0x00, "INTERNAL TARGET FAILURE"),
    (0x55, 0x04, "INSUFFICIENT REGISTRATION RESOURCES"),
    (0x55, 0x0c, "INSUFFICIENT RESOURCES TO CREATE ROD"),
    (0x55, 0x0d, "INSUFFICIENT RESOURCES TO CREATE ROD TOKEN"),
];

/// The name of the command in a CDB.
pub(crate) fn command(cdb: &[u8; 16]) -> String {
    let action = cdb[1] & 0x1f;
    let found = COMMANDS
        .iter()
        .find(|(opcode, wanted, _)| *opcode == cdb[0] && wanted.is_none_or(|wanted| wanted == action));
    if let Some((_, _, name)) = found {
        return (*name).to_owned();
    }
    match find(&Cdb::from(*cdb)) {
        Lookup::Found(command) => command.name.to_owned(),
        Lookup::UnknownServiceAction => {
            format!("operation code {:02X}h, service action {action:02X}h", cdb[0])
        }
        Lookup::UnknownOpcode => format!("operation code {:02X}h", cdb[0]),
    }
}

/// What an additional sense code and its qualifier say.
pub(crate) fn sense(code: u8, qualifier: u8) -> &'static str {
    let found = SENSES.iter().find(|(asc, ascq, _)| (*asc, *ascq) == (code, qualifier));
    found.map_or("", |(_, _, text)| text)
}

/// The name of a status (SAM-5 5.3).
pub(crate) fn status(status: u8) -> String {
    let name = match status {
        0x00 => "GOOD",
        0x02 => "CHECK CONDITION",
        0x04 => "CONDITION MET",
        0x08 => "BUSY",
        0x18 => "RESERVATION CONFLICT",
        0x28 => "TASK SET FULL",
        0x30 => "ACA ACTIVE",
        0x40 => "TASK ABORTED",
        other => return format!("status {other:02X}h"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> String {
        crate::request::Request::new(bytes).name
    }

    #[test]
    fn commands_are_named_by_code_and_service_action() {
        assert_eq!(named(&[0x00]), "TEST UNIT READY");
        assert_eq!(named(&[0x5e, 1]), "PERSISTENT RESERVE IN, READ RESERVATION");
        assert_eq!(named(&[0x83, 0x10]), "POPULATE TOKEN");
        assert_eq!(named(&[0x9e, 0x12]), "GET LBA STATUS");
        assert_eq!(named(&[0x9e, 0x1f]), "operation code 9Eh, service action 1Fh");
        assert_eq!(named(&[0xc1]), "operation code C1h");
    }

    #[test]
    fn senses_and_statuses_have_names() {
        assert_eq!(sense(0x2a, 0x05), "REGISTRATIONS PREEMPTED");
        assert_eq!(sense(0xff, 0xff), "");
        assert_eq!(status(0x18), "RESERVATION CONFLICT");
        assert_eq!(status(0x99), "status 99h");
    }
}
