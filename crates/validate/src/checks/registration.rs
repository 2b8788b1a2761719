//! Persistent reservations: registering, reserving, releasing.

use crate::bytes_at::{bit, byte, number};
use crate::nexus::Nexus;
use crate::outcome::{Outcome, failed};
use crate::request;
use crate::reservation::{
    Action, Held, Kind, Out, full_status, held, keys, register, release, reserve, send,
};
use crate::scene::Scene;

/// RESERVATIONS PREEMPTED: after CLEAR.
pub(crate) const CLEARED: (u8, u8) = (0x2a, 0x03);
/// RESERVATIONS RELEASED.
pub(crate) const RELEASED: (u8, u8) = (0x2a, 0x04);
/// REGISTRATIONS PREEMPTED.
pub(crate) const PREEMPTED: (u8, u8) = (0x2a, 0x05);

/// Registers every nexus with its key.
pub(crate) async fn register_all(scene: &Scene) -> Outcome {
    for (number, nexus) in scene.nexuses.iter().enumerate() {
        register(nexus, 0, scene.key(number)).await?;
    }
    Ok(())
}

/// Wants this reservation to be seen through every nexus, or none.
pub(crate) async fn see(scene: &Scene, wanted: Option<Held>, when: &str) -> Outcome {
    for nexus in &scene.nexuses {
        let found = held(nexus).await?;
        scene.ensure(found == wanted, || {
            format!(
                "{when}: READ RESERVATION through {} says {}, not {}",
                nexus.label,
                describe(found),
                describe(wanted)
            )
        });
    }
    Ok(())
}

fn describe(held: Option<Held>) -> String {
    match held {
        None => "none".to_owned(),
        Some(Held { key, scope, kind }) => format!("key {key:#018x}, scope {scope}, type {kind:X}h"),
    }
}

/// What READ RESERVATION has to say of a reservation by a holder.
pub(crate) fn holding(key: u64, kind: Kind) -> Option<Held> {
    let key = if kind.held_by_all() { 0 } else { key };
    Some(Held { key, scope: 0, kind: kind.code() })
}

/// Wants a unit attention at the next command through `nexus`, or none.
pub(crate) async fn expect_attention(
    scene: &Scene,
    nexus: &Nexus,
    wanted: Option<(u8, u8)>,
    when: &str,
) -> Outcome {
    let mut seen = Vec::new();
    while let Some(found) = nexus.attention().await? {
        seen.push(found);
        if seen.len() > 16 {
            return failed(format!("{}: unit attentions do not end", nexus.label));
        }
    }
    let ours: Vec<_> =
        seen.iter().filter(|(code, qualifier)| *code == 0x2a && (3..=5).contains(qualifier)).collect();
    match wanted {
        Some(wanted) => scene.ensure(seen.contains(&wanted), || {
            format!(
                "{when}: {} gets no unit attention {:02X}h/{:02X}h, {}; it gets {seen:02x?}",
                nexus.label,
                wanted.0,
                wanted.1,
                crate::names::sense(wanted.0, wanted.1)
            )
        }),
        None => scene
            .ensure(ours.is_empty(), || format!("{when}: {} gets unit attention {ours:02x?}", nexus.label)),
    }
    Ok(())
}

/// REPORT CAPABILITIES: all six types, and what clusters build on.
pub(crate) async fn capabilities(scene: &Scene) -> Outcome {
    let data = scene.first()?.good(request::reserve_in(2)).await?;
    scene.ensure(data.len() >= 8 && number(&data, 0, 2) == 8, || "LENGTH is not 8".to_owned());
    match bit(&data, 3, 0x80) {
        false => scene.warn("TMV is 0: which types there are is not told"),
        true => {
            let (first, second) = (byte(&data, 4), byte(&data, 5));
            let bits = [
                (first, 0x02, "1h"),
                (first, 0x08, "3h"),
                (first, 0x20, "5h"),
                (first, 0x40, "6h"),
                (first, 0x80, "7h"),
                (second, 0x01, "8h"),
            ];
            for (mask, bit, name) in bits {
                scene.ensure(mask & bit != 0, || format!("type {name} is not supported"));
            }
        }
    }
    if !bit(&data, 2, 0x01) {
        scene.warn("PTPL_C is 0: reservations do not survive a power loss");
    }
    for (set, name) in
        [(bit(&data, 2, 0x08), "SIP_C"), (bit(&data, 2, 0x04), "ATP_C"), (bit(&data, 2, 0x10), "CRH")]
    {
        scene.note(format!("{name} is {}", u8::from(set)));
    }
    Ok(())
}

