//! The verbs on snapshots.

use crate::args::Snapshot as Verb;
use crate::output::{self, Output, ago, properties, size, table};
use api::{Change, Client, CreateSnapshots, Problem, Rollback, Snapshot, SnapshotsMade, UpdateSnapshot};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { volumes, name } => {
            out.print(&client.create_snapshots(&CreateSnapshots { volumes, name }).await?, made)
        }
        Verb::List { volume } => {
            out.print(&client.snapshots(volume.as_deref()).await?, |snapshots| list(snapshots))
        }
        Verb::Show { snapshot: name } => {
            out.print(&client.snapshot(&name.volume, &name.snapshot).await?, show)
        }
        Verb::Rollback { snapshot: name, force } => {
            let change = client.roll_back(&name.volume, &name.snapshot, force).await?;
            out.print(&change, |change| rolled_back(change, &name.snapshot))
        }
        Verb::Keep { snapshot: name, off } => {
            let request = UpdateSnapshot { kept: !off };
            let change = client.update_snapshot(&name.volume, &name.snapshot, request).await?;
            out.print(&change, |change| match change.item.kept {
                true => format!("Snapshot {} is kept until somebody deletes it.", full(&change.item)),
                false => format!("Snapshot {} may go like others.", full(&change.item)),
            })
        }
        Verb::Delete { snapshots } => {
            for name in snapshots {
                out.print(&client.delete_snapshot(&name.volume, &name.snapshot).await?, |change| {
                    format!(
                        "Snapshot {} deleted. Its space comes back in the background.",
                        full(&change.item)
                    )
                })?;
            }
            Ok(())
        }
    }
}

fn full(snapshot: &Snapshot) -> String {
    format!("{}@{}", snapshot.volume, snapshot.name)
}

fn made(made: &SnapshotsMade) -> String {
    let names: Vec<_> = made.snapshots.iter().map(full).collect();
    match &names[..] {
        [name] => format!("Snapshot {name} made."),
        several => format!("Snapshots made, all at one instant: {}.", several.join(", ")),
    }
}

fn rolled_back(change: &Change<Rollback>, snapshot: &str) -> String {
    let Rollback { volume, safety } = &change.item;
    format!(
        "Volume {} holds what it held in {snapshot}. What it held until now is {}.",
        volume.name,
        full(safety)
    )
}

fn list(snapshots: &[Snapshot]) -> String {
    if snapshots.is_empty() {
        return "There is no snapshot. Make one with `palisade snapshot create VOLUME`.".to_owned();
    }
    let row = |snapshot: &Snapshot| {
        vec![
            full(snapshot),
            size(snapshot.size_bytes),
            size(snapshot.written_bytes),
            crate::space::unique(snapshot.space),
            format!("{} ago", ago(snapshot.created_unix_ms)),
            output::list(&snapshot.clones),
        ]
    };
    let rows: Vec<_> = snapshots.iter().map(row).collect();
    table(&["SNAPSHOT", "SIZE", "WRITTEN", "UNIQUE", "MADE", "CLONES"], &rows)
}

fn show(snapshot: &Snapshot) -> String {
    let mut pairs = vec![
        ("Snapshot", full(snapshot)),
        ("Pool", snapshot.pool.clone()),
        ("Size", size(snapshot.size_bytes)),
        ("Written", format!("{} since the snapshot before", size(snapshot.written_bytes))),
        ("Holds", crate::space::holds(snapshot.space)),
        ("Schedule", snapshot.schedule.clone().unwrap_or_default()),
        ("Kept", if snapshot.kept { "until somebody deletes it".to_owned() } else { String::new() }),
        ("Clones", output::list(&snapshot.clones)),
        ("Same instant", snapshot.together.join(", ")),
        ("Made", format!("{} ago", ago(snapshot.created_unix_ms))),
        ("Identity", snapshot.id.clone()),
    ];
    pairs.retain(|(_, value)| !value.is_empty());
    properties(&pairs)
}
