//! The verbs on discovery.

use crate::args::Discovery as Verb;
use crate::chap;
use crate::output::{Output, properties};
use api::{Client, Discovery, ErrorClass, Outcome, Problem};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Show => out.print(&client.discovery().await?, show),
        Verb::Set { chap: demand } => {
            if !demand.chap && !demand.no_chap {
                let message = "nothing is to be changed; say --chap or --no-chap";
                return Err(Problem::new(ErrorClass::Usage, "discovery set", message));
            }
            let request = if demand.no_chap { None } else { Some(chap::read(&demand)?) };
            let change = client.set_discovery_chap(request.as_ref()).await?;
            out.print(&change, |change| match (change.outcome, &change.item.chap) {
                (Outcome::Unchanged, _) => "Discovery demands nothing already.".to_owned(),
                (_, Some(demanded)) => format!(
                    "Discovery demands CHAP from now on: {}. What is granted to a host keeps its own.",
                    chap::shown(Some(demanded))
                ),
                (_, None) => "Discovery demands nothing any more.".to_owned(),
            })
        }
    }
}

fn show(discovery: &Discovery) -> String {
    properties(&[("CHAP", chap::shown(discovery.chap.as_ref()))])
}
