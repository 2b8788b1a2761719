//! Keys of pools in the model: what is encrypted, what opens it, and what is remembered.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::Fixture;
use control::simulated::thin_volume;
use control::{
    ErrorKind, Force, KeyChange, KeySource, NewPool, NewVolume, Outcome, PoolView, VolumeEncryption,
};
use zeroize::Zeroizing;

const GIB: u64 = 1 << 30;

fn words(text: &str) -> KeySource {
    KeySource::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
}

impl Fixture {
    /// A pool that `secret` opens, or one without keys.
    async fn pool(&self, name: &str, secret: Option<KeySource>) -> PoolView {
        let new = NewPool { name: name.to_owned(), disks: vec![format!("/d/{name}:10G")] };
        self.group().create_pool_with(new, secret).await.unwrap().1
    }

    async fn change(&self, change: KeyChange<KeySource>) -> control::Result<Outcome> {
        self.group().change_pool_keys("tank", change).await.map(|(outcome, _)| outcome)
    }

    async fn refusal(&self, change: KeyChange<KeySource>) -> ErrorKind {
        self.change(change).await.unwrap_err().kind
    }

    fn key_file(&self) -> KeySource {
        let path = self.directory.path().join("key");
        std::fs::write(&path, [7; 64]).unwrap();
        KeySource::File(path.display().to_string())
    }

    /// As after a restart of the daemon, or of the machine.
    async fn restart_locked(&mut self, pool: &PoolView) {
        self.engine.pool(pool.record.id).unwrap().forget_secrets();
        self.restart().await;
    }

    fn is_locked(&self) -> bool {
        self.group().pool("tank").unwrap().keys.unwrap().locked
    }

    fn encryption(&self, volume: &str) -> VolumeEncryption {
        self.group().volume(volume).unwrap().encryption
    }
}

fn kind<T: std::fmt::Debug>(result: control::Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}

#[tokio::test]
async fn new_volumes_are_as_the_pool_says_unless_something_else_is_asked_for() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", Some(words("hush"))).await;
    for (name, encrypt, expected) in [
        ("a", None, VolumeEncryption::Open),
        ("b", Some(true), VolumeEncryption::Open),
        ("c", Some(false), VolumeEncryption::None),
    ] {
        let new = NewVolume { encrypt, ..thin_volume(name, GIB) };
        assert_eq!(group.create_volume(new.clone()).await.unwrap().1.encryption, expected, "{name}");
        assert_eq!(group.create_volume(new).await.unwrap().0, Outcome::Unchanged);
    }
    let other = NewVolume { encrypt: Some(true), ..thin_volume("c", GIB) };
    assert_eq!(kind(group.create_volume(other).await), ErrorKind::Exists);
    assert_eq!(fixture.change(KeyChange::EncryptNew(false)).await, Ok(Outcome::Changed));
    assert_eq!(fixture.change(KeyChange::EncryptNew(false)).await, Ok(Outcome::Unchanged));
    group.create_volume(thin_volume("d", GIB)).await.unwrap();
    assert_eq!(fixture.encryption("d"), VolumeEncryption::None);
}

#[tokio::test]
async fn with_a_passphrase_only_a_pool_stays_locked_and_its_volumes_are_served_as_such() {
    let mut fixture = Fixture::new().await;
    let pool = fixture.pool("tank", Some(words("hush"))).await;
    fixture.group().create_volume(thin_volume("mail", GIB)).await.unwrap();
    fixture.restart_locked(&pool).await;
    assert!(fixture.is_locked());
    let mail = fixture.group().volume("mail").unwrap();
    assert_eq!((mail.encryption, mail.offline), (VolumeEncryption::Locked, None), "hosts find it not ready");
    assert_eq!(kind(fixture.group().create_volume(thin_volume("late", GIB)).await), ErrorKind::Locked);
    let refused = fixture.change(KeyChange::Unlock(words("hash"))).await.unwrap_err();
    assert_eq!((refused.kind, refused.object.as_str()), (ErrorKind::Denied, "pool tank"));
    assert_eq!(fixture.change(KeyChange::Unlock(words("hush"))).await, Ok(Outcome::Changed));
    assert_eq!(fixture.change(KeyChange::Unlock(words("hush"))).await, Ok(Outcome::Unchanged));
    assert_eq!(fixture.encryption("mail"), VolumeEncryption::Open);
    assert_eq!(fixture.change(KeyChange::Lock).await, Ok(Outcome::Changed));
    assert!(fixture.is_locked());
}

