//! Reservations: making sure that nobody else's are touched, and leaving none of ours behind.

use crate::nexus::Nexus;
use crate::outcome::Stop;
use crate::request;
use crate::reservation::{self, Action, Kind, Out};
use crate::run::RunError;
use crate::scene::Scene;

/// Refuses when somebody holds a registration, or removes it if forced.
pub(crate) async fn claim(scene: &Scene, force: bool) -> Result<(), RunError> {
    for unit in units(scene) {
        let Some(nexus) = unit.first() else { continue };
        let Ok(keys) = reservation::keys(nexus).await else { continue };
        if keys.keys.is_empty() {
            continue;
        }
        if !force {
            let keys: Vec<_> = keys.keys.iter().map(|key| format!("{key:#018x}")).collect();
            return Err(RunError::InUse(format!("{} ({})", keys.join(", "), nexus.label)));
        }
        let cleared = async {
            let key = scene.key(0);
            reservation::send(nexus, Out::new(Action::RegisterAndIgnore, 0, key)).await?.good()?;
            reservation::send(nexus, Out::new(Action::Clear, key, 0)).await?.good()
        };
        cleared.await.map_err(|stop: Stop| RunError::InUse(format!("cannot be removed: {stop}")))?;
    }
    Ok(())
}

/// Unregisters every nexus of ours, which releases what it holds, and takes the unit attentions of it.
/// What could not be undone comes back in words.
pub(crate) async fn clean(scene: &Scene) -> Vec<String> {
    let mut left = Vec::new();
    for unit in units(scene) {
        for nexus in unit {
            if let Err(stop) = unregister(nexus).await {
                left.push(format!("{}: {stop}", nexus.label));
            }
        }
        let Some(nexus) = unit.first() else { continue };
        match remove_lost(scene, nexus).await {
            Ok(keys) if keys.is_empty() => {}
            Ok(keys) => left.push(format!("{}: still registered: {keys:#x?}", nexus.label)),
            Err(Stop::NotSupported(_)) => {}
            Err(stop) => left.push(format!("{}: {stop}", nexus.label)),
        }
    }
    for nexus in scene.nexuses.iter().chain(scene.others.iter().flatten()) {
        let _ = nexus.settle().await;
    }
    left
}

fn units(scene: &Scene) -> impl Iterator<Item = &[Nexus]> {
    core::iter::once(&scene.nexuses[..]).chain(scene.others.iter().map(|unit| &unit[..]))
}

/// Preempts keys of this run that no nexus of ours can unregister, as an array that loses sight of an initiator
/// port leaves them. The keys that are left then.
async fn remove_lost(scene: &Scene, nexus: &Nexus) -> Result<Vec<u64>, Stop> {
    let found = reservation::keys(nexus).await?.keys;
    let lost: Vec<u64> = found.iter().copied().filter(|key| scene.is_own(*key)).collect();
    if lost.is_empty() {
        return Ok(found);
    }
    let key = scene.key(999);
    reservation::send(nexus, Out::new(Action::RegisterAndIgnore, 0, key)).await?.good()?;
    for other in lost {
        let out = Out::new(Action::Preempt, key, other).kind(Kind::WriteExclusive);
        reservation::send(nexus, out).await?;
    }
    reservation::send(nexus, Out::new(Action::RegisterAndIgnore, 0, 0)).await?.good()?;
    Ok(reservation::keys(nexus).await?.keys)
}

/// Removes a nexus's registration, with a new session if the old one is lost. The registration is the
/// initiator port's, so that it can be removed from there.
async fn unregister(nexus: &Nexus) -> Result<(), Stop> {
    if nexus.raw(request::test_unit_ready()).await.is_err() {
        nexus.reopen().await?;
    }
    let reply = reservation::send(nexus, Out::new(Action::RegisterAndIgnore, 0, 0)).await?;
    match reply.is_unknown_command() {
        true => Ok(()),
        false => reply.good().map(drop),
    }
}
