//! The security stage of a login (RFC 7143 §6.3.2, §12.1): what the caller demands, or None.

use crate::chap::{Authenticator, Demand, Failure, Keys, Progress, Proof};
use crate::pdu::LoginStatus;

/// Why a login is refused, and what to tell the caller about it.
pub(super) struct Refusal {
    pub(super) status: LoginStatus,
    pub(super) failure: Option<Failure>,
}

impl From<LoginStatus> for Refusal {
    fn from(status: LoginStatus) -> Self {
        Self { status, failure: None }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { status: LoginStatus::AuthenticationFailure, failure: Some(failure) }
    }
}

/// The security stage of one login.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// None while nothing is demanded.
    authenticator: Option<Authenticator>,
}

impl Security {
    pub(super) fn demand(&mut self, demand: Demand) {
        self.authenticator = Some(Authenticator::new(demand));
    }

    pub(super) fn has_no_demand(&self) -> bool {
        self.authenticator.is_none()
    }

    /// The login may go on to the next stage.
    pub(super) fn is_done(&self) -> bool {
        self.authenticator.as_ref().is_none_or(Authenticator::is_done)
    }

    /// Takes the security keys of a whole request and writes the answer. `leaves`: the request is of a later stage, or
    /// wants to go there. The proof, once it is there, is for the caller to judge.
    pub(super) fn step(
        &mut self,
        keys: &Keys<'_>,
        leaves: bool,
        out: &mut Vec<u8>,
    ) -> Result<Option<Proof>, Failure> {
        let Some(authenticator) = &mut self.authenticator else {
            return keys.answer_none(out).map(|()| None);
        };
        let mut progress = Progress::Waiting;
        if keys.is_empty() && leaves {
            progress = authenticator.skip()?;
        } else if !keys.is_empty() || !authenticator.waits_for_method() {
            progress = authenticator.step(keys, out)?;
        }
        match progress {
            Progress::Proven(proof) => Ok(Some(proof)),
            Progress::Waiting => Ok(None),
        }
    }
}
