//! The REST API through its socket and the typed client, over a simulated engine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use api::{
    CacheMode, Client, CreateHost, CreatePool, CreateVolume, ErrorClass, ExtendPool, GrantRequest, Outcome,
    PoolState, Provisioning, UpdateVolume, VolumeState,
};
use control::simulated::{SimEngine, SimFrontend, SimRuntime};
use control::{Group, GroupConfig};
use server::{DaemonFacts, router};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALICE: &str = "iqn.2001-04.com.example:alice";
const GIB: u64 = 1 << 30;

struct Fixture {
    directory: tempfile::TempDir,
    engine: Arc<SimEngine>,
    frontend: Arc<SimFrontend>,
    client: Client,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(SimEngine::default());
        let frontend = Arc::new(SimFrontend::default());
        let config = GroupConfig {
            file: directory.path().join("group.redb"),
            engine: engine.clone(),
            frontend: frontend.clone(),
            runtime: Arc::new(SimRuntime::default()),
        };
        let facts = DaemonFacts {
            data_directory: directory.path().display().to_string(),
            started_unix_ms: 1,
            disk_io: "simulated".to_owned(),
        };
        let routes = router(Group::open(config).await.unwrap(), facts);
        let socket = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { client: Client::unix(&socket), directory, engine, frontend }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    async fn pool(&self) -> api::Change<api::Pool> {
        let request =
            CreatePool { name: "tank".to_owned(), disks: vec!["/d/one:100G".to_owned()], encrypt: None };
        self.client.create_pool(&request).await.unwrap()
    }

    /// Sends bytes and returns the status and body of the answer.
    async fn raw(&self, request: &str) -> (u16, serde_json::Value) {
        let mut stream = tokio::net::UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap())
    }
}

fn volume(name: &str) -> CreateVolume {
    CreateVolume {
        name: name.to_owned(),
        size_bytes: 10 * GIB,
        pool: None,
        block_size: None,
        provisioning: Provisioning::Thin,
        cache: CacheMode::Durable,
        offload: None,
        encrypt: None,
    }
}

fn host(name: &str, iqn: &str) -> CreateHost {
    CreateHost {
        name: name.to_owned(),
        iqns: vec![iqn.to_owned()],
        addresses: vec!["192.0.2.0/24".to_owned()],
    }
}

