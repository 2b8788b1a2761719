//! CHAP through the REST API: secrets go in and never come out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use api::{Client, CreateHost, ErrorClass, Outcome, Secret, SetChap, SetMutual, UpdateHost};
use control::simulated::{SimEngine, SimFrontend, SimRuntime};
use control::{Group, GroupConfig};
use server::{DaemonFacts, router};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALICE: &str = "iqn.2001-04.com.example:alice";
const SECRET: &str = "alice's own secret";

/// A daemon's API, and a host.
async fn fixture() -> (tempfile::TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let config = GroupConfig {
        file: directory.path().join("group.redb"),
        engine: Arc::new(SimEngine::default()),
        frontend: Arc::new(SimFrontend::default()),
        runtime: Arc::new(SimRuntime::default()),
    };
    let facts = DaemonFacts {
        data_directory: directory.path().display().to_string(),
        started_unix_ms: 1,
        disk_io: "simulated".to_owned(),
    };
    let routes = router(Group::open(config).await.unwrap(), facts);
    let listener = tokio::net::UnixListener::bind(directory.path().join("s")).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let client = Client::unix(&directory.path().join("s"));
    let host = CreateHost { name: "web".to_owned(), iqns: vec![ALICE.to_owned()], addresses: Vec::new() };
    client.create_host(&host).await.unwrap();
    (directory, client)
}

fn secret(text: &str) -> Secret {
    Secret(text.to_owned())
}

fn chap(text: &str, mutual: Option<&str>) -> SetChap {
    let mutual = mutual.map(|own| SetMutual { user: None, secret: secret(own) });
    SetChap { user: Some("joe".to_owned()), secret: secret(text), mutual }
}

#[tokio::test]
async fn a_hosts_secret_is_set_shown_without_itself_and_cleared() {
    let (_directory, client) = fixture().await;
    assert_eq!(client.host("web").await.unwrap().chap, None);
    let set = client.set_host_chap("web", &chap(SECRET, Some("the group's secret"))).await.unwrap();
    assert_eq!(set.outcome, Outcome::Changed);
    let shown = serde_json::to_value(client.host("web").await.unwrap()).unwrap();
    let expected = serde_json::json!({"user": "joe", "mutual": true, "mutual_user": "palisade"});
    assert_eq!(shown["chap"], expected);
    let all = format!("{} {}", shown, serde_json::to_string(&set.item).unwrap());
    assert!(!all.contains(SECRET) && !all.contains("the group's secret"), "{all}");
    assert_eq!(client.clear_host_chap("web").await.unwrap().outcome, Outcome::Changed);
    assert_eq!(client.clear_host_chap("web").await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(client.host("web").await.unwrap().chap, None);
}

#[tokio::test]
async fn bad_secrets_are_refused_and_not_repeated() {
    let (directory, client) = fixture().await;
    for (request, word) in [(chap("short", None), "12 to 255"), (chap(SECRET, Some(SECRET)), "differ")] {
        let problem = client.set_host_chap("web", &request).await.unwrap_err();
        assert_eq!(problem.code, ErrorClass::Invalid);
        assert!(problem.message.contains(word) && !problem.to_string().contains(SECRET), "{problem}");
    }
    let mut stream = tokio::net::UnixStream::connect(directory.path().join("s")).await.unwrap();
    let body = format!(r#"{{"secret": ["{SECRET}"], "pass": "{SECRET}"}}"#);
    let request = format!(
        "PUT /v1/hosts/web/chap HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("usage") && !answer.contains(SECRET), "{answer}");
}

#[tokio::test]
async fn discovery_has_a_secret_of_its_own() {
    let (_directory, client) = fixture().await;
    assert_eq!(client.discovery().await.unwrap().chap, None);
    client.set_discovery_chap(Some(&chap(SECRET, None))).await.unwrap();
    let shown = client.discovery().await.unwrap().chap.unwrap();
    assert_eq!((shown.user.as_deref(), shown.mutual), (Some("joe"), false));
    assert_eq!(client.set_discovery_chap(None).await.unwrap().outcome, Outcome::Changed);
    assert_eq!(client.set_discovery_chap(None).await.unwrap().outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn a_hosts_names_and_addresses_change() {
    let (_directory, client) = fixture().await;
    let bob = "iqn.2001-04.com.example:bob".to_owned();
    let update = UpdateHost {
        add_iqns: vec![bob.clone()],
        remove_iqns: vec![ALICE.to_owned()],
        addresses: Some(vec!["192.0.2.0/24".to_owned()]),
    };
    let changed = client.update_host("web", &update).await.unwrap();
    assert_eq!((changed.outcome, &changed.item.iqns), (Outcome::Changed, &vec![bob]));
    assert_eq!(changed.item.addresses, ["192.0.2.0/24"]);
    assert_eq!(client.update_host("web", &update).await.unwrap().outcome, Outcome::Unchanged);
}
