//! The initiator's side: it answers the target's challenge, and challenges the target if it is to prove itself.

use subtle::ConstantTimeEq;

use super::{Algorithm, Credential, Failure, Keys, Nonce};
use crate::text;

/// What an initiator logs in with.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Its own name and secret.
    pub own: Credential,
    /// What the target has to prove to know (mutual CHAP), if anything.
    pub target: Option<Credential>,
    /// Random bytes of this login's own.
    pub nonce: Nonce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Algorithm,
    /// Answered; the target has to prove itself by this algorithm, if to any.
    Answered(Option<Algorithm>),
    Done,
}

/// The initiator's side of one login.
#[derive(Debug)]
pub(crate) struct Answerer {
    answers: Answers,
    state: State,
}

impl Answerer {
    pub(crate) fn new(answers: Answers) -> Self {
        Self { answers, state: State::Method }
    }

    /// The AuthMethod list. Who wants proof from the target does not go on without.
    pub(crate) fn methods(&self) -> &'static str {
        if self.answers.target.is_some() { "CHAP" } else { "CHAP,None" }
    }

    /// The next request may ask to leave the security stage.
    pub(crate) fn may_transit(&self) -> bool {
        matches!(self.state, State::Answered(_) | State::Done)
    }

    /// The target leaves the security stage.
    pub(crate) fn leave(&self) -> Result<(), Failure> {
        match self.state {
            State::Done | State::Answered(None) => Ok(()),
            _ => Err(Failure::OutOfOrder),
        }
    }

    /// Takes the keys of a whole response of the security stage and writes what goes into the next request.
    pub(crate) fn step(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match self.state {
            _ if keys.is_empty() => Ok(()),
            State::Method => self.method(keys, out),
            State::Algorithm => self.answer(keys, out),
            State::Answered(Some(algorithm)) => self.verify(algorithm, keys),
            State::Answered(None) | State::Done => Err(Failure::OutOfOrder),
        }
    }

    fn method(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if keys.has_chap() {
            return Err(Failure::OutOfOrder);
        }
        match keys.method {
            Some("CHAP") => {
                text::put(out, "CHAP_A", &Algorithm::list());
                self.state = State::Algorithm;
            }
            Some("None") if self.answers.target.is_none() => self.state = State::Done,
            _ => return Err(Failure::NotOffered),
        }
        Ok(())
    }

    /// CHAP_A, CHAP_I and CHAP_C of the target.
    fn answer(&mut self, keys: &Keys<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if keys.method.is_some() || keys.name.is_some() || keys.response.is_some() {
            return Err(Failure::OutOfOrder);
        }
        let algorithm = keys.algorithm.ok_or(Failure::OutOfOrder)?;
        let algorithm = Algorithm::choose(algorithm).ok_or(Failure::UnknownAlgorithm)?;
        let (identifier, challenge) = keys.challenge()?;
        let Answers { own, target, nonce } = &self.answers;
        if nonce.made(&challenge) {
            return Err(Failure::Reflected);
        }
        if target.as_ref().is_some_and(|target| target.secret == own.secret) {
            return Err(Failure::SameSecret);
        }
        super::put_response(out, &own.name, &algorithm.response(identifier, &own.secret, &challenge));
        if target.is_some() {
            super::put_challenge(out, nonce.identifier, nonce.challenge(algorithm));
        }
        self.state = State::Answered(target.is_some().then_some(algorithm));
        Ok(())
    }

    /// CHAP_N and CHAP_R of the target.
    fn verify(&mut self, algorithm: Algorithm, keys: &Keys<'_>) -> Result<(), Failure> {
        let Answers { target: Some(target), nonce, .. } = &self.answers else { return Ok(()) };
        if keys.method.is_some() || keys.algorithm.is_some() || keys.has_challenge() {
            return Err(Failure::OutOfOrder);
        }
        let (name, response) = keys.response(algorithm)?;
        let expected = algorithm.response(nonce.identifier, &target.secret, nonce.challenge(algorithm));
        let right = expected.as_slice().ct_eq(&response) & name.as_bytes().ct_eq(target.name.as_bytes());
        if !bool::from(right) {
            return Err(Failure::WrongResponse);
        }
        self.state = State::Done;
        Ok(())
    }
}
