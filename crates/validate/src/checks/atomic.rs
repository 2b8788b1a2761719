//! COMPARE AND WRITE, which ESXi calls ATS: its heartbeats and locks.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::checks::identity::page;
use crate::decode::BlockLimits;
use crate::outcome::{Outcome, failed};
use crate::request::{self, Request};
use crate::scene::Scene;

/// Rounds of concurrent heartbeats.
const ROUNDS: u64 = 40;

fn swap(lba: u64, old: &Bytes, new: &Bytes) -> Request {
    request::compare_and_write(lba, 1, [&old[..], &new[..]].concat().into())
}

/// MAXIMUM COMPARE AND WRITE LENGTH says that there is such a thing, and is the limit.
pub(crate) async fn limit(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let reply = nexus.ask(request::compare_and_write(0, 0, Bytes::new())).await?;
    reply.good()?;
    let max = BlockLimits::parse(&page(nexus, 0xb0).await?).compare_and_write_max;
    scene.note(format!("MAXIMUM COMPARE AND WRITE LENGTH is {max}"));
    if max == 0 {
        return failed(
            "COMPARE AND WRITE is answered, but its maximum length in VPD page B0h is 0: ESXi does not use it",
        );
    }
    let Ok(over) = u8::try_from(max + 1) else { return Ok(()) };
    // The comparison would fail, so that nothing is written even if the limit is not kept.
    let data = scene.pattern(31, 2 * u32::from(over));
    let reply = nexus.ask(request::compare_and_write(0, over, data)).await?;
    scene.note_failure(reply.illegal(0x24, 0x00))
}

/// A match writes.
pub(crate) async fn matching(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let lba = scene.scratch(0, 2)?;
    let (old, new) = (scene.pattern(32, 1), scene.pattern(33, 1));
    let beside = scene.pattern(34, 1);
    scene.write(nexus, lba, [&old[..], &beside[..]].concat().into()).await?;
    nexus.good(swap(lba, &old, &new)).await?;
    for reader in scene.paths() {
        scene.note_failure(scene.holds(reader, lba, &new, "after a match").await)?;
        scene.note_failure(scene.holds(reader, lba + 1, &beside, "the next block").await)?;
    }
    Ok(())
}

/// A difference does not, and the sense tells where it is.
pub(crate) async fn different(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    let lba = scene.scratch(0, 1)?;
    let there = scene.pattern(35, 1);
    scene.write(nexus, lba, there.clone()).await?;
    for at in [0, 1, 100, there.len() - 1] {
        let mut expected = there.to_vec();
        expected.iter_mut().skip(at).for_each(|byte| *byte ^= 0xff);
        let reply = nexus.ask(swap(lba, &expected.into(), &scene.pattern(36, 1))).await?;
        if reply.is_unknown_command() {
            reply.good()?;
        }
        if !reply.is_sense(0x0e, 0x1d, 0x00) {
            return failed(format!("{}; MISCOMPARE 1Dh/00h is expected", reply.text()));
        }
        let offset = reply.sense().and_then(|sense| sense.information);
        let wanted = u64::try_from(at).unwrap_or(0);
        scene.ensure(offset == Some(wanted), || {
            format!("the first difference is at byte {at}, INFORMATION says {offset:?}")
        });
        scene.note_failure(scene.holds(nexus, lba, &there, "after a miscompare").await)?;
    }
    Ok(())
}

/// Many nexuses swap the same block at once: one wins each round, and its data is there.
pub(crate) async fn concurrent(scene: &Scene) -> Outcome {
    let lba = scene.scratch(0, 1)?;
    let mut there = scene.pattern(1000, 1);
    scene.write(scene.first()?, lba, there.clone()).await?;
    for round in 0..ROUNDS {
        let offers: Vec<Bytes> = (0..scene.nexuses.len())
            .map(|number| scene.pattern(2000 + round * 100 + u64::try_from(number).unwrap_or(0), 1))
            .collect();
        let swaps = scene.nexuses.iter().zip(&offers).map(|(nexus, new)| nexus.ask(swap(lba, &there, new)));
        let mut winners = Vec::new();
        for (reply, offer) in join_all(swaps).await.into_iter().zip(&offers) {
            let reply = reply?;
            if reply.is_good() {
                winners.push(offer.clone());
            } else if !reply.is_sense(0x0e, 0x1d, 0x00) {
                reply.good()?;
            }
        }
        let [winner] = &winners[..] else {
            return failed(format!(
                "round {round}: {} of {} swaps won, one has to",
                winners.len(),
                offers.len()
            ));
        };
        there = winner.clone();
        let reader = scene.nexus(usize::try_from(round).unwrap_or(0) % scene.nexuses.len())?;
        scene.holds(reader, lba, &there, "the winner's data").await?;
    }
    scene.note(format!("{ROUNDS} rounds of {} nexuses", scene.nexuses.len()));
    Ok(())
}
