//! The iSCSI layer beneath.

use initiator::Digests;

use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed};
use crate::request;
use crate::scene::Scene;

/// Logins that insist on each choice of digests; reads come back the same under each.
pub(crate) async fn digests(scene: &Scene) -> Outcome {
    let blocks = scene.blocks_of(64 << 10).min(u32::try_from(scene.size.blocks).unwrap_or(u32::MAX));
    for nexus in scene.paths() {
        let plain = scene.read(nexus, 0, blocks).await?;
        for (header, data) in [(true, false), (false, true), (true, true)] {
            let mut spec = nexus.spec.clone();
            spec.isid[5] ^= 0x80;
            spec.digests = Digests { header, data };
            let label = format!("{}, header digest {header}, data digest {data}", nexus.label);
            let opened = Nexus::open(label.clone(), spec, scene.fabric.clone(), scene.log.clone()).await;
            let other = match opened {
                Ok(other) => other,
                Err(error) => {
                    scene.wrong(format!("{label}: {error}"));
                    continue;
                }
            };
            let found = scene.read(&other, 0, blocks).await;
            other.log_out().await;
            scene.ensure(found? == plain, || format!("{label}: reads other data than without digests"));
        }
    }
    Ok(())
}

/// SendTargets at each portal names the target, with that portal among its addresses.
pub(crate) async fn discovery(scene: &Scene) -> Outcome {
    for nexus in scene.paths() {
        let mut spec = nexus.spec.clone();
        spec.isid[5] ^= 0x80;
        let targets = match scene.fabric.discover(&spec).await {
            Ok(targets) => targets,
            Err(error) => return failed(format!("{}: discovery: {error}", nexus.label)),
        };
        let found = targets.iter().find(|(name, _)| *name == spec.url.iqn);
        let Some((_, addresses)) = found else {
            scene.wrong(format!("{}: SendTargets does not name {}", nexus.label, spec.url.iqn));
            continue;
        };
        let port = format!(":{},", spec.url.port);
        scene.ensure(addresses.is_empty() || addresses.iter().any(|address| address.contains(&port)), || {
            format!("{}: none of the addresses {addresses:?} has port {}", nexus.label, spec.url.port)
        });
    }
    Ok(())
}

/// A login as the same initiator port replaces the session; the unit is usable at once.
pub(crate) async fn reinstatement(scene: &Scene) -> Outcome {
    let last = scene.nexuses.len() - 1;
    let nexus = scene.nexus(last)?;
    let mut spec = nexus.spec.clone();
    spec.isid[5] ^= 0x80;
    let open =
        |label: &str| Nexus::open(label.to_owned(), spec.clone(), scene.fabric.clone(), scene.log.clone());
    let old = open("the session replaced").await.or_else(|error| failed(error.to_string()))?;
    old.settle().await?;
    let new = open("the session that replaces it").await.or_else(|error| failed(error.to_string()))?;
    new.settle().await?;
    let dead = old.raw(request::test_unit_ready()).await.is_err();
    scene.ensure(dead, || "the old session still answers after a login with its ISID".to_owned());
    scene.note_failure(new.good(request::test_unit_ready()).await.map(drop))?;
    new.log_out().await;
    Ok(())
}
