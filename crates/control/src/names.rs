//! Names: of objects, of initiators (RFC 7143 §4.2.7) and of the targets made of them.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of a pool, volume or host, in bytes. The pool format has room for 64.
const NAME_BYTES_MAX: usize = 63;

/// Longest iSCSI name in bytes (RFC 7143 §4.2.7.1).
const ISCSI_NAME_BYTES_MAX: usize = 223;

/// What every target name starts with.
pub const IQN_PREFIX: &str = "iqn.2026-11.io.palisade:";

/// The name of a pool, volume or host: letters, digits, `.`, `_` and `-`, starting with a letter or digit. Two names
/// that differ only in case are the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// `Invalid` if it is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |message: String| Err(Error::invalid(format!("name {text:?}"), message));
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return fail(format!("a name has 1 to {NAME_BYTES_MAX} characters"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return fail("a name starts with a letter a-z or a digit".to_owned());
        }
        match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
            Some(bad) => fail(format!("a name has letters a-z, digits and . _ - only, not {bad:?}")),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` means this name.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }

    /// The name as the part of a target name after the colon, in the characters RFC 3722 lets through.
    #[must_use]
    pub(crate) fn iqn_part(&self) -> String {
        self.0.to_ascii_lowercase().replace('_', "-")
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// An iSCSI name of an initiator, in lower case: `iqn.`, `eui.` or `naa.` (RFC 7143 §4.2.7.3 to 4.2.7.5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InitiatorName(String);

impl InitiatorName {
    /// Reads a name. Upper case is folded, as RFC 3722 §3 has it.
    ///
    /// # Errors
    /// `Invalid` with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |message: String| Err(Error::invalid(format!("initiator name {text:?}"), message));
        if text.len() > ISCSI_NAME_BYTES_MAX {
            return fail(format!("an iSCSI name has at most {ISCSI_NAME_BYTES_MAX} bytes"));
        }
        let name = text.to_ascii_lowercase();
        // RFC 3722 lets `-`, `.`, `:`, letters and digits through; Windows also makes names with `_`.
        if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-.:_".contains(*c)) {
            return fail(format!("the character {bad:?} may not be in an iSCSI name"));
        }
        match name.split_once('.') {
            Some(("iqn", rest)) if is_qualified(rest) => Ok(Self(name)),
            Some(("iqn", _)) => {
                fail("an iqn name is iqn.YYYY-MM.reversed.domain, then `:` and anything".to_owned())
            }
            Some(("eui", digits)) if is_hex(digits, &[16]) => Ok(Self(name)),
            Some(("naa", digits)) if is_hex(digits, &[16, 32]) => Ok(Self(name)),
            Some(("eui" | "naa", _)) => {
                fail("eui has 16 hexadecimal digits after it, naa 16 or 32".to_owned())
            }
            _ => fail("an iSCSI name starts with iqn., eui. or naa.".to_owned()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InitiatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `YYYY-MM.domain[:anything]`, what follows `iqn.`.
fn is_qualified(rest: &str) -> bool {
    let Some((date, name)) = rest.split_once('.') else { return false };
    let authority = name.split_once(':').map_or(name, |(authority, _)| authority);
    let date_is_good = match date.split_once('-') {
        Some((year, month)) => {
            year.len() == 4
                && year.bytes().all(|b| b.is_ascii_digit())
                && month.len() == 2
                && month.parse().is_ok_and(|month: u8| (1..=12).contains(&month))
        }
        None => false,
    };
    date_is_good && !authority.is_empty() && authority.split('.').all(|label| !label.is_empty())
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Which initiators a host's entry means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Initiator {
    /// Any, written `*`.
    Any,
    /// The one of this name.
    Named(InitiatorName),
}

impl Initiator {
    /// Reads an initiator name, or `*` for any.
    ///
    /// # Errors
    /// As [`InitiatorName::parse`].
    pub fn parse(text: &str) -> Result<Self> {
        if text == "*" { Ok(Self::Any) } else { InitiatorName::parse(text).map(Self::Named) }
    }

    /// Whether an initiator that logs in as `name` is meant.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(own) => own.0.eq_ignore_ascii_case(name),
        }
    }
}

impl fmt::Display for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

impl TryFrom<String> for Initiator {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Initiator> for String {
    fn from(initiator: Initiator) -> Self {
        initiator.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn names_are_held_to_what_every_place_they_go_to_takes() {
        for good in ["a", "Mail-01", "vm.disk_3", "0", &"x".repeat(63)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".hidden", "-f", "a b", "a/b", "é", "a\n", "a:b", &"x".repeat(64)] {
            assert_eq!(Name::parse(bad).unwrap_err().kind, ErrorKind::Invalid, "{bad:?}");
        }
        assert_eq!(Name::parse("MAIL").unwrap(), Name::parse("mail").unwrap());
    }

    /// RFC 7143 §4.2.7.3: type, date, naming authority, optional string; §4.2.7.4 and §4.2.7.5 for eui and naa.
    #[test]
    fn initiator_names_follow_the_rfc() {
        let good = [
            "iqn.1993-08.org.debian:01:abcdef123456",
            "iqn.1991-05.com.microsoft:win_server.corp.example",
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "naa.62004567BA64678D0123456789ABCDEF",
        ];
        for name in good {
            assert_eq!(InitiatorName::parse(name).unwrap().as_str(), name.to_lowercase());
        }
        let long = format!("iqn.2001-04.com.example:{}", "a".repeat(200));
        let bad = [
            "",
            "host1",
            "iqn.",
            "iqn.2001-13.com.example:a",
            "iqn.2001-04",
            "iqn.01-04.com.example:a",
            "iqn.2001-04..example:a",
            "iqn.2001-04.com.example:a b",
            "iqn.2001-04.com.example:a/b",
            "eui.02004567A425678",
            "naa.6200",
            &long,
        ];
        for name in bad {
            assert_eq!(InitiatorName::parse(name).unwrap_err().kind, ErrorKind::Invalid, "{name:?}");
        }
    }

    #[test]
    fn initiators_are_compared_without_case() {
        let named = Initiator::parse("IQN.1993-08.org.debian:01:AB").unwrap();
        assert!(named.is("iqn.1993-08.org.debian:01:ab"));
        assert!(!named.is("iqn.1993-08.org.debian:01:abc"));
        assert!(Initiator::parse("*").unwrap().is("anything"));
    }
}
