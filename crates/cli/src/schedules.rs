//! The verbs on schedules.

use crate::args::Schedule as Verb;
use crate::output::{self, Output, ago, properties, table};
use api::{Change, Client, CreateSchedule, KeepSnapshots, Outcome, Problem, Schedule, UpdateSchedule};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { name, volumes, every, keep, name_pattern } => {
            let request = CreateSchedule { name, volumes, every, keep, name_pattern };
            out.print(&client.create_schedule(&request).await?, created)
        }
        Verb::List => out.print(&client.schedules().await?, |schedules| list(schedules)),
        Verb::Show { schedule } => out.print(&client.schedule(&schedule).await?, show),
        Verb::Enable { schedule } => enable(client, &schedule, true, out).await,
        Verb::Disable { schedule } => enable(client, &schedule, false, out).await,
        Verb::Delete { schedule } => out.print(&client.delete_schedule(&schedule).await?, |change| {
            format!("Schedule {} deleted. Its snapshots stay until you delete them.", change.item.name)
        }),
    }
}

async fn enable(client: &Client, schedule: &str, enabled: bool, out: Output) -> Result<(), Problem> {
    out.print(&client.update_schedule(schedule, UpdateSchedule { enabled }).await?, |change| {
        let is = if change.outcome == Outcome::Unchanged { "was" } else { "is now" };
        let how = if enabled { "on" } else { "off" };
        format!("Schedule {} {is} {how}.", change.item.name)
    })
}

fn created(change: &Change<Schedule>) -> String {
    let Schedule { name, every, volumes, .. } = &change.item;
    match change.outcome {
        Outcome::Unchanged => format!("Schedule {name} is there already, with these properties."),
        _ => format!("Schedule {name} created: snapshots of {}, {every} (UTC).", volumes.join(", ")),
    }
}

fn keep(keep: &KeepSnapshots) -> String {
    let KeepSnapshots { last, hourly, daily, weekly, monthly } = *keep;
    let parts =
        [("last", last), ("hourly", hourly), ("daily", daily), ("weekly", weekly), ("monthly", monthly)];
    let said = parts.iter().filter(|(_, number)| *number > 0);
    said.map(|(period, number)| format!("{period}={number}")).collect::<Vec<_>>().join(",")
}

fn state(schedule: &Schedule) -> &'static str {
    match (schedule.enabled, &schedule.failure) {
        (false, _) => "off",
        (true, None) => "on",
        (true, Some(_)) => "FAILED",
    }
}

fn last(schedule: &Schedule) -> String {
    schedule.last_unix_ms.map_or_else(|| "-".to_owned(), |at| format!("{} ago", ago(at)))
}

fn list(schedules: &[Schedule]) -> String {
    if schedules.is_empty() {
        return "There is no schedule. Make one with `palisade schedule create NAME --volume VOLUME --every 1h --keep \
                hourly=24,daily=7`."
            .to_owned();
    }
    let row = |schedule: &Schedule| {
        vec![
            schedule.name.clone(),
            state(schedule).to_owned(),
            schedule.every.clone(),
            keep(&schedule.keep),
            schedule.snapshots.to_string(),
            last(schedule),
            output::list(&schedule.volumes),
        ]
    };
    let rows: Vec<_> = schedules.iter().map(row).collect();
    table(&["NAME", "STATE", "EVERY", "KEEPS", "SNAPSHOTS", "LAST", "VOLUMES"], &rows)
}

fn show(schedule: &Schedule) -> String {
    let mut pairs = vec![
        ("Name", schedule.name.clone()),
        ("State", state(schedule).to_owned()),
        ("Failure", schedule.failure.clone().unwrap_or_default()),
        ("Volumes", output::list(&schedule.volumes)),
        ("Every", format!("{} (UTC)", schedule.every)),
        ("Keeps", keep(&schedule.keep)),
        ("Names", schedule.name_pattern.clone()),
        ("Snapshots", schedule.snapshots.to_string()),
        ("Last", last(schedule)),
        ("Created", format!("{} ago", ago(schedule.created_unix_ms))),
        ("Identity", schedule.id.clone()),
    ];
    pairs.retain(|(_, value)| !value.is_empty());
    properties(&pairs)
}
