//! The OpenAPI document. Each function below describes one operation; the daemon's router has the same paths,
//! and a test there holds the two together.

use crate::chap::{Discovery, SetChap};
use crate::isns::{Isns, SetIsns};
use crate::keys::ChangeKeys;
use crate::portals::{
    AddPortal, DrainPortals, MovePortal, Portal, PortalChange, ResumePortals, UpdatePortalGroup,
};
use crate::reservations::Reservations;
use crate::schedules::{CreateSchedule, Schedule, UpdateSchedule};
use crate::snapshots::{
    CloneVolume, CreateSnapshots, DiffRequest, Difference, Rollback, Snapshot, SnapshotsMade, UpdateSnapshot,
};
use crate::targets::{CreateTarget, MapRequest, Target};
use crate::types::{
    Change, CreateHost, CreatePool, CreateVolume, ExtendPool, GrantRequest, Host, Pool, Session, Status,
    UpdateHost, UpdatePool, UpdateVolume, Volume,
};
use crate::{ErrorClass, Problem};
use utoipa::OpenApi;

/// Declares documented operations: the macro of `utoipa` wants a function to stand on.
macro_rules! operations {
    ($( $name:ident: $method:ident $path:literal $tag:literal $summary:literal
        ($($param:literal),*) $(query $query:literal)? $(also $also:literal $why:literal)? $(body $body:ty)? => $answer:ty; )*) => {
        $(
            #[utoipa::path(
                $method, path = $path, tag = $tag, summary = $summary, operation_id = stringify!($name),
                params($(($param = String, Path, description = "Name or identity"),)*
                       $(($query = Option<bool>, Query, description = "Go on although it is in use"),)?
                       $(($also = Option<bool>, Query, description = $why),)?),
                $(request_body = $body,)?
                responses(
                    (status = 200, body = $answer),
                    (status = "default", description = "What went wrong, to what, and what to do next", body = Problem),
                )
            )]
            #[expect(dead_code, reason = "only described, never called")]
            fn $name() {}
        )*
        #[derive(OpenApi)]
        #[openapi(
            info(title = "Palisade", description = "Administration of a Palisade group. Sizes are bytes, times \
                milliseconds since 1970. Asking twice for the same thing is no error: the second answer says \
                `unchanged`.", version = "1", license(name = "Apache-2.0", identifier = "Apache-2.0")),
            paths($($name),*),
            components(schemas(Problem, ErrorClass)),
        )]
        struct Document;
    };
}

