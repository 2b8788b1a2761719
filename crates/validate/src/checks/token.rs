//! ODX: offloaded data transfer with tokens, as Windows does it.

use std::time::Duration;

use tokio::time::sleep;

use crate::bytes_at::{byte, length, number, slice};
use crate::checks::identity::page;
use crate::names;
use crate::nexus::{Nexus, Reply};
use crate::outcome::{Outcome, failed, not_supported};
use crate::request::{Request, put};
use crate::scene::Scene;

const THIRD_PARTY_COPY: u8 = 0x8f;
/// Bytes of a ROD token.
const TOKEN_BYTES: usize = 512;
/// ROD TYPE of the block device zero token.
const ZERO_ROD: u64 = 0xffff_0001;
/// COPY OPERATION STATUS from here on: still running.
const RUNNING: u8 = 0x10;
/// COPY OPERATION STATUS: done, without errors.
const DONE: u8 = 0x01;
/// How often the status is asked for.
const POLLS_MAX: u32 = 600;
const POLL: Duration = Duration::from_millis(50);
/// What is copied.
const BYTES: u32 = 1 << 20;
/// DEL_TKN of WRITE USING TOKEN.
const DELETE_TOKEN: u8 = 0x02;
/// A ROD type that the standard reserves.
const NO_ROD: u64 = 0x0012_3456;
/// The shortest time-out that can be asked for, in seconds, and when such a token is looked at.
const SHORT_SECONDS: u32 = 1;
const LONG_AFTER: Duration = Duration::from_millis(2_500);
/// Qualifiers of INVALID TOKEN OPERATION. The cause need not be told, and what is forgotten is unknown.
const UNTOLD: u8 = 0x00;
const UNSUPPORTED_TYPE: u8 = 0x01;
const UNKNOWN: u8 = 0x04;
const CORRUPT: u8 = 0x05;
const EXPIRED: u8 = 0x07;
const DELETED: u8 = 0x09;
const INVALID_LENGTH: u8 = 0x0a;

/// POPULATE TOKEN of one range.
fn populate(list_id: u32, lba: u64, blocks: u32, inactivity: u32) -> Request {
    let mut list = vec![0; 32];
    put(&mut list, 0, 2, 30);
    put(&mut list, 4, 4, inactivity.into());
    put(&mut list, 14, 2, 16);
    put(&mut list, 16, 8, lba);
    put(&mut list, 24, 4, blocks.into());
    Request::new(&[0x83, 0x10]).with(6, 4, list_id.into()).with(10, 4, 32).sending(list)
}

/// WRITE USING TOKEN to one range, from the token's beginning.
fn write_using(list_id: u32, token: &[u8], lba: u64, blocks: u32) -> Request {
    write_flagged(0, list_id, token, lba, blocks)
}

/// The same with flags in byte 2 of the parameter list.
fn write_flagged(flags: u8, list_id: u32, token: &[u8], lba: u64, blocks: u32) -> Request {
    let mut list = vec![0; 552];
    put(&mut list, 0, 2, 550);
    put(&mut list, 2, 1, flags.into());
    if let Some(place) = list.get_mut(16..16 + TOKEN_BYTES) {
        place.iter_mut().zip(token).for_each(|(to, from)| *to = *from);
    }
    put(&mut list, 534, 2, 16);
    put(&mut list, 536, 8, lba);
    put(&mut list, 544, 4, blocks.into());
    Request::new(&[0x83, 0x11]).with(6, 4, list_id.into()).with(10, 4, 552).sending(list)
}

/// RECEIVE ROD TOKEN INFORMATION of a list identifier.
fn information(list_id: u32) -> Request {
    Request::new(&[0x84, 0x07]).with(2, 4, list_id.into()).with(10, 4, 1024).reading(1024)
}

/// What became of an operation: COPY OPERATION STATUS, TRANSFER COUNT, and the token if there is one.
struct Result {
    status: u8,
    count: u64,
    token: Vec<u8>,
}

