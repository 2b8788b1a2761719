//! What requests and answers about portals carry.

use crate::Outcome;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a portal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortalState {
    /// Open, and serves.
    Serving,
    /// It could not be opened; it is tried again every few seconds.
    Failed,
    /// Logins are sent elsewhere, and sessions are leaving.
    Draining,
    /// Logins are sent elsewhere, and no session is left.
    Drained,
    /// Logins are sent elsewhere for good.
    Moved,
}

/// What hosts are told of the paths through a portal group (ALUA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// As good as any.
    Optimized,
    /// Usable; others are better.
    NonOptimized,
    /// No I/O until a host asks for the path.
    Standby,
    /// No I/O.
    Unavailable,
}

/// An address on which hosts are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Portal {
    /// Address and port; an unspecified address stands for all of the machine's.
    pub address: String,
    /// Tag of its portal group: one path for hosts.
    pub group: u16,
    /// The network that the group is on.
    pub fabric: Option<String>,
    /// How it is.
    pub state: PortalState,
    /// Why it is not open.
    pub reason: Option<String>,
    /// Where hosts are sent instead, if that was said.
    pub to: Option<String>,
    /// What hosts are told of the group's paths; while it is drained they are told so instead.
    pub path: PathState,
    /// Hosts should rather use the group.
    pub preferred: bool,
    /// Number of sessions that came through it.
    pub sessions: u32,
}

/// The answer to a request that changes portals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortalChange {
    /// What was done.
    pub outcome: Outcome,
    /// The portals as they are now.
    pub portals: Vec<Portal>,
}

/// A portal to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPortal {
    /// Address and port.
    pub address: String,
    /// Tag of its group, 1 to 255; that of the fabric, or 1, if left out.
    #[serde(default)]
    pub group: Option<u16>,
    /// The network that the group is on; a new one makes a new group.
    #[serde(default)]
    pub fabric: Option<String>,
}

/// Where a portal has gone to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MovePortal {
    /// Another portal, which serves.
    pub to: String,
}

/// Portals to be taken out of service: one, or all of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainPortals {
    /// The portal.
    #[serde(default)]
    pub portal: Option<String>,
    /// The group's tag.
    #[serde(default)]
    pub group: Option<u16>,
    /// The portal that hosts are sent to, while it serves.
    #[serde(default)]
    pub to: Option<String>,
    /// How long sessions may take to leave, 30 if left out; after that they are cut.
    #[serde(default)]
    pub within_seconds: Option<u32>,
    /// Also if no other portal serves.
    #[serde(default)]
    pub force: bool,
}

/// Portals to be put back into service: one, or all of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumePortals {
    /// The portal.
    #[serde(default)]
    pub portal: Option<String>,
    /// The group's tag.
    #[serde(default)]
    pub group: Option<u16>,
}

/// What is to change about a portal group; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePortalGroup {
    /// What hosts are told of its paths.
    #[serde(default)]
    pub path: Option<PathState>,
    /// Whether hosts should rather use it.
    #[serde(default)]
    pub preferred: Option<bool>,
    /// The network it is on.
    #[serde(default)]
    pub fabric: Option<String>,
    /// Only hosts of this volume are told `path`, by name or identity.
    #[serde(default)]
    pub volume: Option<String>,
}
