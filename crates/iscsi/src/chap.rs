//! CHAP, the challenge-handshake authentication of a login (RFC 1994; RFC 7143 §9.2.1 and §12.1.3), both roles.
//!
//! The machines here take keys and give keys. Challenges come in as [`Nonce`]s drawn by the caller, and who may log in
//! with which secret as a [`Demand`].

mod answerer;
mod authenticator;
mod binary;
mod outstanding;

use core::fmt;

use sha2::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) use answerer::Answerer;
pub use answerer::Answers;
pub use authenticator::{Account, Demand, Proof};
pub(crate) use authenticator::{Authenticator, Progress};
pub use outstanding::Outstanding;

/// Random bytes of a [`Nonce`]: the identifier, then the longest challenge.
pub const NONCE_BYTES: usize = 1 + DIGEST_BYTES_MAX;

/// Longest challenge that is answered, bytes (RFC 7143 §12.1.3: "CHAP_C ... not exceed 1024 bytes").
pub const CHALLENGE_BYTES_MAX: usize = 1024;

/// Longest digest of all algorithms, bytes.
const DIGEST_BYTES_MAX: usize = 32;

/// Most algorithms read of a CHAP_A list; a longer one is cut.
const ALGORITHMS_MAX: usize = 32;

/// A hash that makes the response, by its number in IANA's registry of PPP authentication algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// 5, which every initiator speaks.
    Md5,
    /// 6.
    Sha1,
    /// 7.
    Sha256,
    /// 8.
    Sha3_256,
}

impl Algorithm {
    /// All, the ones liked best first.
    pub const BY_PREFERENCE: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The number in CHAP_A.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// Length of a response, and of the challenges this side makes, in bytes: 16 to 32.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }

    /// The one liked best of those in a CHAP_A list.
    fn choose(list: &str) -> Option<Self> {
        let offered = |algorithm: &Self| {
            let mut numbers = list.split(',').take(ALGORITHMS_MAX).filter_map(crate::text::number);
            numbers.any(|number| number == algorithm.number())
        };
        Self::BY_PREFERENCE.into_iter().find(offered)
    }

    /// All as a CHAP_A list.
    fn list() -> String {
        Self::BY_PREFERENCE.map(|algorithm| algorithm.number().to_string()).join(",")
    }

    /// The response to a challenge (RFC 1994 §4.1).
    fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Zeroizing<Vec<u8>> {
        fn hash<H: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            let mut hash = H::new();
            parts.into_iter().for_each(|part| hash.update(part));
            hash.finalize().to_vec()
        }
        let parts = [&[identifier], secret.bytes(), challenge];
        Zeroizing::new(match self {
            Self::Md5 => hash::<md5::Md5>(parts),
            Self::Sha1 => hash::<sha1::Sha1>(parts),
            Self::Sha256 => hash::<sha2::Sha256>(parts),
            Self::Sha3_256 => hash::<sha3::Sha3_256>(parts),
        })
    }
}

/// A secret: never printed, wiped when dropped, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the secret's bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A user name with its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user name of CHAP_N.
    pub name: String,
    /// The secret, never sent.
    pub secret: Secret,
}

/// Random bytes for the challenge of one login; never to be used for a second one.
#[derive(Clone)]
pub struct Nonce {
    identifier: u8,
    challenge: [u8; DIGEST_BYTES_MAX],
}

impl Nonce {
    /// From random bytes fit for secrets.
    #[must_use]
    pub const fn new(random: [u8; NONCE_BYTES]) -> Self {
        let [identifier, challenge @ ..] = random;
        Self { identifier, challenge }
    }

    /// The challenge for an algorithm: as long as its digest.
    fn challenge(&self, algorithm: Algorithm) -> &[u8] {
        self.challenge.get(..algorithm.digest_len()).unwrap_or(&self.challenge)
    }

    /// True if `challenge` is one that this nonce makes, or was cut from it.
    fn made(&self, challenge: &[u8]) -> bool {
        challenge.len() >= Algorithm::Md5.digest_len() && self.challenge.starts_with(challenge)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce")
    }
}

/// Why an authentication failed: for the log, as the other side is told only that it did (status 0201h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// One side wants CHAP and the other offers none.
    #[error("CHAP is required and was not offered")]
    NotOffered,
    /// The initiator wants CHAP, and there is no secret of it.
    #[error("CHAP is wanted, but no secret is set for this initiator")]
    NoCredentials,
    /// None of the algorithms is known.
    #[error("no known algorithm in CHAP_A")]
    UnknownAlgorithm,
    /// A key that has to come now did not, or one came that may not.
    #[error("a key is missing or out of order")]
    OutOfOrder,
    /// A key came twice.
    #[error("a key came twice")]
    Twice,
    /// A value cannot be read or has a length it cannot have.
    #[error("a value is malformed or of the wrong length")]
    BadValue,
    /// The user name or the response is wrong.
    #[error("wrong user name or secret")]
    WrongResponse,
    /// The challenge is one of this side's own (RFC 7143 §12.1.3).
    #[error("our own challenge was sent back (a reflection attack)")]
    Reflected,
    /// The other side wants proof, and there is no secret to give it with.
    #[error("mutual CHAP is wanted, but no secret of this side is set")]
    NoOwnSecret,
    /// The same secret for both directions (RFC 7143 §9.2.1).
    #[error("the same secret is set for both directions")]
    SameSecret,
}

