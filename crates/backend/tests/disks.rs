//! Disks on real files: the conformance suite on every path a request can take, and what opening refuses.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use backend::{DiskSpec, Engine, OpenDisk, OpenOptions, attach_ring, open_disk, uring_support};
use block::testing::{CHECK_DISK_SIZE_MIN, check_disk, join_all, pattern};
use block::{BufferPool, Disk, ErrorKind, Persist};
use std::path::Path;
use std::time::Duration;

fn spec(dir: &Path, name: &str, size: &str) -> DiskSpec {
    DiskSpec::parse(&format!("{}:{size}", dir.join(name).display())).unwrap()
}

fn reactor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn fresh(dir: &Path, options: &OpenOptions) -> OpenDisk {
    open_disk(&spec(dir, "disk", "16M"), options).unwrap()
}

#[test]
fn a_disk_through_the_ring_conforms() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    reactor().block_on(async {
        assert_eq!(attach_ring().await, uring_support().is_ok());
        check_disk(&*open.disk).await;
    });
}

#[test]
fn a_disk_through_threads_conforms() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions { uring: false, ..OpenOptions::default() });
    assert_eq!(open.mode.engine, Engine::Threads);
    reactor().block_on(check_disk(&*open.disk));
}

#[test]
fn a_disk_through_the_page_cache_conforms() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let open = fresh(dir.path(), &OpenOptions { direct: false, ..OpenOptions::default() });
    assert!(!open.mode.direct);
    reactor().block_on(async {
        attach_ring().await;
        check_disk(&*open.disk).await;
    });
}

#[test]
fn a_disk_in_memory_conforms() {
    let options = OpenOptions::default();
    let open = open_disk(&DiskSpec::Ram { size_bytes: CHECK_DISK_SIZE_MIN }, &options).unwrap();
    assert!(open.mode.to_string().contains("lost"), "status says that it is lost at exit");
    reactor().block_on(check_disk(&*open.disk));
}

#[test]
fn requests_from_many_kinds_of_threads_share_a_disk() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let disk = open.disk.clone();
    let writer = many.spawn(async move {
        disk.write(0, vec![page(1)], Persist::Durable).await.unwrap();
    });
    reactor().block_on(async {
        open.disk.write(4096, vec![page(2)], Persist::Durable).await.unwrap();
        writer.await.unwrap();
        assert_eq!(open.disk.read(0, 4096).await.unwrap(), page(1));
        assert_eq!(open.disk.read(4096, 4096).await.unwrap(), page(2));
    });
}

/// A future made on one reactor may be awaited on another: the ring that has it wakes the waiter.
#[test]
fn a_future_may_move_between_reactors() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    let disk: &'static dyn Disk = &**Box::leak(Box::new(open.disk));
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let first = std::thread::spawn(move || {
        reactor().block_on(async move {
            attach_ring().await;
            sender.send(disk.write(0, vec![page(9)], Persist::Durable)).ok().unwrap();
            stopped.await.unwrap();
        });
    });
    reactor().block_on(async move {
        receiver.await.unwrap().await.unwrap();
        assert_eq!(disk.read(0, 4096).await.unwrap(), page(9));
        stop.send(()).unwrap();
    });
    first.join().unwrap();
}

/// A reactor that ends with requests in flight waits for the kernel, which still reads their memory.
#[test]
fn a_closing_reactor_finishes_what_the_kernel_has() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    let blocks = 0..300u64;
    reactor().block_on(async {
        attach_ring().await;
        for block in blocks.clone() {
            drop(open.disk.write(block * 4096, vec![page(block)], Persist::Durable));
        }
        tokio::task::yield_now().await;
    });
    reactor().block_on(async {
        let reads = join_all(blocks.clone().map(|block| open.disk.read(block * 4096, 4096)).collect()).await;
        for (block, read) in blocks.zip(reads) {
            assert_eq!(read.unwrap(), page(block));
        }
    });
}

#[test]
fn an_idle_ring_leaves_its_reactor_asleep() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    reactor().block_on(async {
        attach_ring().await;
        open.disk.write(0, vec![page(1)], Persist::Durable).await.unwrap();
        let before = thread_cpu();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(thread_cpu() - before < Duration::from_millis(20), "no busy loop");
    });
}

