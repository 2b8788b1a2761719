//! `status` and `session list`.

use crate::output::{self, Output, ago, properties, size, table};
use api::{Client, Problem, Session, Status};

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
    ]);
    for warning in &status.warnings {
        text.push_str(&format!("\nWarning: {warning}"));
    }
    text
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
            if session.read_only { "read-only".to_owned() } else { "read-write".to_owned() },
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
