//! What is to be registered, and the messages that register it.

use crate::attribute::tag;
use crate::client::Config;
use crate::pdu::{Function, Message, flags};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Most portals that are registered: each takes part in the message of every target.
pub const PORTALS_MAX: usize = 64;

/// Targets go into one message up to about this many bytes.
const BATCH_BYTES: usize = 16 << 10;

/// iSCSI (RFC 4171 §6.2.2); a target (§6.4.2); the bit that says UDP (§6.3.2).
const PROTOCOL_ISCSI: u32 = 2;
const NODE_IS_TARGET: u32 = 1;
const PORT_IS_UDP: u32 = 0x1_0000;

/// How often servers are asked to inquire, in seconds; they do it as they like.
const INQUIRY_INTERVAL_S: u32 = 60;

/// What a server is to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// Portals, each with its portal group tag; the first [`PORTALS_MAX`] are registered.
    pub portals: BTreeMap<SocketAddr, u16>,
    /// Targets: name and alias.
    pub targets: BTreeMap<String, String>,
}

impl Registration {
    /// There is nothing that a host could connect to.
    pub(crate) fn is_nothing(&self) -> bool {
        self.portals.is_empty() || self.targets.is_empty()
    }
}

/// Bytes that a target takes in a message, at most.
fn target_bytes(name: &str, alias: &str, portals: usize) -> usize {
    let text = |text: &str| 12 + text.len();
    text(name) + 12 + text(alias) + portals * (text(name) + 24 + 12 + 12)
}

/// As many of the targets as one message takes, one at least.
pub(crate) fn batch<'a>(
    targets: impl Iterator<Item = (&'a String, &'a String)>,
    portals: usize,
) -> BTreeMap<String, String> {
    let mut bytes = 0;
    let fits = |(name, alias): &(&String, &String)| {
        let first = bytes == 0;
        bytes += target_bytes(name, alias, portals);
        first || bytes <= BATCH_BYTES
    };
    targets.take_while(fits).map(|(name, alias)| (name.clone(), alias.clone())).collect()
}

/// DevAttrReg (§5.6.5.1): the entity, all portals, some targets and how they belong together. The order of objects is
/// the clause's.
pub(crate) fn register(
    config: &Config,
    source: &str,
    what: &Registration,
    replace: bool,
    transaction: u16,
) -> Message {
    let replace = if replace { flags::REPLACE } else { 0 };
    let mut message = Message::new(Function::REGISTER, replace, transaction)
        .text(tag::NODE_NAME, source)
        .text(tag::ENTITY, &config.entity)
        .attribute(tag::DELIMITER, &[])
        .text(tag::ENTITY, &config.entity)
        .number(tag::ENTITY_PROTOCOL, PROTOCOL_ISCSI)
        .number(tag::REGISTRATION_PERIOD, config.period_s);
    for portal in what.portals.keys() {
        message = message.portal(tag::PORTAL_ADDRESS, tag::PORTAL_PORT, *portal);
        if let Some(port) = config.inquiry_port {
            message = message
                .number(tag::INQUIRY_INTERVAL, INQUIRY_INTERVAL_S)
                .number(tag::INQUIRY_PORT, PORT_IS_UDP | u32::from(port));
        }
    }
    for (name, alias) in &what.targets {
        message = message
            .text(tag::NODE_NAME, name)
            .number(tag::NODE_TYPE, NODE_IS_TARGET)
            .text(tag::NODE_ALIAS, alias);
    }
    for name in what.targets.keys() {
        for (portal, group) in &what.portals {
            message = message
                .text(tag::GROUP_NODE, name)
                .portal(tag::GROUP_ADDRESS, tag::GROUP_PORT, *portal)
                .number(tag::GROUP_TAG, u32::from(*group));
        }
    }
    message
}

/// DevDereg (§5.6.5.4) of targets and portals; of the whole entity if there are neither.
pub(crate) fn deregister(config: &Config, source: &str, what: &Registration, transaction: u16) -> Message {
    let mut message = Message::new(Function::DEREGISTER, 0, transaction)
        .text(tag::NODE_NAME, source)
        .attribute(tag::DELIMITER, &[]);
    if what.portals.is_empty() && what.targets.is_empty() {
        return message.text(tag::ENTITY, &config.entity);
    }
    for name in what.targets.keys() {
        message = message.text(tag::NODE_NAME, name);
    }
    for portal in what.portals.keys() {
        message = message.portal(tag::PORTAL_ADDRESS, tag::PORTAL_PORT, *portal);
    }
    message
}
