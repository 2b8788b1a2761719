//! The command line, defined once: parsing, help and the reference come from here.

mod keys;
mod pool;
mod schedule;
mod snapshot;
mod space;
mod targets;
mod volume;

use clap::{Args, Parser, Subcommand, ValueEnum};
use server::{LogFormat, PORT, ServeConfig};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub(crate) use keys::{Key, KeyOptions};
pub(crate) use pool::Pool;
pub(crate) use schedule::Schedule;
pub(crate) use snapshot::Snapshot;
use space::percent;
pub(crate) use space::{PoolSpace, VolumeSpace};
pub(crate) use targets::Target;
pub(crate) use volume::{Cache, Volume};

/// Palisade: a virtualised iSCSI SAN in one program.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, max_term_width = 110, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Data directory of the daemon [default: PALISADE_DATA, or ./palisade-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon: serve volumes to iSCSI hosts
    Serve(Serve),
    /// Pools: where volumes get their space
    #[command(subcommand)]
    Pool(Pool),
    /// Volumes: virtual disks
    #[command(subcommand)]
    Volume(Volume),
    /// Snapshots: what volumes held at an instant
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Schedules: snapshots made by the clock
    #[command(subcommand)]
    Schedule(Schedule),
    /// Targets of several volumes, besides the one that each volume has
    #[command(subcommand)]
    Target(Target),
    /// Hosts: the machines that use volumes
    #[command(subcommand)]
    Host(Host),
    /// Discovery: what has to be proven before targets are shown
    #[command(subcommand)]
    Discovery(Discovery),
    /// Portals: the addresses on which hosts reach the group, and the paths they make
    #[command(subcommand)]
    Portal(Portal),
    /// Name servers: iSNS servers that are told of targets
    #[command(subcommand)]
    Isns(crate::isns::Verb),
    /// Sessions: who is connected
    #[command(subcommand)]
    Session(Session),
    /// The daemon at a glance
    Status,
    /// Load an iSCSI target, measure it, and prove that it loses no acknowledged write
    Bench(Bench),
    /// Check any iSCSI array as clusters, hypervisors and certification suites do
    Validate(Validate),
    /// Help on a verb, or on `errors`: every class of error with its exit status
    Help {
        /// Verb, for example `volume create`, or `errors`
        topic: Vec<String>,
    },
}

/// The daemon.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port to serve hosts on, until `palisade portal` has changed anything: from then on the group remembers
    /// its portals; may be given several times [default: every address, port 3260]
    #[arg(long = "portal", value_name = "ADDR:PORT", value_parser = portal)]
    portals: Vec<SocketAddr>,
    /// Serve the API on TCP, too: on this machine only, as long as it has no authentication
    #[arg(long, value_name = "ADDR:PORT")]
    api: Option<SocketAddr>,
    /// Make a pool and a volume `demo` for anyone on this machine, serve them on 127.0.0.1 and [::1], say how to connect
    #[arg(long)]
    demo: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Serve {
    pub(crate) fn config(self, data: PathBuf) -> ServeConfig {
        let log_format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        ServeConfig { data, portals: self.portals, api: self.api, demo: self.demo, log_format }
    }
}

