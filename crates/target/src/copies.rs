//! The copy manager's side of copies: which units a host may copy between, and the tokens that are out.

use crate::directory::UnitGrant;
use crate::unit::LogicalUnitHandle;
use block::Runtime;
use parking_lot::{Mutex, RwLock};
use scsi::{
    ByteRange, FoundToken, NewToken, NexusId, RodToken, RodTokens, TokenCreator, TokenFault, TokenId,
    TokenLimits,
};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Whose copy it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The initiator's iSCSI name, in lower case.
    pub initiator: String,
    /// The target whose unit took the command, in lower case.
    pub target: String,
    /// Where its session comes from.
    pub peer: SocketAddr,
    /// The address of ours it came to.
    pub local: SocketAddr,
}

/// Who may copy what. Called on reactor threads: answers come from memory, at once.
pub trait CopyDirectory: Send + Sync + 'static {
    /// The unit of that NAA identifier, if this host may use it, through whatever target. Its number does not matter.
    fn unit_for_copy(&self, requester: &Requester, naa: &[u8; 16]) -> Option<UnitGrant>;
}

/// What a token is a token of.
#[derive(Clone)]
pub(crate) struct TokenSource {
    pub(crate) unit: Weak<LogicalUnitHandle>,
    /// Whoever has a token may read what it stands for as long as this host, which had it made, may.
    pub(crate) requester: Requester,
    pub(crate) nexus: NexusId,
}

/// What all units of a server share for copies.
pub struct Copies {
    runtime: Arc<dyn Runtime>,
    directory: RwLock<Option<Weak<dyn CopyDirectory>>>,
    tokens: Mutex<RodTokens<TokenSource>>,
}

impl Copies {
    /// Without a directory: units can be copied within, not between.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        let tokens = Mutex::new(RodTokens::new(TokenLimits::default()));
        Self { runtime, directory: RwLock::new(None), tokens }
    }

    /// From now on `directory` decides on copies between units.
    pub fn follow(&self, directory: Weak<dyn CopyDirectory>) {
        *self.directory.write() = Some(directory);
    }

    pub(crate) fn unit_for_copy(&self, requester: &Requester, naa: &[u8; 16]) -> Option<UnitGrant> {
        let directory = self.directory.read().as_ref()?.upgrade()?;
        directory.unit_for_copy(requester, naa)
    }

    fn now(&self) -> Duration {
        self.runtime.now()
    }

    fn secret(&self) -> [u8; 256] {
        let mut secret = [0; 256];
        for part in secret.chunks_exact_mut(16) {
            part.copy_from_slice(&self.runtime.random_id());
        }
        secret
    }

    /// Makes a token for ranges of `unit`. From then on the unit tells of changes. None if there are too many.
    pub(crate) fn create_token(
        &self,
        unit: &LogicalUnitHandle,
        source: TokenSource,
        creator: TokenCreator,
        ranges: Vec<ByteRange>,
        inactivity_seconds: u32,
    ) -> Option<RodToken> {
        let new = NewToken {
            creator,
            owner: source.requester.initiator.clone(),
            source,
            ranges,
            inactivity: Duration::from_secs(u64::from(inactivity_seconds)),
        };
        let secret = self.secret();
        let mut tokens = self.tokens.lock();
        let token = tokens.create(new, self.now(), &secret)?;
        unit.set_has_tokens(true);
        Some(token)
    }

    pub(crate) fn find_token(&self, token: &RodToken) -> Result<FoundToken<TokenSource>, TokenFault> {
        self.tokens.lock().find(token, self.now())
    }

    pub(crate) fn check_token(&self, token: TokenId) -> Result<(), TokenFault> {
        self.tokens.lock().check(token, self.now())
    }

    pub(crate) fn delete_token(&self, token: TokenId) {
        self.tokens.lock().delete(token);
    }

    /// A range of `unit` is about to change, or has just changed.
    pub(crate) fn changed(&self, unit: &LogicalUnitHandle, naa: &[u8; 16], range: ByteRange) {
        let mut tokens = self.tokens.lock();
        tokens.changed(naa, range);
        if !tokens.any_of(naa, self.now()) {
            unit.set_has_tokens(false);
        }
    }

    /// The unit is not offered for copies any more.
    pub(crate) fn cancel_tokens_of(&self, naa: &[u8; 16]) {
        self.tokens.lock().cancel_all_of(naa);
    }
}
