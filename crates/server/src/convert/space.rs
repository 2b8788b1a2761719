//! Rules about space, from the model's words to the API's and back.

use control::{Forecast, OnShort, PoolRules, PoolRulesUpdate, VolumeRules, VolumeRulesUpdate};

fn told(on_short: OnShort) -> api::OnShort {
    match on_short {
        OnShort::Warn => api::OnShort::Warn,
        OnShort::DeleteOldest => api::OnShort::DeleteOldest,
        OnShort::DeleteOldestOfAll => api::OnShort::DeleteOldestOfAll,
    }
}

fn asked(on_short: api::OnShort) -> OnShort {
    match on_short {
        api::OnShort::Warn => OnShort::Warn,
        api::OnShort::DeleteOldest => OnShort::DeleteOldest,
        api::OnShort::DeleteOldestOfAll => OnShort::DeleteOldestOfAll,
    }
}

pub(super) fn forecast(forecast: Forecast) -> api::Forecast {
    let mut told = api::Forecast::default();
    match forecast {
        Forecast::TooLittleHistory => {}
        Forecast::NotGrowing => told.growth = api::Growth::NotGrowing,
        Forecast::Full { bytes_a_day, at_unix_ms } => {
            told = api::Forecast {
                growth: api::Growth::Growing,
                bytes_a_day: Some(bytes_a_day),
                full_unix_ms: Some(at_unix_ms),
            };
        }
    }
    told
}

pub(super) fn volume(rules: &VolumeRules, taken_bytes: Option<u64>, on_short: OnShort) -> api::VolumeRules {
    let dropped = rules.dropped.clone().map(|dropped| {
        let control::Dropped { count, last, at_unix_ms } = dropped;
        api::Dropped { count, last, at_unix_ms }
    });
    api::VolumeRules {
        limit_bytes: rules.limit_bytes,
        taken_bytes,
        snapshot_reserve_bytes: rules.snapshot_reserve_bytes,
        snapshot_warn_percent: rules.snapshot_warn_percent,
        on_short: told(on_short),
        on_short_of_pool: rules.on_short.is_none(),
        dropped,
    }
}

pub(super) fn pool(rules: &PoolRules) -> api::PoolRules {
    let PoolRules { limit_percent, limit_bytes, on_short } = *rules;
    api::PoolRules { limit_percent, limit_bytes, on_short: told(on_short) }
}

pub(super) fn volume_rules(update: api::UpdateVolumeRules) -> VolumeRulesUpdate {
    VolumeRulesUpdate {
        limit_bytes: update.limit_bytes,
        snapshot_reserve_bytes: update.snapshot_reserve_bytes,
        snapshot_warn_percent: update.snapshot_warn_percent,
        on_short: match (update.on_short_of_pool, update.on_short) {
            (true, _) => Some(None),
            (false, on_short) => on_short.map(|on_short| Some(asked(on_short))),
        },
    }
}

pub(super) fn pool_rules(update: api::UpdatePoolRules) -> PoolRulesUpdate {
    let api::UpdatePoolRules { limit_percent, limit_bytes, on_short } = update;
    PoolRulesUpdate { limit_percent, limit_bytes, on_short: on_short.map(asked) }
}
