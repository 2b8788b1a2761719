//! The program with everything real behind it: disks in files, sockets, our own initiator.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "the program runs in real time")]

use serde_json::Value;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const INITIATOR: &str = "iqn.2001-04.com.example:end-to-end";

/// A daemon on a data directory, ended with the test.
struct Daemon {
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Daemon {
    fn new() -> Self {
        // Not in memory: direct I/O and locks are to be as on a machine that serves.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { directory, port: free_port(), process: None }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("d")
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command.env("PALISADE_DATA", self.data()).current_dir(self.directory.path());
        command
    }

    fn start(&mut self, more: &[&str]) {
        let portal = format!("127.0.0.1:{}", self.port);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.program();
        command.args(["serve", "--portal", &portal]).args(more).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.run(&["status"]).status.success() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(30), "{}", self.logged());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).output().unwrap()
    }

    /// A verb that must succeed.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.program().args(arguments).arg("--json").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}\n{}", self.logged());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn status_of(&self, arguments: &[&str]) -> i32 {
        self.run(arguments).status.code().unwrap()
    }

    /// SIGTERM: it must end in order.
    fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let id = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let begun = Instant::now();
        while process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "does not end: {}", self.logged());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(process.wait().unwrap().code(), Some(0), "{}", self.logged());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A pool in a file, and a volume granted to this test.
    fn with_volume(&self, size: &str) -> String {
        let disk = format!("{}:1GiB", self.directory.path().join("tank.disk").display());
        self.json(&["pool", "create", "tank", "--disk", &disk]);
        let volume = self.json(&["volume", "create", "mail", size]);
        self.json(&["host", "create", "test", "--iqn", INITIATOR, "--address", "127.0.0.0/8"]);
        self.json(&["volume", "grant", "mail", "test"]);
        format!("iscsi://127.0.0.1:{}/{}/0", self.port, volume["iqn"].as_str().unwrap())
    }

    fn bench(&self, url: &str, more: &[&str]) -> Child {
        let mut command = self.program();
        command.args(["bench", url, "--initiator", INITIATOR, "--json"]).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The report of a load that must have gone well.
fn report(mut bench: Child) -> Value {
    let (mut out, mut err) = (String::new(), String::new());
    bench.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    bench.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(bench.wait().unwrap().success(), "{err}\n{out}");
    serde_json::from_str(&out).unwrap()
}

fn ledger(path: &Path) -> String {
    path.join("ledger").display().to_string()
}

#[test]
fn a_granted_volume_is_written_and_read_and_is_there_after_a_restart() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    let url = daemon.with_volume("64MiB");
    let file = ledger(daemon.directory.path());
    let load = ["--rw", "mix:50", "--bs", "4k-64k", "--depth", "8", "--seconds", "2", "--verify", &file];
    let done = report(daemon.bench(&url, &load));
    assert!(done["writes"]["commands"].as_u64().unwrap() > 0 && done["errors"] == 0, "{done}");
    assert!(daemon.json(&["volume", "show", "mail"])["used_bytes"].as_u64().unwrap() > 0);

    daemon.stop();
    daemon.start(&[]);
    let again = report(daemon.bench(&url, &["--rw", "randread", "--seconds", "1", "--verify", &file]));
    assert_eq!((&again["verify"]["resumed"], &again["verify"]["fault_count"]), (&true.into(), &0.into()));
    assert!(again["verify"]["checked_at_start"].as_u64().unwrap() > 0);
    daemon.stop();
}

#[test]
fn killed_under_load_it_loses_nothing_and_hosts_only_wait() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    let url = daemon.with_volume("64MiB");
    let file = ledger(daemon.directory.path());
    let load = ["--rw", "mix:30", "--bs", "4k-16k", "--depth", "8", "--seconds", "6", "--verify", &file];
    let bench = daemon.bench(&url, &load);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1200));
        daemon.kill();
        daemon.start(&[]);
    }
    let done = report(bench);
    assert_eq!((&done["errors"], &done["verify"]["fault_count"]), (&0.into(), &0.into()), "{done}");
    assert!(done["reconnects"].as_u64().unwrap() > 0);
    daemon.stop();
}

