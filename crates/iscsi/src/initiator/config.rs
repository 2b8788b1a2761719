//! Who an initiator connection is, whom it wants, and what it offers.

use core::ops::Range;
use core::time::Duration;

use crate::chap::Answers;
use crate::parameters::{Offer, Parameters};
use crate::{Cid, CmdSn, Isid, Tsih};

/// Most of the low halves of task tags: below what makes a tag of FFFFFFFFh.
pub(super) const TAGS_MAX: u16 = 0xfff0;

/// Who an initiator connection is, whom it wants, and what it offers.
#[derive(Clone, Debug)]
pub struct Config {
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias, if any.
    pub initiator_alias: Option<String>,
    /// TargetName of a normal session; `None` makes a discovery session.
    pub target_name: Option<String>,
    /// ISID.
    pub isid: Isid,
    /// TSIH; [`Tsih::NEW`] for a new session.
    pub tsih: Tsih,
    /// CID.
    pub cid: Cid,
    /// First CmdSN.
    pub cmd_sn: CmdSn,
    /// Requests made on earlier connections, whose [`super::TaskId`]s are not to come again.
    pub tasks_before: u64,
    /// What the session that [`Config::tsih`] names has agreed on; none for a new session.
    pub session: Option<Parameters>,
    /// Low halves of the task tags this connection may use: no two connections of a session share one.
    pub tags: Range<u16>,
    /// What is offered.
    pub offer: Offer,
    /// What to authenticate with. Without a secret that the target has to prove, one that wants no authentication is
    /// logged in to all the same.
    pub chap: Option<Answers>,
    /// Start in the security stage, as most initiators do, or leave it out.
    pub security_stage: bool,
    /// Time from the start to the full feature phase.
    pub login_timeout: Duration,
    /// Silence after which a NOP-Out asks whether the target is still there; `None` never asks.
    pub nop_interval: Option<Duration>,
    /// Time the target has to answer that.
    pub nop_timeout: Duration,
}

impl Config {
    /// A discovery session of `initiator_name` with default values.
    #[must_use]
    pub fn discovery(initiator_name: impl Into<String>) -> Self {
        Self {
            initiator_name: initiator_name.into(),
            initiator_alias: None,
            target_name: None,
            isid: Isid([0x80, 0, 0, 0, 0, 1]),
            tsih: Tsih::NEW,
            cid: Cid(1),
            cmd_sn: CmdSn(1),
            tasks_before: 0,
            session: None,
            tags: 0..TAGS_MAX,
            offer: Offer::default(),
            chap: None,
            security_stage: true,
            login_timeout: Duration::from_secs(15),
            nop_interval: Some(Duration::from_secs(5)),
            nop_timeout: Duration::from_secs(15),
        }
    }

    /// A normal session of `initiator_name` with `target_name` with default values.
    #[must_use]
    pub fn normal(initiator_name: impl Into<String>, target_name: impl Into<String>) -> Self {
        Self { target_name: Some(target_name.into()), ..Self::discovery(initiator_name) }
    }
}
