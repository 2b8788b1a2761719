//! CHAP secrets: how they are kept, what happens without their key, and that they are nowhere to be read.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::{SimEngine, SimFrontend, SimRuntime};
use control::{
    DiscoveryDemand, ErrorKind, Group, GroupConfig, HostId, HostUpdate, LoginAttempt, NewChap, NewHost,
    NewMutual, Outcome, Secret,
};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

const ALICE: &str = "iqn.2001-04.com.example:alice";
const BOB: &str = "iqn.2001-04.com.example:bob";
const SECRET: &str = "alice's own secret";
const OWN_SECRET: &str = "the group's secret";

struct Fixture {
    directory: tempfile::TempDir,
    runtime: Arc<SimRuntime>,
    group: Option<Arc<Group>>,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut fixture = Self { directory, runtime: Arc::default(), group: None };
        fixture.restart().await;
        fixture
    }

    async fn restart(&mut self) {
        self.group = None;
        let config = GroupConfig {
            file: self.directory.path().join("group.redb"),
            engine: Arc::new(SimEngine::default()),
            frontend: Arc::new(SimFrontend::default()),
            runtime: self.runtime.clone(),
        };
        self.group = Some(Group::open(config).await.unwrap());
    }

    fn group(&self) -> &Arc<Group> {
        self.group.as_ref().unwrap()
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("secret.key")
    }

    async fn host(&self, name: &str, iqn: &str) -> HostId {
        let new = NewHost { name: name.to_owned(), iqns: vec![iqn.to_owned()], addresses: Vec::new() };
        self.group().create_host(new).await.unwrap().1.id
    }

    /// The secret that a host has to prove, and the group's.
    fn secrets(&self, host: HostId) -> control::Result<Option<(String, Option<String>)>> {
        let text = |secret: &Secret| String::from_utf8(secret.bytes().to_vec()).unwrap();
        let account = self.group().host_account(host, ALICE)?;
        Ok(account
            .map(|account| (text(&account.initiator.secret), account.target.map(|own| text(&own.secret)))))
    }

    fn discovery(&self, initiator: &str) -> control::Result<DiscoveryDemand> {
        let attempt = LoginAttempt { initiator, source: [192, 0, 2, 1].into() };
        self.group().discovery_demand(attempt)
    }
}

fn chap(secret: &str, mutual: Option<&str>) -> NewChap {
    let parse = |text: &str| Secret::parse(text).unwrap();
    let mutual = mutual.map(|own| NewMutual { user: None, secret: parse(own) });
    NewChap { user: None, secret: parse(secret), mutual }
}

#[tokio::test]
async fn secrets_are_there_after_a_restart_and_nowhere_to_be_read() {
    let mut fixture = Fixture::new().await;
    let alice = fixture.host("alice", ALICE).await;
    assert_eq!(fixture.secrets(alice).unwrap(), None);
    let (outcome, record) =
        fixture.group().set_host_chap("alice", chap(SECRET, Some(OWN_SECRET))).await.unwrap();
    assert_eq!(outcome, Outcome::Changed);
    fixture.group().set_discovery_chap(Some(chap("discovery's secret", None))).await.unwrap();
    let both = Some((SECRET.to_owned(), Some(OWN_SECRET.to_owned())));
    assert_eq!(fixture.secrets(alice).unwrap(), both);
    fixture.restart().await;
    assert_eq!(fixture.secrets(alice).unwrap(), both);
    let account = fixture.group().host_account(alice, ALICE).unwrap().unwrap();
    assert_eq!(account.initiator.user, ALICE, "the initiator's own name");
    assert_eq!(account.target.as_ref().unwrap().user, "palisade");

    let printed = format!("{record:?} {account:?} {:?}", fixture.discovery(ALICE).unwrap());
    fixture.group = None;
    for file in std::fs::read_dir(fixture.directory.path()).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        for secret in [SECRET, OWN_SECRET, "discovery's secret"] {
            let found = content.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found && !printed.contains(secret), "{secret} in {}", path.display());
        }
    }
}

