//! `serve --demo`: a pool, a volume and a host that is anyone on this machine, and what to do with them.

use crate::data_dir::DataDir;
use control::{Cache, Group, NewHost, NewPool, NewVolume, Result, VolumeView};
use std::net::SocketAddr;

const NAME: &str = "demo";
const HOST: &str = "this-machine";
const VOLUME_BYTES: u64 = 10 << 30;
/// Sparse: it takes only what is written. More than the volume, for maps and what is being collected.
const POOL_SIZE: &str = "16GiB";

/// Makes what is missing of the demo. What is there, perhaps changed since, stays as it is.
pub(crate) async fn prepare(group: &Group, data: &DataDir) -> Result<VolumeView> {
    if group.pool(NAME).is_err() {
        let disk = format!("{}:{POOL_SIZE}", data.path().join("demo.pool").display());
        group.create_pool(NewPool { name: NAME.to_owned(), disks: vec![disk] }).await?;
    }
    if group.volume(NAME).is_err() {
        let volume = NewVolume {
            name: NAME.to_owned(),
            size_bytes: VOLUME_BYTES,
            pool: Some(NAME.to_owned()),
            block_size: 512,
            thick: false,
            cache: Cache::Durable,
            offload: true,
            encrypt: None,
        };
        group.create_volume(volume).await?;
        let addresses = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
        group.create_host(NewHost { name: HOST.to_owned(), iqns: vec!["*".to_owned()], addresses }).await?;
        group.grant(NAME, HOST, false).await?;
    }
    group.volume(NAME)
}

/// What to print once the demo is served. Portals as listened on.
pub(crate) fn instructions(
    volume: &VolumeView,
    portals: &[SocketAddr],
    data: &DataDir,
    api: Option<SocketAddr>,
) -> String {
    let portal = portals.first().map_or_else(|| "127.0.0.1:3260".to_owned(), ToString::to_string);
    let all: Vec<_> = portals.iter().map(ToString::to_string).collect();
    let (address, port) = portal.rsplit_once(':').unwrap_or((&portal, "3260"));
    let (name, iqn) = (&volume.record.name, &volume.record.iqn);
    let size = block::format_size(volume.record.size_bytes);
    let (directory, socket) = (data.path().display(), data.socket());
    let tcp = api.map_or_else(String::new, |api| format!("\n               http://{api}"));
    format!(
        "
Palisade serves volume \"{name}\" ({size}, thin) to anyone on this machine, and to nobody else.

  Target       {iqn}
  Portals      {all}
  API          {socket}{tcp}   (described in docs/openapi.json)
  Data         {directory}

Linux, as root (apt install open-iscsi):
  iscsiadm -m discovery -t sendtargets -p {portal}
  iscsiadm -m node -T {iqn} -p {portal} --login
  lsblk -S        # a disk of vendor PALISADE has appeared

Windows, in an administrator's PowerShell (on this machine, or with the port forwarded to it):
  Start-Service MSiSCSI
  New-IscsiTargetPortal -TargetPortalAddress {address} -TargetPortalPortNumber {port}
  Connect-IscsiTarget -NodeAddress {iqn}

QEMU (apt install qemu-system-x86 qemu-block-extra):
  qemu-img info iscsi://{portal}/{iqn}/0
  qemu-system-x86_64 -drive file=iscsi://{portal}/{iqn}/0,format=raw,if=virtio

From another shell:
  palisade --data {directory} status
  palisade bench iscsi://{portal}/{iqn}/0 --rw randread

Ctrl-C ends it; the volume and what is on it stay for the next time.
",
        all = all.join("  "),
        socket = socket.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::simulated::{SimEngine, SimFrontend, SimRuntime};
    use control::{GroupConfig, LoginAttempt};
    use std::sync::Arc;

    #[tokio::test]
    async fn the_demo_is_made_once_is_for_this_machine_and_says_how_to_use_it() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::take(parent.path()).unwrap();
        let config = GroupConfig {
            file: data.group_file(),
            engine: Arc::new(SimEngine::default()),
            frontend: Arc::new(SimFrontend::default()),
            runtime: Arc::new(SimRuntime::default()),
        };
        let group = Group::open(config).await.unwrap();
        let first = prepare(&group, &data).await.unwrap();
        assert_eq!(prepare(&group, &data).await.unwrap(), first);
        let target = first.record.iqn.as_str();
        assert_eq!(target, "iqn.2026-11.io.palisade:demo");
        let lets_in = |source: [u8; 4]| {
            let attempt = LoginAttempt { initiator: "iqn.2001-04.com.example:any", source: source.into() };
            group.with_state(|state| state.authorize(attempt, target)).is_ok()
        };
        assert!(lets_in([127, 0, 0, 1]) && !lets_in([192, 0, 2, 1]));

        let portals = [([127, 0, 0, 1], 3261).into(), "[::1]:3261".parse().unwrap()];
        let text = instructions(&first, &portals, &data, None);
        for word in ["iscsiadm", "New-IscsiTargetPortal", "qemu-img", target, "127.0.0.1:3261", "[::1]:3261"]
        {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(text.contains("-TargetPortalAddress 127.0.0.1 -TargetPortalPortNumber 3261"));
        assert!(text.contains("palisade.sock"));
        // Whoever takes the volume away from everybody is not overruled by the next start.
        group.revoke("demo", "this-machine").await.unwrap();
        prepare(&group, &data).await.unwrap();
        assert!(!lets_in([127, 0, 0, 1]));
    }
}
