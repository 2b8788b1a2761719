//! Taking a reservation from somebody who has it.

use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::checks::registration::{PREEMPTED, RELEASED, expect_attention, holding, register_all, see};
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed};
use crate::request;
use crate::reservation::{Action, Kind, Out, held, keys, register, reserve, send};
use crate::scene::Scene;

/// Writes that are under way when they are preempted.
const VICTIM_WRITES: u64 = 32;
/// How long the victim's commands may straggle: they end by an answer or are aborted without one.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// PREEMPT and PREEMPT AND ABORT: the reservation changes hands, the victim is out and hears of it.
pub(crate) async fn preempting(scene: &Scene) -> Outcome {
    take_over(scene, Action::Preempt).await
}

/// The same with PREEMPT AND ABORT.
pub(crate) async fn aborting(scene: &Scene) -> Outcome {
    take_over(scene, Action::PreemptAndAbort).await
}

async fn take_over(scene: &Scene, action: Action) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let (from, to) = (Kind::WriteExclusiveRegistrants, Kind::ExclusiveAccessRegistrants);
    register_all(scene).await?;
    reserve(a, scene.key(0), from).await?;
    scene.settle().await?;
    send(b, Out::new(action, scene.key(1), scene.key(0)).kind(to)).await?.good()?;
    expect_attention(scene, a, Some(PREEMPTED), "its registration was preempted").await?;
    expect_attention(scene, b, None, "it has preempted").await?;
    for nexus in scene.nexuses.iter().skip(2) {
        expect_attention(scene, nexus, Some(RELEASED), "the type changed by preemption").await?;
    }
    see(scene, holding(scene.key(1), to), "after the preemption").await?;
    let left = keys(b).await?.keys;
    scene.ensure(!left.contains(&scene.key(0)), || "the victim's key is still registered".to_owned());
    scene.ensure(left.len() + 1 == scene.nexuses.len(), || format!("keys left: {left:#x?}"));
    scene.note_failure(a.ask(request::read(0, 1, scene.size.block_size)).await?.conflict())?;
    registrant_only(scene, action).await?;
    unknown_key(scene, action).await
}

/// Preempting one who does not hold removes the registration and leaves the reservation.
async fn registrant_only(scene: &Scene, action: Action) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let kind = Kind::ExclusiveAccessRegistrants;
    register(a, 0, scene.key(0)).await?;
    scene.settle().await?;
    send(b, Out::new(action, scene.key(1), scene.key(0)).kind(kind)).await?.good()?;
    expect_attention(scene, a, Some(PREEMPTED), "its registration was removed by preemption").await?;
    see(scene, holding(scene.key(1), kind), "after a registrant was preempted").await
}

/// Preempting nobody conflicts.
async fn unknown_key(scene: &Scene, action: Action) -> Outcome {
    let b = scene.nexus(1)?;
    let nobody = Out::new(action, scene.key(1), scene.key(900)).kind(Kind::ExclusiveAccessRegistrants);
    scene.note_failure(send(b, nobody).await?.conflict())?;
    let stranger = scene.nexus(0)?;
    let unregistered = Out::new(action, scene.key(0), scene.key(1)).kind(Kind::ExclusiveAccessRegistrants);
    scene.note_failure(send(stranger, unregistered).await?.conflict())
}

/// PREEMPT of all registrants by key 0.
pub(crate) async fn all_registrants(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    register_all(scene).await?;
    reserve(a, scene.key(0), Kind::WriteExclusiveAll).await?;
    scene.settle().await?;
    send(b, Out::new(Action::Preempt, scene.key(1), 0).kind(Kind::WriteExclusive)).await?.good()?;
    for (number, nexus) in scene.nexuses.iter().enumerate() {
        let wanted = (number != 1).then_some(PREEMPTED);
        expect_attention(scene, nexus, wanted, "all registrants were preempted").await?;
    }
    let left = keys(b).await?.keys;
    scene.ensure(left == [scene.key(1)], || format!("keys left: {left:#x?}"));
    see(scene, holding(scene.key(1), Kind::WriteExclusive), "after all registrants were preempted").await
}

