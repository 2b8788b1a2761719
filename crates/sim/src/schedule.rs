//! Runs the schedule of a seed: lives of the engine one after the other, each ended in some rude way, and checks
//! after each opening that nothing is there that may not be, and nothing missing.

use crate::clients;
use crate::counts::Counts;
use crate::disk::{Crash, DiskCounts, DiskHandle, Failure, Faults, SimDisk};
use crate::engine::{Engine, EnginePool};
use crate::executor::{Executor, Outcome};
use crate::life::{Life, World};
use crate::model::Model;
use crate::narrate::say;
use crate::plan::{LifePlan, Mixture, Plan};
use crate::rng::Rng;
use crate::verify::{self, When};
use block::{Disk, Runtime};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Steps of one life after which it is called endless.
const STEPS_MAX: u64 = 3_000_000;

/// Between two looks for operations that get no answer.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);

/// Puts something between the engine and the simulated disk: a fault that the schedule must find.
pub type Wrap = fn(DiskHandle) -> Arc<dyn Disk>;

/// A schedule that the engine passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// What it exercised.
    pub counts: Counts,
    /// The hash of all that happened.
    pub trace: u64,
}

/// A schedule that the engine failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// In which life, from 0 on.
    pub life: u64,
    /// What was wrong.
    pub violation: String,
    /// What the seed stood for.
    pub plan: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "SEED={} fails in life {}: {}", self.seed, self.life, self.violation)?;
        write!(f, "{}", self.plan)
    }
}

/// How a life goes on after its work.
enum End {
    /// The pool was closed in order.
    Closed,
    /// It stands open and idle.
    Idle,
    /// It could not be opened although nothing was in the way.
    Refused(String),
    /// Its creation or opening failed because of an injected crash.
    Unfinished,
}

struct Runner {
    engine: Arc<dyn Engine>,
    wrap: Option<Wrap>,
    world: Arc<World>,
    rng: Rng,
    created: bool,
    /// The disks of an opening that was not finished: who tries again tries with the same.
    given: Option<Vec<usize>>,
}

/// Runs the schedule of `seed` on `engine`, whose disk is wrapped by `wrap`, if given.
///
/// # Errors
/// The engine broke a promise.
pub fn run(engine: &Arc<dyn Engine>, seed: u64, wrap: Option<Wrap>) -> Result<Passed, Box<Failed>> {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng.fork(), engine.collects(), false);
    run_plan(engine, seed, rng, plan, wrap)
}

/// As [`run`], on several disks.
///
/// # Errors
/// The engine broke a promise.
pub fn run_several(engine: &Arc<dyn Engine>, seed: u64, wrap: Option<Wrap>) -> Result<Passed, Box<Failed>> {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng.fork(), engine.collects(), true);
    run_plan(engine, seed, rng, plan, wrap)
}

fn run_plan(
    engine: &Arc<dyn Engine>,
    seed: u64,
    mut rng: Rng,
    plan: Plan,
    wrap: Option<Wrap>,
) -> Result<Passed, Box<Failed>> {
    let executor = Executor::new(rng.fork());
    let first = SimDisk::new(plan.disks[0], plan.unit_bytes, plan.latency, &executor, rng.fork());
    let mut disks = vec![first];
    for (number, size) in plan.disks.iter().enumerate().skip(1) {
        let another = disks[0].beside(number, *size, rng.fork());
        disks.push(another);
    }
    let world = World {
        plan,
        executor,
        disks,
        model: Mutex::new(Model::new()),
        counts: Mutex::new(Counts::default()),
        verdict: Mutex::new(None),
        volumes_made: Mutex::new(0),
        victims: Mutex::default(),
    };
    let world = Arc::new(world);
    let mut runner = Runner { engine: Arc::clone(engine), wrap, world, rng, created: false, given: None };
    let result = runner.run(seed);
    runner.world.executor.kill_all();
    result
}

impl Runner {
    fn run(&mut self, seed: u64) -> Result<Passed, Box<Failed>> {
        let lives = self.world.plan.lives;
        for life in 0..=lives {
            let violation = match self.life(life == 0, life == lives) {
                Ok(()) => self.world.verdict.lock().as_ref().map(|violation| violation.0.clone()),
                Err(message) => Some(message),
            };
            if let Some(violation) = violation {
                let plan = format!("{:?}", self.world.plan);
                return Err(Box::new(Failed { seed, life, violation, plan }));
            }
        }
        let mut counts = self.world.counts.lock().clone();
        counts.add("schedules");
        for disk in self.world.disks.iter().map(SimDisk::counts) {
            Self::add_disk(&mut counts, &disk);
        }
        Ok(Passed { counts, trace: self.world.executor.trace() })
    }

    fn add_disk(counts: &mut Counts, disk: &DiskCounts) {
        for (name, count) in [
            ("disk reads", disk.reads),
            ("disk writes", disk.writes),
            ("disk flushes", disk.flushes),
            ("disk discards", disk.discards),
            ("disk faults", disk.faults),
            ("disk writes in flight at a crash", disk.in_flight_at_crash),
            ("disk writes torn", disk.torn),
            ("batches of host data", disk.batches[0]),
            ("batches of relocated data", disk.batches[1]),
            ("batches of map nodes", disk.batches[2]),
        ] {
            counts.add_many(name, count);
        }
    }

