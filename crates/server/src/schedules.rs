//! Runs schedules when they are due. Without one that runs it sleeps until there is one.

use block::Runtime;
use control::Group;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The clock may be set, or the machine have slept: it is looked at this often at the least.
const LOOK: Duration = Duration::from_secs(30);

/// Runs until `stop`. A run that has begun is ended first.
pub(crate) async fn run(group: Arc<Group>, runtime: Arc<dyn Runtime>, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = group.run_schedules().await;
        let due = async {
            match wait {
                Some(wait) => runtime.sleep(wait.min(LOOK)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stop.changed() => return,
            () = group.schedules_changed() => {}
            () = due => {}
        }
    }
}
