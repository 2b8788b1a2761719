//! What a check is: one definition gives its name, its clause, what it needs and what it does.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::fabric::Local;
use crate::outcome::Outcome;
use crate::scene::Scene;

/// Subjects, for `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Who the logical unit says it is, the same on every path.
    Identity,
    /// Several paths and ALUA.
    Paths,
    /// Which commands there are.
    Commands,
    /// Windows Failover Cluster Validation, storage; persistent reservations.
    Cluster,
    /// The primitives that VMware ESXi offloads.
    Vaai,
    /// Thin provisioning as HLK checks it.
    Thin,
    /// Offloaded data transfer of Windows.
    Odx,
    /// The iSCSI layer.
    Iscsi,
}

impl Group {
    /// All of them with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Identity, "identity"),
        (Self::Paths, "paths"),
        (Self::Commands, "commands"),
        (Self::Cluster, "cluster"),
        (Self::Vaai, "vaai"),
        (Self::Thin, "thin"),
        (Self::Odx, "odx"),
        (Self::Iscsi, "iscsi"),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(group, _)| *group == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(group, _)| *group).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("there is no group `{text}`; there are {}", names.join(", "))
        })
    }
}

/// What has to be there, or permitted, for a check to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It changes reservations.
    Reservations,
    /// It overwrites so many bytes of the scratch range.
    Scratch(u64),
    /// So many nexuses.
    Nexuses(usize),
    /// So many paths.
    Paths(usize),
    /// Another logical unit that may be used as well.
    OtherUnit,
}

/// What a check does.
pub(crate) type Action = for<'a> fn(&'a Scene) -> Local<'a, Outcome>;

/// One check.
#[derive(Clone, Copy)]
pub struct Check {
    /// Stable name, group first: `cluster.pr-register`.
    pub id: &'static str,
    /// The subject.
    pub group: Group,
    /// What holds if it passes.
    pub title: &'static str,
    /// Where that is written.
    pub clause: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
    /// A feature that hosts of this group cannot do without: not supported means failed.
    pub required: bool,
    pub(crate) action: Action,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Check {
    /// Whether it changes reservations.
    pub fn reserves(&self) -> bool {
        self.needs.contains(&Need::Reservations)
    }

    /// Whether it overwrites data.
    pub fn writes(&self) -> bool {
        self.needs.iter().any(|need| matches!(need, Need::Scratch(_)))
    }

    /// Why it cannot run in this scene.
    pub(crate) fn obstacle(&self, scene: &Scene, reservations: bool) -> Option<String> {
        self.needs.iter().find_map(|need| match *need {
            Need::Reservations if !reservations => {
                Some("changes reservations: needs --reservations".to_owned())
            }
            Need::Scratch(_) if scene.range.is_none() => {
                Some("overwrites blocks: needs --destructive".to_owned())
            }
            Need::Scratch(bytes) => {
                let blocks = bytes.div_ceil(scene.size.block_size.max(1).into());
                let there = scene.range.map_or(0, |range| range.blocks);
                (there < blocks)
                    .then(|| format!("needs {blocks} blocks of scratch space, --range gives {there}"))
            }
            Need::Nexuses(count) if scene.nexuses.len() < count => {
                Some(format!("needs {count} nexuses: --nexuses"))
            }
            Need::Paths(count) if scene.path_count < count => Some(format!("needs {count} URLs")),
            Need::OtherUnit if scene.others.is_empty() => {
                Some("needs another logical unit of the array: --also URL".to_owned())
            }
            _ => None,
        })
    }
}
