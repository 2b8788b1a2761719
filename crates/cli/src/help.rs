//! `help`: on a verb, or on errors.

use crate::output::{Output, table};
use api::{ErrorClass, Problem};
use clap::Command;
use serde_json::json;

pub(crate) fn run(mut command: Command, topic: &[String], out: Output) -> Result<(), Problem> {
    if topic == ["errors"] {
        print_errors(out);
        return Ok(());
    }
    command.build();
    let mut found = &mut command;
    for word in topic {
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            let message =
                "there is no such verb; `palisade help` shows all, `palisade help errors` the exit statuses";
            Problem::new(ErrorClass::Usage, format!("help {word}"), message)
        })?;
    }
    out.text(&found.render_long_help().to_string());
    Ok(())
}

fn print_errors(out: Output) {
    let table_of = ErrorClass::table();
    if out.json {
        let rows: Vec<_> = table_of
            .iter()
            .map(|row| {
                json!({
                    "code": row.code,
                    "exit_status": row.exit_status,
                    "http_status": row.http_status,
                    "meaning": row.meaning,
                })
            })
            .collect();
        return out.text(&serde_json::Value::from(rows).to_string());
    }
    out.text(&errors());
}

/// The table of error classes.
pub(crate) fn errors() -> String {
    let row = |row: &api::ErrorFacts| {
        let http = row.http_status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        vec![row.exit_status.to_string(), row.code.to_owned(), http, row.meaning.to_owned()]
    };
    let mut rows = vec![vec!["0".to_owned(), "-".to_owned(), "200".to_owned(), "It is done.".to_owned()]];
    rows.extend(ErrorClass::table().iter().map(row));
    table(&["EXIT", "CLASS", "HTTP", "MEANING"], &rows)
}
