//! Pools of `store` on disks of `backend`, as the model wants them.

use crate::pool::SystemPool;
use backend::{DiskSpec, OpenDisk, OpenOptions, open_disk};
use block::{BoxFuture, BufferPool, Disk, Runtime};
use control::{Engine, Error, ErrorKind, PoolEngine, PoolId, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Pool, PoolOptions};

/// The real engine.
pub(crate) struct SystemEngine {
    runtime: Arc<dyn Runtime>,
    buffers: BufferPool,
}

impl SystemEngine {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, buffers: BufferPool::default() }
    }

    fn options(&self) -> PoolOptions {
        PoolOptions { buffers: self.buffers.clone(), ..PoolOptions::default() }
    }

    async fn open_disks(&self, specs: Vec<DiskSpec>) -> Result<Vec<OpenDisk>> {
        let options = OpenOptions { buffers: self.buffers.clone(), ..OpenOptions::default() };
        let open =
            move || specs.iter().map(|spec| open_disk(spec, &options)).collect::<block::Result<Vec<_>>>();
        Ok(blocking(open).await??)
    }

    async fn create(&self, name: String, specs: Vec<DiskSpec>) -> Result<Arc<dyn PoolEngine>> {
        let created = new_files(&specs);
        let made = self.create_on(&name, specs).await;
        if made.is_err() {
            // Of no use to anyone, and in the way of a second attempt with another size.
            created.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        made
    }

    async fn create_on(&self, name: &str, specs: Vec<DiskSpec>) -> Result<Arc<dyn PoolEngine>> {
        let opened = self.open_disks(specs).await?;
        for disk in &opened {
            self.refuse_pooled(disk.disk.clone()).await?;
        }
        let disks = opened.iter().map(|disk| disk.disk.clone()).collect();
        let pool = Pool::create(disks, name, self.options(), self.runtime.clone()).await;
        let pool = pool.map_err(|error| match error.kind {
            block::ErrorKind::Exists => Error { kind: ErrorKind::InUse, ..error.into() },
            _ => error.into(),
        })?;
        Ok(Arc::new(SystemPool::new(pool, opened, self.runtime.clone())))
    }

    /// What a disk holds is never overwritten if it is a pool's, whichever.
    async fn refuse_pooled(&self, disk: Arc<dyn Disk>) -> Result<()> {
        let Some(label) = store::label_of(disk.clone(), &*self.runtime).await? else { return Ok(()) };
        let message = format!(
            "it belongs to pool {} already; delete that pool first, or if it is of no use any more erase the disk's \
             first and last MiB (`wipefs` does not know them)",
            label.pool_name
        );
        Err(Error::new(ErrorKind::InUse, &disk.info().name, message))
    }

    async fn open(&self, id: PoolId, specs: Vec<DiskSpec>) -> Result<Arc<dyn PoolEngine>> {
        let opened = self.open_disks(specs).await?;
        let disks: Vec<_> = opened.iter().map(|disk| disk.disk.clone()).collect();
        let name = disks.first().map(|disk| disk.info().name.clone()).unwrap_or_default();
        let pool = Pool::open(disks, self.options(), self.runtime.clone()).await?;
        let pool = SystemPool::new(pool, opened, self.runtime.clone());
        if pool.id() != id {
            pool.close().await?;
            let message = "another pool than expected is on it; was the disk exchanged, or its file copied?";
            return Err(Error::new(ErrorKind::Format, name, message));
        }
        Ok(Arc::new(pool))
    }
}

/// The files that opening these will make.
fn new_files(specs: &[DiskSpec]) -> Vec<PathBuf> {
    let new = specs.iter().filter_map(|spec| match spec {
        DiskSpec::Path { path, size_bytes: Some(_) } if !path.exists() => Some(path.clone()),
        _ => None,
    });
    new.collect()
}

/// Reads disks' names. Relative paths would be relative to wherever the daemon was started.
pub(crate) fn parse_disks(disks: &[String]) -> Result<Vec<DiskSpec>> {
    let parse = |text: &String| {
        let spec = DiskSpec::parse(text)?;
        match &spec {
            DiskSpec::Path { path, .. } if !Path::is_absolute(path) => {
                let message = "write the whole path of the disk, or ram:SIZE for memory that is lost at exit";
                Err(Error::new(ErrorKind::Invalid, text, message))
            }
            _ => Ok(spec),
        }
    };
    disks.iter().map(parse).collect()
}

impl Engine for SystemEngine {
    fn create_pool(&self, name: String, disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>> {
        Box::pin(async move { self.create(name, parse_disks(&disks)?).await })
    }

    fn open_pool(&self, id: PoolId, disks: Vec<String>) -> BoxFuture<'_, Result<Arc<dyn PoolEngine>>> {
        Box::pin(async move {
            let existing = parse_disks(&disks)?.iter().map(DiskSpec::existing).collect();
            self.open(id, existing).await
        })
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        Error::new(ErrorKind::Internal, "daemon", format!("a task failed: {error}; see the log"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_by_whole_paths() {
        let names = |disks: &[&str]| parse_disks(&disks.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&["/d/a:10G", "ram:1G", "/dev/sdb"]).unwrap().len(), 3);
        for bad in ["a:10G", "./a", "ram:lots", ""] {
            assert_eq!(names(&[bad]).unwrap_err().kind, ErrorKind::Invalid, "{bad}");
        }
    }
}
