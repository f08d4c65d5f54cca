use diagnostics::Diagnostic;

/// A client's names for fields of [`InferRequest`](worker_contract::InferRequest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldNames {
    /// Field that becomes `input`.
    pub(crate) input: &'static str,
    /// Field that becomes `constraint`.
    pub(crate) constraint: &'static str,
}

impl FieldNames {
    /// Replaces the worker's name of the field at fault with the client's name.
    #[must_use]
    pub fn translate(self, error: Diagnostic) -> Diagnostic {
        let mut error = error
            .rename_param("constraint", self.constraint)
            .rename_param("continue_final_message", self.input)
            .rename_param("input", self.input);
        // Clients send the sampling parameters next to the other fields, not in an object.
        let sampling = error
            .param
            .as_deref()
            .and_then(|param| param.strip_prefix("sampling."));
        if let Some(name) = sampling {
            error.param = Some(name.into());
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::must_be;

    #[test]
    fn worker_errors_name_the_clients_field() {
        let names = FieldNames {
            input: "messages",
            constraint: "guided_regex",
        };
        for (worker, client, message) in [
            ("constraint", "guided_regex", "`guided_regex` must be short"),
            ("input", "messages", "`messages` must be short"),
            (
                "continue_final_message",
                "messages",
                "`messages` must be short",
            ),
            ("max_tokens", "max_tokens", "`max_tokens` must be short"),
            (
                "sampling.logit_bias",
                "logit_bias",
                "`sampling.logit_bias` must be short",
            ),
        ] {
            let error = names.translate(must_be(worker, "short"));
            assert_eq!(
                (error.param.as_deref(), error.message.as_str()),
                (Some(client), message)
            );
        }
    }
}
