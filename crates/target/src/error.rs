//! Why a server does not start.

use std::io::ErrorKind;
use std::net::SocketAddr;

/// Why a server does not start, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A portal's address cannot be listened on.
    #[error("cannot listen on {address}: {advice} ({source})")]
    Listen {
        /// The portal.
        address: SocketAddr,
        /// What to do next.
        advice: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system gives no thread or descriptor for a reactor.
    #[error("cannot start a reactor thread: {0}; raise the limits on threads and open files")]
    Reactor(std::io::Error),
}

impl StartError {
    pub(crate) fn listen(address: SocketAddr, source: std::io::Error) -> Self {
        let advice = match source.kind() {
            ErrorKind::AddrInUse => {
                "the port is taken, perhaps by another iSCSI target or another `palisade serve`; stop that (`ss -ltnp` \
                 shows it) or choose another port"
            }
            ErrorKind::PermissionDenied => "ports below 1024 need root or CAP_NET_BIND_SERVICE",
            ErrorKind::AddrNotAvailable => {
                "this machine does not have that address (`ip address` shows them)"
            }
            _ => "check the address",
        };
        Self::Listen { address, advice, source }
    }
}
