//! The one table of error classes: stable code, HTTP status, exit status of the `palisade` program.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What went wrong, in the classes that scripts act on. Codes and numbers never change once released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// A fault of Palisade's own.
    Internal,
    /// The command line or request is not understood.
    Usage,
    /// A value is not acceptable.
    Invalid,
    /// There is no such object.
    NotFound,
    /// The name, or another unique property, is taken.
    Exists,
    /// The object is being used.
    InUse,
    /// A pool or disk has no room.
    NoSpace,
    /// The pool behind the object is not open.
    Offline,
    /// A disk reported an error or is gone.
    Device,
    /// Stored data is damaged.
    Corrupt,
    /// What is on the disk is of an unknown format or version.
    Format,
    /// The operating system or the access rules forbid it.
    Denied,
    /// No daemon answers on the socket.
    Unreachable,
    /// Another process serves this data directory.
    AlreadyServing,
    /// Another program has the network address.
    AddressInUse,
    /// `bench --verify` found a lost or changed write.
    VerifyFailed,
    /// `validate` found an array that does not do what it has to.
    CheckFailed,
    /// What is encrypted is not open.
    Locked,
}

/// What the table says of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFacts {
    /// The class.
    pub class: ErrorClass,
    /// Stable name, in API answers and `--json` output.
    pub code: &'static str,
    /// HTTP status of an API answer; none where only the program can meet the error.
    pub http_status: Option<u16>,
    /// Exit status of the `palisade` program.
    pub exit_status: u8,
    /// What it means and what to do, for people.
    pub meaning: &'static str,
}

const fn row(
    class: ErrorClass,
    code: &'static str,
    http_status: Option<u16>,
    exit_status: u8,
    meaning: &'static str,
) -> ErrorFacts {
    ErrorFacts { class, code, http_status, exit_status, meaning }
}

/// The table itself; everything that shows or maps a class reads it. In the order of [`ErrorClass`].
static TABLE: [ErrorFacts; 18] = [
    row(
        ErrorClass::Internal,
        "internal",
        Some(500),
        1,
        "A fault of Palisade's own. Look at the daemon's log and report it.",
    ),
    row(
        ErrorClass::Usage,
        "usage",
        Some(400),
        2,
        "The command line or request is not understood. See `palisade help`.",
    ),
    row(
        ErrorClass::Invalid,
        "invalid",
        Some(422),
        3,
        "A value is not acceptable; the message says which and why.",
    ),
    row(
        ErrorClass::NotFound,
        "not-found",
        Some(404),
        4,
        "There is no such object. The `list` verbs show what there is.",
    ),
    row(
        ErrorClass::Exists,
        "exists",
        Some(409),
        5,
        "The name, or another unique property, is taken by another object.",
    ),
    row(
        ErrorClass::InUse,
        "in-use",
        Some(423),
        6,
        "The object is being used. The message says by whom, and which option overrides it if one does.",
    ),
    row(
        ErrorClass::NoSpace,
        "no-space",
        Some(507),
        7,
        "A pool or disk has no room. Delete, unmap or extend.",
    ),
    row(
        ErrorClass::Offline,
        "offline",
        Some(503),
        8,
        "The pool behind the object is not open. `palisade pool show` says why.",
    ),
    row(
        ErrorClass::Device,
        "device",
        Some(502),
        9,
        "A disk reported an error or is gone. Check it and the kernel's log.",
    ),
    row(ErrorClass::Corrupt, "corrupt", Some(500), 10, "Stored data is damaged and no good copy is left."),
    row(
        ErrorClass::Format,
        "format",
        Some(500),
        11,
        "What is on the disk is of an unknown format, or was written by a newer version.",
    ),
    row(
        ErrorClass::Denied,
        "denied",
        Some(403),
        12,
        "Not permitted. Run as the user who runs the daemon, or as root.",
    ),
    row(
        ErrorClass::Unreachable,
        "unreachable",
        None,
        13,
        "No daemon answers. Start one with `palisade serve`.",
    ),
    row(
        ErrorClass::AlreadyServing,
        "already-serving",
        None,
        14,
        "Another process serves this data directory.",
    ),
    row(
        ErrorClass::AddressInUse,
        "address-in-use",
        Some(409),
        15,
        "Another program has the address, or this machine has not. Choose one with --portal or --api.",
    ),
    row(
        ErrorClass::VerifyFailed,
        "verify-failed",
        None,
        16,
        "`bench --verify` found a lost or changed write.",
    ),
    row(
        ErrorClass::CheckFailed,
        "check-failed",
        None,
        17,
        "`validate` found that the array does not do what it has to; the report says what.",
    ),
    row(
        ErrorClass::Locked,
        "locked",
        Some(423),
        18,
        "What is encrypted is not open. Unlock its pool with `palisade pool unlock`.",
    ),
];

impl ErrorClass {
    /// Every class with its facts.
    #[must_use]
    pub fn table() -> &'static [ErrorFacts] {
        &TABLE
    }

    /// The facts of this class.
    #[must_use]
    pub fn facts(self) -> &'static ErrorFacts {
        TABLE.iter().find(|facts| facts.class == self).unwrap_or(&TABLE[0])
    }

    /// Stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.facts().code
    }

    /// HTTP status of an answer; 500 for classes that no answer has.
    #[must_use]
    pub fn http_status(self) -> u16 {
        self.facts().http_status.unwrap_or(500)
    }

    /// Exit status of the program.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        self.facts().exit_status
    }

    /// The class of that code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        TABLE.iter().find(|facts| facts.code == code).map(|facts| facts.class)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The body of every unsuccessful answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{object}: {message}")]
pub struct Problem {
    /// Class, to act on.
    pub code: ErrorClass,
    /// What it happened to: `volume mail`, `pool fast`, `/dev/sdb`.
    pub object: String,
    /// What happened and what to do next, for people.
    pub message: String,
}

impl Problem {
    /// A problem of a class with an object.
    pub fn new(code: ErrorClass, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, object: object.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_and_exit_statuses_are_unique() {
        let codes: HashSet<_> = TABLE.iter().map(|row| row.code).collect();
        let exits: HashSet<_> = TABLE.iter().map(|row| row.exit_status).collect();
        assert_eq!(codes.len(), TABLE.len());
        assert_eq!(exits.len(), TABLE.len());
        assert!(!exits.contains(&0), "0 is success");
        assert!(exits.iter().all(|&status| status < 126), "126 and up are the shell's");
    }

    #[test]
    fn the_code_is_what_json_carries() {
        for row in ErrorClass::table() {
            assert_eq!(serde_json::to_value(row.class).unwrap(), row.code);
            assert_eq!(ErrorClass::from_code(row.code), Some(row.class));
            assert_eq!(row.class.facts(), row, "each class has its own row");
        }
    }

    #[test]
    fn statuses_are_errors() {
        for status in TABLE.iter().filter_map(|row| row.http_status) {
            assert!((400..600).contains(&status), "{status}");
        }
    }

    /// Scripts depend on these numbers: a change here breaks users.
    #[test]
    fn released_numbers_stay() {
        let pairs: Vec<_> = TABLE.iter().map(|row| (row.code, row.exit_status)).collect();
        assert_eq!(
            pairs[..5],
            [("internal", 1), ("usage", 2), ("invalid", 3), ("not-found", 4), ("exists", 5)]
        );
        assert_eq!(pairs[5..9], [("in-use", 6), ("no-space", 7), ("offline", 8), ("device", 9)]);
    }
}
