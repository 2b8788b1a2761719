//! A typed client of the API, over the daemon's Unix socket or TCP on this machine.

use crate::{
    AddPortal, Change, CreateHost, CreatePool, CreateVolume, Discovery, DrainPortals, ErrorClass, ExtendPool,
    GrantRequest, Host, MovePortal, PREFIX, Pool, Portal, PortalChange, Problem, Reservations, ResumePortals,
    Session, SetChap, Status, UpdateHost, UpdatePool, UpdatePortalGroup, UpdateVolume, Volume,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long an answer may take. Making a large pool, or deleting a large volume, takes seconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Its Unix socket.
    Unix(PathBuf),
    /// Its TCP address.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

/// Why a request has no good answer: always a [`Problem`], be it the daemon's or the way's.
pub type ClientError = Problem;

/// A client of one daemon. Each request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
}

/// Percent-encodes a path segment (RFC 3986 §2.1).
pub(crate) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Client {
    /// A client of the daemon at `endpoint`. Nothing is connected yet.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// A client of the daemon with this socket.
    #[must_use]
    pub fn unix(path: &Path) -> Self {
        Self::new(Endpoint::Unix(path.to_owned()))
    }

    /// The daemon at a glance.
    ///
    /// # Errors
    /// `unreachable` if no daemon answers; else what the daemon says. So for all operations.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status").await
    }

    /// All pools.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn pools(&self) -> Result<Vec<Pool>, ClientError> {
        self.get("/pools").await
    }

    /// One pool, by name or identity.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn pool(&self, pool: &str) -> Result<Pool, ClientError> {
        self.get(&format!("/pools/{}", segment(pool))).await
    }

    /// Makes a pool of disks.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn create_pool(&self, request: &CreatePool) -> Result<Change<Pool>, ClientError> {
        self.send(Method::POST, "/pools", Some(request)).await
    }

    /// Grows a disk of a pool.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn extend_pool(&self, pool: &str, request: &ExtendPool) -> Result<Change<Pool>, ClientError> {
        self.send(Method::POST, &format!("/pools/{}/extend", segment(pool)), Some(request)).await
    }

    /// Deletes an empty pool; with `force`, forgets an offline one that has volumes.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` while it has volumes.
    pub async fn delete_pool(&self, pool: &str, force: bool) -> Result<Change<Pool>, ClientError> {
        self.send(Method::DELETE, &format!("/pools/{}?force={force}", segment(pool)), None::<&()>).await
    }

    /// All volumes.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn volumes(&self) -> Result<Vec<Volume>, ClientError> {
        self.get("/volumes").await
    }

    /// One volume, by name or identity.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn volume(&self, volume: &str) -> Result<Volume, ClientError> {
        self.get(&format!("/volumes/{}", segment(volume))).await
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn create_volume(&self, request: &CreateVolume) -> Result<Change<Volume>, ClientError> {
        self.send(Method::POST, "/volumes", Some(request)).await
    }

    /// Changes when a pool warns.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_pool(&self, pool: &str, request: &UpdatePool) -> Result<Change<Pool>, ClientError> {
        self.send(Method::PATCH, &format!("/pools/{}", segment(pool)), Some(request)).await
    }

    /// Grows or renames a volume, or changes when it warns.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_volume(
        &self,
        volume: &str,
        request: &UpdateVolume,
    ) -> Result<Change<Volume>, ClientError> {
        self.send(Method::PATCH, &format!("/volumes/{}", segment(volume)), Some(request)).await
    }

    /// Deletes a volume and its data; with `force` also while hosts use it.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` while hosts use it, and while it has snapshots.
    pub async fn delete_volume(&self, volume: &str, force: bool) -> Result<Change<Volume>, ClientError> {
        let path = format!("/volumes/{}?force={force}", segment(volume));
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Deletes a volume, its data and its snapshots.
    ///
    /// # Errors
    /// As [`Client::delete_volume`].
    pub async fn delete_volume_and_snapshots(
        &self,
        volume: &str,
        force: bool,
    ) -> Result<Change<Volume>, ClientError> {
        let path = format!("/volumes/{}?force={force}&snapshots=true", segment(volume));
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Lets a host use a volume. What it may do changes for its sessions, too.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn grant(
        &self,
        volume: &str,
        host: &str,
        request: GrantRequest,
    ) -> Result<Change<Volume>, ClientError> {
        self.send(
            Method::PUT,
            &format!("/volumes/{}/grants/{}", segment(volume), segment(host)),
            Some(&request),
        )
        .await
    }

    /// Takes a volume away from a host, whose sessions on it end.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn revoke(&self, volume: &str, host: &str) -> Result<Change<Volume>, ClientError> {
        let path = format!("/volumes/{}/grants/{}", segment(volume), segment(host));
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Hosts' reservations of a volume.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn reservations(&self, volume: &str) -> Result<Reservations, ClientError> {
        self.get(&format!("/volumes/{}/reservations", segment(volume))).await
    }

    /// Ends every reservation and registration of a volume. The change tells what there was.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn clear_reservations(&self, volume: &str) -> Result<Change<Reservations>, ClientError> {
        let path = format!("/volumes/{}/reservations", segment(volume));
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// All hosts.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn hosts(&self) -> Result<Vec<Host>, ClientError> {
        self.get("/hosts").await
    }

    /// One host, by name or identity.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn host(&self, host: &str) -> Result<Host, ClientError> {
        self.get(&format!("/hosts/{}", segment(host))).await
    }

    /// Makes a host known.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn create_host(&self, request: &CreateHost) -> Result<Change<Host>, ClientError> {
        self.send(Method::POST, "/hosts", Some(request)).await
    }

    /// Changes a host's initiator names and addresses.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_host(&self, host: &str, request: &UpdateHost) -> Result<Change<Host>, ClientError> {
        self.send(Method::PATCH, &format!("/hosts/{}", segment(host)), Some(request)).await
    }

    /// Sets what a host has to prove from its next login on.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn set_host_chap(&self, host: &str, request: &SetChap) -> Result<Change<Host>, ClientError> {
        self.send(Method::PUT, &format!("/hosts/{}/chap", segment(host)), Some(request)).await
    }

    /// Lets a host in without proof.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn clear_host_chap(&self, host: &str) -> Result<Change<Host>, ClientError> {
        self.send(Method::DELETE, &format!("/hosts/{}/chap", segment(host)), None::<&()>).await
    }

    /// What discovery demands.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn discovery(&self) -> Result<Discovery, ClientError> {
        self.get("/discovery").await
    }

    /// Sets what everybody has to prove at discovery; none for nothing.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn set_discovery_chap(
        &self,
        request: Option<&SetChap>,
    ) -> Result<Change<Discovery>, ClientError> {
        let method = if request.is_some() { Method::PUT } else { Method::DELETE };
        self.send(method, "/discovery/chap", request).await
    }

    /// Forgets a host; with `force` also while it has grants or sessions, which end.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` while it has grants.
    pub async fn delete_host(&self, host: &str, force: bool) -> Result<Change<Host>, ClientError> {
        self.send(Method::DELETE, &format!("/hosts/{}?force={force}", segment(host)), None::<&()>).await
    }

    /// All portals, by group.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn portals(&self) -> Result<Vec<Portal>, ClientError> {
        self.get("/portals").await
    }

    /// Opens a portal.
    ///
    /// # Errors
    /// See [`Client::status`]; `address-in-use` if it cannot be had.
    pub async fn add_portal(&self, request: &AddPortal) -> Result<Change<Portal>, ClientError> {
        self.send(Method::POST, "/portals", Some(request)).await
    }

    /// Closes a portal; with `force` also while sessions use it, or though it is the last.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use`.
    pub async fn remove_portal(&self, portal: &str, force: bool) -> Result<Change<Portal>, ClientError> {
        let path = format!("/portals/{}?force={force}", segment(portal));
        self.send(Method::DELETE, &path, None::<&()>).await
    }

    /// Sends the hosts of a portal elsewhere for good.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn move_portal(
        &self,
        portal: &str,
        request: &MovePortal,
    ) -> Result<Change<Portal>, ClientError> {
        self.send(Method::POST, &format!("/portals/{}/move", segment(portal)), Some(request)).await
    }

    /// Takes portals out of service. Answered at once: [`Client::portals`] tells how many sessions are left.
    ///
    /// # Errors
    /// See [`Client::status`]; `in-use` if no other portal serves.
    pub async fn drain_portals(&self, request: &DrainPortals) -> Result<PortalChange, ClientError> {
        self.send(Method::POST, "/portals/drain", Some(request)).await
    }

    /// Puts portals back into service.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn resume_portals(&self, request: &ResumePortals) -> Result<PortalChange, ClientError> {
        self.send(Method::POST, "/portals/resume", Some(request)).await
    }

    /// Changes what hosts are told of a portal group's paths.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn update_portal_group(
        &self,
        tag: u16,
        request: &UpdatePortalGroup,
    ) -> Result<PortalChange, ClientError> {
        self.send(Method::PATCH, &format!("/portal-groups/{tag}"), Some(request)).await
    }

    /// All iSCSI sessions.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn sessions(&self) -> Result<Vec<Session>, ClientError> {
        self.get("/sessions").await
    }

    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn send<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, ClientError> {
        let request = self.request(method, path, body)?;
        let work = async {
            match &self.endpoint {
                Endpoint::Unix(path) => {
                    let stream = UnixStream::connect(path).await.map_err(|error| self.no_way(&error))?;
                    self.exchange(stream, request).await
                }
                Endpoint::Tcp(address) => {
                    let stream = TcpStream::connect(address).await.map_err(|error| self.no_way(&error))?;
                    self.exchange(stream, request).await
                }
            }
        };
        let timeout = || self.lost(&format!("it did not answer within {} s", ANSWER_TIME_MAX.as_secs()));
        tokio::time::timeout(ANSWER_TIME_MAX, work).await.map_err(|_| timeout())?
    }

    fn request<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp(address) => address.to_string(),
        };
        let bad = |what: String| Problem::new(ErrorClass::Internal, path, what);
        let content = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| bad(error.to_string()))?,
            None => Vec::new(),
        };
        Request::builder()
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(content)))
            .map_err(|error| bad(error.to_string()))
    }

    async fn exchange<S, A>(&self, stream: S, request: Request<Full<Bytes>>) -> Result<A, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: DeserializeOwned,
    {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.lost(&error.to_string()))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| self.lost(&error.to_string()))?;
            self.answer(response).await
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = &mut connection => {
                ended.map_err(|error| self.lost(&error.to_string()))?;
                exchange.await
            }
        }
    }

    async fn answer<A: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<A, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.lost(&error.to_string()))?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.foreign(&error.to_string()));
        }
        Err(serde_json::from_slice::<Problem>(&body)
            .unwrap_or_else(|_| self.foreign(&format!("HTTP status {status}"))))
    }

    /// Nobody could be asked.
    fn no_way(&self, error: &std::io::Error) -> ClientError {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            let message = "may not be opened by this user; run as the user who runs the daemon, or as root";
            return Problem::new(ErrorClass::Denied, self.endpoint.to_string(), message);
        }
        let message = format!(
            "no daemon answers here ({error}); start one with `palisade serve`, or name its data directory with --data"
        );
        Problem::new(ErrorClass::Unreachable, self.endpoint.to_string(), message)
    }

    /// The connection ended in the middle.
    fn lost(&self, what: &str) -> ClientError {
        let message =
            format!("the daemon stopped answering ({what}); see its log, then check with `palisade status`");
        Problem::new(ErrorClass::Unreachable, self.endpoint.to_string(), message)
    }

    /// What answered is not this API.
    fn foreign(&self, what: &str) -> ClientError {
        let message = format!(
            "the answer is not of this API ({what}); is the daemon of the same version as this program?"
        );
        Problem::new(ErrorClass::Internal, self.endpoint.to_string(), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_path_segment() {
        assert_eq!(segment("mail-01"), "mail-01");
        assert_eq!(segment("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    #[tokio::test]
    async fn no_daemon_is_said_so() {
        let directory = std::env::temp_dir().join("palisade-api-no-such-socket");
        let problem = Client::unix(&directory).status().await.unwrap_err();
        assert_eq!(problem.code, ErrorClass::Unreachable);
        assert!(problem.message.contains("palisade serve"), "{problem}");
    }
}