/// After PREEMPT AND ABORT was answered, no write of the victim reaches the medium any more.
pub(crate) async fn late_writes(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let blocks = scene.blocks_of(64 << 10);
    let lba = scene.scratch(0, VICTIM_WRITES * u64::from(blocks))?;
    register(a, 0, scene.key(0)).await?;
    register(b, 0, scene.key(1)).await?;
    reserve(a, scene.key(0), Kind::WriteExclusive).await?;
    scene.settle().await?;
    let (theirs, ours) = (scene.pattern(11, blocks), scene.pattern(12, blocks));
    let places: Vec<u64> = (0..VICTIM_WRITES).map(|number| lba + number * u64::from(blocks)).collect();
    let victim = async {
        let writes = places.iter().map(|place| a.raw(request::write(*place, blocks, theirs.clone())));
        let answered = timeout(STRAGGLERS * 4, join_all(writes)).await;
        answered.map_or(0, |replies| replies.iter().flatten().filter(|reply| reply.is_good()).count())
    };
    let taker = async {
        let out = Out::new(Action::PreemptAndAbort, scene.key(1), scene.key(0)).kind(Kind::WriteExclusive);
        send(b, out).await?.good()?;
        for place in &places {
            scene.write(b, *place, ours.clone()).await?;
        }
        Ok(())
    };
    let (written, taken): (usize, Outcome) = tokio::join!(victim, taker);
    taken?;
    scene.note(format!("{written} of {VICTIM_WRITES} writes of the victim were acknowledged before"));
    sleep(STRAGGLERS).await;
    for place in places {
        scene.note_failure(scene.holds(b, place, &ours, "written after PREEMPT AND ABORT").await)?;
    }
    Ok(())
}

/// The owner defends, the challenger loses; the owner is gone, the challenger wins.
pub(crate) async fn arbitration(scene: &Scene) -> Outcome {
    let (owner, challenger) = (scene.nexus(0)?, scene.nexus(1)?);
    let kind = Kind::WriteExclusiveRegistrants;
    register(owner, 0, scene.key(0)).await?;
    reserve(owner, scene.key(0), kind).await?;
    register(challenger, 0, scene.key(1)).await?;
    // The owner sees the challenger's key within its interval and removes it.
    let seen = keys(owner).await?.keys;
    scene.ensure(seen.contains(&scene.key(1)), || "the owner does not see the challenger's key".to_owned());
    send(owner, Out::new(Action::Preempt, scene.key(0), scene.key(1)).kind(kind)).await?.good()?;
    let lost = send(challenger, Out::new(Action::Preempt, scene.key(1), scene.key(0)).kind(kind)).await?;
    scene.note_failure(lost.conflict())?;
    see(scene, holding(scene.key(0), kind), "the owner defended").await?;
    // The owner does not defend any more.
    register(challenger, 0, scene.key(1)).await?;
    send(challenger, Out::new(Action::Preempt, scene.key(1), scene.key(0)).kind(kind)).await?.good()?;
    see(scene, holding(scene.key(1), kind), "the challenger took over").await?;
    let old = owner.ask(request::reserve_in(0)).await?;
    scene.note_failure(old.good().map(drop))?;
    let again = send(owner, Out::new(Action::Reserve, scene.key(0), 0).kind(kind)).await?;
    scene.note_failure(again.conflict())
}

/// Of many PREEMPTs at the same time exactly one wins.
pub(crate) async fn many(scene: &Scene) -> Outcome {
    const ROUNDS: usize = 5;
    let kind = Kind::WriteExclusiveRegistrants;
    for round in 0..ROUNDS {
        let owner = round % scene.nexuses.len();
        for (number, nexus) in scene.nexuses.iter().enumerate() {
            send(nexus, Out::new(Action::RegisterAndIgnore, 0, scene.key(number))).await?.good()?;
        }
        match held(scene.nexus(owner)?).await? {
            Some(held) if held.key != scene.key(owner) => {
                let out = Out::new(Action::Preempt, scene.key(owner), held.key).kind(kind);
                send(scene.nexus(owner)?, out).await?.good()?;
                for (number, nexus) in scene.nexuses.iter().enumerate() {
                    send(nexus, Out::new(Action::RegisterAndIgnore, 0, scene.key(number))).await?.good()?;
                }
            }
            _ => reserve(scene.nexus(owner)?, scene.key(owner), kind).await?,
        }
        scene.settle().await?;
        one_winner(scene, owner, kind).await?;
    }
    Ok(())
}

async fn one_winner(scene: &Scene, owner: usize, kind: Kind) -> Outcome {
    let challengers: Vec<(usize, &Nexus)> =
        scene.nexuses.iter().enumerate().filter(|(number, _)| *number != owner).collect();
    let preempts = challengers.iter().map(|(number, nexus)| {
        send(nexus, Out::new(Action::Preempt, scene.key(*number), scene.key(owner)).kind(kind))
    });
    let mut winners = Vec::new();
    for ((number, nexus), reply) in challengers.iter().zip(join_all(preempts).await) {
        let reply = reply?;
        if reply.is_good() {
            winners.push(*number);
        } else if !reply.is_conflict() {
            scene.wrong(format!("{}: {}", nexus.label, reply.text()));
        }
    }
    match winners[..] {
        [winner] => see(scene, holding(scene.key(winner), kind), "after simultaneous PREEMPTs").await,
        _ => failed(format!(
            "{} of {} simultaneous PREEMPTs won, one has to",
            winners.len(),
            challengers.len()
        )),
    }
}
