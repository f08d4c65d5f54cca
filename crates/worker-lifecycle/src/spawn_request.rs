use diagnostics::Diagnostic;
use hive_contract::{SpawnRequest, SplitRole};
use preflight_validation::ModelFacts;
use worker_contract::limits::MAX_SLOTS;

use crate::errors::invalid_spawn_field;

/// Checks the values that become arguments of the worker. The worker would refuse them, too, but
/// only when it runs.
pub(crate) fn check(request: &SpawnRequest) -> Result<(), Diagnostic> {
    if !is_http_url(&request.queen_url) {
        return Err(invalid_spawn_field(
            "queen_url",
            "an HTTP URL of printable ASCII characters",
        ));
    }
    for (param, value, max) in [
        ("context_length", request.context_length, u32::MAX),
        ("slots", request.slots, MAX_SLOTS),
        ("threads", request.threads, u32::MAX),
    ] {
        if value.is_some_and(|value| !(1..=max).contains(&value)) {
            return Err(invalid_spawn_field(
                param,
                format_args!("between 1 and {max}"),
            ));
        }
    }
    if let Some(SplitRole::Main { parts, .. }) = &request.split
        && (parts.is_empty() || parts.iter().any(|part| part.port == 0 || part.layers == 0))
    {
        return Err(invalid_spawn_field(
            "split",
            "a worker with parts that have a port and a layer",
        ));
    }
    Ok(())
}

/// What the worker itself needs of the model: other machines compute the other layers of a model
/// that is split.
pub(crate) fn own_layers(facts: ModelFacts, request: &SpawnRequest) -> ModelFacts {
    let Some(SplitRole::Main { layers, parts }) = &request.split else {
        return facts;
    };
    let others = parts.iter().map(|part| part.layers);
    facts.layers(*layers, others.fold(*layers, u32::saturating_add))
}

fn is_http_url(url: &str) -> bool {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    fn request(change: impl FnOnce(&mut SpawnRequest)) -> SpawnRequest {
        let mut request = serde_json::from_value(serde_json::json!({
            "worker_id": "w-1", "generation": 1, "model": "mock:a", "device": "CPU-0",
            "queen_url": "http://127.0.0.1:8500",
        }))
        .unwrap();
        change(&mut request);
        request
    }

    fn no_parts() -> SplitRole {
        SplitRole::Main {
            layers: 1,
            parts: Vec::new(),
        }
    }

    #[test]
    fn refuses_values_that_a_worker_would_refuse() {
        type Change = fn(&mut SpawnRequest);
        assert_eq!(check(&request(|_| ())), Ok(()));
        let at_limits: Change = |r| (r.slots, r.threads) = (Some(MAX_SLOTS), Some(1));
        assert_eq!(check(&request(at_limits)), Ok(()));
        let cases: [(Change, &str); 9] = [
            (|r| r.queen_url = String::new(), "queen_url"),
            (|r| r.queen_url = "http://".into(), "queen_url"),
            (|r| r.queen_url = "ftp://a".into(), "queen_url"),
            (|r| r.queen_url = "http://a\0".into(), "queen_url"),
            (|r| r.context_length = Some(0), "context_length"),
            (|r| r.slots = Some(0), "slots"),
            (|r| r.slots = Some(MAX_SLOTS + 1), "slots"),
            (|r| r.threads = Some(0), "threads"),
            (|r| r.split = Some(no_parts()), "split"),
        ];
        for (change, param) in cases {
            let error = check(&request(change)).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest, "{error}");
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
    }
}
