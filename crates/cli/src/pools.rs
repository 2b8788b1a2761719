//! The verbs on pools.

use crate::args::Pool as Verb;
use crate::keys;
use crate::output::{Output, ago, properties, size, table};
use api::{
    Client, CreatePool, ErrorClass, ExtendPool, KeyState, Outcome, Pool, PoolState, Problem, UpdatePool,
};

pub(crate) async fn run(client: &Client, verb: Verb, out: Output) -> Result<(), Problem> {
    match verb {
        Verb::Create { name, disks, encrypt, key } => {
            let disks = disks.iter().map(|disk| whole_path(disk)).collect::<Result<_, _>>()?;
            let named = key.key_file.is_some() || key.passphrase_file.is_some();
            if named && !encrypt {
                let message = "a passphrase or key file is for a pool that is made with --encrypt";
                return Err(Problem::new(ErrorClass::Usage, name, message));
            }
            let encrypt = encrypt.then(|| keys::secret(&key, keys::Purpose::Set)).transpose()?;
            let change = client.create_pool(&CreatePool { name, disks, encrypt }).await?;
            out.print(&change, |change| created(change.outcome, &change.item))
        }
        Verb::List => out.print(&client.pools().await?, |pools| list(pools)),
        Verb::Show { pool } => out.print(&client.pool(&pool).await?, show),
        Verb::Extend { pool, disk } => {
            let request = ExtendPool { disk: whole_path(&disk)? };
            let change = client.extend_pool(&pool, &request).await?;
            out.print(&change, |change| {
                let Pool { name, size_bytes, free_bytes, .. } = &change.item;
                let verb = if change.outcome == Outcome::Unchanged { "still has" } else { "now has" };
                format!("Pool {name} {verb} {}, {} of it free.", size(*size_bytes), size(*free_bytes))
            })
        }
        Verb::Set { pool, warn, space } => {
            let request = UpdatePool { warn_percent: warn, rules: space.update() };
            let change = client.update_pool(&pool, &request).await?;
            out.print(&change, |change| {
                let rules = crate::space::pool_rules(&change.item.rules);
                let rules = rules.into_iter().map(|(name, value)| format!("\n{name}: {value}"));
                let rules = rules.collect::<String>();
                format!("Pool {} warns: {}.{rules}", change.item.name, warning(&change.item))
            })
        }
        Verb::Unlock { pool, key } => keys::unlock(client, &pool, &key, out).await,
        Verb::Lock { pool } => keys::lock(client, &pool, out).await,
        Verb::Encrypt { pool, new_volumes, key } => {
            keys::encrypt(client, &pool, new_volumes.into(), &key, out).await
        }
        Verb::Key(verb) => keys::run(client, verb, out).await,
        Verb::Rekey { pool, key_files, passphrase_files } => {
            keys::rekey(client, &pool, &key_files, &passphrase_files, out).await
        }
        Verb::Delete { pool, force } => {
            let change = client.delete_pool(&pool, force).await?;
            out.print(&change, |change| deleted(&change.item))
        }
    }
}

/// The daemon may run elsewhere: it is told the whole path.
pub(crate) fn whole_path(disk: &str) -> Result<String, Problem> {
    if disk.starts_with('/') || disk.starts_with("ram:") || disk.is_empty() {
        return Ok(disk.to_owned());
    }
    let absolute = std::path::absolute(disk)
        .map_err(|error| Problem::new(ErrorClass::Invalid, disk, format!("this is no path: {error}")))?;
    Ok(absolute.display().to_string())
}

fn created(outcome: Outcome, pool: &Pool) -> String {
    let name = &pool.name;
    if outcome == Outcome::Unchanged {
        return format!("Pool {name} is there already, on the same disks.");
    }
    let mut text = format!("Pool {name} created: {} free.", size(pool.free_bytes));
    if pool.lost_at_exit {
        text.push_str(" It is in memory: everything in it is LOST when the daemon stops.");
    }
    if pool.encryption.is_some() {
        text.push_str(
            " New volumes are encrypted. Without its passphrase or key file they are LOST: keep a copy.",
        );
    }
    text + &format!("\nNext: palisade volume create NAME SIZE --pool {name}")
}

fn deleted(pool: &Pool) -> String {
    let disks: Vec<_> = pool.disks.iter().map(|disk| disk.path.as_str()).collect();
    let what = match pool.state {
        PoolState::Online => "free for other uses; files stay where they are",
        PoolState::Offline => "left as they are",
    };
    format!("Pool {} deleted. Its disks ({}) are {what}.", pool.name, disks.join(", "))
}

fn warning(pool: &Pool) -> String {
    crate::output::warning(pool.warn_percent)
}

fn state(pool: &Pool) -> &'static str {
    match pool.state {
        PoolState::Online if pool.encryption.as_ref().is_some_and(|keys| keys.state == KeyState::Locked) => {
            "LOCKED"
        }
        PoolState::Online => "online",
        PoolState::Offline => "OFFLINE",
    }
}

fn list(pools: &[Pool]) -> String {
    if pools.is_empty() {
        return "There is no pool yet. Make one with `palisade pool create NAME --disk PATH`.".to_owned();
    }
    let rows: Vec<_> = pools.iter().map(row).collect();
    table(&["NAME", "STATE", "CLASS", "SIZE", "USED", "FREE", "PROVISIONED", "VOLUMES"], &rows)
}

fn row(pool: &Pool) -> Vec<String> {
    vec![
        pool.name.clone(),
        state(pool).to_owned(),
        pool.class.clone(),
        size(pool.size_bytes),
        size(pool.used_bytes),
        size(pool.free_bytes),
        size(pool.provisioned_bytes),
        pool.volumes.to_string(),
    ]
}

fn show(pool: &Pool) -> String {
    let mut pairs = vec![
        ("Name", pool.name.clone()),
        ("State", state(pool).to_owned()),
        ("Reason", pool.reason.clone().unwrap_or_default()),
        ("Class", pool.class.clone()),
        ("Size", size(pool.size_bytes)),
        ("Used", size(pool.used_bytes)),
        ("Free", size(pool.free_bytes)),
        ("Growth", crate::space::forecast(&pool.forecast)),
        ("Warns", warning(pool)),
        ("Provisioned", size(pool.provisioned_bytes)),
        ("Volumes", pool.volumes.to_string()),
        ("Lost at exit", if pool.lost_at_exit { "yes: it is in memory".to_owned() } else { "no".to_owned() }),
        ("Created", format!("{} ago", ago(pool.created_unix_ms))),
        ("Identity", pool.id.clone()),
    ];
    pairs.extend(crate::space::pool_rules(&pool.rules));
    pairs.extend(pool.space.iter().flat_map(crate::space::parts));
    pairs.extend(
        pool.disks
            .iter()
            .map(|disk| ("Disk", format!("{}  {}  {}", disk.path, size(disk.size_bytes), disk.media))),
    );
    pairs.extend(keys::shown(pool.encryption.as_ref()));
    pairs.retain(|(_, value)| !value.is_empty());
    properties(&pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_told_whole_paths() {
        let here = std::env::current_dir().unwrap().display().to_string();
        assert_eq!(whole_path("disk:10G").unwrap(), format!("{here}/disk:10G"));
        for same in ["/dev/sdb", "/srv/a:10G", "ram:1GiB", ""] {
            assert_eq!(whole_path(same).unwrap(), same);
        }
    }
}