#[test]
fn a_second_opener_is_told_to_stop_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = spec(dir.path(), "disk", "16M");
    let first = open_disk(&disk, &OpenOptions::default()).unwrap();
    let refused = open_disk(&disk, &OpenOptions::default()).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(refused.message.contains("stop"), "{refused}");
    drop(first);
    open_disk(&disk, &OpenOptions::default()).expect("free again");
}

#[test]
fn what_is_no_usable_disk_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let open = |spec: &DiskSpec, size_min_bytes: u64| {
        let options = OpenOptions { size_min_bytes, ..OpenOptions::default() };
        open_disk(spec, &options).err().expect("refused")
    };
    let parse = |text: &str| DiskSpec::parse(text).unwrap();
    drop(fresh(dir.path(), &OpenOptions::default()));
    let cases = [
        (parse(dir.path().to_str().unwrap()), ErrorKind::Invalid, "is a directory"),
        (parse("/dev/null"), ErrorKind::Invalid, "neither a file nor a block device"),
        (parse("/nowhere/at/all"), ErrorKind::NotFound, "PATH:SIZE"),
        (spec(dir.path(), "disk", "32M"), ErrorKind::Exists, "has 16MiB, not 32MiB"),
        (spec(dir.path(), "small", "1M"), ErrorKind::Invalid, "too small: it has 1MiB, at least 8MiB"),
        (parse("ram:4K"), ErrorKind::Invalid, "too small"),
    ];
    for (spec, kind, words) in cases {
        let error = open(&spec, 8 << 20);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    assert!(!dir.path().join("small").exists(), "a refused file is not created");
}

#[test]
fn a_created_file_is_sparse_and_opens_again_by_either_name() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let disk = spec(dir.path(), "big", "1T");
    drop(open_disk(&disk, &OpenOptions::default()).unwrap());
    let metadata = std::fs::metadata(dir.path().join("big")).unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 40, 0));
    drop(open_disk(&disk, &OpenOptions::default()).unwrap());
    let open = open_disk(&disk.existing(), &OpenOptions::default()).unwrap();
    assert_eq!(open.disk.info().size_bytes, 1 << 40);
}

#[test]
fn a_disk_that_shrinks_under_us_reports_it() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    std::fs::OpenOptions::new().write(true).open(dir.path().join("disk")).unwrap().set_len(0).unwrap();
    reactor().block_on(async {
        attach_ring().await;
        let error = open.disk.read(0, 4096).await.unwrap_err();
        assert_eq!((error.kind, error.offset), (ErrorKind::Device, Some(0)));
    });
}

fn page(seed: u64) -> bytes::Bytes {
    BufferPool::new(0).copy_of(&pattern(seed, 4096)).freeze()
}

fn thread_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}

#[test]
fn a_disk_grows_while_it_is_used_and_never_shrinks() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let open = fresh(dir.path(), &OpenOptions::default());
    let data = BufferPool::default().copy_of(&pattern(7, 4096)).freeze();
    let beyond = (16 << 20) + 4096;
    reactor().block_on(async {
        attach_ring().await;
        let write = |persist| open.disk.write(beyond, vec![data.clone()], persist);
        assert_eq!(write(Persist::Durable).await.unwrap_err().kind, ErrorKind::Invalid, "past the end");
        assert_eq!(open.grow(Some(32 << 20)), Ok(32 << 20));
        assert_eq!(std::fs::metadata(dir.path().join("disk")).unwrap().len(), 32 << 20);
        write(Persist::Durable).await.unwrap();
        assert_eq!(open.disk.read(beyond, 4096).await.unwrap(), data);
    });
    assert_eq!(open.grow(Some(32 << 20)), Ok(32 << 20), "asking twice is no error");
    assert_eq!(open.grow(None), Ok(32 << 20));
    assert_eq!(open.grow(Some(16 << 20)).unwrap_err().kind, ErrorKind::Invalid);
    let memory = open_disk(&DiskSpec::Ram { size_bytes: 1 << 20 }, &OpenOptions::default()).unwrap();
    assert_eq!(memory.grow(Some(2 << 20)).unwrap_err().kind, ErrorKind::Invalid);
}