#[test]
fn who_is_not_granted_is_not_let_in_and_who_is_in_goes_with_the_grant() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    let url = daemon.with_volume("64MiB");
    let mut stranger = daemon.program();
    stranger.args(["bench", &url, "--initiator", "iqn.2001-04.com.example:stranger", "--seconds", "1"]);
    assert!(!stranger.output().unwrap().status.success());

    let mut bench = daemon.bench(&url, &["--seconds", "30", "--patience", "1"]);
    let begun = Instant::now();
    // The load generator first looks at the volume in a session of its own, which comes and goes.
    let is_expected = |session: &serde_json::Value| {
        let under_load = session["commands"].as_u64().is_some_and(|commands| commands > 100);
        session["host"] == "test" && session["volume"] == "mail" && under_load
    };
    while !daemon.json(&["session", "list"]).as_array().unwrap().iter().any(is_expected) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(daemon.status_of(&["volume", "delete", "mail"]), 6, "in use");
    assert_eq!(daemon.status_of(&["pool", "delete", "tank"]), 6, "has a volume");
    daemon.json(&["volume", "revoke", "mail", "test"]);
    assert!(!bench.wait().unwrap().success(), "its session ended and it may not come back");
    daemon.json(&["volume", "delete", "mail"]);
    daemon.json(&["pool", "delete", "tank"]);
    let disk = daemon.directory.path().join("tank.disk").display().to_string();
    daemon.json(&["pool", "create", "again", "--disk", &disk]);
    daemon.stop();
}

#[test]
fn a_pool_is_extended_and_a_volume_grows_while_they_are_used() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    let url = daemon.with_volume("64MiB");
    let bench = daemon.bench(&url, &["--rw", "randwrite", "--seconds", "3"]);
    let before = daemon.json(&["pool", "show", "tank"])["size_bytes"].as_u64().unwrap();
    let disk = format!("{}:2GiB", daemon.directory.path().join("tank.disk").display());
    let after = daemon.json(&["pool", "extend", "tank", "--disk", &disk])["size_bytes"].as_u64().unwrap();
    assert!(after > before + (900 << 20), "{before} before, {after} after");
    daemon.json(&["volume", "resize", "mail", "1536MiB"]);
    assert_eq!(daemon.status_of(&["volume", "resize", "mail", "1MiB"]), 3);
    assert_eq!(report(bench)["errors"], 0);
    daemon.stop();
    daemon.start(&[]);
    assert_eq!(daemon.json(&["pool", "show", "tank"])["size_bytes"].as_u64(), Some(after));
    let grown = report(daemon.bench(&url, &["--rw", "write", "--bs", "1M", "--seconds", "2"]));
    assert_eq!(grown["errors"], 0, "{grown}");
    daemon.stop();
}

#[test]
fn disks_that_cannot_be_are_refused_by_class() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    daemon.with_volume("64MiB");
    let path = |name: &str| daemon.directory.path().join(name).display().to_string();
    std::fs::write(path("small"), vec![0; 65_536]).unwrap();
    let create = |disk: &str| daemon.status_of(&["pool", "create", "other", "--disk", disk]);
    assert_eq!(create(&path("tank.disk")), 6, "in use");
    assert_eq!(create(&path("small")), 3, "too small");
    assert_eq!(create(&path("none")), 4, "not there");
    assert_eq!(create(&daemon.directory.path().display().to_string()), 3, "a directory");
    assert_eq!(create(&format!("{}:64K", path("new"))), 3, "too small a file to make");
    assert!(!Path::new(&path("new")).exists(), "a file made for nothing is gone again");
    assert_eq!(daemon.json(&["pool", "list"]).as_array().unwrap().len(), 1);
    daemon.stop();
}

