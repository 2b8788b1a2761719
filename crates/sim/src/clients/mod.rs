//! Hosts and administrators: each client does one operation after the other, several clients at once.

mod admin;
mod copy;
mod io;
mod layers;
mod sanitize;
mod space;

pub(crate) use sanitize::opened as sanitizing_opened;
pub(crate) use space::recover_space;

use crate::executor::Event;
use crate::life::Life;
use crate::model::{Presence, VolumeId};
use crate::plan::Mixture;
use crate::rng::Rng;
use block::Runtime;
use std::sync::Arc;
use std::time::Duration;

/// Volumes and snapshots that exist at the same time.
const VOLUMES_MAX: usize = 8;

/// Operations and their weights, by mixture: any, contention, full, layers.
const WEIGHTS: [(Operation, [u64; 4]); 21] = [
    (Operation::Write, [400, 450, 600, 300]),
    (Operation::WriteAtomic, [70, 150, 70, 50]),
    (Operation::Read, [180, 250, 80, 200]),
    (Operation::Unmap, [70, 60, 40, 60]),
    (Operation::CompareAndWrite, [50, 150, 5, 20]),
    (Operation::Copy, [70, 60, 50, 80]),
    (Operation::Flush, [50, 60, 10, 30]),
    (Operation::AbandonWrite, [10, 10, 5, 10]),
    (Operation::Extents, [20, 10, 5, 20]),
    (Operation::Create, [30, 5, 20, 40]),
    (Operation::Delete, [25, 2, 10, 70]),
    (Operation::Snapshot, [20, 10, 8, 90]),
    (Operation::Clone, [15, 2, 3, 60]),
    (Operation::Group, [10, 5, 3, 30]),
    (Operation::RollBack, [12, 5, 4, 40]),
    (Operation::Detach, [12, 2, 6, 50]),
    (Operation::Resize, [15, 2, 5, 10]),
    (Operation::Checkpoint, [15, 5, 5, 15]),
    (Operation::Settle, [4, 1, 4, 8]),
    (Operation::GrowDisk, [3, 0, 2, 1]),
    (Operation::Sanitize, [4, 1, 3, 5]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Write,
    WriteAtomic,
    Read,
    Unmap,
    CompareAndWrite,
    Copy,
    Flush,
    AbandonWrite,
    Extents,
    Create,
    Delete,
    Snapshot,
    Clone,
    Group,
    RollBack,
    Detach,
    Resize,
    Checkpoint,
    Settle,
    GrowDisk,
    Sanitize,
}

/// Lets `clients` work on `life`, `operations` each; ready when all are done.
pub(crate) async fn work(life: &Arc<Life>, rng: &mut Rng, clients: u64, operations: u64) {
    let mut ends = Vec::new();
    for _ in 0..clients {
        let event = Arc::new(Event::default());
        ends.push(Arc::clone(&event));
        let (life, rng) = (Arc::clone(life), rng.fork());
        let runtime = life.world.executor.clone();
        runtime.spawn(Box::pin(async move {
            client(&life, rng, operations).await;
            event.set();
        }));
    }
    for end in ends {
        std::future::poll_fn(|cx| end.poll(cx)).await;
    }
}

async fn client(life: &Arc<Life>, mut rng: Rng, operations: u64) {
    for _ in 0..operations {
        if rng.percent(15) {
            let pause = Duration::from_nanos(rng.logarithmic(30_000_000));
            life.world.executor.sleep(pause).await;
        }
        if life.world.is_over() {
            return;
        }
        one(life, &mut rng).await;
    }
}

async fn one(life: &Arc<Life>, rng: &mut Rng) {
    let operation = choose(life.world.plan.mixture, rng);
    if operation == Operation::Create || volumes(life).is_empty() {
        return admin::create(life, rng).await;
    }
    match operation {
        Operation::Write => io::write(life, rng).await,
        Operation::WriteAtomic => io::write_atomic(life, rng).await,
        Operation::Read => io::read(life, rng).await,
        Operation::Unmap => io::unmap(life, rng).await,
        Operation::CompareAndWrite => io::compare_and_write(life, rng).await,
        Operation::Copy => copy::copy(life, rng).await,
        Operation::Flush => io::flush(life, rng).await,
        Operation::AbandonWrite => io::abandon_write(life, rng).await,
        Operation::Extents => io::extents(life, rng).await,
        Operation::Delete => admin::delete(life, rng).await,
        Operation::Snapshot => admin::fork(life, rng, true).await,
        Operation::Clone => admin::fork(life, rng, false).await,
        Operation::Group => layers::group(life, rng).await,
        Operation::RollBack => layers::roll_back(life, rng).await,
        Operation::Detach => layers::detach(life, rng).await,
        Operation::Resize => admin::resize(life, rng).await,
        Operation::Checkpoint => admin::checkpoint(life).await,
        Operation::Settle => admin::settle(life).await,
        Operation::GrowDisk => admin::grow_disk(life, rng).await,
        Operation::Sanitize => sanitize::sanitize(life, rng).await,
        Operation::Create => {}
    }
}

fn choose(mixture: Mixture, rng: &mut Rng) -> Operation {
    let column = match mixture {
        Mixture::Any => 0,
        Mixture::Contention => 1,
        Mixture::Full => 2,
        Mixture::Layers => 3,
    };
    let total: u64 = WEIGHTS.iter().map(|(_, weights)| weights[column]).sum();
    let mut draw = rng.below(total);
    for (operation, weights) in WEIGHTS {
        if draw < weights[column] {
            return operation;
        }
        draw -= weights[column];
    }
    Operation::Write
}

/// Volumes and snapshots that certainly exist.
fn volumes(life: &Life) -> Vec<VolumeId> {
    let model = life.world.model.lock();
    let certain = model.volumes().filter(|volume| volume.presence == Presence::Certain);
    certain.map(|volume| volume.id).collect()
}

/// Some volume that exists; `writable` excludes snapshots.
fn some_volume(life: &Life, rng: &mut Rng, writable: bool) -> Option<VolumeId> {
    let volumes = volumes(life);
    let model = life.world.model.lock();
    let fits = |id: &&VolumeId| model.volume(id).is_some_and(|volume| !writable || !volume.frozen);
    let fitting: Vec<_> = volumes.iter().filter(fits).copied().collect();
    if fitting.is_empty() { None } else { Some(rng.pick(&fitting)) }
}