    /// One life, and what comes after it.
    fn life(&mut self, first: bool, last: bool) -> Result<(), String> {
        let plan = self.world.plan.life(&mut self.rng, first);
        say(format_args!("==== life {plan:?}"));
        let in_opening = plan.crash_in_opening.is_some() && !last;
        let ends_last = last;
        let handles: Vec<_> = self.world.disks.iter().map(SimDisk::attach).collect();
        let wrap = self.wrap;
        let wrapped = |handle: &DiskHandle| match wrap {
            None => Arc::new(handle.clone()) as Arc<dyn Disk>,
            Some(wrap) => wrap(handle.clone()),
        };
        let loss = self.loss(last, plan.faults != Faults::default());
        let may_be_needed = loss.filter(|_| plan.faults != Faults::default()).map(|loss| loss.0);
        let there = match self.given.take() {
            Some(given) => given,
            None => self.disks_given(loss.map(|loss| loss.0)),
        };
        let shared = Arc::new(Mutex::new(None));
        let main = live(Start {
            world: Arc::clone(&self.world),
            engine: Arc::clone(&self.engine),
            disks: there.iter().filter_map(|index| handles.get(*index)).map(wrapped).collect(),
            loss,
            handles,
            plan: LifePlan { crash_in_opening: plan.crash_in_opening.filter(|_| in_opening), ..plan },
            rng: self.rng.fork(),
            created: self.created,
            last: ends_last,
            life: Arc::clone(&shared),
        });
        let world = Arc::clone(&self.world);
        let outcome = self.world.executor.run(main, move || world.is_over(), STEPS_MAX);
        let life: Option<Arc<Life>> = shared.lock().take();
        if self.world.verdict.lock().is_some() {
            return Ok(());
        }
        let running = life.as_ref().map(|life| life.running()).unwrap_or_default();
        // Faults may have cost the pool what the disk that died was needed for: then it did not leave, and is there again.
        let left = life.as_ref().map(|life| life.pool.gauges().lost).unwrap_or_default();
        self.world.victims.lock().retain(|disk| Some(*disk) != may_be_needed || left.contains(disk));
        self.created |= life.is_some();
        self.given = life.is_none().then_some(there);
        match outcome {
            Outcome::Done(End::Refused(why)) => return Err(why),
            Outcome::Done(End::Closed) => self.after_closing(life),
            Outcome::Done(End::Idle) => self.after_crash(life, "killed when idle"),
            Outcome::Done(End::Unfinished) => self.after_crash(life, "crashes in opening"),
            Outcome::Stopped if life.is_some() => self.after_crash(life, "crashes at work"),
            Outcome::Stopped => self.after_crash(life, "crashes in opening"),
            Outcome::Hung => return Err(format!("everything waits for something: {running:?}")),
            Outcome::Endless => return Err(format!("runs without end: {running:?}")),
        }
        Ok(())
    }

    /// Which disk is lost in the next life, after how many of its operations, and how. No draw for one disk.
    fn loss(&mut self, last: bool, faults: bool) -> Option<(usize, u64, Failure)> {
        let count = self.world.disks.len();
        let mut victims = self.world.victims.lock();
        let more = victims.len() + 1 < self.world.plan.setup.class.copies();
        if count == 1 || last || !self.created || !more || !self.rng.percent(50) {
            return None;
        }
        let disk = self.rng.index(count);
        if victims.contains(&disk) {
            return None;
        }
        victims.push(disk);
        self.world.count("disks lost at work");
        let failure = self.rng.pick(&[Failure::Errors, Failure::Hangs]);
        // Where faults may have cost the other disk before, hanging would be for ever.
        let failure = if faults { Failure::Errors } else { failure };
        Some((disk, self.rng.logarithmic(400), failure))
    }

    /// The disks that are given to the engine: those lost in former lives are there again or not.
    fn disks_given(&mut self, lost_now: Option<usize>) -> Vec<usize> {
        let victims = self.world.victims.lock().clone();
        let mut given = Vec::new();
        // More can be lost in one life, by faults and for good, than the pool can do without: not as missing disks.
        let too_many = victims.len() >= self.world.plan.setup.class.copies();
        for index in 0..self.world.disks.len() {
            let lost = victims.contains(&index) && Some(index) != lost_now && !too_many;
            if !lost || self.rng.percent(50) {
                given.push(index);
            } else {
                self.world.count("openings without a disk");
            }
        }
        given
    }

    /// The pool was closed: everything must survive, whatever happens.
    fn after_closing(&mut self, life: Option<Arc<Life>>) {
        {
            let mut model = self.world.model.lock();
            let now = model.tick();
            let volumes: Vec<_> = model.volumes().map(|volume| volume.id).collect();
            for id in volumes {
                model.ack_flush(&id, now);
            }
        }
        self.after_crash(life, "closes");
    }