#[test]
fn the_demo_is_served_and_a_second_daemon_is_not() {
    let mut daemon = Daemon::new();
    daemon.start(&["--demo"]);
    let volume = daemon.json(&["volume", "show", "demo"]);
    assert_eq!(volume["size_bytes"], 10u64 << 30);
    assert!(
        daemon.logged().contains("iscsiadm") && daemon.logged().contains(volume["iqn"].as_str().unwrap())
    );
    let url = format!("iscsi://127.0.0.1:{}/{}/0", daemon.port, volume["iqn"].as_str().unwrap());
    assert_eq!(
        report(daemon.bench(&url, &["--rw", "randwrite", "--seconds", "1", "--span", "64M"]))["errors"],
        0
    );

    let second = daemon.run(&["serve", "--portal", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(14));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&daemon.data().display().to_string()));
    let same_port = format!("127.0.0.1:{}", daemon.port);
    let other = daemon.directory.path().join("other").display().to_string();
    let third = daemon.run(&["serve", "--data", &other, "--portal", &same_port]);
    assert_eq!(third.status.code(), Some(15), "{}", String::from_utf8_lossy(&third.stderr));
    daemon.stop();
}

/// Two fabrics under load; one is taken out of service, then the other.
#[test]
fn portals_are_drained_under_load_and_no_host_sees_an_error() {
    let mut daemon = Daemon::new();
    daemon.start(&[]);
    let url = daemon.with_volume("64MiB");
    let (one, two) = (format!("127.0.0.1:{}", daemon.port), format!("127.0.0.2:{}", daemon.port));
    let added = daemon.json(&["portal", "add", &two, "--fabric", "B"]);
    assert_eq!((&added["outcome"], &added["group"]), (&"created".into(), &2.into()));
    let file = ledger(daemon.directory.path());
    let other = url.replace("127.0.0.1", "127.0.0.2");
    let load = ["--sessions", "2", "--rw", "mix:40", "--depth", "8", "--seconds", "14", "--verify", &file];
    let bench = daemon.bench(&url, &[&[other.as_str()], &load[..]].concat());

    let portals_in_use = |daemon: &Daemon| {
        let sessions = daemon.json(&["session", "list"]);
        let busy = sessions.as_array().unwrap().iter().filter(|session| {
            session["volume"] == "mail" && session["commands"].as_u64().is_some_and(|commands| commands > 50)
        });
        busy.map(|session| session["portal"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let until = |daemon: &Daemon, wanted: &[&String]| {
        let begun = Instant::now();
        loop {
            let mut seen = portals_in_use(daemon);
            seen.sort();
            if seen.iter().eq(wanted.iter().copied()) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{seen:?}, not {wanted:?}: {}",
                daemon.logged()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&daemon, &[&one, &two]);
    let drained = daemon.json(&["portal", "drain", "--group", "1"]);
    assert_eq!(
        (&drained["portals"][0]["state"], &drained["portals"][0]["sessions"]),
        (&"drained".into(), &0.into())
    );
    until(&daemon, &[&two, &two]);
    assert_eq!(daemon.status_of(&["portal", "drain", &two]), 6, "nobody is left without a portal");
    daemon.json(&["portal", "resume", "--group", "1"]);
    daemon.json(&["portal", "drain", &two, "--to", &one]);
    until(&daemon, &[&one, &one]);

    let done = report(bench);
    assert_eq!((&done["errors"], &done["verify"]["fault_count"]), (&0.into(), &0.into()), "{done}");
    assert!(done["reconnects"].as_u64().unwrap() >= 2, "{done}");

    daemon.stop();
    daemon.start(&[]);
    let portals = daemon.json(&["portal", "list"]);
    assert_eq!(
        (&portals[0]["state"], &portals[1]["state"]),
        (&"serving".into(), &"drained".into()),
        "{portals}"
    );
    assert_eq!((&portals[1]["address"], &portals[1]["fabric"]), (&two.into(), &"B".into()));
    daemon.stop();
}
