//! The verbs on portals.

use crate::args::{Path, Portal as Verb};
use crate::output::{Output, table};
use api::{
    AddPortal, Client, DrainPortals, ErrorClass, MovePortal, Outcome, PathState, Portal, PortalChange,
    PortalState, Problem, ResumePortals, UpdatePortalGroup,
};
use std::time::Duration;

/// How often is looked how far a drain is.
const LOOK: Duration = Duration::from_millis(250);

/// What the daemon takes beyond the time given for leaving, to cut who has not left, in seconds.
const CUT_SECONDS: u32 = 15;

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::List => out.print(&client.portals().await?, |portals| list(portals)),
        Verb::Add { portal, group, fabric } => {
            let request = AddPortal { address: portal.to_string(), group, fabric };
            let change = client.add_portal(&request).await?;
            out.print(&change, |change| added(change.outcome, &change.item))
        }
        Verb::Remove { portal, moved_to: Some(to), .. } => {
            let request = MovePortal { to: to.to_string() };
            let change = client.move_portal(&portal.to_string(), &request).await?;
            out.print(&change, |_| {
                format!(
                    "Portal {portal} has moved to {to}: hosts that log in are told so, and its sessions are asked to go.\n\
                     Later: palisade portal remove {portal}"
                )
            })
        }
        Verb::Remove { portal, force, .. } => {
            let change = client.remove_portal(&portal.to_string(), force).await?;
            out.print(&change, |change| format!("Portal {} removed.", change.item.address))
        }
        Verb::Drain { portal, group, to, within, force, no_wait } => {
            let request = DrainPortals {
                portal: portal.map(|portal| portal.to_string()),
                group,
                to: to.map(|to| to.to_string()),
                within_seconds: Some(within),
                force,
            };
            drain(client, &request, no_wait, out).await
        }
        Verb::Resume { portal, group } => {
            let request = ResumePortals { portal: portal.map(|portal| portal.to_string()), group };
            let change = client.resume_portals(&request).await?;
            out.print(&change, |change| match change.outcome {
                Outcome::Unchanged => format!("{} in service already.", are(&change.portals)),
                _ => format!("{} in service again.", are(&change.portals)),
            })
        }
        Verb::Set { group, state, preferred, fabric, volume } => {
            let request = UpdatePortalGroup {
                path: state.map(path),
                preferred: preferred.map(Into::into),
                fabric,
                volume,
            };
            let change = client.update_portal_group(group, &request).await?;
            out.print(&change, |change| match change.outcome {
                Outcome::Unchanged => format!("Portal group {group} is so already."),
                _ => format!("Portal group {group} changed; hosts are told.\n{}", list(&change.portals)),
            })
        }
    }
}

fn path(path: Path) -> PathState {
    match path {
        Path::Optimized => PathState::Optimized,
        Path::NonOptimized => PathState::NonOptimized,
        Path::Standby => PathState::Standby,
        Path::Unavailable => PathState::Unavailable,
    }
}

/// Starts it and, unless told not to, tells how far it is until nobody is left.
async fn drain(client: &Client, request: &DrainPortals, no_wait: bool, out: Output) -> Result<(), Problem> {
    let mut change = client.drain_portals(request).await?;
    let addresses: Vec<_> = change.portals.iter().map(|portal| portal.address.clone()).collect();
    let looks = Duration::from_secs((request.within_seconds.unwrap_or(0) + CUT_SECONDS).into()).as_millis()
        / LOOK.as_millis();
    let mut told = 0;
    for _ in 0..looks {
        let left = sessions(&change.portals);
        if left == 0 || no_wait {
            return out.print(&change, |change| drained(change, no_wait));
        }
        if left != told && !out.json {
            out.text(&format!("{left} {} to leave …", if left == 1 { "session is" } else { "sessions are" }));
            told = left;
        }
        tokio::time::sleep(LOOK).await;
        change.portals = client.portals().await?;
        change.portals.retain(|portal| addresses.contains(&portal.address));
        if let Some(portal) = change.portals.iter().find(|portal| portal.state == PortalState::Serving) {
            let message = "it was put back into service meanwhile";
            return Err(Problem::new(ErrorClass::InUse, format!("portal {}", portal.address), message));
        }
    }
    let message = format!(
        "{} sessions have not left; `palisade session list` shows them. New ones are sent elsewhere all the same",
        sessions(&change.portals)
    );
    Err(Problem::new(ErrorClass::InUse, format!("portal {}", addresses.join(", ")), message))
}

fn sessions(portals: &[Portal]) -> u32 {
    portals.iter().map(|portal| portal.sessions).sum()
}