async fn result(nexus: &Nexus, list_id: u32) -> Outcome<Result> {
    for _ in 0..POLLS_MAX {
        let data = nexus.good(information(list_id)).await?;
        let status = byte(&data, 5) & 0x7f;
        if status >= RUNNING {
            sleep(POLL).await;
            continue;
        }
        let sense = length(&data, 13, 1);
        let tokens = length(&data, 32 + sense, 4);
        let token = if tokens >= 2 + TOKEN_BYTES { slice(&data, 38 + sense, TOKEN_BYTES) } else { &[] };
        return Ok(Result { status, count: number(&data, 16, 8), token: token.to_vec() });
    }
    failed("a copy operation does not end")
}

async fn need_odx(nexus: &Nexus) -> Outcome<Vec<u8>> {
    let page = page(nexus, THIRD_PARTY_COPY).await?;
    let mut rest = slice(&page, 4, usize::MAX);
    while rest.len() >= 4 {
        let whole = 4 + length(rest, 2, 2);
        if number(rest, 0, 2) == 0 {
            return Ok(slice(rest, 0, whole).to_vec());
        }
        rest = slice(rest, whole, usize::MAX);
    }
    not_supported("VPD page 8Fh has no Block Device ROD Token Limits descriptor")
}

/// VPD page 8Fh tells what tokens may be.
pub(crate) async fn limits(scene: &Scene) -> Outcome {
    let descriptor = need_odx(scene.first()?).await?;
    scene.ensure(descriptor.len() == 36, || {
        format!("the descriptor has {} bytes, 36 are expected", descriptor.len())
    });
    let (ranges, longest, usual) =
        (number(&descriptor, 10, 2), number(&descriptor, 12, 4), number(&descriptor, 16, 4));
    scene.ensure(ranges > 0, || "MAXIMUM RANGE DESCRIPTORS is 0".to_owned());
    scene.ensure(longest == 0 || usual <= longest, || {
        format!("the usual inactivity timeout {usual} s is above the longest {longest} s")
    });
    scene.ensure(number(&descriptor, 20, 8) > 0, || "MAXIMUM TOKEN TRANSFER SIZE is 0".to_owned());
    scene.note(format!(
        "{ranges} ranges, timeout {usual} s (at most {longest} s), {} blocks at most",
        number(&descriptor, 20, 8)
    ));
    Ok(())
}

async fn token_of(scene: &Scene, nexus: &Nexus, list_id: u32, lba: u64, blocks: u32) -> Outcome<Vec<u8>> {
    lasting_token(scene, nexus, list_id, (lba, blocks), 0).await
}

/// A token that is good for `seconds` between two uses; 0: for as long as is usual there.
async fn lasting_token(
    scene: &Scene,
    nexus: &Nexus,
    list_id: u32,
    (lba, blocks): (u64, u32),
    seconds: u32,
) -> Outcome<Vec<u8>> {
    nexus.good(populate(list_id, lba, blocks, seconds)).await?;
    let result = result(nexus, list_id).await?;
    if result.status != DONE || result.token.len() != TOKEN_BYTES {
        return failed(format!(
            "POPULATE TOKEN: COPY OPERATION STATUS {:02X}h, {} bytes of token",
            result.status,
            result.token.len()
        ));
    }
    scene.ensure(result.count == u64::from(blocks), || {
        format!("POPULATE TOKEN: TRANSFER COUNT is {}, not {blocks}", result.count)
    });
    let said = length(&result.token, 6, 2) + 8;
    scene.ensure(said == TOKEN_BYTES, || format!("ROD TOKEN LENGTH says {said} bytes in all, not 512"));
    Ok(result.token)
}

/// A token stands for the data as it was; it is used through another nexus.
pub(crate) async fn copy(scene: &Scene) -> Outcome {
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    need_odx(a).await?;
    let blocks = scene.blocks_of(BYTES);
    let (source, target) = (scene.scratch(0, blocks.into())?, scene.scratch(blocks.into(), blocks.into())?);
    let data = scene.pattern(71, blocks);
    scene.write(a, source, data.clone()).await?;
    scene.write(a, target, scene.pattern(72, blocks)).await?;
    let token = token_of(scene, a, 0x101, source, blocks).await?;
    b.good(write_using(0x102, &token, target, blocks)).await?;
    let written = result(b, 0x102).await?;
    scene.ensure(written.status == DONE && written.count == u64::from(blocks), || {
        format!(
            "WRITE USING TOKEN: COPY OPERATION STATUS {:02X}h, TRANSFER COUNT {}",
            written.status, written.count
        )
    });
    scene.note_failure(scene.holds(a, target, &data, "written using the token").await)?;
    point_in_time(scene, (source, target, blocks), &token, &data).await
}

