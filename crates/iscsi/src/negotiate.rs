//! The operational keys: what each is, how an answer is found, what an answer means (RFC 7143 §13).

use crate::parameters::{DigestOffer, Offer, Parameters, SEGMENT_LENGTH_RANGE, SessionType};
use crate::text;

/// How the two sides' values become one (RFC 7143 §13, "result function").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Minimum(u32, u32),
    Maximum(u32, u32),
    Or,
    And,
    Digest,
    /// One side tells, the other takes note; never answered.
    Declared,
    /// Chosen from a list of which this side knows only one value.
    Only(&'static str),
    /// Gone since RFC 7143, still sent by hosts: Yes or No, and the answer is No.
    Marker,
    /// Number of a marker, of no meaning without markers.
    MarkerInterval,
}

/// The operational keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPDUInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    ProtocolLevel,
    TaskReporting,
    OFMarker,
    IFMarker,
    OFMarkInt,
    IFMarkInt,
}

struct Definition {
    key: Key,
    name: &'static str,
    rule: Rule,
    /// Of no meaning in a discovery session (RFC 7143 §13, "Irrelevant when").
    normal_only: bool,
}

const fn define(key: Key, name: &'static str, rule: Rule, normal_only: bool) -> Definition {
    Definition { key, name, rule, normal_only }
}

const LENGTH_MIN: u32 = *SEGMENT_LENGTH_RANGE.start();
const LENGTH_MAX: u32 = *SEGMENT_LENGTH_RANGE.end();

static DEFINITIONS: [Definition; 20] = [
    define(Key::HeaderDigest, "HeaderDigest", Rule::Digest, false),
    define(Key::DataDigest, "DataDigest", Rule::Digest, false),
    define(Key::MaxConnections, "MaxConnections", Rule::Minimum(1, 65535), true),
    define(Key::InitialR2T, "InitialR2T", Rule::Or, true),
    define(Key::ImmediateData, "ImmediateData", Rule::And, true),
    define(Key::MaxRecvDataSegmentLength, "MaxRecvDataSegmentLength", Rule::Declared, false),
    define(Key::MaxBurstLength, "MaxBurstLength", Rule::Minimum(LENGTH_MIN, LENGTH_MAX), true),
    define(Key::FirstBurstLength, "FirstBurstLength", Rule::Minimum(LENGTH_MIN, LENGTH_MAX), true),
    define(Key::DefaultTime2Wait, "DefaultTime2Wait", Rule::Maximum(0, 3600), false),
    define(Key::DefaultTime2Retain, "DefaultTime2Retain", Rule::Minimum(0, 3600), false),
    define(Key::MaxOutstandingR2T, "MaxOutstandingR2T", Rule::Minimum(1, 65535), true),
    define(Key::DataPDUInOrder, "DataPDUInOrder", Rule::Or, true),
    define(Key::DataSequenceInOrder, "DataSequenceInOrder", Rule::Or, true),
    define(Key::ErrorRecoveryLevel, "ErrorRecoveryLevel", Rule::Minimum(0, 2), false),
    define(Key::ProtocolLevel, "iSCSIProtocolLevel", Rule::Minimum(0, 31), true),
    define(Key::TaskReporting, "TaskReporting", Rule::Only("RFC3720"), true),
    define(Key::OFMarker, "OFMarker", Rule::Marker, false),
    define(Key::IFMarker, "IFMarker", Rule::Marker, false),
    define(Key::OFMarkInt, "OFMarkInt", Rule::MarkerInterval, false),
    define(Key::IFMarkInt, "IFMarkInt", Rule::MarkerInterval, false),
];

/// iSCSIProtocolLevel of RFC 7143.
const PROTOCOL_LEVEL: u32 = 1;

fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

/// True for the name of an operational key.
pub(crate) fn is_operational(name: &str) -> bool {
    definition(name).is_some()
}

/// A value that makes the negotiation, and so the login, fail (RFC 7143 §7.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure;

impl Key {
    /// True for a key that only a session's first connection negotiates (RFC 7143 §13, "LO").
    const fn is_leading_only(self) -> bool {
        !matches!(
            self,
            Self::HeaderDigest
                | Self::DataDigest
                | Self::MaxRecvDataSegmentLength
                | Self::OFMarker
                | Self::IFMarker
                | Self::OFMarkInt
                | Self::IFMarkInt
        )
    }
}