/// Verbs on hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// Make a host known by its initiator names
    Create {
        /// Name of the new host
        name: String,
        /// Initiator name (iqn., eui. or naa.), or `*` for any, which needs --address
        #[arg(long = "iqn", required = true, num_args = 1.., value_name = "IQN")]
        iqns: Vec<String>,
        /// Address or network its sessions come from, for example 192.0.2.0/24 [default: any]
        #[arg(long = "address", num_args = 1.., value_name = "CIDR")]
        addresses: Vec<String>,
    },
    /// List hosts
    List,
    /// Show a host
    Show {
        /// Host, by name or identity
        host: String,
    },
    /// Change a host's initiator names, its addresses, or what it has to prove
    ///
    /// Secrets are read from the standard input, one a line: first the host's, with --mutual then the group's. They hold
    /// from the next login on; sessions there are stay.
    Set {
        /// Host, by name or identity
        host: String,
        /// Initiator name that it gets
        #[arg(long = "add-iqn", num_args = 1.., value_name = "IQN")]
        add_iqns: Vec<String>,
        /// Initiator name that it loses; sessions with it end
        #[arg(long = "remove-iqn", num_args = 1.., value_name = "IQN")]
        remove_iqns: Vec<String>,
        /// Address or network its sessions come from, instead of those it has; others end
        #[arg(long = "address", num_args = 1.., value_name = "CIDR", conflicts_with = "any_address")]
        addresses: Vec<String>,
        /// Let its sessions come from anywhere
        #[arg(long)]
        any_address: bool,
        #[command(flatten)]
        chap: Chap,
    },
    /// Forget a host
    Delete {
        /// Host, by name or identity
        host: String,
        /// Revoke what it is granted, and end its sessions
        #[arg(long)]
        force: bool,
    },
}

/// What is to be proven at a login.
#[derive(Debug, Args)]
pub(crate) struct Chap {
    /// Demand CHAP with a secret of 12 to 255 bytes, read from the standard input
    #[arg(long, conflicts_with = "no_chap")]
    pub(crate) chap: bool,
    /// User name to go with it [default: the initiator's own name]
    #[arg(long, value_name = "NAME", requires = "chap")]
    pub(crate) user: Option<String>,
    /// Prove the group's identity, too, with a second secret from a second line
    #[arg(long, requires = "chap")]
    pub(crate) mutual: bool,
    /// User name of the group [default: palisade]
    #[arg(long, value_name = "NAME", requires = "mutual")]
    pub(crate) mutual_user: Option<String>,
    /// Demand nothing any more
    #[arg(long)]
    pub(crate) no_chap: bool,
}

/// Verbs on discovery.
#[derive(Debug, Subcommand)]
pub(crate) enum Discovery {
    /// Show what discovery demands
    Show,
    /// Set what everybody has to prove before discovery shows anything; a host's own secret will do, too
    Set {
        #[command(flatten)]
        chap: Chap,
    },
}

/// Verbs on portals.
#[derive(Debug, Subcommand)]
pub(crate) enum Portal {
    /// List portals, by group
    List,
    /// Open a portal; hosts find it by discovery
    Add {
        /// Address and port
        #[arg(value_name = "ADDR:PORT", value_parser = portal)]
        portal: SocketAddr,
        /// Tag of its group, 1 to 255; a group is one path for hosts [default: the fabric's group, or 1]
        #[arg(long, value_name = "TAG")]
        group: Option<u16>,
        /// Label of the network the group is on, for example A or B; a new one makes a new group
        #[arg(long, value_name = "LABEL")]
        fabric: Option<String>,
    },
    /// Close a portal
    Remove {
        /// Portal
        #[arg(value_name = "ADDR:PORT", value_parser = portal)]
        portal: SocketAddr,
        /// Keep it open to tell hosts that it has moved there for good; removing it once more closes it
        #[arg(long, value_name = "ADDR:PORT", value_parser = portal, conflicts_with = "force")]
        moved_to: Option<SocketAddr>,
        /// End its sessions; close it although it is the last
        #[arg(long)]
        force: bool,
    },
    /// Take portals out of service: hosts go elsewhere, without an I/O error
    Drain {
        /// Portal
        #[arg(value_name = "ADDR:PORT", value_parser = portal, required_unless_present = "group", conflicts_with = "group")]
        portal: Option<SocketAddr>,
        /// All portals of the group with this tag
        #[arg(long, value_name = "TAG")]
        group: Option<u16>,
        /// Send hosts there [default: where they have the least change]
        #[arg(long, value_name = "ADDR:PORT", value_parser = portal)]
        to: Option<SocketAddr>,
        /// How long sessions may take to leave; then they are cut
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
        within: u32,
        /// Also if no other portal serves: hosts wait until it is resumed
        #[arg(long)]
        force: bool,
        /// Do not wait until sessions have left
        #[arg(long)]
        no_wait: bool,
    },
    /// Put portals back into service
    Resume {
        /// Portal
        #[arg(value_name = "ADDR:PORT", value_parser = portal, required_unless_present = "group", conflicts_with = "group")]
        portal: Option<SocketAddr>,
        /// All portals of the group with this tag
        #[arg(long, value_name = "TAG")]
        group: Option<u16>,
    },
    /// Change what hosts are told of the paths through a group (ALUA)
    Set {
        /// Tag of the group
        #[arg(long, value_name = "TAG")]
        group: u16,
        /// State of its paths
        #[arg(long, value_enum)]
        state: Option<Path>,
        /// Whether hosts should rather use it
        #[arg(long, value_enum)]
        preferred: Option<YesNo>,
        /// Label of the network it is on
        #[arg(long, value_name = "LABEL")]
        fabric: Option<String>,
        /// Only hosts of this volume are told the state
        #[arg(long, requires = "state")]
        volume: Option<String>,
    },
}

