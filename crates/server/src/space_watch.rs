//! Sees to it that snapshots make room when space is short. Without anything to do it looks now and then.

use block::Runtime;
use control::Group;
use futures_util::future::{BoxFuture, FutureExt, select_all};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it looks at what snapshots keep: they may keep more than they should without space being short.
const LOOK: Duration = Duration::from_secs(60);

/// Runs until `stop`. A deletion that has begun is ended first.
pub(crate) async fn run(group: Arc<Group>, runtime: Arc<dyn Runtime>, mut stop: watch::Receiver<bool>) {
    loop {
        let before = group.shortages();
        group.keep_space().await;
        group.sample_space().await;
        let mut waits: Vec<BoxFuture<'_, ()>> = vec![runtime.sleep(LOOK).boxed()];
        waits.extend(before.iter().map(|(engine, times)| engine.shortage_after(*times)));
        tokio::select! {
            _ = stop.changed() => return,
            () = group.space_rules_changed() => {}
            _ = select_all(waits) => {}
        }
    }
}
