//! What each token stands for, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::format::RodToken;
use crate::copy::TokenCreator;
use crate::media::ByteRange;
use crate::sense::{AdditionalSense, Sense};

/// A token of one table; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TokenId(u64);

/// Why a token cannot be used (SPC-4 5.17.6.5.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenFault {
    /// Of a type that is not made here.
    TypeUnsupported,
    /// ROD TOKEN LENGTH is not 01F8h.
    Length,
    /// None that was made here, or not remembered any more.
    Unknown,
    /// Begins like one that was made here, and goes on in another way.
    Corrupt,
    /// Unused for too long.
    Expired,
    /// What it stood for was written to, or is gone.
    Cancelled,
    /// Deleted by a host (DEL_TKN).
    Deleted,
}

impl TokenFault {
    /// What the host is told.
    pub fn sense(self) -> Sense {
        Sense::illegal(match self {
            Self::TypeUnsupported => AdditionalSense::TOKEN_TYPE_UNSUPPORTED,
            Self::Length => AdditionalSense::TOKEN_LENGTH_INVALID,
            Self::Unknown => AdditionalSense::TOKEN_UNKNOWN,
            Self::Corrupt => AdditionalSense::TOKEN_CORRUPT,
            Self::Expired => AdditionalSense::TOKEN_EXPIRED,
            Self::Cancelled => AdditionalSense::TOKEN_CANCELLED,
            Self::Deleted => AdditionalSense::TOKEN_DELETED,
        })
    }
}

/// How many tokens are remembered, with those that ended lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenLimits {
    /// In all: one more is refused, unless one has ended.
    pub tokens_max: usize,
    /// Of one owner: one more takes the place of its oldest.
    pub per_owner_max: usize,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { tokens_max: 4096, per_owner_max: 256 }
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken<S> {
    /// Who makes it; goes into the token.
    pub creator: TokenCreator,
    /// The host it is made for: tokens are limited by host.
    pub owner: String,
    /// What the caller wants back when the token is used.
    pub source: S,
    /// What it stands for, in this order; none overlaps another.
    pub ranges: Vec<ByteRange>,
    /// How long it may go unused.
    pub inactivity: Duration,
}

/// A token that is good.
#[derive(Clone, Debug)]
pub struct FoundToken<S> {
    /// The token.
    pub id: TokenId,
    /// As [`NewToken::source`].
    pub source: S,
    /// What it stands for.
    pub ranges: Vec<ByteRange>,
    /// Bytes of that.
    pub bytes: u64,
}

#[derive(Debug)]
struct Entry<S> {
    token: RodToken,
    unit: [u8; 16],
    owner: String,
    source: S,
    ranges: Vec<ByteRange>,
    /// The same, by offset.
    sorted: Vec<ByteRange>,
    inactivity: Duration,
    used_at: Duration,
    /// Why it is good for nothing any more. Remembered for a while, as hosts are told the reason.
    ended: Option<TokenFault>,
}

impl<S> Entry<S> {
    fn overlaps(&self, range: ByteRange) -> bool {
        let end = range.offset.saturating_add(range.len);
        let after = self.sorted.partition_point(|own| own.offset < end);
        let last = after.checked_sub(1).and_then(|at| self.sorted.get(at));
        last.is_some_and(|own| own.offset.saturating_add(own.len) > range.offset)
    }

    fn state(&self, now: Duration) -> Result<(), TokenFault> {
        match self.ended {
            Some(fault) => Err(fault),
            None if now.saturating_sub(self.used_at) > self.inactivity => Err(TokenFault::Expired),
            None => Ok(()),
        }
    }
}

/// The tokens of a copy manager.
#[derive(Debug)]
pub struct RodTokens<S> {
    /// By identifier, and so by age.
    entries: BTreeMap<u64, Entry<S>>,
    last: u64,
    limits: TokenLimits,
}

impl<S: Clone> RodTokens<S> {
    /// No tokens yet.
    pub fn new(limits: TokenLimits) -> Self {
        Self { entries: BTreeMap::new(), last: 0, limits }
    }

    /// Makes a token at the time `now`. `secret` has to be random: who cannot guess it cannot make a token.
    ///
    /// None if there are too many.
    pub fn create(&mut self, new: NewToken<S>, now: Duration, secret: &[u8; 256]) -> Option<RodToken> {
        self.make_room(&new.owner, now)?;
        self.last += 1;
        let bytes = new.ranges.iter().map(|range| range.len).fold(0, u64::saturating_add);
        let token = RodToken::generic(&new.creator, self.last, bytes, secret);
        let mut sorted = new.ranges.clone();
        sorted.retain(|range| range.len > 0);
        sorted.sort_unstable_by_key(|range| range.offset);
        let entry = Entry {
            token: token.clone(),
            unit: new.creator.naa,
            owner: new.owner,
            source: new.source,
            ranges: new.ranges,
            sorted,
            inactivity: new.inactivity,
            used_at: now,
            ended: None,
        };
        self.entries.insert(self.last, entry);
        Some(token)
    }