/// After a write to the source the token still gives the old data, or is refused.
async fn point_in_time(scene: &Scene, place: (u64, u64, u32), token: &[u8], old: &[u8]) -> Outcome {
    let (source, target, blocks) = place;
    let (a, b) = (scene.nexus(0)?, scene.nexus(1)?);
    scene.write(a, source, scene.pattern(73, blocks)).await?;
    scene.write(a, target, scene.pattern(74, blocks)).await?;
    let reply = b.ask(write_using(0x103, token, target, blocks)).await?;
    if reply.is_good() && result(b, 0x103).await?.status == DONE {
        let what = "written using a token whose source has changed since";
        return scene.holds(a, target, old, what).await;
    }
    Ok(())
}

/// The zero token writes zeroes.
pub(crate) async fn zero(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_odx(nexus).await?;
    let blocks = scene.blocks_of(BYTES);
    let lba = scene.scratch(0, u64::from(blocks) + 1)?;
    scene.write(nexus, lba, scene.pattern(75, blocks + 1)).await?;
    let mut token = vec![0; TOKEN_BYTES];
    put(&mut token, 0, 4, ZERO_ROD);
    put(&mut token, 6, 2, 0x01f8);
    nexus.good(write_using(0x104, &token, lba, blocks)).await?;
    let written = result(nexus, 0x104).await?;
    scene.ensure(written.status == DONE, || format!("COPY OPERATION STATUS is {:02X}h", written.status));
    scene
        .note_failure(scene.holds(nexus, lba, &scene.zeroes(blocks), "written using the zero token").await)?;
    let block = usize::try_from(scene.size.block_size).unwrap_or(512);
    let pattern = scene.pattern(75, blocks + 1);
    let beside = slice(&pattern, pattern.len() - block, block);
    scene.holds(nexus, lba + u64::from(blocks), beside, "the block after those written").await
}

/// A token that was never given out is refused, and nothing is written.
pub(crate) async fn forged(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_odx(nexus).await?;
    let blocks = scene.blocks_of(BYTES);
    let lba = scene.scratch(0, blocks.into())?;
    let data = scene.pattern(76, blocks);
    scene.write(nexus, lba, data.clone()).await?;
    let mut token = token_of(scene, nexus, 0x105, lba, blocks).await?;
    token.iter_mut().skip(16).for_each(|byte| *byte ^= 0xa5);
    let reply = nexus.ask(write_using(0x106, &token, lba, blocks)).await?;
    refusal(scene, nexus, 0x106, &reply).await?;
    scene.holds(nexus, lba, &data, "after a forged token").await
}

/// Wants ILLEGAL REQUEST, INVALID TOKEN OPERATION, at once or in the operation's result.
async fn refusal(scene: &Scene, nexus: &Nexus, list_id: u32, reply: &Reply) -> Outcome {
    if reply.is_good() {
        let status = result(nexus, list_id).await?.status;
        scene.ensure(status != DONE, || "a token that was never given out was written from".to_owned());
        return Ok(());
    }
    scene.ensure(reply.sense().is_some_and(|sense| sense.key == 5 && sense.code == 0x23), || {
        format!("{}; ILLEGAL REQUEST 23h, INVALID TOKEN OPERATION, is expected", reply.text())
    });
    Ok(())
}

/// A place and what it holds, which no token that is refused may change.
struct Untouched {
    lba: u64,
    blocks: u32,
    data: bytes::Bytes,
}

