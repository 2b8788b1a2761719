//! Sessions of hosts, and their connections.

use crate::client::segment;
use crate::{Client, ClientError, Session};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A TCP connection of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// The host's number of it (CID).
    pub cid: u16,
    /// Address and port it comes from.
    pub address: String,
    /// Portal it came to.
    pub portal: String,
    /// How far it is.
    pub state: ConnectionState,
    /// Headers carry a CRC32C.
    pub header_digest: bool,
    /// Data carry a CRC32C.
    pub data_digest: bool,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Its login is under way.
    LoggingIn,
    /// It carries commands (full feature phase).
    LoggedIn,
}

impl Client {
    /// One session, by its number.
    ///
    /// # Errors
    /// See [`Client::status`]; `not-found` if it has ended.
    pub async fn session(&self, session: &str) -> Result<Session, ClientError> {
        self.get(&format!("/sessions/{}", segment(session))).await
    }
}
