//! Who registers: an I_T nexus by the names of its two ports, and the iSCSI TransportID that carries one of them
//! (SPC-4 7.6.4.6).

use crate::sense::Sense;
use crate::unit::NexusInfo;

/// An I_T nexus by name. Registrations belong to it, and outlive every session of it (SPC-4 5.13.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Registrant {
    /// The initiator port's SCSI name in lower case, its ISID in twelve digits: `iqn.x,i,0x00023d000001`.
    pub initiator_port: String,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub target_port: u16,
}

/// An iSCSI name is at most this long (RFC 7143 4.2.7.1).
const NAME_LEN_MAX: usize = 223;
/// What stands between an iSCSI name and an ISID in the name of an initiator port.
const SEPARATOR: &str = ",i,0x";
/// TPID FORMAT and PROTOCOL IDENTIFIER: iSCSI, by the initiator's name only.
const OF_DEVICE: u8 = 0x05;
/// The same, by the initiator port's name.
const OF_PORT: u8 = 0x45;
/// Reserved bits between the two fields.
const FORMAT_RESERVED: u8 = 0x30;
const HEADER_LEN: usize = 4;
/// Least ADDITIONAL LENGTH.
const ADDITIONAL_LEN_MIN: usize = 20;

impl Registrant {
    /// The nexus that `info` describes.
    pub(crate) fn of(info: &NexusInfo) -> Self {
        let name = info.initiator_port.to_ascii_lowercase();
        let initiator_port = normal_port(&name).unwrap_or(name);
        Self { initiator_port, target_port: info.target_port.relative_id }
    }

    /// The iSCSI name of the initiator.
    pub fn initiator(&self) -> &str {
        self.initiator_port.split_once(SEPARATOR).map_or(self.initiator_port.as_str(), |(name, _)| name)
    }
}

/// `name,i,0xISID` in the one spelling that is compared, or `None` if it is something else.
fn normal_port(port: &str) -> Option<String> {
    let (name, isid) = port.split_once(SEPARATOR)?;
    let hex = !isid.is_empty() && isid.len() <= 12 && isid.bytes().all(|byte| byte.is_ascii_hexdigit());
    let isid = u64::from_str_radix(isid, 16).ok().filter(|_| hex)?;
    valid_name(name).then(|| format!("{name}{SEPARATOR}{isid:012x}"))
}

fn valid_name(name: &str) -> bool {
    let known = name.starts_with("iqn.") || name.starts_with("eui.") || name.starts_with("naa.");
    known && name.len() <= NAME_LEN_MAX && !name.contains(|c: char| c.is_control() || c == ',')
}

/// An iSCSI TransportID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TransportId {
    /// Format 00b: every port of the initiator of this name.
    Device(String),
    /// Format 01b: the initiator port of this name.
    Port(String),
}

