//! The verbs on name servers.

use crate::output::{Output, ago, properties, table};
use api::{Client, Isns, IsnsServer, IsnsState, Outcome, Problem, SetIsns};
use clap::Subcommand;

/// Verbs on name servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tell these iSNS servers of all targets and portals, each of all, and keep them up to date
    Set {
        /// Where the servers are; the usual port is 3205
        #[arg(required = true, value_name = "ADDRESS[:PORT]")]
        servers: Vec<String>,
        /// Have the servers inquire (ESI) on this UDP port whether each portal is still there; they forget portals that
        /// do not answer, so let them through the firewall
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        esi_port: Option<u16>,
    },
    /// Show the servers, and whether each is reached
    Show,
    /// Deregister everything, and tell no server any more
    Off,
}

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Set { servers, esi_port } => {
            let change = client.set_isns(&SetIsns { servers, esi_port }).await?;
            out.print(&change, |change| match change.outcome {
                Outcome::Unchanged => "These servers are told already.".to_owned(),
                _ => "These servers are told of all targets from now on; `palisade isns show` says whether they \
                      are reached.\nEvery iSNS client of their discovery domains sees the names of targets; who may \
                      log in stays as it is."
                    .to_owned(),
            })
        }
        Verb::Show => out.print(&client.isns().await?, show),
        Verb::Off => {
            let change = client.clear_isns().await?;
            out.print(&change, |change| match change.outcome {
                Outcome::Unchanged => "No server is told.".to_owned(),
                _ => "No server is told any more; what was registered is being deregistered.".to_owned(),
            })
        }
    }
}

fn show(isns: &Isns) -> String {
    if isns.servers.is_empty() {
        return "No iSNS server is told of targets. Name one with `palisade isns set ADDRESS`.".to_owned();
    }
    let row = |server: &IsnsServer| {
        let state = match server.state {
            IsnsState::Connecting => "connecting",
            IsnsState::Registered => "registered",
            IsnsState::Unreachable => "unreachable",
            IsnsState::Refused => "refused",
        };
        vec![
            server.address.clone(),
            state.to_owned(),
            ago(server.since_unix_ms),
            server.targets.to_string(),
            server.error.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<_> = isns.servers.iter().map(row).collect();
    let pairs = [
        ("Entity", isns.entity.clone()),
        ("Inquiries", isns.esi_port.map_or_else(|| "none".to_owned(), |port| format!("UDP port {port}"))),
    ];
    let list = table(&["SERVER", "STATE", "FOR", "TARGETS", "LAST ERROR"], &rows);
    format!("{}\n\n{list}", properties(&pairs))
}
