//! Mode parameters: the pages, and what of them a host can change (SPC-4 7.5, SBC-3 6.5).
//!
//! They belong to the unit, not to a nexus, and a reset brings the defaults back: nothing is saved.

mod select;
mod sense;

use super::LogicalUnitConfig;

/// What hosts can set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ModeState {
    /// WCE: writes may be acknowledged from a cache. Can be set only if the volume has one.
    pub(super) write_cache: bool,
    /// SWP: writes are refused.
    pub(super) software_write_protect: bool,
    /// D_SENSE: sense data in descriptor format.
    pub(super) descriptor_sense: bool,
}

impl ModeState {
    pub(super) fn default_of(config: &LogicalUnitConfig) -> Self {
        Self { write_cache: config.write_cache, software_write_protect: false, descriptor_sense: false }
    }

    /// The state in which every bit that can be changed is set, and no other: PC = 01b.
    fn changeable(config: &LogicalUnitConfig) -> Self {
        Self { write_cache: config.write_cache, software_write_protect: true, descriptor_sense: true }
    }
}

/// A mode page that is supported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    /// 08h.
    Caching,
    /// 0Ah.
    Control,
    /// 1Ch.
    InformationalExceptions,
}

/// Byte 2 bit of the caching page.
const WCE: u8 = 0x04;
/// Byte 2 bit of the control page.
const D_SENSE: u8 = 0x04;
/// Byte 4 bit of the control page.
const SWP: u8 = 0x08;

impl Page {
    /// In ascending order, as page 3Fh returns them.
    const ALL: [Self; 3] = [Self::Caching, Self::Control, Self::InformationalExceptions];

    const fn code(self) -> u8 {
        match self {
            Self::Caching => 0x08,
            Self::Control => 0x0a,
            Self::InformationalExceptions => 0x1c,
        }
    }

    /// Bytes after the two of the header.
    const fn len(self) -> u8 {
        match self {
            Self::Caching => 0x12,
            Self::Control | Self::InformationalExceptions => 0x0a,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.code() == code)
    }

    /// The page with `state`, and the values nobody can change unless `fixed` is off.
    fn encode(self, state: ModeState, fixed: bool) -> Vec<u8> {
        let flag = |set: bool, mask: u8| if set { mask } else { 0 };
        let mut page = vec![self.code(), self.len()];
        match self {
            Self::Caching => page.push(flag(state.write_cache, WCE)),
            Self::Control => {
                // GLTSD; QUEUE ALGORITHM MODIFIER 1: commands are reordered freely.
                let (logging, queuing) = if fixed { (0x02, 0x10) } else { (0, 0) };
                let protect = flag(state.software_write_protect, SWP);
                page.extend_from_slice(&[flag(state.descriptor_sense, D_SENSE) | logging, queuing, protect]);
            }
            // DEXCPT: there are no informational exceptions.
            Self::InformationalExceptions => page.push(flag(fixed, 0x08)),
        }
        page.resize(2 + usize::from(self.len()), 0);
        page
    }

    /// `state` as changed by `page`, whose length has been checked.
    fn decode(self, page: &[u8], mut state: ModeState) -> ModeState {
        let bit = |at: usize, mask: u8| page.get(at).is_some_and(|byte| byte & mask != 0);
        match self {
            Self::Caching => state.write_cache = bit(2, WCE),
            Self::Control => {
                state.descriptor_sense = bit(2, D_SENSE);
                state.software_write_protect = bit(4, SWP);
            }
            Self::InformationalExceptions => {}
        }
        state
    }
}