    /// The process or the machine ends here.
    fn after_crash(&mut self, life: Option<Arc<Life>>, how: &'static str) {
        let lost = life.iter().flat_map(|life| life.pool.gauges().lost);
        for disk in lost {
            let mut victims = self.world.victims.lock();
            if !victims.contains(&disk) {
                victims.push(disk);
            }
        }
        let machine = self.rng.percent(70) || self.world.disks.iter().any(SimDisk::flush_failed);
        let crash = if machine { Crash::Machine } else { Crash::Process };
        self.world.disks.iter().for_each(SimDisk::crash_now);
        self.world.executor.kill_all();
        self.world.disks.iter().for_each(|disk| disk.settle(crash));
        let mut model = self.world.model.lock();
        for fork in life.iter().flat_map(|life| life.forks()) {
            model.end_fork(&fork);
        }
        model.crash(crash);
        drop(model);
        say(format_args!("==== {how}, {crash:?} crash"));
        self.world.count(how);
        self.world.count(if crash == Crash::Machine { "machine crashes" } else { "process crashes" });
    }
}

/// What a life begins with.
struct Start {
    world: Arc<World>,
    engine: Arc<dyn Engine>,
    disks: Vec<Arc<dyn Disk>>,
    loss: Option<(usize, u64, Failure)>,
    handles: Vec<DiskHandle>,
    plan: LifePlan,
    rng: Rng,
    created: bool,
    last: bool,
    life: Arc<Mutex<Option<Arc<Life>>>>,
}

impl Start {
    /// Opens the pool, or makes it if it was never finished.
    async fn open(&self) -> Result<Arc<dyn EnginePool>, String> {
        let (disks, setup) = (self.disks.clone(), self.world.plan.setup);
        let runtime: Arc<dyn Runtime> = Arc::new(self.world.executor.clone());
        let opened = self.engine.open(disks.clone(), setup, Arc::clone(&runtime)).await;
        match opened {
            Ok(pool) => {
                self.world.counts.lock().add_many("batches replayed", pool.gauges().replayed);
                self.world.count("openings");
                Ok(pool)
            }
            Err(error) if self.created => Err(format!("the pool does not open: {:?} {error}", error.kind)),
            Err(_) => {
                let created = self.engine.create(disks, setup, runtime).await;
                created.map_err(|error| format!("the pool cannot be made: {:?} {error}", error.kind))
            }
        }
    }
}

fn set_faults(world: &World, faults: Faults) {
    world.disks.iter().for_each(|disk| disk.set_faults(faults));
}

async fn live(mut start: Start) -> End {
    let world = Arc::clone(&start.world);
    set_faults(&world, Faults::default());
    if let Some(steps) = start.plan.crash_in_opening {
        world.crash_after(steps);
    }
    let pool = match start.open().await {
        Ok(pool) => pool,
        Err(_) if world.crashed() => return End::Unfinished,
        Err(why) => return End::Refused(why),
    };
    let life = Arc::new(Life::new(&world, pool, start.handles.clone(), start.plan.faults));
    *start.life.lock() = Some(Arc::clone(&life));
    watch(&life);
    let mut rng = start.rng.fork();
    verify::opened(&life, &mut rng).await;
    if start.last || world.is_over() {
        return finish(&life, &mut rng, true).await;
    }
    set_faults(&world, start.plan.faults);
    if let Some((disk, operations, failure)) = start.loss {
        world.disks[disk].die_after(operations, failure);
    }
    world.crash_after(start.plan.crash_after);
    clients::work(&life, &mut rng, start.plan.clients, start.plan.operations).await;
    set_faults(&world, Faults::default());
    world.count("work ended without a crash");
    finish(&life, &mut rng, false).await
}

/// The work is done and no fault strikes any more.
async fn finish(life: &Arc<Life>, rng: &mut Rng, last: bool) -> End {
    let world = &life.world;
    world.counts.lock().add_many("checkpoints", life.pool.gauges().checkpoints);
    if life.needs_the_dead() {
        world.count("lives without the disks to go on");
        return End::Idle;
    }
    if last || rng.percent(40) {
        verify::everything(life, rng, When::Working).await;
        if world.plan.mixture == Mixture::Full {
            clients::recover_space(life, rng).await;
        }
    }
    if world.is_over() || rng.percent(60) {
        return End::Idle;
    }
    match life.pool.close().await {
        Ok(()) => End::Closed,
        // A pool that injected faults made read-only has nothing to close in order.
        Err(_) if life.faults != Faults::default() => End::Idle,
        Err(error) => End::Refused(format!("the pool does not close: {error}")),
    }
}

/// Looks for operations that get no answer.
fn watch(life: &Arc<Life>) {
    let life = Arc::clone(life);
    let executor = life.world.executor.clone();
    let runtime = executor.clone();
    runtime.spawn(Box::pin(async move {
        loop {
            executor.sleep(WATCH_INTERVAL).await;
            if let Some(hung) = life.hung() {
                return life.world.fail(hung);
            }
        }
    }));
}
