//! The challenges of all connections: none may come back as somebody else's (RFC 7143 §12.1.3).

use std::collections::{HashSet, VecDeque};

use super::Nonce;

/// Challenges remembered: more than the logins that can be under way. The oldest is forgotten for one more.
const CHALLENGES_MAX: usize = 4096;

/// Bytes by which a challenge is known: the shortest that this side makes.
const MARK_BYTES: usize = 16;

/// The challenges this side has made lately, over all its connections.
///
/// One connection knows its own challenge. Who has a response made for it on a second connection sends it there as a
/// challenge to this side: hence one of these for a whole server.
#[derive(Debug, Default)]
pub struct Outstanding {
    marks: HashSet<[u8; MARK_BYTES]>,
    order: VecDeque<[u8; MARK_BYTES]>,
}

fn mark(challenge: &[u8]) -> Option<[u8; MARK_BYTES]> {
    challenge.first_chunk().copied()
}

impl Outstanding {
    /// Remembers a nonce before it is used.
    pub fn issue(&mut self, nonce: &Nonce) {
        let Some(mark) = mark(&nonce.challenge) else { return };
        if !self.marks.insert(mark) {
            return;
        }
        self.order.push_back(mark);
        if self.order.len() > CHALLENGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.marks.remove(&oldest);
        }
    }

    /// True for a challenge that this side made.
    #[must_use]
    pub fn contains(&self, challenge: &[u8]) -> bool {
        mark(challenge).is_some_and(|mark| self.marks.contains(&mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chap::{Algorithm, NONCE_BYTES};

    fn nonce(number: u16) -> Nonce {
        let mut random = [0; NONCE_BYTES];
        random[1..3].copy_from_slice(&number.to_be_bytes());
        Nonce::new(random)
    }

    #[test]
    fn s12_1_3_a_challenge_is_known_on_every_connection_and_with_every_algorithm() {
        let mut outstanding = Outstanding::default();
        outstanding.issue(&nonce(1));
        for algorithm in Algorithm::BY_PREFERENCE {
            assert!(outstanding.contains(nonce(1).challenge(algorithm)));
            assert!(!outstanding.contains(nonce(2).challenge(algorithm)));
        }
        assert!(!outstanding.contains(&[0; 3]));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut outstanding = Outstanding::default();
        for number in 0..=u16::try_from(CHALLENGES_MAX).unwrap() {
            outstanding.issue(&nonce(number));
        }
        assert_eq!((outstanding.marks.len(), outstanding.order.len()), (CHALLENGES_MAX, CHALLENGES_MAX));
        assert!(!outstanding.contains(nonce(0).challenge(Algorithm::Md5)), "the oldest is gone");
        assert!(outstanding.contains(nonce(1).challenge(Algorithm::Md5)));
    }
}
