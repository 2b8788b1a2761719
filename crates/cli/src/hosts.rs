//! The verbs on hosts.

use crate::args::Host as Verb;
use crate::output::{self, Output, ago, properties, table};
use api::{Client, CreateHost, Host, Outcome, Problem};

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
        Verb::Delete { host, force } => {
            let change = client.delete_host(&host, force).await?;
            out.print(&change, |change| format!("Host {} deleted.", change.item.name))
        }
    }
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
        ("Volumes", output::list(&volumes(host))),
        ("Sessions", host.sessions.to_string()),
        ("Created", format!("{} ago", ago(host.created_unix_ms))),
        ("Identity", host.id.clone()),
    ]);
    properties(&pairs)
}
