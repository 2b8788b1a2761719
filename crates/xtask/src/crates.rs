//! The layering: which crate may depend on which, from `cargo metadata`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Each crate and those of the workspace that it may use. Dependencies point down only.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("scsi", &[]),
    ("iscsi", &[]),
    ("isns", &[]),
    ("block", &[]),
    ("store", &["block"]),
    ("backend", &["block"]),
    ("image", &["block"]),
    ("initiator", &["iscsi", "scsi"]),
    ("validate", &["initiator", "scsi"]),
    ("target", &["iscsi", "scsi", "block"]),
    ("control", &["store", "iscsi", "scsi", "block"]),
    ("api", &[]),
    ("server", &["target", "control", "api", "backend", "store", "iscsi", "isns", "scsi", "block"]),
    ("cli", &["server", "api", "initiator", "validate"]),
    ("csi", &["api"]),
    ("sim", &["store", "block"]),
    ("fuzz", &["iscsi", "scsi"]),
    ("xtask", &[]),
];

/// What only tests may use beyond that.
const ALLOWED_IN_TESTS: [(&str, &[&str]); 3] =
    [("target", &["initiator"]), ("server", &["initiator"]), ("backend", &["store"])];

/// Crates without I/O, clock and randomness of their own, and what would bring those in.
const PURE: [&str; 5] = ["scsi", "iscsi", "isns", "block", "store"];
const IMPURE: [&str; 9] =
    ["tokio", "mio", "socket2", "rustix", "libc", "io-uring", "rand", "getrandom", "futures-executor"];

/// What is wrong with the workspace's crates and what they depend on.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn judge(root: &Path) -> Result<Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut wrong = judge_metadata(&serde_json::from_slice(&output.stdout)?)?;
    for name in ALLOWED.map(|(name, _)| name) {
        let manifest = root.join("crates").join(name).join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let table: toml::Table = toml::from_str(&text).with_context(|| format!("{}", manifest.display()))?;
        let inherits =
            table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if inherits != Some(true) && name != "backend" {
            wrong.push(format!("crates/{name}/Cargo.toml: needs `[lints] workspace = true`"));
        }
    }
    Ok(wrong)
}

fn judge_metadata(metadata: &Value) -> Result<Vec<String>> {
    let Some(packages) = metadata["packages"].as_array() else { bail!("cargo metadata has no packages") };
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let in_tests: BTreeMap<&str, &[&str]> = ALLOWED_IN_TESTS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may_use) = allowed.get(name) else {
            wrong.push(format!("crate {name}: has no place in the layering (crates/xtask/src/crates.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let uses = dependency["name"].as_str().unwrap_or_default();
            let dev = dependency["kind"] == "dev";
            let tests_may = dev && in_tests.get(name).is_some_and(|list| list.contains(&uses));
            if members.contains(uses) && uses != name && !may_use.contains(&uses) && !tests_may {
                wrong.push(format!("crate {name}: may not depend on {uses}"));
            }
            if !dev && PURE.contains(&name) && IMPURE.contains(&uses) {
                wrong.push(format!(
                    "crate {name}: does no I/O, has no clock and no randomness, so not {uses}"
                ));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a crate depends on, and as what kind.
    type Uses = &'static [(&'static str, Option<&'static str>)];

    fn metadata(packages: &[(&str, Uses)]) -> Value {
        let packages: Vec<Value> = packages
            .iter()
            .map(|(name, uses)| {
                let uses: Vec<Value> =
                    uses.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
                json!({ "name": name, "dependencies": uses })
            })
            .collect();
        json!({ "packages": packages })
    }

    #[test]
    fn a_dependency_upwards_is_found() {
        let up = metadata(&[("store", &[("target", None)]), ("target", &[])]);
        assert_eq!(judge_metadata(&up).unwrap(), ["crate store: may not depend on target"]);
        let down = metadata(&[("store", &[("block", None)]), ("block", &[])]);
        assert!(judge_metadata(&down).unwrap().is_empty());
    }

    #[test]
    fn the_protocols_know_nothing_of_each_other_not_even_in_tests() {
        let tests = metadata(&[("iscsi", &[("scsi", Some("dev"))]), ("scsi", &[])]);
        assert_eq!(judge_metadata(&tests).unwrap(), ["crate iscsi: may not depend on scsi"]);
        let target = metadata(&[("target", &[("initiator", Some("dev"))]), ("initiator", &[])]);
        assert!(judge_metadata(&target).unwrap().is_empty());
    }

    #[test]
    fn a_runtime_has_no_place_in_the_engine_and_has_one_in_its_tests() {
        assert_eq!(judge_metadata(&metadata(&[("store", &[("tokio", None)])])).unwrap().len(), 1);
        assert!(judge_metadata(&metadata(&[("store", &[("tokio", Some("dev"))])])).unwrap().is_empty());
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(judge_metadata(&metadata(&[("helpers", &[])])).unwrap().len(), 1);
    }
}