/// State of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// As good as any
    Optimized,
    /// Usable; others are better
    NonOptimized,
    /// No I/O until a host asks for the path
    Standby,
    /// No I/O
    Unavailable,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    /// It is so
    Yes,
    /// It is not
    No,
}

impl From<YesNo> for bool {
    fn from(answer: YesNo) -> Self {
        answer == YesNo::Yes
    }
}

/// Verbs on sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List iSCSI sessions
    List,
    /// Show a session and its connections
    Show {
        /// Number of the session, from the list
        session: String,
    },
}

/// The load generator.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// iscsi://HOST[:PORT]/TARGET/LUN; several are several paths to one volume
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// randread, randwrite, read, write, mix or mix:READ-PERCENT. All but reads overwrite the volume
    #[arg(long, default_value = "randread")]
    pub(crate) rw: String,
    /// Length of a command: 4k, a list 4k,64k, or a range 4k-64k
    #[arg(long, default_value = "4k", value_name = "SIZES")]
    pub(crate) bs: String,
    /// Commands in flight in each session
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: u32,
    /// Sessions
    #[arg(long, default_value_t = 1)]
    pub(crate) sessions: u32,
    /// TCP connections of each session (MC/S), 1 to 15
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u16,
    /// How long
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Stamp every block, keep a record of acknowledged writes in FILE, and check them; start again with the same FILE
    /// after any interruption
    #[arg(long, value_name = "FILE")]
    pub(crate) verify: Option<PathBuf>,
    /// Initiator name to log in with
    #[arg(long, value_name = "IQN")]
    pub(crate) initiator: Option<String>,
    /// Log in with CHAP: FILE's first line is USER%SECRET, a second one what the target has to prove (mutual). In a URL,
    /// iscsi://USER%SECRET@…, others on this machine can read it
    #[arg(long, value_name = "FILE")]
    pub(crate) chap_file: Option<PathBuf>,
    /// Use only this much from the volume's start
    #[arg(long, value_parser = size, value_name = "SIZE")]
    pub(crate) span: Option<u64>,
    /// Threads that drive the sessions [default: one a session, at most one a processor]
    #[arg(long)]
    pub(crate) threads: Option<u32>,
    /// How long a broken session may take to come back, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) patience: u64,
    /// Wait that long for the target to appear, too
    #[arg(long)]
    pub(crate) wait: bool,
    /// Ask for CRC32C digests of headers and data
    #[arg(long)]
    pub(crate) digests: bool,
    /// Write with FUA
    #[arg(long)]
    pub(crate) fua: bool,
    /// Seed of addresses and lengths [default: drawn, and reported]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// Checks of an array.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// iscsi://HOST[:PORT]/TARGET/LUN; several are several paths to one logical unit
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Only these groups of checks: identity, paths, commands, cluster, vaai, thin, odx, iscsi
    #[arg(long, value_delimiter = ',', value_name = "GROUP,...", value_parser = group)]
    pub(crate) only: Vec<::validate::Group>,
    /// Overwrite blocks too: what is in them is lost. Without it nothing is written
    #[arg(long)]
    pub(crate) destructive: bool,
    /// Which blocks --destructive may overwrite [default: the first 160 MiB of the logical unit]
    #[arg(long, value_name = "LBA:BLOCKS", value_parser = scratch_range, requires = "destructive")]
    pub(crate) range: Option<::validate::ScratchRange>,
    /// Make reservations too; they are removed again. Refused while somebody else has registered
    #[arg(long)]
    pub(crate) reservations: bool,
    /// With --reservations: first remove the registrations and the reservation of others
    #[arg(long, requires = "reservations")]
    pub(crate) force: bool,
    /// Another logical unit of the array that may be used in the same way, for checks of two; may be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) also: Vec<String>,
    /// Sessions, each an initiator port of its own; at least one a path
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=64))]
    pub(crate) nexuses: u8,
    /// Initiator name to log in with; several are taken in turn
    #[arg(long = "initiator", value_name = "IQN")]
    pub(crate) initiators: Vec<String>,
    /// Log in with CHAP on every path: FILE's first line is USER%SECRET, a second one what the array has to prove (mutual)
    #[arg(long, value_name = "FILE")]
    pub(crate) chap_file: Option<PathBuf>,
    /// Write the report, with every command sent and its answer, as JSON to FILE
    #[arg(long = "json-file", value_name = "FILE")]
    pub(crate) json_file: Option<PathBuf>,
    /// Write the report, with every command sent and its answer, as HTML to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