/// REGISTER: keys appear, change and go; wrong ones conflict.
pub(crate) async fn registering(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let (key, other) = (scene.key(0), scene.key(900));
    register(a, 0, key).await?;
    register(b, 0, scene.key(1)).await?;
    for nexus in &scene.nexuses {
        let mut found = keys(nexus).await?.keys;
        found.sort_unstable();
        scene.ensure(found == [key, scene.key(1)], || {
            format!("READ KEYS through {}: {found:#x?}", nexus.label)
        });
    }
    let wrong = send(a, Out::new(Action::Register, other, scene.key(901))).await?;
    scene.note_failure(wrong.conflict())?;
    register(a, key, other).await?;
    let changed = keys(b).await?.keys;
    scene.ensure(changed.contains(&other) && !changed.contains(&key), || {
        format!("after a change of key: {changed:#x?}")
    });
    send(a, Out::new(Action::RegisterAndIgnore, 0, key)).await?.good()?;
    register(a, key, 0).await?;
    let left = keys(b).await?.keys;
    scene.ensure(left == [scene.key(1)], || format!("after unregistering: {left:#x?}"));
    let again = send(a, Out::new(Action::Register, key, key)).await?;
    scene.note_failure(again.conflict())
}

/// PRGENERATION counts registrations, clears and preempts, and nothing else.
pub(crate) async fn generation(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let (key, kind) = (scene.key(0), Kind::WriteExclusiveRegistrants);
    let start = keys(a).await?.generation;
    let mut wanted = start;
    let steps: [(&str, Out, &Nexus, u64); 6] = [
        ("REGISTER", Out::new(Action::Register, 0, key), a, 1),
        ("REGISTER of another", Out::new(Action::Register, 0, scene.key(1)), b, 1),
        ("RESERVE", Out::new(Action::Reserve, key, 0).kind(kind), a, 0),
        ("RELEASE", Out::new(Action::Release, key, 0).kind(kind), a, 0),
        ("PREEMPT", Out::new(Action::Preempt, scene.key(1), key).kind(kind), b, 1),
        ("CLEAR", Out::new(Action::Clear, scene.key(1), 0), b, 1),
    ];
    for (name, out, nexus, step) in steps {
        send(nexus, out).await?.good()?;
        wanted = wanted.wrapping_add(step) & 0xffff_ffff;
        for reader in [a, b] {
            let found = keys(reader).await?.generation;
            scene.ensure(found == wanted, || {
                format!("after {name} PRGENERATION through {} is {found}, {wanted} is expected", reader.label)
            });
        }
    }
    Ok(())
}

/// RESERVE, and READ RESERVATION right after it.
pub(crate) async fn reserving(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    register_all(scene).await?;
    let unregistered =
        send(a, Out::new(Action::Reserve, scene.key(900), 0).kind(Kind::WriteExclusive)).await?;
    scene.note_failure(unregistered.conflict())?;
    for kind in Kind::ALL {
        reserve(a, scene.key(0), kind).await?;
        see(scene, holding(scene.key(0), kind), kind.name()).await?;
        // Once more by the holder with the same type does nothing.
        reserve(a, scene.key(0), kind).await?;
        let other = if kind == Kind::WriteExclusive { Kind::ExclusiveAccess } else { Kind::WriteExclusive };
        let changed = send(a, Out::new(Action::Reserve, scene.key(0), 0).kind(other)).await?;
        scene.note_failure(changed.conflict())?;
        if !kind.held_by_all() {
            let taken = send(b, Out::new(Action::Reserve, scene.key(1), 0).kind(kind)).await?;
            scene.note_failure(taken.conflict())?;
        }
        release(a, scene.key(0), kind).await?;
        see(scene, None, "after RELEASE").await?;
        scene.settle().await?;
    }
    Ok(())
}

