//! What all connections share to authenticate: random challenges, the ones made lately, and who failed how often.

use crate::login_limit::LoginLimit;
use iscsi::chap::{Failure, NONCE_BYTES, Nonce, Outstanding};
use iscsi::pdu::LoginStatus;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Logins that failed to prove what they had to, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthenticationCounts {
    /// Refused for a wrong user name or secret, or for breaking the rules.
    pub failed: u64,
    /// Refused unheard, after too many failures.
    pub limited: u64,
}

/// Guards the logins of a server.
#[derive(Default)]
pub(crate) struct Guard {
    outstanding: Mutex<Outstanding>,
    limit: Mutex<LoginLimit>,
    failed: AtomicU64,
    limited: AtomicU64,
}

impl Guard {
    /// A nonce for one login; none if the kernel gives no random bytes.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        let mut random = [0; NONCE_BYTES];
        let mut filled = 0;
        while let Some(room) = random.get_mut(filled..).filter(|room| !room.is_empty()) {
            match rustix::rand::getrandom(room, rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        let nonce = Nonce::new(random);
        self.outstanding.lock().issue(&nonce);
        Some(nonce)
    }

    /// True for a challenge of this server's own, on whatever connection.
    pub(crate) fn made(&self, challenge: &[u8]) -> bool {
        self.outstanding.lock().contains(challenge)
    }

    /// Lets a login try.
    ///
    /// # Errors
    /// Service unavailable after too many failures: unlike a failed authentication it makes hosts try again later.
    pub(crate) fn admit(&self, peer: IpAddr, initiator: &str, now: Duration) -> Result<(), LoginStatus> {
        if self.limit.lock().admits(peer, initiator, now) {
            return Ok(());
        }
        self.limited.fetch_add(1, Ordering::Relaxed);
        Err(LoginStatus::ServiceUnavailable)
    }

    /// A login has failed.
    pub(crate) fn failed(&self, peer: IpAddr, initiator: &str, why: Failure, now: Duration) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        // Nothing was guessed: a host that is set up wrongly, and shall go on being told so.
        if !matches!(why, Failure::NotOffered | Failure::NoCredentials | Failure::UnknownAlgorithm) {
            self.limit.lock().failed(peer, initiator, now);
        }
    }

    /// A login was right.
    pub(crate) fn succeeded(&self, peer: IpAddr, initiator: &str) {
        self.limit.lock().succeeded(peer, initiator);
    }

    pub(crate) fn counts(&self) -> AuthenticationCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AuthenticationCounts { failed: count(&self.failed), limited: count(&self.limited) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn guesses_count_toward_the_limit_and_hosts_without_chap_do_not() {
        let guard = Guard::default();
        for _ in 0..100 {
            guard.failed(PEER, "iqn.a:b", Failure::NotOffered, Duration::ZERO);
        }
        assert_eq!(guard.admit(PEER, "iqn.a:b", Duration::ZERO), Ok(()));
        for _ in 0..100 {
            guard.failed(PEER, "iqn.a:b", Failure::WrongResponse, Duration::ZERO);
        }
        assert_eq!(guard.admit(PEER, "iqn.a:b", Duration::ZERO), Err(LoginStatus::ServiceUnavailable));
        assert_eq!(guard.counts(), AuthenticationCounts { failed: 200, limited: 1 });
    }
}
