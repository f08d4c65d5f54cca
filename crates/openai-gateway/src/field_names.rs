use diagnostics::Diagnostic;

/// A client's names for fields of [`InferRequest`](worker_contract::InferRequest).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldNames {
    /// Field that becomes `input`.
    pub(crate) input: &'static str,
    /// Field that becomes `constraint`.
    pub(crate) constraint: &'static str,
    /// The dialect's other fields: a worker's name, and the client's. An entry also stands for
    /// the fields of an object, unless an earlier one names them.
    pub(crate) others: &'static [(&'static str, &'static str)],
}

/// Fields of chat and text completions.
pub(crate) const OPENAI: &[(&str, &str)] = &[
    ("reasoning.effort", "reasoning_effort"),
    ("reasoning.max_tokens", "max_reasoning_tokens"),
    ("reasoning.enabled", "enable_thinking"),
    ("template_variables", "chat_template_kwargs"),
];

pub(crate) const RESPONSES: &[(&str, &str)] = &[
    ("reasoning.enabled", "reasoning"),
    ("max_tokens", "max_output_tokens"),
    ("logprobs", "top_logprobs"),
];

pub(crate) const ANTHROPIC: &[(&str, &str)] = &[
    ("reasoning.effort", "output_config.effort"),
    ("reasoning.max_tokens", "thinking.budget_tokens"),
    ("reasoning.enabled", "thinking"),
    ("stop", "stop_sequences"),
];

pub(crate) const OLLAMA: &[(&str, &str)] = &[
    ("preceding_tokens", "context"),
    ("reasoning.effort", "think"),
    ("reasoning.max_tokens", "think"),
    ("reasoning.enabled", "think"),
    ("max_tokens", "options.num_predict"),
    ("stop", "options.stop"),
    ("logprobs", "top_logprobs"),
    ("sampling.repetition_penalty", "options.repeat_penalty"),
    ("sampling.penalty_window", "options.repeat_last_n"),
    ("sampling", "options"),
];

/// Fields that no client sends in a body.
const INTERNAL: [&str; 2] = ["continue_from", "request_id"];

impl FieldNames {
    /// Replaces the worker's name of the field at fault with the client's name.
    #[must_use]
    pub fn translate(self, error: Diagnostic) -> Diagnostic {
        let Some(worker) = error.param.clone() else {
            return error;
        };
        if INTERNAL.contains(&&*worker) {
            return Diagnostic {
                param: None,
                ..error
            };
        }
        error.rename_param(&worker, &self.client_name(&worker))
    }

    /// Same as [`translate`](Self::translate), for a request with several inputs. `input` is the
    /// index of the one at fault.
    #[must_use]
    pub fn translate_input(self, error: Diagnostic, input: usize) -> Diagnostic {
        let names = self.input;
        self.translate(error)
            .rename_param(names, &format!("{names}[{input}]"))
    }

    /// Returns the client's name of a worker's field.
    #[must_use]
    pub fn client_name(self, worker: &str) -> String {
        let own = [
            ("constraint", self.constraint),
            ("continue_final_message", self.input),
            ("input", self.input),
            // Templates and their errors know no other input.
            ("messages", self.input),
        ];
        // Clients send the sampling parameters next to the other fields, not in an object.
        let renamed = own.iter().chain(self.others).find_map(|(from, to)| {
            let rest = worker.strip_prefix(from)?;
            let is_field = rest.is_empty() || rest.starts_with(['.', '[']);
            is_field.then(|| format!("{to}{rest}"))
        });
        let outside = || {
            worker
                .strip_prefix("sampling.")
                .unwrap_or(worker)
                .to_owned()
        };
        renamed.unwrap_or_else(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::must_be;

    fn names(others: &'static [(&'static str, &'static str)]) -> FieldNames {
        FieldNames {
            input: "prompt",
            constraint: "guided_regex",
            others,
        }
    }

    #[test]
    fn worker_errors_name_the_clients_field() {
        for (others, worker, client) in [
            (OPENAI, "constraint", "guided_regex"),
            (OPENAI, "input", "prompt"),
            (OPENAI, "messages[1].content", "prompt[1].content"),
            (OPENAI, "continue_final_message", "prompt"),
            (OPENAI, "max_tokens", "max_tokens"),
            (OPENAI, "sampling.logit_bias", "logit_bias"),
            (OPENAI, "reasoning.enabled", "enable_thinking"),
            (OPENAI, "template_variables.x", "chat_template_kwargs.x"),
            (RESPONSES, "max_tokens", "max_output_tokens"),
            (RESPONSES, "reasoning.enabled", "reasoning"),
            (ANTHROPIC, "stop", "stop_sequences"),
            (ANTHROPIC, "reasoning.max_tokens", "thinking.budget_tokens"),
            (OLLAMA, "preceding_tokens", "context"),
            (OLLAMA, "reasoning.enabled", "think"),
            (OLLAMA, "sampling.temperature", "options.temperature"),
            (
                OLLAMA,
                "sampling.repetition_penalty",
                "options.repeat_penalty",
            ),
        ] {
            let error = names(others).translate(must_be(worker, "short"));
            assert_eq!(error.param.as_deref(), Some(client));
            assert_eq!(error.message, format!("`{client}` must be short"));
        }
    }

    #[test]
    fn an_internal_field_is_not_named() {
        let error = names(OPENAI).translate(must_be("continue_from", "short"));
        assert_eq!(error.param, None);
    }

    #[test]
    fn one_of_several_inputs_is_named_by_its_index() {
        let error = names(OPENAI).translate_input(must_be("input", "short"), 1);
        assert_eq!(error.param.as_deref(), Some("prompt[1]"));
        assert_eq!(error.message, "`prompt[1]` must be short");
        let error = names(OPENAI).translate_input(must_be("stop", "short"), 1);
        assert_eq!(error.param.as_deref(), Some("stop"));
    }
}
