//! The verbs on hosts.

use crate::args::{Chap as Demand, Host as Verb};
use crate::chap;
use crate::output::{self, Output, ago, properties, table};
use api::{Client, CreateHost, ErrorClass, Host, Outcome, Problem, UpdateHost};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { name, iqns, addresses } => {
            let change = client.create_host(&CreateHost { name, iqns, addresses }).await?;
            out.print(&change, |change| match change.outcome {
                Outcome::Unchanged => {
                    format!("Host {} is there already, with these properties.", change.item.name)
                }
                _ => format!("Host {0} created.\nNext: palisade volume grant VOLUME {0}", change.item.name),
            })
        }
        Verb::List => out.print(&client.hosts().await?, |hosts| list(hosts)),
        Verb::Show { host } => out.print(&client.host(&host).await?, show),
        Verb::Set { host, add_iqns, remove_iqns, addresses, any_address, chap: demand } => {
            let addresses = (any_address || !addresses.is_empty()).then_some(addresses);
            let update = UpdateHost { add_iqns, remove_iqns, addresses };
            set(client, &host, update, &demand, out).await
        }
        Verb::Delete { host, force } => {
            let change = client.delete_host(&host, force).await?;
            out.print(&change, |change| format!("Host {} deleted.", change.item.name))
        }
    }
}

/// Secrets are read before anything is changed.
async fn set(
    client: &Client,
    host: &str,
    update: UpdateHost,
    demand: &Demand,
    out: Output,
) -> Result<(), Problem> {
    let has_update = update != UpdateHost::default();
    if !has_update && !demand.chap && !demand.no_chap {
        let message = "nothing is to be changed; see `palisade help host set`";
        return Err(Problem::new(ErrorClass::Usage, "host set", message));
    }
    let secrets = if demand.chap { Some(chap::read(demand)?) } else { None };
    let mut change = None;
    if has_update {
        change = Some(client.update_host(host, &update).await?);
    }
    let before = change.as_ref().map(|change| change.outcome);
    if let Some(secrets) = &secrets {
        change = Some(client.set_host_chap(host, secrets).await?);
    } else if demand.no_chap {
        change = Some(client.clear_host_chap(host).await?);
    }
    let Some(mut change) = change else { return Ok(()) };
    if before == Some(Outcome::Changed) {
        change.outcome = Outcome::Changed;
    }
    out.print(&change, |change| match change.outcome {
        Outcome::Unchanged => format!("Host {} is so already.", change.item.name),
        _ if demand.chap || demand.no_chap => format!(
            "Host {} changed. CHAP: {}; that holds from its next login on, sessions there are stay.",
            change.item.name,
            chap::shown(change.item.chap.as_ref())
        ),
        _ => format!("Host {} changed.", change.item.name),
    })
}

fn volumes(host: &Host) -> Vec<String> {
    let name = |grant: &api::HostGrant| match grant.read_only {
        true => format!("{} (read-only)", grant.volume),
        false => grant.volume.clone(),
    };
    host.grants.iter().map(name).collect()
}

fn addresses(host: &Host) -> String {
    if host.addresses.is_empty() { "any".to_owned() } else { host.addresses.join(", ") }
}

fn list(hosts: &[Host]) -> String {
    if hosts.is_empty() {
        return "There is no host yet. Make one known with `palisade host create NAME --iqn IQN`.".to_owned();
    }
    let row = |host: &Host| {
        vec![
            host.name.clone(),
            host.iqns.join(", "),
            addresses(host),
            host.sessions.to_string(),
            output::list(&volumes(host)),
        ]
    };
    let rows: Vec<_> = hosts.iter().map(row).collect();
    table(&["NAME", "INITIATOR NAMES", "ADDRESSES", "SESSIONS", "VOLUMES"], &rows)
}

fn show(host: &Host) -> String {
    let mut pairs = vec![("Name", host.name.clone())];
    pairs.extend(host.iqns.iter().map(|iqn| ("Initiator name", iqn.clone())));
    pairs.extend([
        ("Addresses", addresses(host)),
        ("CHAP", chap::shown(host.chap.as_ref())),
        ("Volumes", output::list(&volumes(host))),
        ("Sessions", host.sessions.to_string()),
        ("Created", format!("{} ago", ago(host.created_unix_ms))),
        ("Identity", host.id.clone()),
    ]);
    properties(&pairs)
}
