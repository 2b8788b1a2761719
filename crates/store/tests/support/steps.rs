//! A crash at every single step of what changes a pool.

use super::scripted::{Crash, Scripted};
use super::{new_pool, reopen, small, sound, try_open};
use std::sync::Arc;
use std::time::Duration;
use store::{Pool, PoolOptions};

const SLAB: u64 = 256 << 10;
/// Longer than any timer of the engine that matters here.
pub(crate) const LIMIT: Duration = Duration::from_secs(3);

/// A small pool's.
pub(crate) fn options() -> PoolOptions {
    small(SLAB)
}

/// A disk with a pool on which `prepare` was done, after an orderly end.
pub(crate) fn prepared(prepare: impl AsyncFn(&Pool)) -> Arc<Scripted> {
    let disk = Scripted::new(24 << 20);
    let (local, pool) = new_pool(&disk.disk(), options());
    local.block_on(async {
        prepare(&pool).await;
        pool.close().await.expect("nothing was in the way");
    });
    disk
}

/// Does `work` again and again on copies of `base`, each time crashing one step later, until it ends before the
/// crash; `check` looks at each pool that comes out of it, and is told what `work` had returned, if it had.
/// Returns the number of steps.
pub(crate) fn at_every_step<T>(
    base: &Scripted,
    work: impl AsyncFn(&Pool, &Scripted) -> block::Result<T>,
    check: impl AsyncFn(&Pool, Option<&T>, u64),
) -> u64 {
    for step in 1.. {
        let disk = base.after(Crash::Process);
        let (local, pool) = reopen(&disk.disk(), options());
        disk.crash_after(step);
        let before = disk.steps();
        let done = local.run_until_stuck(work(&pool, &disk), LIMIT);
        let ended = disk.steps() < before + step;
        // On a dead disk the catalog's calls end with errors, as all else waits for ever.
        let done = if ended {
            Some(done.expect("nothing was in the way").expect("nothing was in the way"))
        } else {
            done.and_then(Result::ok)
        };
        for crash in [Crash::Process, Crash::Power] {
            let disk = disk.after(crash);
            let (local, result) = try_open(&disk.disk(), options());
            let pool = match result {
                Ok(pool) => pool,
                Err(error) => panic!("{crash:?} at step {step}: {error}"),
            };
            local.block_on(async {
                sound(&pool).await;
                check(&pool, done.as_ref(), step).await;
                sound(&pool).await;
                pool.close().await.expect("nothing was in the way");
            });
        }
        if ended {
            return step - 1;
        }
    }
    unreachable!("work ends some day")
}
