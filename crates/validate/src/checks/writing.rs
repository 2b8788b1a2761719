//! WRITE SAME, which ESXi zeroes with.

use crate::bytes_at::slice;
use crate::outcome::Outcome;
use crate::request;
use crate::scene::Scene;

/// Zeroes and patterns over a range; what lies beside it stays.
pub(crate) async fn same(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let blocks = scene.blocks_of(1 << 20);
    let lba = scene.scratch(0, u64::from(blocks) + 2)?;
    let block = usize::try_from(scene.size.block_size).unwrap_or(512);
    let data = scene.pattern(41, blocks + 2);
    for (content, unmap) in [(scene.zeroes(1), false), (scene.pattern(42, 1), false), (scene.zeroes(1), true)]
    {
        scene.write(nexus, lba, data.clone()).await?;
        let reply = nexus.ask(request::write_same(lba + 1, blocks, unmap, content.clone())).await?;
        if unmap {
            reply.good_if_there()?;
        } else {
            reply.good()?;
        }
        let what = if unmap { "WRITE SAME with UNMAP" } else { "WRITE SAME" };
        for reader in scene.paths() {
            let wanted = content.repeat(usize::try_from(blocks).unwrap_or(0));
            scene.note_failure(scene.holds(reader, lba + 1, &wanted, what).await)?;
        }
        let (first, last) = (slice(&data, 0, block), slice(&data, data.len() - block, block));
        scene.note_failure(scene.holds(nexus, lba, first, "the block before WRITE SAME").await)?;
        let after = lba + u64::from(blocks) + 1;
        scene.note_failure(scene.holds(nexus, after, last, "the block after WRITE SAME").await)?;
    }
    let past = nexus.ask(request::write_same(scene.size.blocks - 1, 2, false, scene.zeroes(1))).await?;
    scene.note_failure(past.illegal(0x21, 0x00))
}