#[tokio::test]
async fn the_key_is_its_owners_alone_and_is_made_once() {
    let mut fixture = Fixture::new().await;
    let mode = std::fs::metadata(fixture.key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read(fixture.key()).unwrap();
    fixture.restart().await;
    assert_eq!(std::fs::read(fixture.key()).unwrap(), key);
}

/// Without its key a secret cannot be checked: the host is refused, never let in without.
#[tokio::test]
async fn without_the_key_hosts_with_a_secret_are_refused_until_it_is_back() {
    let mut fixture = Fixture::new().await;
    let (alice, bob) = (fixture.host("alice", ALICE).await, fixture.host("bob", BOB).await);
    fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap();
    let aside = fixture.directory.path().join("aside");
    std::fs::rename(fixture.key(), &aside).unwrap();
    fixture.restart().await;
    assert!(!fixture.key().exists(), "it is not made anew while something is sealed with it");
    let error = fixture.secrets(alice).unwrap_err();
    assert_eq!((error.kind, error.object.as_str()), (ErrorKind::Corrupt, "host alice"));
    assert!(error.message.contains("missing") && error.message.contains("Put the file back"), "{error}");
    assert_eq!(fixture.secrets(bob).unwrap(), None, "others are served");
    assert_eq!(fixture.group().unreadable_secrets().len(), 1);

    std::fs::rename(&aside, fixture.key()).unwrap();
    fixture.restart().await;
    assert_eq!(fixture.secrets(alice).unwrap(), Some((SECRET.to_owned(), None)));
    assert!(fixture.group().unreadable_secrets().is_empty());
}

#[tokio::test]
async fn with_another_key_the_error_says_so_and_a_new_secret_helps() {
    let mut fixture = Fixture::new().await;
    let alice = fixture.host("alice", ALICE).await;
    fixture.host("bob", BOB).await;
    fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap();
    std::fs::remove_file(fixture.key()).unwrap();
    fixture.restart().await;
    // A new secret makes a new key; the old secret stays unreadable.
    fixture.group().set_host_chap("bob", chap("bob's own secret", None)).await.unwrap();
    let error = fixture.secrets(alice).unwrap_err();
    assert!(error.message.contains("another key"), "{error}");
    fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap();
    assert_eq!(fixture.secrets(alice).unwrap(), Some((SECRET.to_owned(), None)));

    fixture.group = None;
    std::fs::write(fixture.key(), "rubbish").unwrap();
    fixture.restart().await;
    assert!(fixture.secrets(alice).unwrap_err().message.contains("damaged"));
    let refused = fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap_err();
    assert!(refused.message.contains("moved away"), "a file that is not understood is left alone: {refused}");
    assert_eq!(std::fs::read(fixture.key()).unwrap(), b"rubbish");
}

#[tokio::test]
async fn secrets_have_a_length_and_differ_between_the_directions() {
    let fixture = Fixture::new().await;
    fixture.host("alice", ALICE).await;
    for (text, good) in [("elevenbytes", false), ("twelve bytes", true), ("with\ttab in it", false)] {
        assert_eq!(Secret::parse(text).is_ok(), good, "{text}");
    }
    assert!(Secret::parse(&"x".repeat(255)).is_ok() && Secret::parse(&"x".repeat(256)).is_err());
    let error = Secret::parse("short").unwrap_err();
    assert!(error.message.contains("12 to 255") && !error.to_string().contains("short"), "{error}");
    let same = fixture.group().set_host_chap("alice", chap(SECRET, Some(SECRET))).await.unwrap_err();
    assert_eq!(same.kind, ErrorKind::Invalid);
    assert!(same.message.contains("differ"), "{same}");
    let nameless = NewChap { user: Some(String::new()), ..chap(SECRET, None) };
    assert_eq!(fixture.group().set_host_chap("alice", nameless).await.unwrap_err().kind, ErrorKind::Invalid);
    let nobody = fixture.group().set_host_chap("carol", chap(SECRET, None)).await.unwrap_err();
    assert_eq!(nobody.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn clearing_is_for_good_and_asking_twice_is_no_error() {
    let mut fixture = Fixture::new().await;
    let alice = fixture.host("alice", ALICE).await;
    fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap();
    assert_eq!(fixture.group().clear_host_chap("alice").await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().clear_host_chap("alice").await.unwrap().0, Outcome::Unchanged);
    fixture.restart().await;
    assert_eq!(fixture.secrets(alice).unwrap(), None);
}

#[tokio::test]
async fn discovery_takes_the_groups_secret_or_the_hosts_own() {
    let mut fixture = Fixture::new().await;
    fixture.host("alice", ALICE).await;
    fixture.host("bob", BOB).await;
    fixture.group().set_host_chap("alice", chap(SECRET, None)).await.unwrap();
    let users = |demand: DiscoveryDemand| {
        let secret = |account: &control::Account| account.initiator.secret.bytes().to_vec();
        (demand.accounts.iter().map(secret).collect::<Vec<_>>(), demand.optional)
    };
    assert_eq!(users(fixture.discovery(ALICE).unwrap()), (vec![SECRET.into()], true));
    assert_eq!(users(fixture.discovery(BOB).unwrap()), (vec![], true));
    fixture.group().set_discovery_chap(Some(chap("everybody's secret", None))).await.unwrap();
    fixture.restart().await;
    let common = b"everybody's secret".to_vec();
    assert_eq!(users(fixture.discovery(ALICE).unwrap()), (vec![common.clone(), SECRET.into()], false));
    assert_eq!(users(fixture.discovery(BOB).unwrap()), (vec![common], false));
    std::fs::remove_file(fixture.key()).unwrap();
    fixture.restart().await;
    assert!(fixture.discovery(BOB).is_err(), "nobody discovers without proof");
    assert_eq!(fixture.group().set_discovery_chap(None).await.unwrap().0, Outcome::Changed);
    assert_eq!(fixture.group().set_discovery_chap(None).await.unwrap().0, Outcome::Unchanged);
    assert_eq!(users(fixture.discovery(BOB).unwrap()), (vec![], true));
}

#[tokio::test]
async fn a_hosts_names_and_addresses_change() {
    let fixture = Fixture::new().await;
    fixture.host("alice", ALICE).await;
    fixture.host("bob", BOB).await;
    let update = |add: &[&str], remove: &[&str], addresses: Option<&[&str]>| {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let addresses = addresses.map(texts);
        fixture
            .group()
            .update_host("alice", HostUpdate { add_iqns: texts(add), remove_iqns: texts(remove), addresses })
    };
    let names =
        |record: &control::HostRecord| record.initiators.iter().map(ToString::to_string).collect::<Vec<_>>();
    let other = "iqn.2001-04.com.example:alice2";
    let (outcome, record) = update(&[other], &[], Some(&["192.0.2.0/24"])).await.unwrap();
    assert_eq!((outcome, names(&record)), (Outcome::Changed, vec![ALICE.to_owned(), other.to_owned()]));
    assert_eq!(record.addresses.len(), 1);
    assert_eq!(update(&[other], &[], None).await.unwrap().0, Outcome::Unchanged);
    let (_, record) = update(&[], &[ALICE], None).await.unwrap();
    assert_eq!((names(&record), record.addresses.len()), (vec![other.to_owned()], 1));
    assert_eq!(update(&[BOB], &[], None).await.unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(update(&[], &[other], None).await.unwrap_err().kind, ErrorKind::Invalid, "one name at least");
    assert_eq!(update(&["*"], &[], Some(&[])).await.unwrap_err().kind, ErrorKind::Invalid);
}
