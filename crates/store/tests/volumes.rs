//! Volumes of a pool on a disk in memory: what is written is read, also after closing and after a crash.

mod support;

use block::testing::pattern;
use block::{BufferPool, ByteRange, Comparison, Durability, ErrorKind, Provisioning, Volume};
use bytes::Bytes;
use support::{disk, new_pool, reopen, small, thin};

const MIB: u64 = 1 << 20;

fn bytes(data: &[u8]) -> Vec<Bytes> {
    vec![BufferPool::new(0).copy_of(data).freeze()]
}

fn joined(chunks: Vec<Bytes>) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect()
}

#[test]
fn what_is_written_is_read_now_after_a_close_and_after_a_crash() {
    let disk = disk(64 * MIB);
    let options = small(256 << 10);
    let data = pattern(1, 1 << 20);
    let (local, pool) = new_pool(&disk, options.clone());
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 30), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        volume.write(8192, bytes(&data), Durability::Default).await.unwrap();
        assert_eq!(joined(volume.read(8192, MIB).await.unwrap()), data);
        assert_eq!(joined(volume.read(0, 8192).await.unwrap()), vec![0; 8192]);
        assert_eq!(volume.mapped_bytes(), MIB);
        pool.close().await.unwrap();
        assert_eq!(volume.read(0, 4096).await.unwrap_err().kind, ErrorKind::Closed);
    });
    let (local, pool) = reopen(&disk, options.clone());
    local.block_on(async {
        let volume = pool.open_volume([1; 16]).unwrap();
        assert_eq!(pool.status().replayed_batches, 0, "an orderly close leaves nothing to replay");
        assert_eq!(joined(volume.read(8192, MIB).await.unwrap()), data);
        volume.write(512, bytes(&data[..1024]), Durability::Default).await.unwrap();
    });
    for _ in 0..3 {
        let (local, pool) = reopen(&disk, options.clone());
        local.block_on(async {
            assert!(pool.status().replayed_batches > 0);
            let volume = pool.open_volume([1; 16]).unwrap();
            assert_eq!(joined(volume.read(512, 1024).await.unwrap()), data[..1024]);
            assert_eq!(joined(volume.read(0, 512).await.unwrap()), vec![0; 512]);
            assert_eq!(joined(volume.read(8192, MIB).await.unwrap()), data);
            assert_eq!(pool.check().await.unwrap().problems, Vec::<String>::new());
        });
    }
}

#[test]
fn parts_of_blocks_compare_and_write_and_unmap() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 4 * MIB + 512), Vec::new()).await.unwrap();
        let volume = pool.open_volume([1; 16]).unwrap();
        let data = pattern(3, 3 * 4096);
        volume.write(512, bytes(&data), Durability::Default).await.unwrap();
        volume.write(4 * MIB, bytes(&data[..512]), Durability::Default).await.unwrap();
        assert_eq!(joined(volume.read(512, 3 * 4096).await.unwrap()), data);
        assert_eq!(joined(volume.read(4 * MIB, 512).await.unwrap()), data[..512]);

        let new = pattern(4, 1024);
        let wrong =
            volume.compare_and_write(512, bytes(&new), bytes(&new), Durability::Default).await.unwrap();
        assert!(matches!(wrong, Comparison::DiffersAt(_)));
        let right = volume
            .compare_and_write(512, bytes(&data[..1024]), bytes(&new), Durability::Default)
            .await
            .unwrap();
        assert_eq!(right, Comparison::Equal);
        assert_eq!(joined(volume.read(512, 1024).await.unwrap()), new);

        volume.unmap(vec![ByteRange { offset: 1024, len: 8192 }]).await.unwrap();
        assert_eq!(joined(volume.read(1024, 8192).await.unwrap()), vec![0; 8192]);
        assert_eq!(joined(volume.read(512, 512).await.unwrap()), new[..512]);
        let extents = volume.extents(0, 4 * MIB + 512, 10).await.unwrap();
        let states: Vec<_> = extents.iter().map(|e| (e.range.offset, e.provisioning)).collect();
        let expected = [
            (0, Provisioning::Mapped),
            (4096, Provisioning::Deallocated),
            (8192, Provisioning::Mapped),
            (16_384, Provisioning::Deallocated),
            (4 * MIB, Provisioning::Mapped),
        ];
        assert_eq!(states, expected);
        assert_eq!(pool.check().await.unwrap().problems, Vec::<String>::new());
        pool.close().await.unwrap();
    });
}

#[test]
fn zeros_take_no_space_and_requests_outside_are_refused() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    local.block_on(async {
        pool.create_volume(thin(1, 1 << 40), Vec::new()).await.unwrap();
        assert_eq!(pool.create_volume(thin(1, MIB), Vec::new()).await.unwrap_err().kind, ErrorKind::Exists);
        let volume = pool.open_volume([1; 16]).unwrap();
        volume.write(0, bytes(&[0; 65_536]), Durability::Default).await.unwrap();
        assert_eq!(volume.mapped_bytes(), 0);
        volume.write(1 << 39, bytes(&[7; 4096]), Durability::Default).await.unwrap();
        volume.unmap(vec![ByteRange { offset: 0, len: 1 << 40 }]).await.unwrap();
        assert_eq!(volume.mapped_bytes(), 0);
        let outside =
            volume.write((1 << 40) - 512, bytes(&[1; 1024]), Durability::Default).await.unwrap_err();
        assert_eq!(outside.kind, ErrorKind::Invalid);
        assert_eq!(volume.read(100, 512).await.unwrap_err().kind, ErrorKind::Invalid);
        assert!(pool.open_volume([2; 16]).is_err());
        pool.close().await.unwrap();
    });
}

#[test]
fn facts_are_kept_with_the_pool() {
    let disk = disk(64 * MIB);
    let (local, pool) = new_pool(&disk, small(256 << 10));
    let fact =
        |name: &str, value: Option<&[u8]>| ("host".to_owned(), name.to_owned(), value.map(<[u8]>::to_vec));
    local.block_on(async {
        pool.create_volume(thin(1, MIB), vec![fact("a", Some(b"1"))]).await.unwrap();
        pool.put_facts(vec![fact("b", Some(b"2")), fact("a", None)]).await.unwrap();
    });
    let (local, pool) = reopen(&disk, small(256 << 10));
    let facts = local.block_on(pool.facts("host")).unwrap();
    assert_eq!(facts, [("b".to_owned(), b"2".to_vec())]);
    assert_eq!(pool.volumes().len(), 1);
}
