//! SANITIZE, carried out: the volume goes on by itself, and only who asked without IMMED waits for its end.
//!
//! Whatever ends tasks ends that waiting, and leaves the volume to it (SBC-4 4.11.2).

use crate::media::{MediaFuture, failure};
use crate::operations::Epoch;
use crate::unit::LogicalUnitHandle;
use futures_util::future::{Either, select};
use scsi::{
    ByteRange, Cdb, MediaCommand, MediaFailureKind, MediaOutcome, NexusId, Sanitization, SanitizeMethod,
};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

const OPCODE: u8 = 0x48;

/// Processed as if it was sent HEAD OF QUEUE (SBC-4 5.30.1).
pub(crate) fn goes_first(cdb: &Cdb) -> bool {
    cdb.opcode() == OPCODE
}

/// All of a volume; where a failure is does not matter.
pub(crate) const WHOLE: ByteRange = ByteRange { offset: 0, len: u64::MAX };

/// What is known of a command that waits for the end.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    stopped: Notify,
    /// The volume has begun: from then on the command touches the medium no more, and who waits for what is under way
    /// does not wait for it.
    begun: AtomicBool,
}

impl Waiting {
    /// It is to wait no more.
    pub(crate) fn stop(&self) {
        self.stopped.notify_one();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }
}

/// The command that waits, as the unit counts it.
pub(crate) struct Waiter {
    pub(crate) nexus: NexusId,
    pub(crate) epoch: Epoch,
    pub(crate) waiting: Arc<Waiting>,
}

/// The same in SCSI's words.
pub(crate) fn sanitization_of(sanitization: block::Sanitization) -> Sanitization {
    match sanitization {
        block::Sanitization::Idle => Sanitization::Idle,
        block::Sanitization::Running { progress } => Sanitization::Running { progress },
        block::Sanitization::Failed { unrestricted_exit } => Sanitization::Failed { unrestricted_exit },
    }
}

fn method_of(method: SanitizeMethod) -> block::SanitizeMethod {
    match method {
        SanitizeMethod::BlockErase => block::SanitizeMethod::BlockErase,
        SanitizeMethod::Overwrite(block) => block::SanitizeMethod::Overwrite(block),
        SanitizeMethod::CryptoErase => block::SanitizeMethod::CryptoErase,
    }
}

/// Carries out what SANITIZE asks of the unit's volume.
pub(crate) fn run(unit: Arc<LogicalUnitHandle>, waiter: Waiter, command: MediaCommand) -> MediaFuture {
    MediaFuture::new(async move {
        let volume = unit.volume();
        let (begun, wait) = match command {
            MediaCommand::Sanitize { method, unrestricted_exit, wait } => {
                (volume.sanitize(method_of(method), unrestricted_exit).await, wait)
            }
            _ => (volume.leave_failed_sanitize().await, false),
        };
        match begun {
            Err(error) => MediaOutcome::Failed(failure(&error, WHOLE)),
            Ok(()) if wait => {
                waiter.waiting.begun.store(true, Ordering::Release);
                unit.off_the_medium(waiter.nexus, waiter.epoch);
                until_sanitized(&unit, &waiter).await
            }
            Ok(()) => MediaOutcome::Done,
        }
    })
}

async fn until_sanitized(unit: &LogicalUnitHandle, waiter: &Waiter) -> MediaOutcome {
    let stopped = pin!(until_stopped(unit, waiter));
    match select(unit.volume().sanitized(), stopped).await {
        Either::Left((Ok(()), _)) => MediaOutcome::Done,
        Either::Left((Err(error), _)) => {
            tracing::error!(%error, "a volume could not be sanitized");
            MediaOutcome::SanitizeFailed
        }
        Either::Right(_) => MediaOutcome::Failed(MediaFailureKind::Aborted.into()),
    }
}

/// Ready when the task has ended: its session says so, or the unit's task set.
async fn until_stopped(unit: &LogicalUnitHandle, waiter: &Waiter) {
    let told = pin!(waiter.waiting.stopped.notified());
    let ended = pin!(async {
        loop {
            // Before the look, so that what comes in between is heard of.
            let ends = unit.tasks_end();
            if unit.has_ended_operation(waiter.nexus, waiter.epoch) {
                return;
            }
            ends.await;
        }
    });
    let _ = select(told, ended).await;
}
