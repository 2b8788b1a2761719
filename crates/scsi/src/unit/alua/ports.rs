//! The target ports of a unit: one in each target port group of every target that has the unit.
//!
//! A unit can be in several targets under different numbers. Reservations go by initiator port and target port
//! (SPC-4 5.13.7), so two targets must not share relative identifiers, or a registration through the one would hold
//! for the other.

use super::LogicalUnit;

/// Which of the targets that have a unit; 0 is the unit's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TargetNumber(pub u8);

impl TargetNumber {
    /// The largest target portal group tag with which identifiers are told apart.
    pub const TAG_MAX: u16 = 0xff;

    /// RELATIVE TARGET PORT IDENTIFIER of the target's port in the portal group of that tag: never 0 (SPC-4
    /// 4.6.5.2), and different for any two ports as long as tags are from 1 to [`TargetNumber::TAG_MAX`].
    pub fn relative_port(self, portal_group_tag: u16) -> u16 {
        let base = u16::from(self.0) << 8;
        base.saturating_add(portal_group_tag.max(1))
    }

    /// The target that the port of this relative identifier is of.
    pub fn of_port(relative_id: u16) -> Self {
        let [number, _] = relative_id.to_be_bytes();
        Self(number)
    }

    /// An identifier that no port has: stands for those of a target that is gone.
    pub(in crate::unit) fn former_port(self) -> u16 {
        u16::from(self.0) << 8
    }
}

/// The targets that have the unit, by number, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Targets(Vec<TargetNumber>);

impl Default for Targets {
    fn default() -> Self {
        Self(vec![TargetNumber::default()])
    }
}

impl Targets {
    /// TARGET PORT COUNT has one byte: more ports than that are not listed.
    const LISTED_MAX: usize = 0xff;

    /// The relative identifiers of the ports in the group of that tag.
    pub(super) fn ports(&self, tag: u16) -> impl ExactSizeIterator<Item = u16> {
        self.0.iter().take(Self::LISTED_MAX).map(move |target| target.relative_port(tag))
    }
}

impl LogicalUnit {
    /// Takes the targets that have the unit besides its own, in any order. Through each of them it has a port in every
    /// target port group. No host is told: access states are what they were.
    pub fn set_other_targets(&mut self, mut others: Vec<TargetNumber>) {
        others.push(TargetNumber::default());
        others.sort_unstable();
        others.dedup();
        self.targets = Targets(others);
        self.meet_ports();
    }

    /// Has reservations for all target ports hold for those that there are now, too.
    pub(super) fn meet_ports(&mut self) {
        let tags: Vec<u16> = self.access_states().map(|(group, _)| group.0).collect();
        let ports: Vec<u16> = tags.into_iter().flat_map(|tag| self.targets.ports(tag)).collect();
        ports.into_iter().for_each(|port| self.reservations_meet(port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// SPC-4 4.6.5.2: identifiers are not 0 and name one port.
    #[test]
    fn no_two_ports_have_one_identifier() {
        let tags = 1..=TargetNumber::TAG_MAX;
        let ports = (0..=u8::MAX).flat_map(|number| tags.clone().map(move |tag| (TargetNumber(number), tag)));
        let ids: Vec<u16> = ports.map(|(target, tag)| target.relative_port(tag)).collect();
        let distinct: HashSet<u16> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len());
        assert!(!distinct.contains(&0));
        assert_eq!(TargetNumber(0).relative_port(7), 7, "the unit's own target keeps the tag as identifier");
        assert_eq!(TargetNumber(0).relative_port(0), 1);
        assert_eq!(TargetNumber(255).relative_port(u16::MAX), u16::MAX);
        assert!((1..=u8::MAX).all(|number| !distinct.contains(&TargetNumber(number).former_port())));
        assert!((0..=u8::MAX).all(|number| {
            let number = TargetNumber(number);
            tags.clone().all(|tag| TargetNumber::of_port(number.relative_port(tag)) == number)
        }));
    }
}
