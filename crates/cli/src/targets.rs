//! The verbs on targets.

use crate::args::Target as Verb;
use crate::output::{self, Output, ago, properties, table};
use api::{Change, Client, CreateTarget, MapRequest, Outcome, Problem, Target, TargetVolume};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { name } => out.print(&client.create_target(&CreateTarget { name }).await?, created),
        Verb::List => out.print(&client.targets().await?, |targets| list(targets)),
        Verb::Show { target } => out.print(&client.target(&target).await?, show),
        Verb::Map { target, volume, lun } => {
            let change = client.map_volume(&target, &volume, &MapRequest { lun }).await?;
            out.print(&change, mapped)
        }
        Verb::Unmap { target, volume } => {
            out.print(&client.unmap_volume(&target, &volume).await?, |change| match change.outcome {
                Outcome::Unchanged => format!("Target {} has no volume {volume}.", change.item.name),
                _ => format!("Volume {volume} is no longer in target {}.", change.item.name),
            })
        }
        Verb::Delete { target, force } => {
            let change = client.delete_target(&target, force).await?;
            out.print(&change, |change| format!("Target {} deleted; its volumes stay.", change.item.name))
        }
    }
}

fn created(change: &Change<Target>) -> String {
    let Target { name, iqn, .. } = &change.item;
    match change.outcome {
        Outcome::Unchanged => format!("Target {name} is there already: {iqn}"),
        _ => format!("Target {name} created: {iqn}\nNext: palisade target map {name} VOLUME"),
    }
}

fn mapped(change: &Change<Target>) -> String {
    let done = match change.outcome {
        Outcome::Unchanged => "is as it was",
        _ => "changed",
    };
    format!("Target {} {done}.\n\n{}", change.item.name, volumes(&change.item))
}

fn hosts(volume: &TargetVolume) -> String {
    let name = |grant: &api::Grant| match grant.read_only {
        true => format!("{} (read-only)", grant.host),
        false => grant.host.clone(),
    };
    output::list(&volume.grants.iter().map(name).collect::<Vec<_>>())
}

fn volumes(target: &Target) -> String {
    if target.volumes.is_empty() {
        return format!("It has no volume. Put one in with `palisade target map {} VOLUME`.", target.name);
    }
    let row = |volume: &TargetVolume| vec![volume.lun.to_string(), volume.volume.clone(), hosts(volume)];
    let rows: Vec<_> = target.volumes.iter().map(row).collect();
    table(&["LUN", "VOLUME", "HOSTS"], &rows)
}

fn list(targets: &[Target]) -> String {
    if targets.is_empty() {
        return "There is no target besides the volumes' own. Make one with `palisade target create NAME`."
            .to_owned();
    }
    let row = |target: &Target| {
        let number = target.volumes.len().to_string();
        vec![target.name.clone(), number, target.sessions.to_string(), target.iqn.clone()]
    };
    let rows: Vec<_> = targets.iter().map(row).collect();
    table(&["NAME", "VOLUMES", "SESSIONS", "TARGET"], &rows)
}

fn show(target: &Target) -> String {
    let pairs = [
        ("Name", target.name.clone()),
        ("Target", target.iqn.clone()),
        ("Sessions", target.sessions.to_string()),
        ("Created", format!("{} ago", ago(target.created_unix_ms))),
    ];
    format!("{}\n\n{}", properties(&pairs), volumes(target))
}
