//! Who may do what under each type of reservation (SPC-4 tables 43 to 45, SBC-3 table 13).

use bytes::Bytes;

use crate::nexus::{Nexus, about};
use crate::outcome::{Outcome, Stop};
use crate::request::{self, Request};
use crate::reservation::{Kind, register, release, reserve};
use crate::scene::Scene;

/// What a command would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    /// Allowed under every reservation.
    Always,
}

/// Commands to try. Writes are of no blocks unless a scratch range is there: they are judged alike.
fn commands(scene: &Scene) -> Vec<(Access, Request)> {
    let block_size = scene.size.block_size;
    let (lba, blocks, data) = match scene.range {
        Some(range) => (range.lba, 1, scene.pattern(9, 1)),
        None => (0, 0, Bytes::new()),
    };
    vec![
        (Access::Read, request::read(0, 1, block_size)),
        (Access::Write, request::write(lba, blocks, data)),
        (Access::Always, request::test_unit_ready()),
        (Access::Always, request::inquiry(None)),
        (Access::Always, request::read_capacity_16()),
        (Access::Always, request::report_luns()),
        (Access::Always, request::reserve_in(1)),
    ]
}

/// Whether `access` is allowed under `kind` to somebody.
fn is_allowed(kind: Kind, access: Access, is_holder: bool, is_registered: bool) -> bool {
    let shares = is_holder || (is_registered && kind.for_registrants());
    match access {
        Access::Always => true,
        Access::Read => shares || !kind.excludes_reads(),
        Access::Write => shares,
    }
}

async fn probe(scene: &Scene, nexus: &Nexus, kind: Kind, is_holder: bool, is_registered: bool) -> Outcome {
    let who = match (is_holder, is_registered) {
        (true, _) => "the holder",
        (false, true) => "a registrant",
        (false, false) => "a nexus that is not registered",
    };
    for (access, command) in commands(scene) {
        let what = format!("{} by {who}", kind.name());
        let reply = nexus.ask(command).await?;
        let judged = match is_allowed(kind, access, is_holder, is_registered) {
            true => reply.good().map(drop),
            false => reply.conflict(),
        };
        match about(&what, judged) {
            Err(Stop::NotSupported(why)) => scene.note(why),
            other => scene.note_failure(other)?,
        }
    }
    Ok(())
}

/// Each type with holder, registrant and stranger.
pub(crate) async fn matrix(scene: &Scene) -> Outcome {
    let (holder, registrant, stranger) = (scene.nexus(0)?, scene.nexus(1)?, scene.nexus(2)?);
    register(holder, 0, scene.key(0)).await?;
    register(registrant, 0, scene.key(1)).await?;
    for kind in Kind::ALL {
        let reserved =
            about(&format!("reserving {}", kind.name()), reserve(holder, scene.key(0), kind).await);
        if reserved.is_err() {
            scene.note_failure(reserved)?;
            continue;
        }
        probe(scene, holder, kind, true, true).await?;
        probe(scene, registrant, kind, kind.held_by_all(), true).await?;
        probe(scene, stranger, kind, false, false).await?;
        release(holder, scene.key(0), kind).await?;
        scene.settle().await?;
    }
    Ok(())
}

/// RESERVE(6) of old hosts: others conflict, RELEASE(6) ends it. Persistent reservations exclude it.
pub(crate) async fn spc2(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let (reserve_6, release_6) = (Request::new(&[0x16]), Request::new(&[0x17]));
    let reply = a.ask(reserve_6.clone()).await?;
    reply.good()?;
    let read = || request::read(0, 1, scene.size.block_size);
    let conflict = b.ask(read()).await?;
    let holder = a.ask(read()).await?;
    let allowed = b.ask(request::inquiry(None)).await?;
    let release_by_other = b.ask(release_6.clone()).await?;
    let still = b.ask(read()).await?;
    a.ask(release_6.clone()).await?.good()?;
    let free = b.ask(read()).await?;
    for result in [
        about("while another nexus has RESERVE(6)", conflict.conflict()),
        about("by the nexus that has RESERVE(6)", holder.good().map(drop)),
        about("INQUIRY despite RESERVE(6)", allowed.good().map(drop)),
        about("RELEASE(6) by a nexus that has not reserved", release_by_other.good().map(drop)),
        about("after another's RELEASE(6)", still.conflict()),
        about("after RELEASE(6)", free.good().map(drop)),
    ] {
        scene.note_failure(result)?;
    }
    register(a, 0, scene.key(0)).await?;
    let excluded = b.ask(reserve_6).await?;
    let ended = b.ask(release_6).await?;
    if excluded.is_good() {
        drop(ended);
    }
    scene.note_failure(about("RESERVE(6) while there are registrations", excluded.conflict()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_allow_what_the_standard_says() {
        let access = |kind, access| {
            [(true, true), (false, true), (false, false)].map(|(h, r)| is_allowed(kind, access, h, r))
        };
        assert_eq!(access(Kind::WriteExclusive, Access::Read), [true, true, true]);
        assert_eq!(access(Kind::WriteExclusive, Access::Write), [true, false, false]);
        assert_eq!(access(Kind::ExclusiveAccess, Access::Read), [true, false, false]);
        assert_eq!(access(Kind::WriteExclusiveRegistrants, Access::Write), [true, true, false]);
        assert_eq!(access(Kind::ExclusiveAccessRegistrants, Access::Read), [true, true, false]);
        assert_eq!(access(Kind::ExclusiveAccessAll, Access::Always), [true, true, true]);
    }
}