impl Offer {
    /// This side's value of a numerical key, within the key's range.
    fn number(&self, key: Key) -> u32 {
        match key {
            Key::MaxBurstLength => clamp_length(self.max_burst_length),
            Key::FirstBurstLength => clamp_length(self.first_burst_length),
            Key::MaxRecvDataSegmentLength => clamp_length(self.max_recv_data_segment_length),
            Key::MaxOutstandingR2T => u32::from(self.max_outstanding_r2t.max(1)),
            Key::DefaultTime2Wait => u32::from(self.default_time2wait_s.min(3600)),
            Key::DefaultTime2Retain => u32::from(self.default_time2retain_s.min(3600)),
            Key::MaxConnections => u32::from(self.max_connections.max(1)),
            Key::ProtocolLevel => PROTOCOL_LEVEL,
            _ => 0,
        }
    }

    /// This side's value of a boolean key.
    const fn boolean(&self, key: Key) -> bool {
        match key {
            Key::InitialR2T => self.initial_r2t,
            Key::ImmediateData => self.immediate_data,
            // Data comes and goes in order here.
            Key::DataPDUInOrder | Key::DataSequenceInOrder => true,
            _ => false,
        }
    }

    const fn digest(&self, key: Key) -> DigestOffer {
        if matches!(key, Key::HeaderDigest) { self.header_digest } else { self.data_digest }
    }
}

fn clamp_length(value: u32) -> u32 {
    value.clamp(LENGTH_MIN, LENGTH_MAX)
}

impl DigestOffer {
    const fn list(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Crc32c => "CRC32C",
            Self::PreferNone => "None,CRC32C",
            Self::PreferCrc32c => "CRC32C,None",
        }
    }

    fn allows(self, value: &str) -> bool {
        self.list().split(',').any(|allowed| allowed == value)
    }
}

/// One side of a negotiation: the keys already seen and what they came to.
#[derive(Debug)]
pub(crate) struct Negotiation {
    offer: Offer,
    parameters: Parameters,
    session_type: SessionType,
    /// The session is there already: what it agreed on stays.
    joins: bool,
    seen: Vec<Key>,
}

impl Negotiation {
    pub(crate) fn new(offer: Offer) -> Self {
        Self {
            offer,
            parameters: Parameters::default(),
            session_type: SessionType::Normal,
            joins: false,
            seen: Vec::new(),
        }
    }

    pub(crate) fn set_session_type(&mut self, session_type: SessionType) {
        self.session_type = session_type;
    }

    /// The connection joins a session that agreed on `session`: what is a connection's own is negotiated, the rest
    /// holds as it is.
    pub(crate) fn join(&mut self, session: Parameters) {
        self.joins = true;
        self.parameters = Parameters {
            header_digest: self.parameters.header_digest,
            data_digest: self.parameters.data_digest,
            own_max_recv_data_segment_length: self.parameters.own_max_recv_data_segment_length,
            peer_max_recv_data_segment_length: self.parameters.peer_max_recv_data_segment_length,
            ..session
        };
    }

    /// What was agreed, made consistent: FirstBurstLength never exceeds MaxBurstLength (RFC 7143 §13.14).
    pub(crate) fn finish(&self) -> Parameters {
        let first_burst_length = self.parameters.first_burst_length.min(self.parameters.max_burst_length);
        Parameters { first_burst_length, ..self.parameters }
    }

    /// Declares this side's MaxRecvDataSegmentLength.
    pub(crate) fn declare(&mut self, out: &mut Vec<u8>) {
        let value = self.offer.number(Key::MaxRecvDataSegmentLength);
        self.parameters.own_max_recv_data_segment_length = value;
        text::put(out, "MaxRecvDataSegmentLength", &value.to_string());
    }

    /// The responder's part: takes an offered operational key and appends the answer.
    pub(crate) fn answer(&mut self, name: &str, value: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(definition) = definition(name) else {
            text::put(out, name, "NotUnderstood");
            return Ok(());
        };
        // A key is negotiated once (RFC 7143 §6.2).
        if self.seen.contains(&definition.key) {
            return Err(Failure);
        }
        self.seen.push(definition.key);
        let of_no_meaning = definition.normal_only && self.session_type == SessionType::Discovery;
        if of_no_meaning || self.joins && definition.key.is_leading_only() {
            text::put(out, name, "Irrelevant");
            return Ok(());
        }
        if let Some(answer) = self.result(definition, value)? {
            text::put(out, name, &answer);
        }
        Ok(())
    }