/// RELEASE: by the holder, of the right type; the others hear of it where they shared access.
pub(crate) async fn releasing(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    register_all(scene).await?;
    // Without a reservation RELEASE does nothing.
    release(a, scene.key(0), Kind::WriteExclusive).await?;
    for kind in Kind::ALL {
        reserve(a, scene.key(0), kind).await?;
        let other = if kind == Kind::WriteExclusive { Kind::ExclusiveAccess } else { Kind::WriteExclusive };
        let wrong = send(a, Out::new(Action::Release, scene.key(0), 0).kind(other)).await?;
        scene.note_failure(wrong.illegal(0x26, 0x04))?;
        let forged = send(a, Out::new(Action::Release, scene.key(900), 0).kind(kind)).await?;
        scene.note_failure(forged.conflict())?;
        if !kind.held_by_all() {
            // By a registrant that does not hold it: GOOD, and nothing happens.
            release(b, scene.key(1), kind).await?;
        }
        see(scene, holding(scene.key(0), kind), "after a RELEASE that is none").await?;
        scene.settle().await?;
        release(a, scene.key(0), kind).await?;
        let wanted = kind.for_registrants().then_some(RELEASED);
        expect_attention(scene, a, None, "after its own RELEASE").await?;
        for nexus in scene.nexuses.iter().skip(1) {
            expect_attention(scene, nexus, wanted, &format!("after RELEASE of {}", kind.name())).await?;
        }
        see(scene, None, "after RELEASE").await?;
    }
    Ok(())
}

/// Unregistering releases what is held; registrants hear of it.
pub(crate) async fn unregistering(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    for kind in [Kind::WriteExclusive, Kind::WriteExclusiveRegistrants, Kind::ExclusiveAccessRegistrants] {
        register(a, 0, scene.key(0)).await?;
        register(b, 0, scene.key(1)).await?;
        reserve(a, scene.key(0), kind).await?;
        scene.settle().await?;
        register(a, scene.key(0), 0).await?;
        let wanted = kind.for_registrants().then_some(RELEASED);
        expect_attention(scene, b, wanted, "after the holder unregistered").await?;
        see(scene, None, &format!("after the holder of {} unregistered", kind.name())).await?;
        register(b, scene.key(1), 0).await?;
    }
    all_registrants(scene).await
}

/// A reservation of all registrants ends with the last of them.
async fn all_registrants(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    let kind = Kind::WriteExclusiveAll;
    register(a, 0, scene.key(0)).await?;
    register(b, 0, scene.key(1)).await?;
    reserve(a, scene.key(0), kind).await?;
    register(a, scene.key(0), 0).await?;
    see(scene, holding(0, kind), "after one of all registrants unregistered").await?;
    register(b, scene.key(1), 0).await?;
    see(scene, None, "after the last of all registrants unregistered").await
}

/// CLEAR: no key and no reservation is left; every other registrant hears of it.
pub(crate) async fn clearing(scene: &Scene) -> Outcome {
    let a = scene.nexus(0)?;
    register_all(scene).await?;
    reserve(scene.nexus(1)?, scene.key(1), Kind::WriteExclusiveRegistrants).await?;
    scene.settle().await?;
    send(a, Out::new(Action::Clear, scene.key(0), 0)).await?.good()?;
    expect_attention(scene, a, None, "after its own CLEAR").await?;
    for nexus in scene.nexuses.iter().skip(1) {
        expect_attention(scene, nexus, Some(CLEARED), "after CLEAR").await?;
        let left = keys(nexus).await?.keys;
        scene.ensure(left.is_empty(), || format!("after CLEAR READ KEYS says {left:#x?}"));
    }
    see(scene, None, "after CLEAR").await
}