impl TransportId {
    /// Reads the TransportID that `list` starts with; what is left comes back too. `at` is where it stands in the
    /// parameter list, for the field pointer.
    pub(crate) fn parse(list: &[u8], at: u16) -> Result<(Self, &[u8]), Sense> {
        let wrong = |offset: u16| Sense::invalid_parameter(at.saturating_add(offset), None);
        let (header, rest) = list.split_at_checked(HEADER_LEN).ok_or(wrong(0))?;
        let &[format, _, high, low] = header else { return Err(wrong(0)) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len < ADDITIONAL_LEN_MIN || !len.is_multiple_of(4) {
            return Err(wrong(2));
        }
        let (body, rest) = rest.split_at_checked(len).ok_or(wrong(2))?;
        let name = terminated(body).ok_or(wrong(4))?;
        let id = match format & !FORMAT_RESERVED {
            OF_DEVICE if valid_name(&name) => Self::Device(name),
            OF_PORT => Self::Port(normal_port(&name).ok_or(wrong(4))?),
            OF_DEVICE => return Err(wrong(4)),
            _ => return Err(wrong(0)),
        };
        Ok((id, rest))
    }

    /// The TransportID of an initiator port.
    pub(crate) fn of_port(port: &str) -> Vec<u8> {
        let len = (port.len() + 1).next_multiple_of(4).max(ADDITIONAL_LEN_MIN);
        let mut id = vec![OF_PORT, 0];
        // Names are bounded well below this.
        id.extend_from_slice(&u16::try_from(len).unwrap_or(0).to_be_bytes());
        id.extend_from_slice(port.as_bytes());
        id.resize(HEADER_LEN + len, 0);
        id
    }
}

/// The text before the first null, behind which there are only nulls; in lower case.
fn terminated(bytes: &[u8]) -> Option<String> {
    let len = bytes.iter().position(|byte| *byte == 0)?;
    let (text, padding) = bytes.split_at_checked(len)?;
    let clean = padding.iter().all(|byte| *byte == 0);
    std::str::from_utf8(text).ok().filter(|_| clean).map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sense::FieldPointer;

    const PORT: &str = "iqn.2026-01.test:a,i,0x00023d000001";

    fn device(name: &str) -> Vec<u8> {
        let len = (name.len() + 1).next_multiple_of(4).max(20);
        let mut id = vec![0x05, 0, 0, u8::try_from(len).unwrap()];
        id.extend_from_slice(name.as_bytes());
        id.resize(4 + len, 0);
        id
    }

    /// SPC-4 table 509: 01b in the two highest bits, protocol 5h, length a multiple of four and at least 20.
    #[test]
    fn a_port_is_written_and_read_back() {
        for port in [PORT, "iqn.2026-01.a:b,i,0x000000000001", "eui.0123456789abcdef,i,0x400000000001"] {
            let id = TransportId::of_port(port);
            assert_eq!((id[0], id[1]), (0x45, 0));
            let len = usize::from(u16::from_be_bytes([id[2], id[3]]));
            assert!(id.len() == 4 + len && len >= 20 && len.is_multiple_of(4));
            assert_eq!(id.last(), Some(&0), "null-terminated");
            let bytes = [&id[..], b"rest"].concat();
            let (read, rest) = TransportId::parse(&bytes, 28).unwrap();
            assert_eq!((read, rest), (TransportId::Port(port.to_owned()), &b"rest"[..]));
        }
    }

    /// RFC 7143 4.2.7.2: names are equal whatever their case; an ISID is a number however it is written.
    #[test]
    fn spelling_makes_no_difference() {
        let spelled = TransportId::of_port("iqn.2026-01.TEST:A,i,0x23D000001");
        assert_eq!(TransportId::parse(&spelled, 0).unwrap().0, TransportId::Port(PORT.to_owned()));
        let target_port = crate::unit::TargetPort {
            target_name: "iqn.2026-01.test:t".to_owned(),
            portal_group_tag: 1,
            relative_id: 3,
        };
        let info = |port: &str| NexusInfo {
            initiator_port: port.to_owned(),
            target_port: target_port.clone(),
            read_only: false,
            returned: false,
        };
        let registrant = Registrant::of(&info("iqn.2026-01.Test:a,i,0x00023D000001"));
        assert_eq!(registrant, Registrant { initiator_port: PORT.to_owned(), target_port: 3 });
        assert_eq!(registrant.initiator(), "iqn.2026-01.test:a");
    }

    #[test]
    fn an_initiator_is_named_without_a_port() {
        let id = device("iqn.2026-01.test:A");
        let (read, rest) = TransportId::parse(&id, 0).unwrap();
        assert_eq!(read, TransportId::Device("iqn.2026-01.test:a".to_owned()));
        assert!(rest.is_empty());
    }

    /// SPC-4 7.6.4.6: what is not such an ID is INVALID FIELD IN PARAMETER LIST, and the pointer says where.
    #[test]
    fn other_ids_are_refused_and_the_field_is_named() {
        let good = TransportId::of_port(PORT);
        let with = |at: usize, byte: u8| {
            let mut id = good.clone();
            id[at] = byte;
            id
        };
        let mut unterminated = good.clone();
        unterminated[4..].fill(b'a');
        let table: [(&str, Vec<u8>, u16); 11] = [
            ("Fibre Channel", with(0, 0x00), 28),
            ("SAS", with(0, 0x06), 28),
            ("format 10b", with(0, 0x85), 28),
            ("a length that is no multiple of four", with(3, 21), 30),
            ("a length below 20", with(3, 16), 30),
            ("a length beyond the list", with(2, 1), 30),
            ("a port in a device's format", with(0, 0x05), 32),
            (
                "a device in a port's format",
                {
                    let mut id = device("iqn.2026-01.test:a");
                    id[0] = 0x45;
                    id
                },
                32,
            ),
            ("no null at the end", unterminated, 32),
            ("no iSCSI name", TransportId::of_port("host.2026-01.test,i,0x1"), 32),
            (
                "letters behind the null",
                {
                    let mut id = good.clone();
                    let end = id.len() - 1;
                    id.truncate(end);
                    id.push(0);
                    let at = 4 + PORT.len() - 2;
                    id[at] = 0;
                    id
                },
                32,
            ),
        ];
        for (what, id, byte) in table {
            let sense = TransportId::parse(&id, 28).unwrap_err();
            assert_eq!(sense.field, Some(FieldPointer { in_cdb: false, byte, bit: None }), "{what}");
        }
        for len in 0..good.len() {
            assert!(TransportId::parse(&good[..len], 0).is_err(), "{len} bytes of it");
        }
    }
}