fn group(text: &str) -> Result<::validate::Group, String> {
    text.parse()
}

/// First block and number of blocks.
fn scratch_range(text: &str) -> Result<::validate::ScratchRange, String> {
    let (lba, blocks) = text.split_once(':').ok_or("write LBA:BLOCKS, for example 0:262144")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Ok(::validate::ScratchRange { lba: number(lba)?, blocks: number(blocks)? })
}

fn size(text: &str) -> Result<u64, String> {
    server::parse_size(text).map_err(|error| error.message)
}

/// An address with a port, or without one for the usual port.
fn portal(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let bare = bare.map(|ip| SocketAddr::new(ip, PORT));
    text.parse()
        .or(bare)
        .map_err(|_| "write ADDR:PORT, for example 192.0.2.1:3260 or [2001:db8::1]:3260".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The verbs as users were promised them.
    #[test]
    fn every_verb_parses_as_documented() {
        let lines = [
            "palisade pool create tank --disk /dev/sdb /dev/sdc",
            "palisade pool create tank --disk /srv/a:10G --disk ram:1GiB",
            "palisade pool list",
            "palisade pool show tank --json",
            "palisade pool extend tank --disk /srv/a:20G",
            "palisade pool delete tank",
            "palisade volume create mail 10GiB --pool tank --block-size 4096 --thick --cache buffered",
            "palisade volume create mail 64TiB",
            "palisade --json volume list",
            "palisade volume show mail",
            "palisade volume resize mail 20G",
            "palisade volume rename mail post",
            "palisade volume delete mail --force",
            "palisade volume delete mail --with-snapshots",
            "palisade volume detach vm1",
            "palisade volume detach vm1 --cancel",
            "palisade volume diff mail@a mail@b",
            "palisade volume diff mail@a mail --json",
            "palisade volume clone mail test",
            "palisade volume clone mail@before test",
            "palisade snapshot create mail",
            "palisade snapshot create mail mail-log --name before",
            "palisade snapshot rollback mail@before --force",
            "palisade volume clone gold vm1 --read-only",
            "palisade volume set gold --template on",
            "palisade volume set gold --read-only off",
            "palisade schedule create db --volume data log --every 1h --keep hourly=24,daily=7,weekly=4",
            "palisade schedule create db --volume data --volume log --every weekly@sun@02:30 --keep last=3 --name-pattern w-{date}",
            "palisade schedule list",
            "palisade schedule disable db",
            "palisade snapshot list",
            "palisade snapshot list mail",
            "palisade snapshot show mail@before",
            "palisade snapshot delete mail@before mail-log@before",
            "palisade volume grant mail web --read-only",
            "palisade volume revoke mail web",
            "palisade host create web --iqn iqn.1993-08.org.debian:01:a --iqn iqn.x --address 192.0.2.0/24 ::1",
            "palisade host list",
            "palisade host show web",
            "palisade host set web --add-iqn iqn.a iqn.b --remove-iqn iqn.c --address 192.0.2.0/24",
            "palisade host set web --any-address",
            "palisade host set web --chap --user u --mutual --mutual-user m",
            "palisade host set web --no-chap",
            "palisade discovery set --chap --user u",
            "palisade discovery set --no-chap",
            "palisade discovery show",
            "palisade host delete web --force",
            "palisade portal list",
            "palisade portal add 192.0.2.1 --group 2 --fabric B",
            "palisade portal remove 192.0.2.1:3260 --force",
            "palisade portal remove 192.0.2.1:3260 --moved-to 198.51.100.1",
            "palisade portal drain 192.0.2.1:3260 --to 198.51.100.1:3260 --within 60",
            "palisade portal drain --group 2 --no-wait",
            "palisade portal resume --group 2",
            "palisade portal set --group 2 --state non-optimized --preferred no --volume mail --fabric B",
            "palisade isns set 192.0.2.9 [2001:db8::9]:3205 --esi-port 3206",
            "palisade isns show",
            "palisade isns off",
            "palisade session list",
            "palisade status --data /tmp/x",
            "palisade serve",
            "palisade serve --data /d --portal 127.0.0.1:3260 --portal [::1]:3260 --api 127.0.0.1:8080 --demo",
            "palisade serve --log-format json",
            "palisade bench iscsi://h/iqn.a:b/0 --rw mix:40 --bs 4k-64k --depth 8 --sessions 2 --seconds 5 --verify f --json",
            "palisade help errors",
            "palisade help volume create",
        ];
        for line in lines {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn what_is_not_understood_has_the_status_of_its_class() {
        let lines = [
            "palisade volume paint mail",
            "palisade volume create mail",
            "palisade volume create mail 10X",
            "palisade volume create mail 10G --block-size 520",
            "palisade volume create mail 10G --cache none",
            "palisade pool create tank",
            "palisade pool delete",
            "palisade volume delete",
            "palisade schedule create db --every 1h --keep last=3",
            "palisade schedule create db --volume data --every 1h --keep yearly=3",
            "palisade snapshot create",
            "palisade snapshot delete mail",
            "palisade snapshot show @x",
            "palisade volume clone mail",
            "palisade host create web",
            "palisade isns set",
            "palisade isns set 192.0.2.9 --esi-port 0",
            "palisade host set web --chap secret-in-argv",
            "palisade host set web --chap --no-chap",
            "palisade host set web --mutual",
            "palisade serve --portal nowhere",
            "palisade portal drain",
            "palisade portal drain 192.0.2.1 --group 1",
            "palisade portal set --group 2 --volume mail",
            "palisade bench",
            "palisade --no-such-option status",
        ];
        for line in lines {
            let error = parse(line).unwrap_err();
            let usage = i32::from(api::ErrorClass::Usage.exit_status());
            assert_eq!(error.exit_code(), usage, "{line}");
        }
    }

    #[test]
    fn portals_may_leave_the_usual_port_out() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:3260"),
            ("192.0.2.1:3261", "192.0.2.1:3261"),
            ("::1", "[::1]:3260"),
            ("[::1]", "[::1]:3260"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(portal(text).unwrap().to_string(), address);
        }
        assert!(portal("localhost:3260").is_err());
    }
}