operations! {
    status: get "/v1/status" "group" "The daemon at a glance" () => Status;
    pool_list: get "/v1/pools" "pools" "All pools" () => Vec<Pool>;
    pool_create: post "/v1/pools" "pools" "Makes a pool of disks" () body CreatePool => Change<Pool>;
    pool_show: get "/v1/pools/{pool}" "pools" "One pool" ("pool") => Pool;
    pool_update: patch "/v1/pools/{pool}" "pools" "Changes when a pool warns" ("pool") body UpdatePool => Change<Pool>;
    pool_delete: delete "/v1/pools/{pool}" "pools" "Deletes an empty pool" ("pool") query "force" => Change<Pool>;
    pool_keys: post "/v1/pools/{pool}/keys" "pools" "Changes what opens a pool's encrypted volumes, or opens them" ("pool") body ChangeKeys => Change<Pool>;
    pool_extend: post "/v1/pools/{pool}/extend" "pools" "Grows a disk of a pool" ("pool") body ExtendPool => Change<Pool>;
    volume_list: get "/v1/volumes" "volumes" "All volumes" () => Vec<Volume>;
    volume_create: post "/v1/volumes" "volumes" "Makes a volume" () body CreateVolume => Change<Volume>;
    volume_show: get "/v1/volumes/{volume}" "volumes" "One volume" ("volume") => Volume;
    volume_update: patch "/v1/volumes/{volume}" "volumes" "Changes a volume: size, name, protection, when it warns" ("volume") body UpdateVolume => Change<Volume>;
    volume_delete: delete "/v1/volumes/{volume}" "volumes" "Deletes a volume and its data" ("volume") query "force" also "snapshots" "Delete its snapshots, too" => Change<Volume>;
    volume_clone: post "/v1/volumes/{volume}/clone" "snapshots" "Makes a volume with the content of another, or of a snapshot" ("volume") body CloneVolume => Change<Volume>;
    volume_snapshots: get "/v1/volumes/{volume}/snapshots" "snapshots" "The snapshots of a volume, oldest first" ("volume") => Vec<Snapshot>;
    volume_detach: post "/v1/volumes/{volume}/detach" "snapshots" "Begins to make a clone independent of what it was made of" ("volume") => Change<Volume>;
    volume_cancel_detach: delete "/v1/volumes/{volume}/detach" "snapshots" "Does not go on with detaching a clone" ("volume") => Change<Volume>;
    volume_diff: post "/v1/diff" "snapshots" "What differs between two volumes or snapshots" () body DiffRequest => Difference;
    snapshot_rollback: post "/v1/volumes/{volume}/snapshots/{snapshot}/rollback" "snapshots" "Gives a volume the content of a snapshot; what it held becomes one, too" ("volume", "snapshot") query "force" => Change<Rollback>;
    snapshot_list: get "/v1/snapshots" "snapshots" "All snapshots, by volume" () => Vec<Snapshot>;
    snapshot_create: post "/v1/snapshots" "snapshots" "Makes snapshots of volumes, all at one instant" () body CreateSnapshots => SnapshotsMade;
    snapshot_show: get "/v1/volumes/{volume}/snapshots/{snapshot}" "snapshots" "One snapshot" ("volume", "snapshot") => Snapshot;
    snapshot_update: patch "/v1/volumes/{volume}/snapshots/{snapshot}" "snapshots" "Keeps a snapshot from being deleted by schedules and for want of space, or not" ("volume", "snapshot") body UpdateSnapshot => Change<Snapshot>;
    snapshot_delete: delete "/v1/volumes/{volume}/snapshots/{snapshot}" "snapshots" "Deletes a snapshot; clones of it stay" ("volume", "snapshot") => Change<Snapshot>;
    volume_grant: put "/v1/volumes/{volume}/grants/{host}" "volumes" "Lets a host use a volume" ("volume", "host") body GrantRequest => Change<Volume>;
    volume_revoke: delete "/v1/volumes/{volume}/grants/{host}" "volumes" "Takes a volume away from a host" ("volume", "host") => Change<Volume>;
    volume_reservations: get "/v1/volumes/{volume}/reservations" "volumes" "Hosts' reservations of a volume" ("volume") => Reservations;
    volume_clear_reservations: delete "/v1/volumes/{volume}/reservations" "volumes" "Ends every reservation and registration of a volume; answers what there was" ("volume") => Change<Reservations>;
    host_list: get "/v1/hosts" "hosts" "All hosts" () => Vec<Host>;
    host_create: post "/v1/hosts" "hosts" "Makes a host known" () body CreateHost => Change<Host>;
    host_show: get "/v1/hosts/{host}" "hosts" "One host" ("host") => Host;
    host_update: patch "/v1/hosts/{host}" "hosts" "Changes a host's initiator names and addresses" ("host") body UpdateHost => Change<Host>;
    host_chap_set: put "/v1/hosts/{host}/chap" "hosts" "Sets what a host has to prove from its next login on" ("host") body SetChap => Change<Host>;
    host_chap_clear: delete "/v1/hosts/{host}/chap" "hosts" "Lets a host in without proof" ("host") => Change<Host>;
    discovery_show: get "/v1/discovery" "group" "What discovery demands" () => Discovery;
    discovery_chap_set: put "/v1/discovery/chap" "group" "Sets what everybody has to prove at discovery" () body SetChap => Change<Discovery>;
    discovery_chap_clear: delete "/v1/discovery/chap" "group" "Lets everybody discover without proof" () => Change<Discovery>;
    host_delete: delete "/v1/hosts/{host}" "hosts" "Forgets a host" ("host") query "force" => Change<Host>;
    portal_list: get "/v1/portals" "portals" "All portals, by group" () => Vec<Portal>;
    portal_add: post "/v1/portals" "portals" "Opens a portal" () body AddPortal => Change<Portal>;
    portal_show: get "/v1/portals/{portal}" "portals" "One portal" ("portal") => Portal;
    portal_remove: delete "/v1/portals/{portal}" "portals" "Closes a portal" ("portal") query "force" => Change<Portal>;
    portal_move: post "/v1/portals/{portal}/move" "portals" "Sends hosts of a portal elsewhere for good" ("portal") body MovePortal => Change<Portal>;
    portal_drain: post "/v1/portals/drain" "portals" "Takes portals out of service; the list tells how far it is" () body DrainPortals => PortalChange;
    portal_resume: post "/v1/portals/resume" "portals" "Puts portals back into service" () body ResumePortals => PortalChange;
    portal_group_update: patch "/v1/portal-groups/{group}" "portals" "Changes what hosts are told of a group's paths" ("group") body UpdatePortalGroup => PortalChange;
    isns_show: get "/v1/isns" "group" "Name servers that are told of targets, and whether each is reached" () => Isns;
    isns_set: put "/v1/isns" "group" "Tells these name servers of all targets and portals" () body SetIsns => Change<Isns>;
    isns_clear: delete "/v1/isns" "group" "Deregisters everything, and tells no name server any more" () => Change<Isns>;
    target_list: get "/v1/targets" "targets" "All targets of several volumes" () => Vec<Target>;
    target_create: post "/v1/targets" "targets" "Makes a target without volumes" () body CreateTarget => Change<Target>;
    target_show: get "/v1/targets/{target}" "targets" "One target" ("target") => Target;
    target_delete: delete "/v1/targets/{target}" "targets" "Deletes a target; its volumes stay" ("target") query "force" => Change<Target>;
    target_map: put "/v1/targets/{target}/volumes/{volume}" "targets" "Puts a volume into a target" ("target", "volume") body MapRequest => Change<Target>;
    target_unmap: delete "/v1/targets/{target}/volumes/{volume}" "targets" "Takes a volume out of a target" ("target", "volume") => Change<Target>;
    schedule_list: get "/v1/schedules" "snapshots" "All schedules of snapshots" () => Vec<Schedule>;
    schedule_create: post "/v1/schedules" "snapshots" "Has snapshots made by the clock" () body CreateSchedule => Change<Schedule>;
    schedule_show: get "/v1/schedules/{schedule}" "snapshots" "One schedule" ("schedule") => Schedule;
    schedule_update: patch "/v1/schedules/{schedule}" "snapshots" "Has a schedule run, or not" ("schedule") body UpdateSchedule => Change<Schedule>;
    schedule_delete: delete "/v1/schedules/{schedule}" "snapshots" "Deletes a schedule; its snapshots stay" ("schedule") => Change<Schedule>;
    session_list: get "/v1/sessions" "sessions" "All iSCSI sessions" () => Vec<Session>;
    session_show: get "/v1/sessions/{session}" "sessions" "One session and its connections" ("session") => Session;
}

/// The OpenAPI document, as JSON text that ends with a line feed. It is checked in as `docs/openapi.json`.
///
/// # Panics
/// Never: the document is made of constants, and a test makes it.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
