//! Portals: listening sockets, and the properties of accepted ones.

use crate::config::Portal;
use crate::error::StartError;
use crate::reactor::Reactors;
use crate::server::Shared;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Silence after which the kernel asks whether the other side is still there; iSCSI's own NOP comes earlier.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Pause after the system could give no descriptor for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Binds a portal.
pub(crate) fn bind(portal: Portal) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(portal.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if portal.address.is_ipv6() {
            // [::] beside 0.0.0.0 must not collide.
            socket.set_only_v6(true)?;
        }
        socket.bind(&portal.address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    listen().map_err(|error| StartError::listen(portal.address, error))
}

/// Accepts connections of one portal until the server stops or the portal is closed.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    reactors: Arc<Reactors>,
    portal: Portal,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    mut closed: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(address = %portal.address, %error, "cannot listen"),
    };
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = closed.wait_for(|closed| *closed) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                prepare(&shared, &socket);
                let local = socket.local_addr().unwrap_or(portal.address);
                let socket = socket.into_std();
                if let Ok(socket) = socket {
                    reactors.give(crate::connection::Place { peer, local, group: portal.group }, socket);
                }
            }
            Err(error) => {
                // Descriptors or memory are short, or the peer is gone again. Who has not logged in makes room.
                tracing::warn!(address = %portal.address, %error, "a connection could not be accepted");
                shared.registry.drop_half_open();
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn prepare(shared: &Shared, socket: &tokio::net::TcpStream) {
    let socket = SockRef::from(socket);
    // Best effort: the connection works without, only slower or with later detection of a dead peer.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&KEEPALIVE);
    if let Some(bytes) = shared.config.socket_buffer_bytes {
        let _ = socket.set_send_buffer_size(bytes);
        let _ = socket.set_recv_buffer_size(bytes);
    }
}
