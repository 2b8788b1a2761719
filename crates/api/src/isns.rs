//! Name servers (iSNS) that are told of targets.

use crate::{Change, Client, ClientError};
use hyper::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How things stand with a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IsnsState {
    /// No answer yet.
    Connecting,
    /// It knows every target that is served.
    Registered,
    /// It cannot be reached, or does not answer; it is tried again.
    Unreachable,
    /// It refuses the registration; it is tried again.
    Refused,
}

/// A name server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IsnsServer {
    /// Address and port.
    pub address: String,
    /// How things stand.
    pub state: IsnsState,
    /// Since when.
    pub since_unix_ms: u64,
    /// Number of targets that it was told of.
    pub targets: u32,
    /// What went wrong last; none while registered.
    pub error: Option<String>,
}

/// The name servers that are told of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Isns {
    /// Entity Identifier under which everything is registered; the same for life.
    pub entity: String,
    /// UDP port on which the servers' inquiries (ESI) are answered; none for no inquiries.
    pub esi_port: Option<u16>,
    /// The servers; empty for none.
    pub servers: Vec<IsnsServer>,
}

/// The name servers that are to be told of targets, each of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetIsns {
    /// `ADDRESS` or `ADDRESS:PORT`; the usual port is 3205.
    pub servers: Vec<String>,
    /// UDP port on which the servers may inquire (ESI) whether a portal is still there; none for no inquiries.
    #[serde(default)]
    pub esi_port: Option<u16>,
}

impl Client {
    /// The name servers that are told of targets.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn isns(&self) -> Result<Isns, ClientError> {
        self.get("/isns").await
    }

    /// Tells these name servers of all targets.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn set_isns(&self, request: &SetIsns) -> Result<Change<Isns>, ClientError> {
        self.send(Method::PUT, "/isns", Some(request)).await
    }

    /// Tells no name server any more.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub async fn clear_isns(&self) -> Result<Change<Isns>, ClientError> {
        self.send(Method::DELETE, "/isns", None::<&()>).await
    }
}