    fn make_room(&mut self, owner: &str, now: Duration) -> Option<()> {
        let own = || self.entries.iter().filter(|(_, entry)| entry.owner == owner);
        if own().count() >= self.limits.per_owner_max {
            let oldest = own().next().map(|(id, _)| *id)?;
            self.entries.remove(&oldest);
        }
        if self.entries.len() >= self.limits.tokens_max {
            let ended =
                self.entries.iter().find(|(_, entry)| entry.state(now).is_err()).map(|(id, _)| *id)?;
            self.entries.remove(&ended);
        }
        Some(())
    }

    /// What the token stands for that a host presents at the time `now`; that counts as use.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn find(&mut self, presented: &RodToken, now: Duration) -> Result<FoundToken<S>, TokenFault> {
        if !presented.has_right_length() {
            return Err(TokenFault::Length);
        }
        if presented.kind() != super::CHANGE_VULNERABLE {
            return Err(TokenFault::TypeUnsupported);
        }
        let entry = self.entries.get_mut(&presented.id()).ok_or(TokenFault::Unknown)?;
        if !entry.token.is_same(presented) {
            return Err(TokenFault::Corrupt);
        }
        entry.state(now)?;
        entry.used_at = now;
        let bytes = entry.ranges.iter().map(|range| range.len).fold(0, u64::saturating_add);
        let id = TokenId(presented.id());
        Ok(FoundToken { id, source: entry.source.clone(), ranges: entry.ranges.clone(), bytes })
    }

    /// Whether a token is good still: what was read for it is what it stands for. Counts as use.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&mut self, id: TokenId, now: Duration) -> Result<(), TokenFault> {
        let entry = self.entries.get_mut(&id.0).ok_or(TokenFault::Unknown)?;
        entry.state(now)?;
        entry.used_at = now;
        Ok(())
    }

    /// A host wants it gone.
    pub fn delete(&mut self, id: TokenId) {
        if let Some(entry) = self.entries.get_mut(&id.0) {
            entry.ended.get_or_insert(TokenFault::Deleted);
        }
    }

    /// A range of a unit is about to change, or has just changed: tokens that stand for a part of it end.
    pub fn changed(&mut self, unit: &[u8; 16], range: ByteRange) {
        let of_unit = self.entries.values_mut().filter(|entry| entry.unit == *unit && entry.ended.is_none());
        of_unit.filter(|entry| entry.overlaps(range)).for_each(|entry| {
            entry.ended = Some(TokenFault::Cancelled);
        });
    }

    /// Whether any token of a unit is good at the time `now`.
    pub fn any_of(&self, unit: &[u8; 16], now: Duration) -> bool {
        self.entries.values().any(|entry| entry.unit == *unit && entry.state(now).is_ok())
    }

    /// All tokens of a unit end: it is gone, or not offered for this any more.
    pub fn cancel_all_of(&mut self, unit: &[u8; 16]) {
        let of_unit = self.entries.values_mut().filter(|entry| entry.unit == *unit);
        of_unit.for_each(|entry| {
            entry.ended.get_or_insert(TokenFault::Cancelled);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::BlockSize;

    const UNIT: [u8; 16] = [0x60; 16];
    const OTHER: [u8; 16] = [0x61; 16];
    const MINUTE: Duration = Duration::from_secs(60);

    fn range(offset: u64, len: u64) -> ByteRange {
        ByteRange { offset, len }
    }

    fn new_token(owner: &str, ranges: &[ByteRange]) -> NewToken<u32> {
        let creator =
            TokenCreator { naa: UNIT, block_size: BlockSize::B512, target_name: "iqn.2026-01.t:v".into() };
        NewToken { creator, owner: owner.into(), source: 7, ranges: ranges.to_vec(), inactivity: MINUTE }
    }

    fn tokens() -> RodTokens<u32> {
        RodTokens::new(TokenLimits { tokens_max: 4, per_owner_max: 3 })
    }

    fn make(tokens: &mut RodTokens<u32>, owner: &str, now: Duration) -> Option<RodToken> {
        tokens.create(new_token(owner, &[range(8192, 4096), range(0, 512)]), now, &[3; 256])
    }

    #[test]
    fn a_token_gives_back_what_it_was_made_of() {
        let mut tokens = tokens();
        let token = make(&mut tokens, "a", Duration::ZERO).unwrap();
        let found = tokens.find(&token, MINUTE).unwrap();
        assert_eq!((found.source, found.bytes), (7, 4608));
        assert_eq!(found.ranges, [range(8192, 4096), range(0, 512)], "in the host's order");
        assert_eq!(tokens.check(found.id, MINUTE), Ok(()));
    }

    /// SPC-4 5.17.6.5.2.3, one by one.
    #[test]
    fn a_token_that_was_not_made_here_is_refused() {
        let mut tokens = tokens();
        let token = make(&mut tokens, "a", Duration::ZERO).unwrap();
        for (byte, fault) in [
            (0, TokenFault::TypeUnsupported),
            (3, TokenFault::TypeUnsupported),
            (6, TokenFault::Length),
            (15, TokenFault::Unknown),
            (20, TokenFault::Corrupt),
            (63, TokenFault::Corrupt),
            (256, TokenFault::Corrupt),
            (511, TokenFault::Corrupt),
        ] {
            let mut bytes = *token.bytes();
            bytes[byte] ^= 0x40;
            let refused = tokens.find(&RodToken::from_bytes(&bytes), Duration::ZERO);
            assert_eq!(refused.err(), Some(fault), "byte {byte}");
            assert_eq!(fault.sense().additional.code, 0x23);
        }
        assert!(tokens.find(&token, Duration::ZERO).is_ok(), "trying in vain changes nothing");
    }

    /// SPC-4 5.17.6.7: each use starts the inactivity time-out anew.
    #[test]
    fn a_token_expires_unused() {
        let mut tokens = tokens();
        let token = make(&mut tokens, "a", MINUTE).unwrap();
        let id = tokens.find(&token, MINUTE * 2).unwrap().id;
        assert_eq!(tokens.check(id, MINUTE * 3), Ok(()));
        assert!(tokens.any_of(&UNIT, MINUTE * 4));
        let late = MINUTE * 4 + Duration::from_millis(1);
        assert_eq!(tokens.find(&token, late).err(), Some(TokenFault::Expired));
        assert_eq!(tokens.check(id, late), Err(TokenFault::Expired));
        assert!(!tokens.any_of(&UNIT, late));
    }

    /// SPC-4 5.17.6.2.3.3: change vulnerable.
    #[test]
    fn a_write_to_what_it_stands_for_cancels_a_token() {
        for (changed, cancels) in [
            (range(512, 7680), false),
            (range(12288, 1 << 40), false),
            (range(0, 512), true),
            (range(511, 1), true),
            (range(4096, 4097), true),
            (range(12287, 1), true),
            (range(0, u64::MAX), true),
        ] {
            let mut tokens = tokens();
            let token = make(&mut tokens, "a", Duration::ZERO).unwrap();
            tokens.changed(&OTHER, range(0, u64::MAX));
            tokens.changed(&UNIT, changed);
            let fault = tokens.find(&token, Duration::ZERO).err();
            assert_eq!(fault, cancels.then_some(TokenFault::Cancelled), "{changed:?}");
        }
    }

    #[test]
    fn a_token_can_be_deleted_and_goes_with_its_unit() {
        let mut tokens = tokens();
        let (first, second) = (
            make(&mut tokens, "a", Duration::ZERO).unwrap(),
            make(&mut tokens, "a", Duration::ZERO).unwrap(),
        );
        assert_ne!(first.id(), second.id());
        let id = tokens.find(&first, Duration::ZERO).unwrap().id;
        tokens.delete(id);
        tokens.cancel_all_of(&UNIT);
        assert_eq!(tokens.find(&first, Duration::ZERO).err(), Some(TokenFault::Deleted));
        assert_eq!(tokens.find(&second, Duration::ZERO).err(), Some(TokenFault::Cancelled));
        assert!(!tokens.any_of(&UNIT, Duration::ZERO));
    }

    #[test]
    fn tokens_are_bounded_by_host_and_in_all() {
        let mut tokens = tokens();
        let first = make(&mut tokens, "a", Duration::ZERO).unwrap();
        let kept: Vec<_> = (0..3).map(|_| make(&mut tokens, "a", Duration::ZERO).unwrap()).collect();
        assert_eq!(tokens.find(&first, Duration::ZERO).err(), Some(TokenFault::Unknown), "the oldest went");
        make(&mut tokens, "b", Duration::ZERO).unwrap();
        assert!(make(&mut tokens, "b", Duration::ZERO).is_none(), "full, and none has ended");
        assert!(tokens.find(&kept[0], Duration::ZERO).is_ok(), "another host's tokens stay");
        let id = tokens.find(&kept[1], Duration::ZERO).unwrap().id;
        tokens.delete(id);
        make(&mut tokens, "b", Duration::ZERO).expect("one had ended");
    }
}
