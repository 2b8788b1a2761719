//! The target's side: it challenges, checks the response, and answers a challenge of the initiator's.

use core::fmt;

use subtle::{Choice, ConstantTimeEq};

use super::{Algorithm, Credential, Failure, Keys, Nonce, Secret};
use crate::text;

/// Most accounts of a [`Demand`]; more are not looked at.
const ACCOUNTS_MAX: usize = 4;

/// A pair of credentials that lets an initiator in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What the initiator proves to know.
    pub initiator: Credential,
    /// What this side proves to know to an initiator that asks (mutual CHAP). Without it such an initiator fails.
    pub target: Option<Credential>,
}

/// What a login has to prove.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Any of these will do.
    pub accounts: Vec<Account>,
    /// An initiator that wants no authentication is let in without.
    pub optional: bool,
    /// Random bytes of this login's own.
    pub nonce: Nonce,
}

/// What a login has proven.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// The user name that was proven; none if nothing had to be.
    pub user: Option<String>,
    /// The challenge that the initiator wants answered. To be refused if it is one of this side's own on any
    /// connection: see [`super::Outstanding`].
    pub challenge: Option<Vec<u8>>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mutual = self.challenge.is_some();
        f.debug_struct("Proof").field("user", &self.user).field("mutual", &mutual).finish()
    }
}

/// What a step has led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More has to come.
    Waiting,
    /// It is proven what had to be. What was written is not to be sent before the caller agrees.
    Proven(Proof),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Algorithm,
    Response(Algorithm),
    Done,
}

/// The target's side of one login.
#[derive(Debug)]
pub(crate) struct Authenticator {
    demand: Demand,
    state: State,
}

impl Authenticator {
    pub(crate) fn new(demand: Demand) -> Self {
        Self { demand, state: State::Method }
    }

    /// Nothing more has to be proven.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// AuthMethod has not come yet.
    pub(crate) fn waits_for_method(&self) -> bool {
        self.state == State::Method
    }

    /// The initiator goes on without the security stage, or wants to leave it.
    pub(crate) fn skip(&mut self) -> Result<Progress, Failure> {
        match self.state {
            State::Done => Ok(Progress::Waiting),
            State::Method if self.demand.optional => {
                self.state = State::Done;
                Ok(Progress::Proven(Proof { user: None, challenge: None }))
            }
            State::Method => Err(Failure::NotOffered),
            _ => Err(Failure::OutOfOrder),
        }
    }

    /// Takes the keys of a whole request of the security stage and writes the answer. A failure is for good.
    pub(crate) fn step(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<Progress, Failure> {
        match self.state {
            State::Method => self.method(keys, out),
            State::Algorithm => self.algorithm(keys, out),
            State::Response(algorithm) => self.response(algorithm, keys, out),
            State::Done if keys.is_empty() => Ok(Progress::Waiting),
            State::Done => Err(Failure::OutOfOrder),
        }
    }

    /// AuthMethod (RFC 7143 §12.1). No key of CHAP may come with it: the target has not chosen yet.
    fn method(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<Progress, Failure> {
        if keys.has_chap() {
            return Err(Failure::OutOfOrder);
        }
        let Some(list) = keys.method else { return Ok(Progress::Waiting) };
        let offers = |wanted| list.split(',').any(|method| method == wanted);
        if self.demand.optional && offers("None") {
            text::put(out, "AuthMethod", "None");
            return self.skip();
        }
        if !offers("CHAP") {
            return Err(Failure::NotOffered);
        }
        if self.demand.accounts.is_empty() && self.demand.optional {
            return Err(Failure::NoCredentials);
        }
        text::put(out, "AuthMethod", "CHAP");
        self.state = State::Algorithm;
        Ok(Progress::Waiting)
    }

    /// CHAP_A; the answer is the choice with CHAP_I and CHAP_C.
    fn algorithm(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<Progress, Failure> {
        let Keys { method: None, algorithm: Some(list), identifier: None, challenge: None, .. } = keys else {
            return Err(Failure::OutOfOrder);
        };
        if keys.name.is_some() || keys.response.is_some() {
            return Err(Failure::OutOfOrder);
        }
        let algorithm = Algorithm::choose(list).ok_or(Failure::UnknownAlgorithm)?;
        text::put(out, "CHAP_A", &algorithm.number().to_string());
        let nonce = &self.demand.nonce;
        super::put_challenge(out, nonce.identifier, nonce.challenge(algorithm));
        self.state = State::Response(algorithm);
        Ok(Progress::Waiting)
    }

    /// CHAP_N and CHAP_R, with CHAP_I and CHAP_C if this side has to prove itself, too.
    fn response(
        &mut self,
        algorithm: Algorithm,
        keys: &Keys<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Failure> {
        if keys.method.is_some() || keys.algorithm.is_some() {
            return Err(Failure::OutOfOrder);
        }
        let (name, response) = keys.response(algorithm)?;
        let challenge = if keys.has_challenge() { Some(keys.challenge()?) } else { None };
        if challenge.as_ref().is_some_and(|(_, challenge)| self.demand.nonce.made(challenge)) {
            return Err(Failure::Reflected);
        }
        let account = self.verify(algorithm, name, &response).ok_or(Failure::WrongResponse)?;
        if let Some((identifier, challenge)) = &challenge {
            let own = account.target.as_ref().ok_or(Failure::NoOwnSecret)?;
            if own.secret == account.initiator.secret {
                return Err(Failure::SameSecret);
            }
            super::put_response(out, &own.name, &algorithm.response(*identifier, &own.secret, challenge));
        }
        self.state = State::Done;
        let challenge = challenge.map(|(_, challenge)| challenge);
        Ok(Progress::Proven(Proof { user: Some(name.to_owned()), challenge }))
    }

    /// The account that the response is of. Whatever is wrong, and if there is no account at all, the work is the same.
    fn verify(&self, algorithm: Algorithm, name: &str, response: &[u8]) -> Option<&Account> {
        let nonce = &self.demand.nonce;
        let matches = |credential: &Credential| -> Choice {
            let expected =
                algorithm.response(nonce.identifier, &credential.secret, nonce.challenge(algorithm));
            expected.as_slice().ct_eq(response) & same_name(&credential.name, name)
        };
        let mut found = None;
        for account in self.demand.accounts.iter().take(ACCOUNTS_MAX) {
            if matches(&account.initiator).into() {
                found = Some(account);
            }
        }
        if self.demand.accounts.is_empty() {
            let nobody = Credential { name: String::new(), secret: Secret::new(nonce.challenge.to_vec()) };
            let _ = matches(&nobody);
        }
        found
    }
}

/// User names are equal whatever their case, as the iSCSI names are that they mostly repeat.
fn same_name(one: &str, other: &str) -> Choice {
    one.to_ascii_lowercase().as_bytes().ct_eq(other.to_ascii_lowercase().as_bytes())
}
