//! Volumes' reservations over a simulated engine: kept in the pool, handed back, forgotten with the volume.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use control::simulated::thin_volume;
use control::{
    ErrorKind, FactChange, Force, HeldRecord, NewPool, Outcome, PoolEngine, RegistrantRecord,
    RegistrationFacts, RegistrationRecord, ReservationFacts, ReservationRecord, VolumeId,
};

mod common;

use common::Fixture;

impl Fixture {
    /// A group with a pool `tank` and a volume `quorum`.
    async fn with_quorum() -> Self {
        let fixture = Self::new().await;
        let pool = NewPool { name: "tank".to_owned(), disks: vec!["/d/one:10G".to_owned()] };
        fixture.group().create_pool(pool).await.unwrap();
        fixture.group().create_volume(thin_volume("quorum", 1 << 30)).await.unwrap();
        fixture
    }

    fn quorum(&self) -> VolumeId {
        self.group().volume("quorum").unwrap().record.id
    }

    /// What the volume was published with.
    fn kept(&self) -> Option<ReservationRecord> {
        self.frontend.kept(self.quorum()).unwrap().0
    }

    async fn keep(&self, record: Option<&ReservationRecord>) {
        let keeper = self.frontend.kept(self.quorum()).unwrap().1;
        keeper.keep(record).await.unwrap();
    }

    fn facts_in_pool(&self) -> usize {
        let tank = self.group().pool("tank").unwrap().record.id;
        self.engine.pool(tank).unwrap().fact_count()
    }

    async fn put(&self, name: &str, content: &str) {
        let tank = self.group().pool("tank").unwrap().record.id;
        let content = Some(content.as_bytes().to_vec());
        let fact = FactChange { kind: "reservation", name: name.to_owned(), content };
        self.engine.pool(tank).unwrap().put_fact(fact).await.unwrap();
    }
}

fn record(key: u64) -> ReservationRecord {
    let registrant =
        RegistrantRecord { initiator_port: "iqn.2026-01.test:a,i,0x000000000001".to_owned(), target_port: 1 };
    let registrations = vec![RegistrationRecord { registrant: registrant.clone(), key, all_ports: false }];
    ReservationRecord::new(registrations, Some(HeldRecord { kind: 5, holder: Some(registrant) }))
}

#[tokio::test]
async fn what_is_kept_is_handed_back_after_a_restart() {
    let mut fixture = Fixture::with_quorum().await;
    assert_eq!(fixture.kept(), None);
    fixture.keep(Some(&record(1))).await;
    fixture.keep(Some(&record(2))).await;
    fixture.restart().await;
    assert_eq!(fixture.kept(), Some(record(2)), "the last one");
    fixture.keep(None).await;
    fixture.restart().await;
    assert_eq!((fixture.kept(), fixture.facts_in_pool()), (None, 1));
}

#[tokio::test]
async fn reservations_go_with_their_volume() {
    let mut fixture = Fixture::with_quorum().await;
    fixture.keep(Some(&record(1))).await;
    assert_eq!(fixture.facts_in_pool(), 2);
    fixture.group().delete_volume("quorum", Force::No).await.unwrap();
    assert_eq!(fixture.facts_in_pool(), 0);
    // One that came too late, when the volume was gone, is forgotten when the pool is opened next.
    fixture.put("00000000-0000-4000-8000-000000000001", "{}").await;
    fixture.restart().await;
    assert_eq!(fixture.facts_in_pool(), 0);
}

/// To serve it without its reservations could let a host write that was fenced off.
#[tokio::test]
async fn a_volume_whose_reservations_are_not_understood_stays_offline() {
    let mut fixture = Fixture::with_quorum().await;
    let id = fixture.quorum().to_string();
    fixture.put(&id, r#"{"version":2,"registrations":[],"reservation":null}"#).await;
    fixture.restart().await;
    let offline = fixture.group().volume("quorum").unwrap().offline.unwrap();
    assert!(offline.contains("newer version"), "{offline}");
    assert!(fixture.frontend.published().is_empty());
    assert_eq!(fixture.facts_in_pool(), 2, "and nothing is thrown away");
    assert_eq!(fixture.group().reservations("quorum").unwrap_err().kind, ErrorKind::Offline);
}

#[tokio::test]
async fn an_administrator_looks_and_clears() {
    let fixture = Fixture::with_quorum().await;
    let group = fixture.group();
    assert!(group.reservations("quorum").unwrap().is_empty());
    let facts = ReservationFacts {
        registrations: vec![RegistrationFacts {
            initiator: "iqn.2026-01.test:a".to_owned(),
            initiator_port: "iqn.2026-01.test:a,i,0x000000000001".to_owned(),
            target_port: 1,
            key: 7,
            holder: false,
            connected: true,
        }],
        ..ReservationFacts::default()
    };
    fixture.frontend.reserve(fixture.quorum(), facts.clone());
    assert_eq!(group.reservations("QUORUM").unwrap(), facts);
    assert_eq!(group.clear_reservations("quorum").await.unwrap(), (Outcome::Deleted, facts));
    assert_eq!(group.clear_reservations("quorum").await.unwrap().0, Outcome::Unchanged);
    assert_eq!(group.reservations("other").unwrap_err().kind, ErrorKind::NotFound);
}
