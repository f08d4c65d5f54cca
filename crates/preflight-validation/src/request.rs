use diagnostics::{Code, Diagnostic};
use hive_contract::PreflightRequest;
use worker_contract::limits::MAX_SLOTS;

/// Checks the numbers of a request.
///
/// Errors: `INVALID_REQUEST`.
pub fn validate(request: &PreflightRequest) -> Result<(), Diagnostic> {
    for (param, value, max) in [
        ("context_length", request.context_length, u32::MAX),
        ("slots", request.slots, MAX_SLOTS),
    ] {
        if value.is_some_and(|value| !(1..=max).contains(&value)) {
            let message = format!("`{param}` must be between 1 and {max}");
            return Err(Diagnostic::new(Code::InvalidRequest, message).param(param));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        let request = |context_length, slots| PreflightRequest {
            context_length,
            slots,
            ..PreflightRequest::default()
        };
        assert_eq!(validate(&request(None, None)), Ok(()));
        assert_eq!(validate(&request(Some(1), Some(MAX_SLOTS))), Ok(()));
        for (context, slots, param) in [
            (Some(0), None, "context_length"),
            (None, Some(0), "slots"),
            (None, Some(MAX_SLOTS + 1), "slots"),
        ] {
            let error = validate(&request(context, slots)).unwrap_err();
            assert_eq!(error.code, Code::InvalidRequest);
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }
}
