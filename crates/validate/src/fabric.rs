//! How nexuses come about and carry commands: over sockets to an array, or to a scripted one in tests.

use core::future::Future;
use core::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use initiator::{Answer, Client, ClientError, Digests, LinkOptions, TargetUrl};

use crate::request::Request;

/// A future that need not leave its thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Who logs in where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexusSpec {
    /// The path: where and to which target and LUN.
    pub url: TargetUrl,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The session's ISID: with the name, the SCSI initiator port.
    pub isid: [u8; 6],
    /// Digests to insist on.
    pub digests: Digests,
}

/// An I_T nexus that takes commands.
pub trait Peer {
    /// Runs a command. Several may be under way at a time.
    fn send(&self, request: Request) -> Local<'_, Result<Answer, ClientError>>;
    /// Ends the session in good order.
    fn log_out(&self) -> Local<'_, ()>;
}

/// A target that a portal tells of: its name and its addresses.
pub type Discovered = (String, Vec<String>);

/// Where nexuses come from.
pub trait Fabric {
    /// Logs in.
    fn connect<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Rc<dyn Peer>, ClientError>>;
    /// The names of the targets that a path's portal tells of, and the addresses of each.
    fn discover<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Vec<Discovered>, ClientError>>;
}

/// The real thing: TCP connections.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// How long connecting and logging in may take.
    pub login_timeout: Duration,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { login_timeout: Duration::from_secs(15) }
    }
}

impl Sockets {
    fn options(&self, spec: &NexusSpec) -> LinkOptions {
        LinkOptions {
            initiator_name: spec.initiator.clone(),
            isid: Some(spec.isid),
            digests: spec.digests,
            login_timeout: self.login_timeout,
            ..LinkOptions::default()
        }
    }
}

impl Fabric for Sockets {
    fn connect<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Rc<dyn Peer>, ClientError>> {
        Box::pin(async move {
            let client = Client::connect(&spec.url, &self.options(spec)).await?;
            Ok(Rc::new(Session(client)) as Rc<dyn Peer>)
        })
    }

    fn discover<'a>(&'a self, spec: &'a NexusSpec) -> Local<'a, Result<Vec<Discovered>, ClientError>> {
        Box::pin(async move {
            let targets = Client::discover(&spec.url, &self.options(spec)).await?;
            Ok(targets.into_iter().map(|target| (target.name, target.addresses)).collect())
        })
    }
}

/// A session over TCP.
struct Session(Client);

impl Peer for Session {
    fn send(&self, request: Request) -> Local<'_, Result<Answer, ClientError>> {
        Box::pin(async move {
            let Request { cdb, data_out, read_len, lun, .. } = request;
            self.0.exchange(lun, cdb, data_out, read_len).await
        })
    }

    fn log_out(&self) -> Local<'_, ()> {
        Box::pin(self.0.clone().log_out())
    }
}