    /// The result for an offered `value`, taken note of; `None` when none is told.
    fn result(&mut self, definition: &Definition, value: &str) -> Result<Option<String>, Failure> {
        let key = definition.key;
        let ours = self.offer.number(key);
        let result = match definition.rule {
            Rule::Minimum(low, high) => in_range(value, low, high)?.min(ours).to_string(),
            Rule::Maximum(low, high) => in_range(value, low, high)?.max(ours).to_string(),
            Rule::Or => {
                text::yes_no(text::boolean(value).ok_or(Failure)? || self.offer.boolean(key)).to_owned()
            }
            Rule::And => {
                text::yes_no(text::boolean(value).ok_or(Failure)? && self.offer.boolean(key)).to_owned()
            }
            Rule::Digest => {
                let allowed = self.offer.digest(key);
                value.split(',').find(|choice| allowed.allows(choice)).ok_or(Failure)?.to_owned()
            }
            Rule::Declared => {
                self.note(key, value)?;
                return Ok(None);
            }
            Rule::Only(known) => {
                let offered = value.split(',').any(|choice| choice == known);
                return Ok(Some(if offered { known } else { "Reject" }.to_owned()));
            }
            Rule::Marker => {
                text::boolean(value).ok_or(Failure)?;
                "No".to_owned()
            }
            Rule::MarkerInterval => "Irrelevant".to_owned(),
        };
        self.note(key, &result)?;
        Ok(Some(result))
    }

    /// Writes the initiator's offers.
    pub(crate) fn propose(&mut self, out: &mut Vec<u8>) {
        for definition in &DEFINITIONS {
            let of_no_meaning = definition.normal_only && self.session_type == SessionType::Discovery;
            if of_no_meaning || self.joins && definition.key.is_leading_only() {
                continue;
            }
            let key = definition.key;
            let value = match definition.rule {
                Rule::Minimum(..) | Rule::Maximum(..) => self.offer.number(key).to_string(),
                Rule::Or | Rule::And => text::yes_no(self.offer.boolean(key)).to_owned(),
                Rule::Digest => self.offer.digest(key).list().to_owned(),
                Rule::Declared => {
                    self.declare(out);
                    continue;
                }
                // Nothing to gain: the default is what we do.
                Rule::Only(_) | Rule::Marker | Rule::MarkerInterval => continue,
            };
            self.seen.push(key);
            text::put(out, definition.name, &value);
        }
    }

    /// The initiator's part: takes the answer to an offer, or the other side's declaration.
    pub(crate) fn accept(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let Some(definition) = definition(name) else { return Err(Failure) };
        if definition.rule == Rule::Declared {
            return self.note(definition.key, value);
        }
        let position = self.seen.iter().position(|key| *key == definition.key).ok_or(Failure)?;
        self.seen.swap_remove(position);
        match value {
            // The default stays in force.
            "NotUnderstood" | "Irrelevant" => return Ok(()),
            "Reject" => return Err(Failure),
            _ => {}
        }
        let ours = self.offer.number(definition.key);
        let admissible = match definition.rule {
            Rule::Minimum(low, high) => in_range(value, low, high)? <= ours,
            Rule::Maximum(low, high) => in_range(value, low, high)? >= ours,
            Rule::Or => text::boolean(value).ok_or(Failure)? || !self.offer.boolean(definition.key),
            Rule::And => !text::boolean(value).ok_or(Failure)? || self.offer.boolean(definition.key),
            Rule::Digest => self.offer.digest(definition.key).allows(value),
            _ => false,
        };
        if admissible { self.note(definition.key, value) } else { Err(Failure) }
    }

