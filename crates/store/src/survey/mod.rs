//! Whose the data of a pool is: what each volume and snapshot maps, what only it holds, and what snapshots keep.
//!
//! The engine's accounts know how many blocks each layer maps, and not which of them others hide. So that is counted: for
//! layers that lie on each other, leaf by leaf, where a layer on top of another has a leaf. Parts of a volume that were
//! not written since its oldest snapshot are not looked at, and trees of layers that have not changed are not counted
//! again. What references to shared blocks ([`crate::share`]) point to counts as shared, whoever they are of.

mod leaf;
mod tree;

use crate::engine::Engine;
use crate::format::{BLOCK_BYTES, LayerId, VolumeId};
use crate::map::{Entries, Find, Next};
use crate::pool::Pool;
use crate::state::{Needed, State};
use block::Result;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tree::{Counts, Tree};

/// Leaves that are counted before others get their turn.
const STEP_LEAVES: u32 = 32;
/// How long others get.
const PAUSE: Duration = Duration::from_millis(1);
/// Times that a tree is begun anew because layers of it came or went meanwhile.
const TRIES: u32 = 3;

/// What a volume or snapshot holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// What it maps: what reading it would find data for.
    pub mapped_bytes: u64,
    /// Of that, what no other volume or snapshot has: it comes back when this one is deleted.
    pub unique_bytes: u64,
    /// Of a volume: what its snapshots have and neither it nor another volume has.
    pub snapshots_bytes: u64,
}

/// What was counted of all volumes and snapshots of a pool.
#[derive(Debug, Default)]
pub struct Survey {
    /// When it was last counted or found unchanged, in ms since 1970.
    pub as_of_unix_ms: u64,
    holdings: BTreeMap<VolumeId, Holding>,
    trees: BTreeMap<LayerId, Counted>,
}

/// A tree as it was counted.
#[derive(Debug, Clone)]
struct Counted {
    tree: Arc<Tree>,
    edits: u64,
    /// Blocks may have been shared by reference.
    references: bool,
    counts: Arc<Counts>,
}

impl Survey {
    /// What a volume or snapshot holds; none if it was not there, or its map could not be read.
    #[must_use]
    pub fn holding(&self, id: &VolumeId) -> Option<Holding> {
        self.holdings.get(id).copied()
    }

    fn sum(&self, part: impl Fn(&Counts) -> u64) -> u64 {
        self.trees.values().map(|counted| part(&counted.counts)).sum()
    }

    /// All blocks that were counted, but those shared by reference.
    pub(crate) fn blocks(&self) -> u64 {
        self.sum(|counts| counts.volumes + counts.snapshots + counts.stranded)
    }

    /// Blocks that snapshots have and no volume.
    pub(crate) fn snapshots(&self) -> u64 {
        self.sum(|counts| counts.snapshots)
    }

    /// Blocks of deleted volumes and snapshots.
    pub(crate) fn stranded(&self) -> u64 {
        self.sum(|counts| counts.stranded)
    }

    /// Blocks that several volumes or snapshots have, but those shared by reference.
    pub(crate) fn shared(&self) -> u64 {
        self.sum(|counts| counts.shared)
    }

    fn take_in(&mut self, root: LayerId, counted: Counted) {
        let bytes = |blocks: Option<&u64>| blocks.copied().unwrap_or(0) * BLOCK_BYTES;
        for (number, top) in counted.tree.tops.iter().enumerate() {
            let holding = self.holdings.entry(top.id).or_default();
            holding.mapped_bytes = bytes(counted.counts.mapped.get(number));
            holding.unique_bytes = bytes(counted.counts.unique.get(number));
        }
        for (owner, blocks) in &counted.counts.snapshots_of {
            self.holdings.entry(*owner).or_default().snapshots_bytes += blocks * BLOCK_BYTES;
        }
        self.trees.insert(root, counted);
    }
}

impl Pool {
    /// Counts whose the pool's data is: of what has changed since `former` was counted, if that is given. Reads maps, and
    /// takes as long as there is much written since the oldest snapshots; others go on meanwhile, and what they write in
    /// that time is counted or not. What cannot be read is left out.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn survey(&self, former: Option<&Survey>) -> Result<Survey> {
        let trees = self.engine.state().trees();
        let mut survey = Survey::default();
        for root in trees.into_keys() {
            let known = former.and_then(|former| former.trees.get(&root));
            match self.engine.survey_tree(root, known).await {
                Ok(Some(counted)) => survey.take_in(root, counted),
                Ok(None) => {}
                Err(error) => {
                    self.engine.check_not_closed()?;
                    tracing::warn!(%error, %root, "what volumes hold of the pool cannot be counted");
                }
            }
        }
        survey.as_of_unix_ms = self.engine.runtime.unix_time_ms();
        Ok(survey)
    }

    /// True if nothing has changed since it was counted.
    #[must_use]
    pub fn is_current(&self, survey: &Survey) -> bool {
        let state = self.engine.state();
        let trees = state.trees();
        trees.len() == survey.trees.len()
            && trees.iter().all(|(root, tree)| {
                survey.trees.get(root).is_some_and(|counted| state.is_same(counted, tree))
            })
    }

    /// Says which volume answers for a snapshot's space, for snapshots and volumes.
    pub fn set_owners(&self, owners: &[(VolumeId, VolumeId)]) {
        let mut state = self.engine.state();
        for (snapshot, volume) in owners {
            state.accounts.set_owner(*snapshot, *volume);
        }
    }
}