#[tokio::test]
async fn a_volume_from_its_making_to_its_end() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let pool = fixture.pool().await;
    assert_eq!((pool.outcome, pool.item.state), (Outcome::Created, PoolState::Online));
    assert_eq!(pool.item.disks[0].path, "/d/one");
    assert_eq!(fixture.pool().await.outcome, Outcome::Unchanged);

    let made = client.create_volume(&volume("mail")).await.unwrap();
    assert_eq!((made.outcome, made.item.state), (Outcome::Created, VolumeState::Online));
    assert_eq!(made.item.block_size, 512);
    assert_eq!(made.item.iqn, "iqn.2026-11.io.palisade:mail");
    assert_eq!(client.create_volume(&volume("mail")).await.unwrap().outcome, Outcome::Unchanged);

    client.create_host(&host("web", ALICE)).await.unwrap();
    let granted = client.grant("mail", "web", GrantRequest { read_only: true }).await.unwrap();
    assert_eq!(granted.item.grants, [api::Grant { host: "web".to_owned(), read_only: true }]);
    let web = client.host("web").await.unwrap();
    assert_eq!((web.iqns, web.addresses), (vec![ALICE.to_owned()], vec!["192.0.2.0/24".to_owned()]));
    assert_eq!(web.grants, [api::HostGrant { volume: "mail".to_owned(), read_only: true }]);

    let update =
        UpdateVolume { name: Some("post".to_owned()), size_bytes: Some(20 * GIB), ..UpdateVolume::default() };
    let changed = client.update_volume("mail", &update).await.unwrap();
    assert_eq!((changed.item.name.as_str(), changed.item.size_bytes), ("post", 20 * GIB));
    assert_eq!(changed.item.iqn, made.item.iqn);
    assert_eq!(client.volume(&made.item.id).await.unwrap().name, "post", "by identity, too");

    let status = client.status().await.unwrap();
    assert_eq!((status.pools, status.volumes, status.hosts, status.sessions), (1, 1, 1, 0));
    assert_eq!(status.size_bytes, 100 * GIB);
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);

    client.revoke("post", "web").await.unwrap();
    assert_eq!(client.delete_host("web", false).await.unwrap().outcome, Outcome::Deleted);
    assert_eq!(client.delete_volume("post", false).await.unwrap().outcome, Outcome::Deleted);
    assert_eq!(client.delete_pool("tank", false).await.unwrap().outcome, Outcome::Deleted);
    assert!(client.pools().await.unwrap().is_empty() && client.volumes().await.unwrap().is_empty());
    assert!(client.hosts().await.unwrap().is_empty() && client.sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn snapshots_and_clones_through_the_api() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    fixture.pool().await;
    for name in ["data", "log"] {
        client.create_volume(&volume(name)).await.unwrap();
    }
    let request =
        api::CreateSnapshots { volumes: vec!["data".into(), "log".into()], name: Some("before".into()) };
    let made = client.create_snapshots(&request).await.unwrap();
    assert_eq!((made.outcome, made.snapshots.len()), (Outcome::Created, 2));
    assert_eq!(made.snapshots[0].together, ["log@before"]);
    assert_eq!(client.create_snapshots(&request).await.unwrap_err().code, ErrorClass::Exists);
    assert_eq!(client.snapshots(None).await.unwrap(), made.snapshots);
    assert_eq!(client.snapshots(Some("log")).await.unwrap(), made.snapshots[1..]);

    let clone = api::CloneVolume { name: "test".into(), snapshot: Some("before".into()), read_only: false };
    let cloned = client.clone_volume("data", &clone).await.unwrap();
    let origin = cloned.item.origin.clone().unwrap();
    assert_eq!(
        (origin.volume.as_str(), origin.snapshot.as_deref(), origin.exists),
        ("data", Some("before"), true)
    );
    assert_eq!(client.snapshot("data", "before").await.unwrap().clones, ["test"]);
    let data = client.volume("data").await.unwrap();
    assert_eq!((data.snapshots, data.clones), (1, vec!["test".to_owned()]));

    let request = api::DiffRequest { from: "data@before".into(), to: "DATA".into(), ..Default::default() };
    let same = client.difference(&request).await.unwrap();
    assert_eq!((same.to.as_str(), same.ranges, same.next_offset), ("data", Vec::new(), None));
    let back = client.roll_back("data", "before", false).await.unwrap().item;
    assert_eq!((back.volume.snapshots, back.safety.volume.as_str()), (2, "data"));
    let template = UpdateVolume { template: Some(true), ..UpdateVolume::default() };
    assert!(client.update_volume("data", &template).await.unwrap().item.template);
    assert_eq!(client.update_volume("data", &template).await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(client.delete_volume_and_snapshots("data", true).await.unwrap_err().code, ErrorClass::InUse);
    let ordinary = UpdateVolume { template: Some(false), ..UpdateVolume::default() };
    assert_eq!(client.update_volume("data", &ordinary).await.unwrap().outcome, Outcome::Changed);

    let keep = api::KeepSnapshots { hourly: 24, ..Default::default() };
    let volumes = vec!["data".into(), "log".into()];
    let schedule =
        api::CreateSchedule { name: "db".into(), volumes, every: "1h".into(), keep, name_pattern: None };
    assert_eq!(client.create_schedule(&schedule).await.unwrap().outcome, Outcome::Created);
    let off = api::UpdateSchedule { enabled: false };
    assert!(!client.update_schedule("db", off).await.unwrap().item.enabled);
    assert_eq!(client.schedules().await.unwrap(), [client.schedule("db").await.unwrap()]);
    assert_eq!(client.delete_schedule("DB").await.unwrap().item.volumes, ["data", "log"]);

    let refused = client.delete_volume("data", true).await.unwrap_err();
    assert_eq!(refused.code, ErrorClass::InUse);
    assert_eq!(client.delete_volume_and_snapshots("data", false).await.unwrap().outcome, Outcome::Deleted);
    assert_eq!(client.snapshot("data", "before").await.unwrap_err().code, ErrorClass::NotFound);
    assert_eq!(client.delete_snapshot("log", "before").await.unwrap().outcome, Outcome::Deleted);
    assert!(client.snapshots(None).await.unwrap().is_empty());
    assert!(!client.volume("test").await.unwrap().origin.unwrap().exists);
    client.detach_volume("test").await.unwrap();
    while let Some(left) = client.volume("test").await.unwrap().detachment {
        assert_eq!(left.waits, None);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(client.volume("test").await.unwrap().origin, None);
    assert_eq!(client.cancel_detach("test").await.unwrap().outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn what_goes_wrong_has_its_class_and_says_what_to_do() {
    let fixture = Fixture::new().await;
    let client = &fixture.client;
    let problem = client.create_volume(&volume("mail")).await.unwrap_err();
    assert_eq!(problem.code, ErrorClass::Invalid);
    assert!(problem.message.contains("palisade pool create"), "{problem}");

    fixture.pool().await;
    client.create_volume(&volume("mail")).await.unwrap();
    client.create_host(&host("web", ALICE)).await.unwrap();
    client.grant("mail", "web", GrantRequest::default()).await.unwrap();
    let class = |result: Result<(), api::Problem>| result.unwrap_err().code;
    assert_eq!(class(client.volume("nothing").await.map(drop)), ErrorClass::NotFound);
    assert_eq!(class(client.session("7").await.map(drop)), ErrorClass::NotFound);
    assert_eq!(
        class(client.grant("mail", "nobody", GrantRequest::default()).await.map(drop)),
        ErrorClass::NotFound
    );
    let larger = CreateVolume { size_bytes: GIB, ..volume("mail") };
    assert_eq!(class(client.create_volume(&larger).await.map(drop)), ErrorClass::Exists);
    let thick = CreateVolume { size_bytes: 200 * GIB, provisioning: Provisioning::Thick, ..volume("big") };
    assert_eq!(class(client.create_volume(&thick).await.map(drop)), ErrorClass::NoSpace);
    assert_eq!(class(client.delete_pool("tank", false).await.map(drop)), ErrorClass::InUse);
    assert_eq!(class(client.delete_host("web", false).await.map(drop)), ErrorClass::InUse);
    assert_eq!(class(client.create_host(&host("bad", "no name")).await.map(drop)), ErrorClass::Invalid);
    let extend = ExtendPool { disk: "/d/other:1T".to_owned() };
    assert_eq!(class(client.extend_pool("tank", &extend).await.map(drop)), ErrorClass::NotFound);
    client.delete_host("web", true).await.unwrap();
    assert!(client.volume("mail").await.unwrap().grants.is_empty());
}

#[tokio::test]
async fn a_broken_engine_is_said_to_be_one() {
    let fixture = Fixture::new().await;
    let pool = fixture.pool().await.item;
    let id = control::PoolId::parse(&pool.id).unwrap();
    fixture.engine.pool(id).unwrap().crash_after(Some(0));
    let problem = fixture.client.create_volume(&volume("mail")).await.unwrap_err();
    assert_eq!((problem.code, problem.object.as_str()), (ErrorClass::Device, "volume mail"));
    assert!(fixture.client.volumes().await.unwrap().is_empty());
}

/// HTTP as other programs speak it: unknown fields, paths and methods are answered with a problem, not ignored.
#[tokio::test]
async fn requests_that_are_not_understood_are_refused_with_a_problem() {
    let fixture = Fixture::new().await;
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let plain = |line: &str| format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let cases = [
        (post("/v1/pools", "{\"name\": \"a\", \"disks\": [], \"typo\": 1}"), 400, "usage"),
        (post("/v1/pools", "not json"), 400, "usage"),
        (post("/v1/pools", "{\"name\": \"a\", \"disks\": []}"), 422, "invalid"),
        (post("/v1/volumes", "{\"name\": \"a\", \"size_bytes\": -1}"), 400, "usage"),
        (plain("GET /v1/nothing"), 404, "not-found"),
        (plain("GET /"), 404, "not-found"),
        (plain("PUT /v1/pools"), 400, "usage"),
        (plain("DELETE /v1/pools/x?force=perhaps"), 400, "usage"),
        (plain("DELETE /v1/pools/x?forced=true"), 400, "usage"),
        (plain("GET /v1/volumes/a%2Fb"), 404, "not-found"),
    ];
    for (request, status, code) in cases {
        let (answered, body) = fixture.raw(&request).await;
        assert_eq!((answered, body["code"].as_str()), (status, Some(code)), "{request}\n{body}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
}

/// The document and the router know the same paths and methods.
#[tokio::test]
async fn every_documented_operation_is_there() {
    let fixture = Fixture::new().await;
    let (status, document) =
        fixture.raw("GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status, 200);
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            operations += 1;
            let path = path.replace(['{', '}'], "");
            let line =
                format!("{} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", method.to_uppercase());
            let (_, body) = fixture.raw(&line).await;
            let message = body["message"].as_str().unwrap_or_default();
            assert!(
                !message.contains("no such path") && !message.contains("cannot be done"),
                "{line}: {body}"
            );
        }
    }
    assert_eq!(operations, 62);
}

#[tokio::test]
async fn reservations_are_shown_and_cleared() {
    let fixture = Fixture::new().await;
    fixture.pool().await;
    let volume = fixture.client.create_volume(&volume("quorum")).await.unwrap().item;
    let none = fixture.client.reservations("quorum").await.unwrap();
    assert!(none.registrations.is_empty() && none.kind.is_none() && none.reserved_by.is_none());
    let registration = |key, holder| control::RegistrationFacts {
        initiator: ALICE.to_owned(),
        initiator_port: format!("{ALICE},i,0x000000000001"),
        target_port: 1,
        key,
        holder,
        connected: false,
    };
    let facts = control::ReservationFacts {
        generation: 3,
        kept: true,
        registrations: vec![registration(0xabc, true), registration(u64::MAX, false)],
        kind: Some("Exclusive Access".to_owned()),
        reserved_by: None,
    };
    fixture.frontend.reserve(control::VolumeId::parse(&volume.id).unwrap(), facts);
    let seen = fixture.client.reservations("QUORUM").await.unwrap();
    assert_eq!((seen.volume.as_str(), seen.kind.as_deref()), ("quorum", Some("Exclusive Access")));
    let keys: Vec<_> = seen.registrations.iter().map(|one| (one.key.as_str(), one.holder)).collect();
    assert_eq!(keys, [("0x0000000000000abc", true), ("0xffffffffffffffff", false)]);
    let cleared = fixture.client.clear_reservations("quorum").await.unwrap();
    assert_eq!((cleared.outcome, cleared.item), (Outcome::Deleted, seen));
    let again = fixture.client.clear_reservations("quorum").await.unwrap();
    assert_eq!(again.outcome, Outcome::Unchanged);
    assert_eq!(fixture.client.reservations("other").await.unwrap_err().code, ErrorClass::NotFound);
}
