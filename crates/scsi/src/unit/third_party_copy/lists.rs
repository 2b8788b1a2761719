//! What became of the copies of each nexus, by list identifier (SPC-4 5.17.4.2).

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

use super::CONCURRENT_MAX;
use crate::completion::Status;
use crate::copy::CopyProgress;
use crate::rod::RodToken;
use crate::unit::NexusId;

/// Results kept for a nexus; the oldest makes room.
const RESULTS_MAX: usize = 64;

/// COPY OPERATION STATUS (SPC-4 table 249).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Complete,
    WithErrors,
    PartialToken,
    Terminated,
}

impl Ending {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Complete => 0x01,
            Self::WithErrors => 0x02,
            Self::PartialToken => 0x03,
            Self::Terminated => 0x60,
        }
    }
}

/// How a copy ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) ending: Ending,
    pub(super) status: Status,
    pub(super) sense: Bytes,
    /// What POPULATE TOKEN made.
    pub(super) token: Option<RodToken>,
}

/// A copy that is under way, or over and not forgotten.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    nexus: NexusId,
    list: u32,
    /// SERVICE ACTION of its command.
    pub(super) action: u8,
    /// IMMED.
    pub(super) in_background: bool,
    pub(super) progress: Arc<CopyProgress>,
    /// None while it is under way.
    pub(super) outcome: Option<Outcome>,
    /// Its failure has been told by RECEIVE COPY FAILURE DETAILS, which tells it once.
    pub(super) failure_told: bool,
}

/// Why a copy cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// One of this list identifier is under way.
    InUse,
    /// Too many are.
    TooMany,
}

/// The copies of a unit, oldest first.
#[derive(Debug, Default)]
pub(in crate::unit) struct CopyLists(VecDeque<Listed>);

impl CopyLists {
    /// A copy begins. What is kept of an earlier one with its list identifier is forgotten.
    pub(super) fn begin(
        &mut self,
        nexus: NexusId,
        list: u32,
        action: u8,
        in_background: bool,
        progress: Arc<CopyProgress>,
    ) -> Result<(), Refused> {
        let own = || self.0.iter().filter(|listed| listed.nexus == nexus);
        let running = || own().filter(|listed| listed.outcome.is_none());
        if running().any(|listed| listed.list == list) {
            return Err(Refused::InUse);
        }
        if running().count() >= usize::from(CONCURRENT_MAX) {
            return Err(Refused::TooMany);
        }
        self.0.retain(|listed| listed.nexus != nexus || listed.list != list);
        self.forget_oldest(nexus);
        let listed =
            Listed { nexus, list, action, in_background, progress, outcome: None, failure_told: false };
        self.0.push_back(listed);
        Ok(())
    }

    fn forget_oldest(&mut self, nexus: NexusId) {
        let of_nexus = |listed: &Listed| listed.nexus == nexus && listed.outcome.is_some();
        if self.0.iter().filter(|listed| of_nexus(listed)).count() >= RESULTS_MAX
            && let Some(oldest) = self.0.iter().position(of_nexus)
        {
            self.0.remove(oldest);
        }
    }

    /// A copy has ended. Nothing is kept if it was forgotten meanwhile (a reset, the loss of its nexus).
    pub(super) fn end(&mut self, progress: &Arc<CopyProgress>, outcome: Outcome) {
        let found = self.0.iter_mut().find(|listed| Arc::ptr_eq(&listed.progress, progress));
        if let Some(listed) = found {
            listed.outcome = Some(outcome);
        }
    }

    pub(super) fn find(&mut self, nexus: NexusId, list: u32) -> Option<&mut Listed> {
        self.0.iter_mut().find(|listed| listed.nexus == nexus && listed.list == list)
    }

    /// Asks a copy to end. False if none of that list identifier is under way.
    pub(super) fn stop(&mut self, nexus: NexusId, list: u32) -> bool {
        let running = self.find(nexus, list).filter(|listed| listed.outcome.is_none());
        running.map(|listed| listed.progress.stop()).is_some()
    }

    /// I_T nexus loss: what is kept of its copies is discarded, and those in the background end (SPC-4 5.17.4.3).
    pub(in crate::unit) fn forget_nexus(&mut self, nexus: NexusId) {
        self.0.iter().filter(|listed| listed.nexus == nexus).for_each(|listed| listed.progress.stop());
        self.0.retain(|listed| listed.nexus != nexus);
    }

    /// A reset: the same for all.
    pub(in crate::unit) fn reset(&mut self) {
        self.0.iter().for_each(|listed| listed.progress.stop());
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NexusId = NexusId(1);
    const B: NexusId = NexusId(2);

    fn begin(lists: &mut CopyLists, nexus: NexusId, list: u32) -> Result<Arc<CopyProgress>, Refused> {
        let progress = Arc::new(CopyProgress::default());
        lists.begin(nexus, list, 0x10, true, Arc::clone(&progress)).map(|()| progress)
    }

    fn done() -> Outcome {
        Outcome { ending: Ending::Complete, status: Status::Good, sense: Bytes::new(), token: None }
    }

    #[test]
    fn a_list_identifier_is_free_again_when_its_copy_has_ended() {
        let mut lists = CopyLists::default();
        let first = begin(&mut lists, A, 7).unwrap();
        assert_eq!(begin(&mut lists, A, 7).err(), Some(Refused::InUse));
        begin(&mut lists, B, 7).expect("another nexus has identifiers of its own");
        lists.end(&first, done());
        assert!(lists.find(A, 7).unwrap().outcome.is_some());
        begin(&mut lists, A, 7).unwrap();
        assert!(lists.find(A, 7).unwrap().outcome.is_none(), "the earlier result is forgotten");
    }

    /// Promise 9: neither copies under way nor results grow without end.
    #[test]
    fn copies_and_results_of_a_nexus_are_bounded() {
        let mut lists = CopyLists::default();
        for list in 0..u32::from(CONCURRENT_MAX) {
            begin(&mut lists, A, list).unwrap();
        }
        assert_eq!(begin(&mut lists, A, 1000).err(), Some(Refused::TooMany));
        for list in 0..200 {
            let progress = begin(&mut lists, B, list).unwrap();
            lists.end(&progress, done());
        }
        assert_eq!(lists.0.len(), usize::from(CONCURRENT_MAX) + RESULTS_MAX);
        assert!(lists.find(B, 199).is_some() && lists.find(B, 100).is_none());
    }

    #[test]
    fn losing_a_nexus_and_a_reset_stop_copies() {
        let mut lists = CopyLists::default();
        let (first, second) = (begin(&mut lists, A, 1).unwrap(), begin(&mut lists, B, 1).unwrap());
        lists.forget_nexus(A);
        assert!(first.is_stopped() && !second.is_stopped());
        lists.end(&first, done());
        assert!(lists.find(A, 1).is_none());
        assert!(lists.stop(B, 1) && !lists.stop(B, 2));
        lists.reset();
        assert!(lists.find(B, 1).is_none());
    }
}
