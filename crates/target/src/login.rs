//! Deciding on logins and answering discovery.

use crate::config::Portal;
use crate::connection::{Arrival, Place};
use crate::directory::{Access, Authentication, LoginRefusal, LoginRequest};
use crate::registry::{Admission, Mailbox, Port, SessionEntry};
use crate::server::Shared;
use crate::session::Session;
use iscsi::Tsih;
use iscsi::parameters::SessionType;
use iscsi::pdu::LoginStatus;
use iscsi::target::{LoginAccept, LoginRequested, Redirect, SendTargets, TargetAddress, TargetRecord};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How a login is turned down.
#[derive(Debug)]
pub(crate) enum Refusal {
    Status(LoginStatus),
    Moved(Redirect),
}

impl From<LoginStatus> for Refusal {
    fn from(status: LoginStatus) -> Self {
        Self::Status(status)
    }
}

impl From<LoginRefusal> for Refusal {
    fn from(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::NotFound => Self::Status(LoginStatus::NotFound),
            LoginRefusal::Forbidden => Self::Status(LoginStatus::AuthorizationFailure),
            LoginRefusal::Unavailable => Self::Status(LoginStatus::ServiceUnavailable),
            LoginRefusal::Moved { permanent, address } => {
                Self::Moved(Redirect { permanent, address: address.to_string() })
            }
        }
    }
}

/// What becomes of a login that is let in.
pub(crate) enum Decision {
    /// A session of its own. The nexus exists from here on.
    Start(Box<Session>, LoginAccept),
    /// A connection more for a session, or one in the place of another.
    Join(Arc<SessionEntry>, LoginAccept),
}

/// Decides on a login.
pub(crate) fn decide(
    shared: &Arc<Shared>,
    place: &Place,
    (mailbox, arrivals): (&Mailbox, &mpsc::UnboundedSender<Arrival>),
    request: &LoginRequested,
    proven: &Authentication,
) -> Result<Decision, Refusal> {
    if request.tsih != Tsih::NEW {
        return join_existing(shared, place, request, proven);
    }
    let (port, access) = match request.session_type {
        SessionType::Discovery => {
            enough(&discovery(shared, place, request)?, proven)?;
            (None, Access::default())
        }
        SessionType::Normal => {
            let (port, access) = authorize(shared, place, request)?;
            enough(&access.authentication, proven)?;
            (Some(port), access)
        }
    };
    let admission = Admission {
        port,
        initiator: request.initiator_name.to_ascii_lowercase(),
        isid: request.isid,
        cid: request.cid,
        peer: place.peer,
        local: place.local,
        now: shared.now(),
        mailbox: mailbox.clone(),
        arrivals: arrivals.clone(),
    };
    let admitted = shared.registry.admit(admission).map_err(|_| LoginStatus::OutOfResources)?;
    let accept = LoginAccept {
        tsih: admitted.entry.tsih,
        portal_group_tag: place.group,
        target_alias: access.target_alias.clone(),
    };
    let limits = &shared.config.limits;
    let session = Session::new(
        admitted,
        access,
        limits.data_out_bytes_max,
        Arc::clone(&shared.gauge),
        Arc::clone(&shared.registry),
    );
    Ok(Decision::Start(Box::new(session), accept))
}

/// What a login has to prove before it is decided on. Nothing has been done for it by then.
pub(crate) fn demanded(
    shared: &Shared,
    place: &Place,
    request: &LoginRequested,
) -> Result<Authentication, Refusal> {
    match request.session_type {
        SessionType::Discovery => discovery(shared, place, request),
        SessionType::Normal => authorize(shared, place, request).map(|(_, access)| access.authentication),
    }
}

fn discovery(shared: &Shared, place: &Place, request: &LoginRequested) -> Result<Authentication, Refusal> {
    let initiator = request.initiator_name.to_ascii_lowercase();
    shared.directory.discovery(&initiator, place.peer).map_err(Refusal::from)
}

/// A demand that has changed since it was met has to be met anew.
fn enough(demanded: &Authentication, proven: &Authentication) -> Result<(), Refusal> {
    if demanded == proven { Ok(()) } else { Err(LoginStatus::AuthenticationFailure.into()) }
}

/// A login into a session that exists: only a port's own, through the same portal group (RFC 7143 §6.3.1).
fn join_existing(
    shared: &Shared,
    place: &Place,
    request: &LoginRequested,
    proven: &Authentication,
) -> Result<Decision, Refusal> {
    if request.session_type == SessionType::Discovery {
        return Err(LoginStatus::SessionDoesNotExist.into());
    }
    let (port, access) = authorize(shared, place, request)?;
    enough(&access.authentication, proven)?;
    let entry = shared.registry.find(&port, request.tsih).ok_or(LoginStatus::SessionDoesNotExist)?;
    let accept =
        LoginAccept { tsih: entry.tsih, portal_group_tag: place.group, target_alias: access.target_alias };
    Ok(Decision::Join(entry, accept))
}

/// What the directory lets the port do. From here on names are in lower case, so that a session is found again by
/// whoever writes its names in another way.
fn authorize(shared: &Shared, place: &Place, request: &LoginRequested) -> Result<(Port, Access), Refusal> {
    let target = request.target_name.as_deref().ok_or(LoginStatus::MissingParameter)?;
    let login = LoginRequest {
        initiator: request.initiator_name.to_ascii_lowercase(),
        target: target.to_ascii_lowercase(),
        isid: request.isid,
        peer: place.peer,
        local: place.local,
        established: false,
    };
    let access = shared.directory.authorize(&login)?;
    let LoginRequest { initiator, target, isid, .. } = login;
    Ok((Port { initiator, isid, target, group: place.group }, access))
}

/// What the directory says of the session's rights now; none if it may not stay.
pub(crate) fn authorize_again(shared: &Shared, session: &Session) -> Option<Access> {
    let entry = &session.entry;
    let port = entry.port.as_ref()?;
    let login = LoginRequest {
        initiator: port.initiator.clone(),
        target: port.target.clone(),
        isid: port.isid,
        peer: entry.peer,
        local: entry.local,
        established: true,
    };
    shared.directory.authorize(&login).ok()
}

/// The answer to SendTargets (RFC 7143 Appendix C).
pub(crate) fn targets(
    shared: &Shared,
    place: &Place,
    session: &Session,
    which: &SendTargets,
) -> Vec<TargetRecord> {
    let entry = &session.entry;
    let current = entry.port.as_ref().map(|port| port.target.as_str());
    let wanted = |name: &str| match which {
        SendTargets::All => true,
        SendTargets::Current => current.is_some_and(|current| name.eq_ignore_ascii_case(current)),
        SendTargets::Named(wanted) => name.eq_ignore_ascii_case(wanted),
    };
    let found = shared.directory.targets_for(&entry.initiator, place.peer, place.local);
    let found = found.into_iter().filter(|target| wanted(&target.name));
    found.map(|target| record(shared, place, target)).collect()
}

fn record(shared: &Shared, place: &Place, target: crate::TargetEntry) -> TargetRecord {
    let address = |portal: Portal| TargetAddress {
        address: portal.address.to_string(),
        portal_group_tag: portal.group,
    };
    let here = Portal { address: place.local, group: place.group };
    let own = if target.addresses.is_empty() { shared.portals.seen_from(here) } else { target.addresses };
    TargetRecord { name: target.name, addresses: own.into_iter().map(address).collect() }
}