#[tokio::test]
async fn a_key_file_is_remembered_and_opens_the_pool_by_itself_as_long_as_it_is_there() {
    let mut fixture = Fixture::new().await;
    let pool = fixture.pool("tank", Some(words("hush"))).await;
    let file = fixture.key_file();
    assert_eq!(fixture.change(KeyChange::Add(file.clone())).await, Ok(Outcome::Changed));
    fixture.restart_locked(&pool).await;
    assert!(!fixture.is_locked());
    let path = fixture.directory.path().join("key");
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    fixture.restart_locked(&pool).await;
    assert!(fixture.is_locked(), "and everything else is served");
    assert_eq!(fixture.refusal(KeyChange::Unlock(file.clone())).await, ErrorKind::NotFound);
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    assert_eq!(fixture.change(KeyChange::Unlock(file)).await, Ok(Outcome::Changed));
}

#[tokio::test]
async fn slots_are_changed_and_the_last_one_stays() {
    let fixture = Fixture::new().await;
    fixture.pool("tank", None).await;
    assert_eq!(fixture.refusal(KeyChange::Lock).await, ErrorKind::Invalid);
    let begin = || KeyChange::Begin { secret: words("one"), encrypt_new: false };
    assert_eq!(fixture.change(begin()).await, Ok(Outcome::Changed));
    assert_eq!(fixture.refusal(begin()).await, ErrorKind::Exists);
    assert_eq!(fixture.refusal(KeyChange::Remove(0)).await, ErrorKind::Invalid);
    assert_eq!(fixture.change(KeyChange::Add(words("two"))).await, Ok(Outcome::Changed));
    assert_eq!(fixture.change(KeyChange::Replace(0, words("three"))).await, Ok(Outcome::Changed));
    assert_eq!(fixture.refusal(KeyChange::Rekey(vec![words("one")])).await, ErrorKind::Denied);
    assert_eq!(fixture.change(KeyChange::Rekey(vec![words("three")])).await, Ok(Outcome::Changed));
    let slots = fixture.group().pool("tank").unwrap().keys.unwrap().slots;
    assert_eq!(slots.iter().map(|slot| slot.index).collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn the_answer_to_a_deletion_says_whether_a_key_went_with_it() {
    let fixture = Fixture::new().await;
    let group = fixture.group();
    fixture.pool("tank", Some(words("hush"))).await;
    group.create_volume(thin_volume("mail", GIB)).await.unwrap();
    group.create_volume(NewVolume { encrypt: Some(false), ..thin_volume("open", GIB) }).await.unwrap();
    let deleted = group.delete_volume("open", Force::No).await.unwrap().1;
    assert_eq!(deleted.encryption, VolumeEncryption::None);
    let deleted = group.delete_volume("mail", Force::No).await.unwrap().1;
    assert_eq!(deleted.encryption, VolumeEncryption::Forgotten);
}

#[tokio::test]
async fn a_pool_whose_key_file_cannot_be_read_is_not_made() {
    let fixture = Fixture::new().await;
    let new = || NewPool { name: "tank".to_owned(), disks: vec!["/d/one:10G".to_owned()] };
    for (path, expected) in [("key", ErrorKind::Invalid), ("/no/such/key", ErrorKind::NotFound)] {
        let made = fixture.group().create_pool_with(new(), Some(KeySource::File(path.to_owned()))).await;
        assert_eq!(made.map(drop).unwrap_err().kind, expected);
        assert!(fixture.group().pool("tank").is_err());
    }
    assert_eq!(
        fixture.group().create_pool(new()).await.unwrap().0,
        Outcome::Created,
        "the disk is free again"
    );
}