impl Untouched {
    async fn write(scene: &Scene, nexus: &Nexus, seed: u64) -> Outcome<Self> {
        let blocks = scene.blocks_of(BYTES);
        let (lba, data) = (scene.scratch(0, blocks.into())?, scene.pattern(seed, blocks));
        scene.write(nexus, lba, data.clone()).await?;
        Ok(Self { lba, blocks, data })
    }

    /// Wants INVALID TOKEN OPERATION with one of these qualifiers when `token` is written from, and nothing written.
    async fn refuses(
        &self,
        scene: &Scene,
        nexus: &Nexus,
        token: &[u8],
        qualifiers: &[u8],
        what: &str,
    ) -> Outcome {
        let reply = nexus.ask(write_using(0x110, token, self.lba, self.blocks)).await?;
        let fits = |qualifier| qualifiers.contains(&qualifier);
        if reply.is_good() {
            let status = result(nexus, 0x110).await?.status;
            scene.ensure(status != DONE, || format!("{what} was written from"));
        } else {
            let sense = reply.sense().filter(|sense| (sense.key, sense.code) == (5, 0x23));
            scene.ensure(sense.is_some_and(|sense| fits(sense.qualifier)), || {
                let wanted: Vec<_> =
                    qualifiers.iter().map(|qualifier| names::sense(0x23, *qualifier)).collect();
                format!("{what}: {}; ILLEGAL REQUEST, {}, is expected", reply.text(), wanted.join(" or "))
            });
        }
        scene.note_failure(scene.holds(nexus, self.lba, &self.data, &format!("after {what}")).await)
    }
}

/// What is no token is refused for what it is.
pub(crate) async fn invalid(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_odx(nexus).await?;
    let place = Untouched::write(scene, nexus, 77).await?;
    let token = token_of(scene, nexus, 0x108, place.lba, place.blocks).await?;
    let (mut strange, mut short) = (token.clone(), token);
    put(&mut strange, 0, 4, NO_ROD);
    let causes = [UNTOLD, UNSUPPORTED_TYPE, UNKNOWN, CORRUPT];
    place.refuses(scene, nexus, &strange, &causes, "a token of a reserved type").await?;
    put(&mut short, 6, 2, 16);
    let causes = [UNTOLD, UNKNOWN, CORRUPT, INVALID_LENGTH];
    place.refuses(scene, nexus, &short, &causes, "a token that says it is 24 bytes long").await
}

/// A token ends when it is deleted, and when it has not been used for as long as was asked for.
pub(crate) async fn ended(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_odx(nexus).await?;
    let place = Untouched::write(scene, nexus, 78).await?;
    let token = token_of(scene, nexus, 0x109, place.lba, place.blocks).await?;
    // Not over what the token stands for: that would end it, too.
    let beside = scene.scratch(place.blocks.into(), place.blocks.into())?;
    nexus.good(write_flagged(DELETE_TOKEN, 0x10a, &token, beside, place.blocks)).await?;
    let written = result(nexus, 0x10a).await?;
    scene.ensure(written.status == DONE, || format!("COPY OPERATION STATUS is {:02X}h", written.status));
    place.refuses(scene, nexus, &token, &[UNTOLD, UNKNOWN, DELETED], "a deleted token").await?;
    let token = lasting_token(scene, nexus, 0x10b, (place.lba, place.blocks), SHORT_SECONDS).await?;
    sleep(LONG_AFTER).await;
    let what = "a token unused for longer than its INACTIVITY TIMEOUT";
    place.refuses(scene, nexus, &token, &[UNTOLD, UNKNOWN, EXPIRED], what).await
}

/// Blocks that are not there make no token.
pub(crate) async fn out_of_range(scene: &Scene) -> Outcome {
    let nexus = scene.first()?;
    need_odx(nexus).await?;
    let reply = nexus.ask(populate(0x107, scene.size.blocks, 1, 0)).await?;
    if reply.is_good() {
        let status = result(nexus, 0x107).await?.status;
        scene.ensure(status != DONE, || "POPULATE TOKEN of blocks past the end is GOOD".to_owned());
        return Ok(());
    }
    scene.note_failure(reply.illegal(0x21, 0x00))
}
