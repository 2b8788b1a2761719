//! Inquiries of name servers whether a portal is still there (ESI, RFC 4171 §5.6.5.13), by UDP.

use isns::Function;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Longest inquiry that is read: it holds a time, a name and a portal.
const INQUIRY_BYTES_MAX: usize = 1024;

/// How long nothing is read after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped.
pub(super) struct Inquiries(JoinHandle<()>);

impl Inquiries {
    /// Answers the inquiries of these servers. None if the port cannot be had: then none are asked for.
    pub(super) fn start(port: u16, servers: &[SocketAddr]) -> Option<Self> {
        let bind = |ip: IpAddr| std::net::UdpSocket::bind((ip, port));
        let socket = bind(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into()));
        let socket = socket.and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let servers = servers.iter().map(|server| server.ip().to_canonical()).collect();
        match socket {
            Ok(socket) => Some(Self(tokio::spawn(answer(socket, servers)))),
            Err(error) => {
                tracing::warn!(port, %error, "iSNS servers' inquiries cannot be answered on this UDP port, so they are not asked for");
                None
            }
        }
    }
}

impl Drop for Inquiries {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who is no server of ours gets no answer.
async fn answer(socket: UdpSocket, servers: HashSet<IpAddr>) {
    let mut buffer = [0; INQUIRY_BYTES_MAX];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            // An answer that could not be delivered is reported here; it must not become a loop.
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        if !servers.contains(&peer.ip().to_canonical()) {
            continue;
        }
        let inquiry = buffer.get(..length).and_then(|bytes| isns::frame(bytes).ok().flatten());
        let inquiry = inquiry.filter(|frame| frame.function == Function::INQUIRY);
        if let Some(answer) = inquiry.and_then(|frame| isns::answer(&frame)) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}
