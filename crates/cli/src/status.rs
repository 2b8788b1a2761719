//! `status`, `session list` and `session show`.

use crate::output::{self, Output, ago, properties, size, table};
use api::{Client, Connection, ConnectionState, Problem, Session, Status};

pub(crate) async fn status(client: &Client, out: Output) -> Result<(), Problem> {
    out.print(&client.status().await?, show)
}

pub(crate) async fn sessions(client: &Client, out: Output) -> Result<(), Problem> {
    out.print(&client.sessions().await?, |sessions| list(sessions))
}

fn show(status: &Status) -> String {
    let space = format!("{} of {} used", size(status.used_bytes), size(status.size_bytes));
    let mut text = properties(&[
        ("Palisade", format!("{}, up {}", status.version, ago(status.started_unix_ms))),
        ("Group", status.group.name.clone()),
        ("Portals", status.portals.join("  ")),
        ("Data", status.data_directory.clone()),
        ("Disk I/O", status.disk_io.clone()),
        ("Space", space),
        ("Pools", status.pools.to_string()),
        ("Volumes", status.volumes.to_string()),
        ("Hosts", status.hosts.to_string()),
        ("Sessions", status.sessions.to_string()),
        ("Failed logins", failed_logins(status)),
    ]);
    for warning in &status.warnings {
        text.push_str(&format!("\nWarning: {warning}"));
    }
    text
}

pub(crate) async fn session(client: &Client, session: &str, out: Output) -> Result<(), Problem> {
    out.print(&client.session(session).await?, show_session)
}

fn access(session: &Session) -> String {
    if session.read_only { "read-only".to_owned() } else { "read-write".to_owned() }
}

fn show_session(session: &Session) -> String {
    let mut text = properties(&[
        ("Session", session.id.to_string()),
        ("Host", session.host.clone().unwrap_or_else(|| "-".to_owned())),
        ("Initiator", session.initiator.clone()),
        ("Target", session.target.clone().unwrap_or_else(|| "(discovery)".to_owned())),
        ("Volumes", volumes(session)),
        ("Access", access(session)),
        ("Since", ago(session.since_unix_ms)),
        ("Commands", session.commands.to_string()),
        ("Read", size(session.read_bytes)),
        ("Written", size(session.written_bytes)),
    ]);
    let digest = |there: bool| if there { "CRC32C" } else { "-" }.to_owned();
    let row = |connection: &Connection| {
        vec![
            connection.cid.to_string(),
            connection.address.clone(),
            connection.portal.clone(),
            match connection.state {
                ConnectionState::LoggingIn => "logging in".to_owned(),
                ConnectionState::LoggedIn => "logged in".to_owned(),
            },
            digest(connection.header_digest),
            digest(connection.data_digest),
        ]
    };
    let rows: Vec<_> = session.connections.iter().map(row).collect();
    text.push_str("\n\n");
    text.push_str(&table(&["CONNECTION", "FROM", "PORTAL", "STATE", "HEADER DIGEST", "DATA DIGEST"], &rows));
    text
}

/// Of CHAP, since the start.
fn failed_logins(status: &Status) -> String {
    match (status.logins_failed, status.logins_unheard) {
        (0, 0) => "none".to_owned(),
        (failed, 0) => failed.to_string(),
        (failed, unheard) => format!("{failed}, and {unheard} not heard after too many"),
    }
}

fn volumes(session: &Session) -> String {
    match (&session.volume, &session.target) {
        (Some(volume), _) => volume.clone(),
        (None, Some(_)) => output::list(&session.volumes),
        (None, None) => "(discovery)".to_owned(),
    }
}

fn list(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "No host is connected.".to_owned();
    }
    let row = |session: &Session| {
        vec![
            session.id.to_string(),
            session.host.clone().unwrap_or_else(|| "-".to_owned()),
            volumes(session),
            access(session),
            session.address.clone(),
            session.portal.clone(),
            ago(session.since_unix_ms),
            session.commands.to_string(),
            size(session.read_bytes),
            size(session.written_bytes),
            session.initiator.clone(),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heading = [
        "ID",
        "HOST",
        "VOLUME",
        "ACCESS",
        "FROM",
        "PORTAL",
        "SINCE",
        "COMMANDS",
        "READ",
        "WRITTEN",
        "INITIATOR",
    ];
    table(&heading, &rows)
}