    /// Takes note of a settled value.
    fn note(&mut self, key: Key, value: &str) -> Result<(), Failure> {
        let parameters = &mut self.parameters;
        let small = || text::number(value).and_then(|number| u16::try_from(number).ok()).ok_or(Failure);
        match key {
            Key::HeaderDigest => parameters.header_digest = value == "CRC32C",
            Key::DataDigest => parameters.data_digest = value == "CRC32C",
            Key::InitialR2T => parameters.initial_r2t = value == "Yes",
            Key::ImmediateData => parameters.immediate_data = value == "Yes",
            Key::MaxRecvDataSegmentLength => {
                parameters.peer_max_recv_data_segment_length = in_range(value, LENGTH_MIN, LENGTH_MAX)?;
            }
            Key::MaxBurstLength => parameters.max_burst_length = in_range(value, LENGTH_MIN, LENGTH_MAX)?,
            Key::FirstBurstLength => parameters.first_burst_length = in_range(value, LENGTH_MIN, LENGTH_MAX)?,
            Key::MaxOutstandingR2T => parameters.max_outstanding_r2t = small()?,
            Key::DefaultTime2Wait => parameters.default_time2wait_s = small()?,
            Key::DefaultTime2Retain => parameters.default_time2retain_s = small()?,
            Key::MaxConnections => parameters.max_connections = small()?,
            _ => {}
        }
        Ok(())
    }
}