/// The security keys of one request or response, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a> {
    method: Option<&'a str>,
    algorithm: Option<&'a str>,
    identifier: Option<&'a str>,
    challenge: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// True for the name of a security key.
    pub(crate) fn knows(key: &str) -> bool {
        matches!(key, "AuthMethod" | "CHAP_A" | "CHAP_I" | "CHAP_C" | "CHAP_N" | "CHAP_R")
    }

    /// Takes a key. One that it does not know changes nothing.
    pub(crate) fn add(&mut self, key: &str, value: &'a str) -> Result<(), Failure> {
        let place = match key {
            "AuthMethod" => &mut self.method,
            "CHAP_A" => &mut self.algorithm,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            _ => return Ok(()),
        };
        if place.replace(value).is_some() { Err(Failure::Twice) } else { Ok(()) }
    }

    /// The answer of a target that demands nothing: AuthMethod is None (RFC 7143 §12.1).
    pub(crate) fn answer_none(&self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.has_chap() {
            return Err(Failure::OutOfOrder);
        }
        let Some(list) = self.method else { return Ok(()) };
        if !list.split(',').any(|method| method == "None") {
            return Err(Failure::NoCredentials);
        }
        crate::text::put(out, "AuthMethod", "None");
        Ok(())
    }

    /// No security key is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.method.is_none() && !self.has_chap()
    }

    /// Any of CHAP's own keys is there.
    fn has_chap(&self) -> bool {
        self.algorithm.is_some() || self.has_challenge() || self.name.is_some() || self.response.is_some()
    }

    fn has_challenge(&self) -> bool {
        self.identifier.is_some() || self.challenge.is_some()
    }

    /// CHAP_I and CHAP_C, which come together.
    fn challenge(&self) -> Result<(u8, Vec<u8>), Failure> {
        let (Some(identifier), Some(challenge)) = (self.identifier, self.challenge) else {
            return Err(Failure::OutOfOrder);
        };
        let identifier = crate::text::number(identifier).and_then(|number| u8::try_from(number).ok());
        let challenge = binary::decode(challenge, CHALLENGE_BYTES_MAX).filter(|bytes| !bytes.is_empty());
        identifier.zip(challenge).ok_or(Failure::BadValue)
    }

    /// CHAP_N and CHAP_R, which come together; the response has the algorithm's length.
    fn response(&self, algorithm: Algorithm) -> Result<(&'a str, Vec<u8>), Failure> {
        let (Some(name), Some(response)) = (self.name, self.response) else {
            return Err(Failure::OutOfOrder);
        };
        let response = binary::decode(response, DIGEST_BYTES_MAX);
        let response = response.filter(|bytes| bytes.len() == algorithm.digest_len());
        if name.is_empty() {
            return Err(Failure::BadValue);
        }
        response.map(|response| (name, response)).ok_or(Failure::BadValue)
    }
}

/// Writes CHAP_N and CHAP_R.
fn put_response(out: &mut Vec<u8>, name: &str, response: &[u8]) {
    crate::text::put(out, "CHAP_N", name);
    crate::text::put(out, "CHAP_R", &binary::encode(response));
}

/// Writes CHAP_I and CHAP_C.
fn put_challenge(out: &mut Vec<u8>, identifier: u8, challenge: &[u8]) {
    crate::text::put(out, "CHAP_I", &identifier.to_string());
    crate::text::put(out, "CHAP_C", &binary::encode(challenge));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's hashlib: identifier 17, the secret, a challenge of sixteen bytes 00h to 0Fh.
    #[test]
    fn rfc1994_4_1_responses_are_those_of_other_programs() {
        let challenge: Vec<u8> = (0..16).collect();
        let response = |algorithm: Algorithm| {
            let secret = Secret::new("a secret of its own");
            binary::encode(&algorithm.response(17, &secret, &challenge))
        };
        assert_eq!(response(Algorithm::Md5), "0x408e29d88325393e29d75aedd818011e");
        assert_eq!(response(Algorithm::Sha1), "0x48fbf0f2f038b8c53af982184d38426af6fa2cf7");
        assert_eq!(
            response(Algorithm::Sha256),
            "0xa28819caf63e935cf5786e3ac94672090e7dd7e802f2f2a61089baabb33bfbf8"
        );
        assert_eq!(
            response(Algorithm::Sha3_256),
            "0xd0684a4ea7b1136bf4f3079740e041813c5d426ad6e5142949bd19e12477c21b"
        );
    }

    #[test]
    fn s12_1_3_the_strongest_algorithm_offered_is_chosen() {
        let choose = |list| Algorithm::choose(list).map(Algorithm::number);
        assert_eq!(choose("5"), Some(5));
        assert_eq!(choose("5,6,7,8"), Some(8));
        assert_eq!(choose("6,5,7"), Some(7));
        assert_eq!(choose("0x5,x,9"), Some(5));
        for unknown in ["", "0", "9,10", "MD5", "-5"] {
            assert_eq!(choose(unknown), None, "{unknown}");
        }
        let long = "1,".repeat(10_000) + "5";
        assert_eq!(choose(&long), None, "a list without end is not read to its end");
        assert_eq!(Algorithm::list(), "8,7,6,5");
    }

    #[test]
    fn neither_secret_nor_nonce_is_printed() {
        let credential = Credential { name: "u".to_owned(), secret: Secret::new("hidden") };
        assert_eq!(format!("{credential:?}"), "Credential { name: \"u\", secret: Secret }");
        assert_eq!(format!("{:?}", Nonce::new([7; NONCE_BYTES])), "Nonce");
    }

    #[test]
    fn secrets_are_equal_by_their_bytes() {
        assert_eq!(Secret::new("one"), Secret::new(b"one".to_vec()));
        assert_ne!(Secret::new("one"), Secret::new("two"));
        assert_ne!(Secret::new("one"), Secret::new("one2"));
    }
}
