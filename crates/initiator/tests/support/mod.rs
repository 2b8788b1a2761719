//! A foreign target to test against: Debian's `tgtd`, started on a port of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use initiator::TargetUrl;

pub(crate) const TARGET: &str = "iqn.2026-01.io.palisade.test:foreign";

/// A running tgtd with one disk at LUN 1.
pub(crate) struct Tgt {
    child: Child,
    /// Names its control socket; tgtd takes 1 to 32767.
    control: u16,
    pub(crate) port: u16,
    disk: tempfile::NamedTempFile,
}

impl Tgt {
    /// Starts it with a disk of `bytes` bytes. `None`, with a word on stderr, if tgtd is not
    /// installed.
    pub(crate) fn start(bytes: u64) -> Option<Self> {
        if !Path::new("/usr/sbin/tgtd").exists() {
            eprintln!("skipped: tgtd is not installed");
            return None;
        }
        let disk = tempfile::NamedTempFile::new().expect("disk file");
        disk.as_file().set_len(bytes).expect("disk size");
        let port = free_port();
        let mut tgt = Self { child: spawn(port, port % 32767 + 1), control: port % 32767 + 1, port, disk };
        tgt.configure();
        Some(tgt)
    }

    fn configure(&mut self) {
        let disk = self.disk.path().to_str().expect("path").to_owned();
        let target = ["--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET];
        for _ in 0..100 {
            if self.try_adm(&target) {
                break;
            }
            pause(Duration::from_millis(50));
        }
        self.adm(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &disk]);
        for (name, value) in [("HeaderDigest", "CRC32C,None"), ("DataDigest", "CRC32C,None")] {
            self.try_adm(&["--op", "update", "--mode", "target", "--tid", "1", "-n", name, "-v", value]);
        }
        self.adm(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]);
    }

    /// Kills it as `kill -9` does and starts it again on the same disk and port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        pause(Duration::from_millis(100));
        self.child = spawn(self.port, self.control);
        self.configure();
    }

    pub(crate) fn url(&self) -> TargetUrl {
        format!("iscsi://127.0.0.1:{}/{TARGET}/1", self.port).parse().expect("url")
    }

    fn adm(&self, arguments: &[&str]) {
        assert!(self.try_adm(arguments), "tgtadm {arguments:?}");
    }

    fn try_adm(&self, arguments: &[&str]) -> bool {
        let control = self.control.to_string();
        let run = Command::new("tgtadm")
            .args(["-C", &control, "--lld", "iscsi"])
            .args(arguments)
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}", self.control));
        let _ = std::fs::remove_file(format!("/var/run/tgtd/socket.{}.lock", self.control));
    }
}

fn spawn(port: u16, control: u16) -> Child {
    let portal = format!("portal=127.0.0.1:{port}");
    Command::new("/usr/sbin/tgtd")
        .args(["-f", "-C", &control.to_string(), "--iscsi", &portal])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("tgtd starts")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    listener.local_addr().expect("address").port()
}

/// A pause in a test's thread.
pub(crate) fn pause(duration: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(duration);
}