/// READ FULL STATUS: every registration, with the name of its initiator port.
pub(crate) async fn everyone(scene: &Scene) -> Outcome {
    register_all(scene).await?;
    let kind = Kind::ExclusiveAccessRegistrants;
    reserve(scene.nexus(0)?, scene.key(0), kind).await?;
    let found = full_status(scene.nexus(1)?).await?;
    scene.ensure(found.len() == scene.nexuses.len(), || {
        format!("{} registrations of {} are listed", found.len(), scene.nexuses.len())
    });
    for (number, nexus) in scene.nexuses.iter().enumerate() {
        let Some(entry) = found.iter().find(|entry| entry.key == scene.key(number)) else {
            scene.wrong(format!("the registration of {} is missing", nexus.label));
            continue;
        };
        scene.ensure(entry.is_holder == (number == 0), || {
            format!("{}: R_HOLDER is {}", nexus.label, entry.is_holder)
        });
        if entry.is_holder {
            scene.ensure(entry.kind == kind.code(), || format!("{}: TYPE is {:X}h", nexus.label, entry.kind));
        }
        scene.ensure(entry.all_ports || entry.relative_port > 0, || {
            format!("{}: RELATIVE TARGET PORT IDENTIFIER is 0", nexus.label)
        });
        let name = nexus.spec.initiator.to_ascii_lowercase();
        let transport = entry.transport.to_ascii_lowercase();
        scene.ensure(transport.first().is_some_and(|byte| byte & 0x0f == 5), || {
            format!("{}: the TransportID is not one of iSCSI", nexus.label)
        });
        scene.ensure(transport.windows(name.len()).any(|window| window == name.as_bytes()), || {
            format!("{}: the TransportID does not hold {name}", nexus.label)
        });
    }
    Ok(())
}

/// Registration and reservation outlive the session; a new one of the same port has them.
pub(crate) async fn nexus_loss(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    register(a, 0, scene.key(0)).await?;
    reserve(a, scene.key(0), Kind::WriteExclusive).await?;
    a.log_out().await;
    let found = held(b).await?;
    scene.ensure(found == holding(scene.key(0), Kind::WriteExclusive), || {
        format!("after the holder's logout READ RESERVATION says {}", describe(found))
    });
    a.reopen().await?;
    a.settle().await?;
    release(a, scene.key(0), Kind::WriteExclusive).await?;
    see(scene, None, "after RELEASE through the new session").await
}

/// APTPL is taken and reported as active.
pub(crate) async fn power_loss(scene: &Scene) -> Outcome {
    let a = scene.first()?;
    let capable = bit(&a.good(request::reserve_in(2)).await?, 2, 0x01);
    let reply = send(a, Out::new(Action::Register, 0, scene.key(0)).through_power_loss()).await?;
    if !capable {
        reply.illegal(0x26, 0x00)?;
        return crate::outcome::not_supported("PTPL_C is 0, and APTPL is refused as it has to be");
    }
    reply.good()?;
    let active = bit(&a.good(request::reserve_in(2)).await?, 3, 0x01);
    scene.ensure(active, || "registered with APTPL, but PTPL_A in REPORT CAPABILITIES is 0".to_owned());
    Ok(())
}

/// What makes no sense is refused in the standard's words.
pub(crate) async fn nonsense(scene: &Scene) -> Outcome {
    let a = scene.first()?;
    register(a, 0, scene.key(0)).await?;
    let out = |action: u8, kind: u8| request::reserve_out(action, kind, scene.key(0), 0, 0);
    let cut = request::reserve_out(1, 1, scene.key(0), 0, 0).with(5, 4, 16);
    let cut = request::Request { data_out: cut.data_out.slice(..16), ..cut };
    scene.note_failure(a.ask(cut).await?.illegal(0x1a, 0x00))?;
    for (what, kind) in [("type 0h", 0x00), ("type 2h", 0x02), ("type Fh", 0x0f), ("scope 1h", 0x11)] {
        let result = a.ask(out(1, kind)).await?.illegal(0x24, 0x00);
        scene.note_failure(crate::nexus::about(&format!("RESERVE with {what}"), result))?;
    }
    let result = a.ask(out(0x1f, 1)).await?.illegal(0x24, 0x00);
    scene.note_failure(crate::nexus::about("service action 1Fh", result))?;
    see(scene, None, "after requests that were refused").await
}