fn drained(change: &PortalChange, no_wait: bool) -> String {
    let left = sessions(&change.portals);
    let resume = match change.portals.as_slice() {
        [portal] => format!("palisade portal resume {}", portal.address),
        portals => {
            format!("palisade portal resume --group {}", portals.first().map_or(0, |portal| portal.group))
        }
    };
    if no_wait && left > 0 {
        return format!(
            "{left} sessions are to leave; `palisade portal list` tells how many are left.\nBack: {resume}"
        );
    }
    format!(
        "{} drained: no session is left, and logins are sent elsewhere.\nBack: {resume}",
        are(&change.portals)
    )
}

fn are(portals: &[Portal]) -> String {
    let addresses: Vec<_> = portals.iter().map(|portal| portal.address.as_str()).collect();
    match addresses.as_slice() {
        [one] => format!("Portal {one} is"),
        several => format!("Portals {} are", several.join(", ")),
    }
}

fn added(outcome: Outcome, portal: &Portal) -> String {
    let Portal { address, group, .. } = portal;
    let fabric = portal.fabric.as_ref().map_or_else(String::new, |fabric| format!(", fabric {fabric}"));
    match outcome {
        Outcome::Unchanged => format!("Portal {address} is there already, in group {group}{fabric}."),
        Outcome::Changed => format!("Portal {address} is in group {group}{fabric}."),
        _ => format!("Portal {address} added to group {group}{fabric}. Hosts find it by discovery."),
    }
}

fn state(portal: &Portal) -> String {
    let state = match portal.state {
        PortalState::Serving => "serving",
        PortalState::Failed => "FAILED",
        PortalState::Draining => "draining",
        PortalState::Drained => "drained",
        PortalState::Moved => "moved",
    };
    match (&portal.reason, &portal.to) {
        (Some(reason), _) => format!("{state}: {reason}"),
        (None, Some(to)) => format!("{state} to {to}"),
        (None, None) => state.to_owned(),
    }
}

fn list(portals: &[Portal]) -> String {
    if portals.is_empty() {
        return "There is no portal: no host can connect. Open one with `palisade portal add ADDR:PORT`."
            .to_owned();
    }
    let row = |portal: &Portal| {
        let path = match portal.path {
            PathState::Optimized => "optimized",
            PathState::NonOptimized => "non-optimized",
            PathState::Standby => "standby",
            PathState::Unavailable => "unavailable",
        };
        vec![
            portal.address.clone(),
            portal.group.to_string(),
            portal.fabric.clone().unwrap_or_else(|| "-".to_owned()),
            if portal.preferred { format!("{path}, preferred") } else { path.to_owned() },
            portal.sessions.to_string(),
            state(portal),
        ]
    };
    let rows: Vec<_> = portals.iter().map(row).collect();
    table(&["PORTAL", "GROUP", "FABRIC", "PATHS", "SESSIONS", "STATE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(address: &str, group: u16, state: PortalState) -> Portal {
        Portal {
            address: address.to_owned(),
            group,
            fabric: (group == 2).then(|| "B".to_owned()),
            state,
            reason: None,
            to: None,
            path: PathState::Optimized,
            preferred: group == 2,
            sessions: 1,
        }
    }

    #[test]
    fn the_list_tells_what_is_wrong_with_a_portal_and_where_hosts_are_sent() {
        let failed = Portal {
            reason: Some("this machine does not have that address".to_owned()),
            ..portal("192.0.2.1:3260", 1, PortalState::Failed)
        };
        let drained = Portal {
            to: Some("192.0.2.1:3260".to_owned()),
            ..portal("198.51.100.1:3260", 2, PortalState::Drained)
        };
        let text = list(&[failed, drained]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("FAILED: this machine does not have that address"), "{text}");
        assert!(
            lines[2].contains("optimized, preferred") && lines[2].ends_with("drained to 192.0.2.1:3260"),
            "{text}"
        );
        assert!(list(&[]).contains("palisade portal add"));
    }

    #[test]
    fn a_drain_says_how_to_undo_it() {
        let one = vec![Portal { sessions: 0, ..portal("192.0.2.1:3260", 1, PortalState::Drained) }];
        let text = drained(&PortalChange { outcome: Outcome::Changed, portals: one }, false);
        assert!(text.contains("Back: palisade portal resume 192.0.2.1:3260"), "{text}");
        let two = vec![portal("a", 2, PortalState::Draining), portal("b", 2, PortalState::Draining)];
        let text = drained(&PortalChange { outcome: Outcome::Changed, portals: two }, true);
        assert!(text.contains("2 sessions are to leave") && text.contains("resume --group 2"), "{text}");
    }
}