fn in_range(value: &str, low: u32, high: u32) -> Result<u32, Failure> {
    text::number(value).filter(|number| (low..=high).contains(number)).ok_or(Failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_in(session_type: SessionType, offer: Offer, key: &str, value: &str) -> Result<String, Failure> {
        let mut negotiation = Negotiation::new(offer);
        negotiation.set_session_type(session_type);
        let mut out = Vec::new();
        negotiation.answer(key, value, &mut out)?;
        Ok(String::from_utf8(out).unwrap().trim_end_matches('\0').to_owned())
    }

    #[track_caller]
    fn check(key: &str, value: &str, expected: Result<&str, Failure>) {
        let answer = answer_in(SessionType::Normal, Offer::default(), key, value);
        assert_eq!(answer, expected.map(|answer| format!("{key}={answer}")));
    }

    #[test]
    fn s13_result_functions() {
        check("MaxBurstLength", "16776192", Ok("1048576"));
        check("MaxBurstLength", "0x1000", Ok("4096"));
        check("FirstBurstLength", "65536", Ok("65536"));
        check("InitialR2T", "Yes", Ok("Yes"));
        check("InitialR2T", "No", Ok("No"));
        check("ImmediateData", "Yes", Ok("Yes"));
        check("ImmediateData", "No", Ok("No"));
        check("DefaultTime2Wait", "0", Ok("2"));
        check("DefaultTime2Wait", "60", Ok("60"));
        check("DefaultTime2Retain", "20", Ok("0"));
        check("MaxOutstandingR2T", "65535", Ok("8"));
        check("MaxConnections", "8", Ok("1"));
        check("ErrorRecoveryLevel", "2", Ok("0"));
        check("DataPDUInOrder", "No", Ok("Yes"));
        check("DataSequenceInOrder", "No", Ok("Yes"));
        check("iSCSIProtocolLevel", "31", Ok("1"));
        check("TaskReporting", "FastAbort,RFC3720", Ok("RFC3720"));
        check("TaskReporting", "FastAbort", Ok("Reject"));
        check("HeaderDigest", "CRC32C,None", Ok("CRC32C"));
        check("HeaderDigest", "None,CRC32C", Ok("None"));
        check("DataDigest", "X-md5,CRC32C", Ok("CRC32C"));
    }

    #[test]
    fn s13_obsolete_markers_get_a_harmless_answer() {
        check("OFMarker", "Yes", Ok("No"));
        check("IFMarkInt", "2048~65535", Ok("Irrelevant"));
    }

    #[test]
    fn s7_10_values_out_of_range_fail_the_negotiation() {
        check("MaxBurstLength", "511", Err(Failure));
        check("MaxBurstLength", "16777216", Err(Failure));
        check("MaxRecvDataSegmentLength", "0", Err(Failure));
        check("InitialR2T", "yes", Err(Failure));
        check("ErrorRecoveryLevel", "3", Err(Failure));
        check("MaxConnections", "0", Err(Failure));
        check("DataDigest", "X-md5", Err(Failure));
        check("DefaultTime2Wait", "3601", Err(Failure));
    }

    #[test]
    fn s6_2_unknown_keys_are_not_understood_and_repeated_ones_refused() {
        check("X-com.example.key", "1", Ok("NotUnderstood"));
        let mut negotiation = Negotiation::new(Offer::default());
        let mut out = Vec::new();
        assert_eq!(negotiation.answer("InitialR2T", "No", &mut out), Ok(()));
        assert_eq!(negotiation.answer("InitialR2T", "No", &mut out), Err(Failure));
    }

    #[test]
    fn s13_keys_of_no_meaning_in_discovery_are_irrelevant() {
        for key in ["MaxBurstLength", "ImmediateData", "MaxOutstandingR2T", "MaxConnections"] {
            let answer = answer_in(SessionType::Discovery, Offer::default(), key, "1");
            assert_eq!(answer, Ok(format!("{key}=Irrelevant")));
        }
        let answer = answer_in(SessionType::Discovery, Offer::default(), "HeaderDigest", "None");
        assert_eq!(answer.as_deref(), Ok("HeaderDigest=None"));
    }

    #[test]
    fn s13_12_declarations_are_not_answered() {
        check_silent("MaxRecvDataSegmentLength", "65536");
    }

    #[track_caller]
    fn check_silent(key: &str, value: &str) {
        let answer = answer_in(SessionType::Normal, Offer::default(), key, value);
        assert_eq!(answer.as_deref(), Ok(""));
    }

    #[test]
    fn both_sides_come_to_the_same_parameters() {
        let ours =
            Offer { header_digest: DigestOffer::PreferCrc32c, max_burst_length: 70_000, ..Offer::default() };
        let theirs = Offer { first_burst_length: 1 << 20, initial_r2t: true, ..Offer::default() };
        let mut initiator = Negotiation::new(ours);
        let mut target = Negotiation::new(theirs);
        let mut request = Vec::new();
        initiator.propose(&mut request);
        let mut response = Vec::new();
        target.declare(&mut response);
        for pair in text::pairs(&request) {
            let (key, value) = pair.unwrap();
            target.answer(key, value, &mut response).unwrap();
        }
        for pair in text::pairs(&response) {
            let (key, value) = pair.unwrap();
            initiator.accept(key, value).unwrap();
        }
        let (initiator, target) = (initiator.finish(), target.finish());
        assert_eq!(initiator, target);
        assert!(initiator.header_digest && initiator.initial_r2t && !initiator.data_digest);
        assert_eq!((initiator.max_burst_length, initiator.first_burst_length), (70_000, 70_000));
    }

    /// Of a connection that joins a session only what is its own is negotiated.
    #[test]
    fn s13_leading_only_keys_are_irrelevant_on_other_connections() {
        let session = Parameters { max_burst_length: 70_000, max_connections: 4, ..Parameters::default() };
        let mut target = Negotiation::new(Offer::default());
        target.join(session);
        let mut out = Vec::new();
        for (key, value) in [("MaxBurstLength", "512"), ("MaxConnections", "8"), ("InitialR2T", "No")] {
            target.answer(key, value, &mut out).unwrap();
        }
        target.answer("HeaderDigest", "CRC32C", &mut out).unwrap();
        target.answer("MaxRecvDataSegmentLength", "4096", &mut out).unwrap();
        let expected: &[u8] =
            b"MaxBurstLength=Irrelevant\0MaxConnections=Irrelevant\0InitialR2T=Irrelevant\0HeaderDigest=CRC32C\0";
        assert_eq!(out, expected);
        let agreed = target.finish();
        assert_eq!((agreed.max_burst_length, agreed.max_connections, agreed.initial_r2t), (70_000, 4, true));
        assert_eq!((agreed.header_digest, agreed.peer_max_recv_data_segment_length), (true, 4096));
        let mut initiator = Negotiation::new(Offer::default());
        initiator.join(session);
        let mut offered = Vec::new();
        initiator.propose(&mut offered);
        let keys: Vec<&str> = text::pairs(&offered).map(|pair| pair.unwrap().0).collect();
        assert_eq!(keys, ["HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength"]);
    }

    #[test]
    fn s6_2_an_initiator_refuses_answers_beyond_its_offer() {
        let mut initiator = Negotiation::new(Offer { max_burst_length: 65536, ..Offer::default() });
        initiator.propose(&mut Vec::new());
        assert_eq!(initiator.accept("MaxBurstLength", "65537"), Err(Failure));
        assert_eq!(initiator.accept("ImmediateData", "Maybe"), Err(Failure));
        assert_eq!(initiator.accept("OFMarker", "Yes"), Err(Failure));
        assert_eq!(initiator.accept("HeaderDigest", "NotUnderstood"), Ok(()));
    }
}
