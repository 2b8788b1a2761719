//! Going back to a snapshot, and volumes that are there to be cloned.

use super::{NewSnapshot, SnapshotRecord, SnapshotView};
use crate::reservations::PoolReservations;
use crate::volumes::in_use;
use crate::{
    Error, ErrorKind, Force, Group, Outcome, PoolEngine, Result, VolumeId, VolumeRecord, VolumeView,
};
use std::sync::Arc;

/// What going back has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// The volume.
    pub volume: VolumeView,
    /// What it held before.
    pub safety: SnapshotView,
}

impl Group {
    /// Gives a volume the content of a snapshot of it. What it held becomes a snapshot, too; none is deleted. The volume
    /// keeps its size. A disk whose content changes under a host that uses it is damaged, so without force it must not be
    /// in use; with force its sessions end first, and who comes back finds another content.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `InUse`; `Invalid` for a volume that is read only; `NoSpace`.
    pub async fn roll_back(&self, volume: &str, snapshot: &str, force: Force) -> Result<(Outcome, Rollback)> {
        let _change = self.changes.lock().await;
        let view = self.volume(volume)?;
        let record = view.record;
        let object = format!("volume {}", record.name);
        if record.is_read_only() {
            let message =
                "it is read-only; `palisade volume set --read-only off`, or --template off, changes that";
            return Err(Error::invalid(object, message));
        }
        let (engine, to, safety) = self.plan_rollback(&record, snapshot)?;
        self.set_leaving(record.id, true);
        let sessions = self.sessions_on(record.id);
        if !sessions.is_empty() && force == Force::No {
            self.set_leaving(record.id, false);
            self.volumes_are_back(&[record.id]).await;
            return Err(in_use(object, &sessions));
        }
        self.frontend.withdraw(&record).await;
        let done = self.go_back(&record, &to, &safety, &engine).await;
        self.serve_again(record.clone(), &engine).await;
        done.map_err(|error| Error { object, ..error })?;
        tracing::info!(volume = %record.name, snapshot = %to.name, safety = %safety.name, "volume rolled back");
        let volume = self.volume(&record.id.to_string())?;
        let safety = self.snapshot(&record.id.to_string(), &safety.id.to_string())?;
        Ok((Outcome::Changed, Rollback { volume, safety }))
    }

    /// The pool, the snapshot that is gone back to, and the record of the one that keeps what there is.
    fn plan_rollback(
        &self,
        volume: &VolumeRecord,
        snapshot: &str,
    ) -> Result<(Arc<dyn PoolEngine>, SnapshotRecord, SnapshotRecord)> {
        let now_unix_ms = self.runtime.unix_time_ms();
        let state = self.state.read();
        let to = state.find_snapshot(volume, snapshot)?.clone();
        let volumes = std::slice::from_ref(volume);
        state.check_room_for_snapshots(volumes)?;
        let stamp = crate::utc::stamp(now_unix_ms);
        let safety = SnapshotRecord {
            id: VolumeId::from_random(self.runtime.random_id()),
            name: state.free_snapshot_name(volumes, &format!("{stamp}-before-rollback"))?,
            volume: volume.id,
            size_bytes: volume.size_bytes,
            set: None,
            schedule: None,
            // What a volume held is not lost by going back.
            kept: true,
            created_unix_ms: now_unix_ms,
        };
        Ok((state.engine_of(volume)?, to, safety))
    }

    async fn go_back(
        &self,
        volume: &VolumeRecord,
        to: &SnapshotRecord,
        safety: &SnapshotRecord,
        engine: &Arc<dyn PoolEngine>,
    ) -> Result<()> {
        engine.roll_back_volume(volume.id, to.id, safety.id, safety.fact()?).await?;
        self.state.write().snapshots.insert((volume.id, safety.id), safety.clone());
        Ok(())
    }

    /// Serves a volume that was withdrawn, with the reservations that were kept.
    pub(crate) async fn serve_again(&self, record: VolumeRecord, engine: &Arc<dyn PoolEngine>) {
        let id = record.id;
        let mut kept = PoolReservations::read(engine).await.unwrap_or_default();
        let entry = self.serve_volume(record, engine, &mut kept).await;
        self.state.write().volumes.insert(id, entry);
        self.volumes_are_back(&[id]).await;
    }

    /// Makes a volume a template, read only and there to be cloned, or an ordinary one again; or read only, or not. A
    /// template has a snapshot that clones are made of.
    ///
    /// # Errors
    /// `NotFound`, `Offline`; `InUse` if hosts that may write use a volume that is to be read only; `NoSpace`.
    pub async fn set_protection(
        &self,
        volume: &str,
        protection: Protection,
    ) -> Result<(Outcome, VolumeView)> {
        let _change = self.changes.lock().await;
        let former = self.volume(volume)?.record;
        let template = protection.template.unwrap_or(former.template);
        let read_only = protection.read_only.unwrap_or(former.read_only);
        let record = VolumeRecord { template, read_only, ..former.clone() };
        if record == former {
            return Ok((Outcome::Unchanged, self.volume(volume)?));
        }
        if record.is_read_only() && !former.is_read_only() {
            let mut sessions = self.sessions_on(record.id);
            sessions.retain(|session| !session.read_only);
            if !sessions.is_empty() {
                let mut error = in_use(format!("volume {}", record.name), &sessions);
                "hosts that may write use it; log out there first, so that what is on it is complete"
                    .clone_into(&mut error.message);
                return Err(error);
            }
        }
        let view = self.change_grants(record).await?;
        if template
            && !former.template
            && let Err(error) = self.snapshot_template(&former).await
        {
            self.change_grants(former).await?;
            return Err(error);
        }
        tracing::info!(volume = %view.record.name, template, read_only, "volume changed");
        Ok((Outcome::Changed, self.volume(volume)?))
    }

    /// Makes the snapshot that clones of a template are made of. The volume is read only by now.
    async fn snapshot_template(&self, volume: &VolumeRecord) -> Result<()> {
        let name = self.state.read().free_snapshot_name(std::slice::from_ref(volume), "template")?;
        let volumes = vec![volume.id.to_string()];
        self.make_snapshots(NewSnapshot { volumes, name: Some(name.to_string()), schedule: None }).await?;
        Ok(())
    }

    /// Refuses to delete a template that volumes were cloned from.
    pub(crate) fn check_no_clones(&self, view: &VolumeView) -> Result<()> {
        let [first, others @ ..] = &view.clones[..] else { return Ok(()) };
        if !view.record.template {
            return Ok(());
        }
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let message = format!(
            "it is a template, and volume {first}{more} were cloned from it; delete or detach those \
             first, or make it an ordinary volume with `palisade volume set {} --template off`",
            view.record.name
        );
        Err(Error::new(ErrorKind::InUse, format!("volume {}", view.record.name), message))
    }
}

/// How a volume is protected from writes; what is left out stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protection {
    /// It is a template: read only, and not deleted while there are clones of it.
    pub template: Option<bool>,
    /// It is read only for every host.
    pub read_only: Option<bool>,
}
