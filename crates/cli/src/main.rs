//! The `palisade` program: the daemon, and every verb of its administrator.
//!
//! *Invariant:* knows no engine. `serve` goes to `server`, `bench` and `validate` to the initiator's side, all else to the API's client.

mod args;
mod bench;
mod chap;
mod discovery;
mod help;
mod hosts;
mod isns;
mod keys;
mod output;
mod pools;
mod portals;
mod reference;
mod schedules;
mod snapshots;
mod space;
mod status;
mod targets;
mod validate;
mod volumes;

use api::{Client, ErrorClass, Problem};
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use output::Output;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where a service keeps its data, if nothing else is said and nothing is in the current directory.
const SERVICE_DATA: &str = "/var/lib/palisade";
/// Where data is kept if nothing else is said.
const LOCAL_DATA: &str = "palisade-data";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; the rest is of class `usage`, whose status clap's is, too.
            let _ = error.print();
            return if error.use_stderr() { exit(ErrorClass::Usage) } else { ExitCode::SUCCESS };
        }
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            output::print_problem(&problem, json);
            exit(problem.code)
        }
    }
}

fn exit(class: ErrorClass) -> ExitCode {
    ExitCode::from(class.exit_status())
}

fn run(cli: Cli) -> Result<(), Problem> {
    let out = Output { json: cli.json };
    let data = cli.data.or_else(|| std::env::var_os("PALISADE_DATA").map(PathBuf::from));
    match cli.command {
        Command::Serve(serve) => server::serve(&serve.config(data.unwrap_or_else(|| LOCAL_DATA.into()))),
        Command::Bench(bench) => bench::run(&bench, out),
        Command::Validate(arguments) => validate::run(&arguments, out),
        Command::Help { topic } => help::run(Cli::command(), &topic, out),
        Command::Status => ask(data, async |client| status::status(&client, out).await),
        Command::Session(args::Session::List) => {
            ask(data, async |client| status::sessions(&client, out).await)
        }
        Command::Session(args::Session::Show { session }) => {
            ask(data, async |client| status::session(&client, &session, out).await)
        }
        Command::Pool(verb) => ask(data, async |client| pools::run(&client, verb, out).await),
        Command::Volume(verb) => ask(data, async |client| volumes::run(&client, verb, out).await),
        Command::Schedule(verb) => ask(data, async |client| schedules::run(&client, verb, out).await),
        Command::Snapshot(verb) => ask(data, async |client| snapshots::run(&client, verb, out).await),
        Command::Discovery(verb) => ask(data, async |client| discovery::run(&client, verb, out).await),
        Command::Isns(verb) => ask(data, async |client| isns::run(&client, verb, out).await),
        Command::Portal(verb) => ask(data, async |client| portals::run(&client, verb, out).await),
        Command::Target(verb) => ask(data, async |client| targets::run(&client, verb, out).await),
        Command::Host(verb) => ask(data, async |client| hosts::run(&client, verb, out).await),
    }
}

/// Runs a verb that is a client of the daemon.
fn ask<F: Future<Output = Result<(), Problem>>>(
    data: Option<PathBuf>,
    verb: impl FnOnce(Client) -> F,
) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Problem::new(ErrorClass::Internal, "palisade", error.to_string()))?;
    let data = data.unwrap_or_else(|| usual_data(Path::new(LOCAL_DATA)));
    runtime.block_on(verb(Client::unix(&data.join(api::SOCKET_NAME))))
}

/// The data directory of the daemon that is most likely meant: here, else the service's.
fn usual_data(local: &Path) -> PathBuf {
    match local.exists() || !Path::new(SERVICE_DATA).exists() {
        true => local.to_owned(),
        false => SERVICE_DATA.into(),
    }
}