impl Engine {
    fn check_not_closed(&self) -> Result<()> {
        let closed = self.state().closing;
        if closed { Err(self.error(block::ErrorKind::Closed, "is closed")) } else { Ok(()) }
    }

    /// Counts a tree, or finds that it has not changed. None if it is gone, or changes too fast.
    async fn survey_tree(&self, root: LayerId, known: Option<&Counted>) -> Result<Option<Counted>> {
        for _ in 0..TRIES {
            let (tree, edits, references, shape) = {
                let state = self.state();
                let Some(tree) = state.trees().remove(&root) else { return Ok(None) };
                if let Some(known) = known.filter(|known| state.is_same(known, &tree)) {
                    return Ok(Some(known.clone()));
                }
                let (edits, references) = (state.edits(&tree), state.has_references());
                (tree, edits, references, state.accounts.shape)
            };
            if let Some(counts) = self.count_tree(root, &tree, references, shape).await? {
                let (tree, counts) = (Arc::new(tree), Arc::new(counts));
                return Ok(Some(Counted { tree, edits, references, counts }));
            }
        }
        // What was known is of other layers; it is better than nothing.
        Ok(known.cloned())
    }

    /// None if layers or volumes of the tree came or went meanwhile.
    async fn count_tree(
        &self,
        root: LayerId,
        tree: &Tree,
        references: bool,
        mut shape: u64,
    ) -> Result<Option<Counts>> {
        let mut counts = Counts::of(tree);
        let (mut from, mut of_root, mut steps) = (0, 0, 0);
        loop {
            self.check_not_closed()?;
            let step = {
                let mut state = self.state();
                if state.accounts.shape != shape {
                    shape = state.accounts.shape;
                    if state.trees().get(&root) != Some(tree) {
                        return Ok(None);
                    }
                }
                state.evict();
                let step = state.survey_leaf(tree, from, references, &mut counts);
                if matches!(step, Ok(None)) {
                    let mapped = state.layers.get(&root).map_or(0, |layer| layer.mapped);
                    // Where references are, all of the root was looked at.
                    let rest = if references { 0 } else { mapped.saturating_sub(of_root) };
                    counts.add_root(tree, rest);
                    return Ok(Some(counts));
                }
                step
            };
            match step {
                Ok(Some((leaf, mapped))) => {
                    from = leaf + 1;
                    of_root += mapped;
                }
                Ok(None) => {}
                Err(needed) => self.load(needed).await?,
            }
            steps += 1;
            if steps % STEP_LEAVES == 0 {
                self.runtime.sleep(PAUSE).await;
            }
        }
    }
}

impl State {
    /// Blocks may be shared by reference.
    fn has_references(&self) -> bool {
        self.pending.leaves() > 0
            || self.layers.get(&LayerId::SHARED).is_some_and(|layer| !layer.map.is_empty())
    }

    fn is_same(&self, counted: &Counted, tree: &Tree) -> bool {
        *counted.tree == *tree
            && counted.edits == self.edits(tree)
            && counted.references == self.has_references()
    }

    /// Counts the first leaf from `from` on that a layer above the root has, or with `all` any layer. Returns which it
    /// was, and what the root maps there; none if there are no more.
    ///
    /// # Errors
    /// The node that has to be loaded to know.
    fn survey_leaf(
        &mut self,
        tree: &Tree,
        from: u64,
        all: bool,
        counts: &mut Counts,
    ) -> std::result::Result<Option<(u64, u64)>, Needed> {
        let mut first: Option<u64> = None;
        for member in tree.layers.iter().skip(usize::from(!all)) {
            match self.layers.get(&member.id).map_or(Next::End, |layer| layer.map.next_leaf(from)) {
                Next::End => {}
                Next::Load(load) => return Err(Needed { layer: member.id, load }),
                Next::Leaf(leaf) => first = Some(first.map_or(leaf, |first| first.min(leaf))),
            }
        }
        let Some(leaf) = first else { return Ok(None) };
        let mut own: Vec<Option<Arc<Entries>>> = Vec::with_capacity(tree.layers.len());
        for member in &tree.layers {
            let Some(layer) = self.layers.get_mut(&member.id) else {
                own.push(None);
                continue;
            };
            match layer.map.find(leaf) {
                Find::Load(load) => return Err(Needed { layer: member.id, load }),
                Find::Absent => own.push(None),
                Find::Here => own.push(layer.map.leaf(leaf).cloned()),
            }
        }
        leaf::count(tree, &own, counts);
        let mapped = own.first().and_then(Option::as_ref).map_or(0, |entries| {
            crate::number::wide(entries.iter().filter(|entry| entry.location.is_mapped()).count())
        });
        Ok(Some((leaf, mapped)))
    }
}
