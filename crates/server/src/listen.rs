//! The API's two listeners: the administrator's socket, and TCP on this machine.

use crate::data_dir::io_problem;
use api::{ErrorClass, Problem};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

/// Listens on the administrator's socket, which is its owner's alone. The data directory must be ours: then a socket
/// that is there is nobody's.
pub(crate) fn unix(path: &Path) -> Result<UnixListener, Problem> {
    let fail = |error: std::io::Error| io_problem(path, &error, "the API's socket cannot be made");
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

/// Listens on TCP, for this machine only.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpListener, Problem> {
    let object = format!("--api {address}");
    if !address.ip().is_loopback() {
        let message = "the API has no authentication yet, so it is served on this machine only; use 127.0.0.1 or \
                       [::1], and reach it from elsewhere through ssh";
        return Err(Problem::new(ErrorClass::Invalid, object, message));
    }
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen there ({error}); choose another address or port");
        Problem::new(ErrorClass::AddressInUse, object, message)
    })
}

/// Serves until `stop` says so, and answers what is under way.
pub(crate) async fn serve_unix(listener: UnixListener, routes: Router, stop: watch::Receiver<bool>) {
    let served = axum::serve(listener, routes).with_graceful_shutdown(stopped(stop)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API's socket failed");
    }
}

/// As [`serve_unix`], on TCP: requests that a browser makes for a web page are refused.
pub(crate) async fn serve_tcp(listener: TcpListener, routes: Router, stop: watch::Receiver<bool>) {
    let routes = routes.layer(axum::middleware::from_fn(no_foreign_page));
    let served = axum::serve(listener, routes).with_graceful_shutdown(stopped(stop)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API's TCP listener failed");
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the daemon is gone, which is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn no_foreign_page(request: Request, next: Next) -> Response {
    if is_of_a_page(request.headers()) {
        let message = "requests of web pages are refused while the API has no authentication";
        let problem = Problem::new(ErrorClass::Denied, request.uri().path(), message);
        return (StatusCode::FORBIDDEN, axum::Json(problem)).into_response();
    }
    next.run(request).await
}

/// A web page from anywhere can have a browser on this machine send requests here (with its `Origin`), or reach
/// this address under a name of its own (DNS rebinding).
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    let local =
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    headers.contains_key(header::ORIGIN) || !local
}

/// Whether the machine has IPv6: a socket can be bound to its loopback address.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_page(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
        });
        is_of_a_page(&pairs.collect())
    }

    #[test]
    fn requests_of_web_pages_are_told_apart() {
        for host in ["127.0.0.1:8080", "localhost", "LocalHost:1", "[::1]:8080", "127.0.0.1"] {
            assert!(!of_a_page(&[("host", host)]), "{host}");
        }
        for host in ["evil.example:8080", "192.0.2.1", "127.0.0.1.evil.example", ""] {
            assert!(of_a_page(&[("host", host)]), "{host}");
        }
        assert!(of_a_page(&[("host", "localhost"), ("origin", "http://evil.example")]));
    }

    #[tokio::test]
    async fn the_api_is_not_served_to_other_machines() {
        for address in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0"] {
            let problem = tcp(address.parse().unwrap()).await.unwrap_err();
            assert_eq!(problem.code, ErrorClass::Invalid);
            assert!(problem.message.contains("no authentication yet"), "{problem}");
        }
        let taken = tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let problem = tcp(taken.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(problem.code, ErrorClass::AddressInUse);
    }

    #[tokio::test]
    async fn a_socket_left_by_a_killed_daemon_is_replaced_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(unix(&path).unwrap());
        let _listener = unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
