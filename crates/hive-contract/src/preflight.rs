use diagnostics::{Code, Details, Diagnostic};
use input_validation::{Backend, DeviceId, EngineName, ModelRef};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/preflight`: the worker whose start is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PreflightRequest {
    /// Model of the worker. Without it, only the device is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// Device of the worker. Default: the first one of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Backend of the device. Default: that of the device, or else `cpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Engine that runs the model. Default: the first one that can, that of rbee before others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineName>,
    /// Maximum length of prompt and output together, in tokens. Default: what fits, at most the
    /// context length of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub context_length: Option<u32>,
    /// Number of requests of that length that must fit at the same time. Default: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub slots: Option<u32>,
}

/// What a check is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PreflightLevel {
    /// The queen, on its own machine.
    Queen,
    /// The SSH connection to a node.
    Ssh,
    /// The hive of a node and its machine.
    Hive,
    /// The worker that would be started.
    Worker,
}

/// Result of a check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The requirement is met.
    Pass,
    /// The requirement could not be checked, because another one is not met.
    Skipped,
    /// The requirement is met, but not by much, or with a restriction.
    Warn,
    /// The requirement is not met.
    Fail,
}

/// One check before a start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PreflightCheck {
    /// What the check is about.
    pub level: PreflightLevel,
    /// Name of the check, unique in its level: `memory`.
    pub name: String,
    /// What is required, with the values.
    pub requirement: String,
    /// What was found, with the values.
    pub measured: String,
    /// Result of the check.
    pub verdict: Verdict,
    /// Code of the error; present if the check failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<Code>,
    /// What to do; commands are in backticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
    /// The values, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, serde_json::Value>>, nullable = false)]
    pub details: Option<Box<Details>>,
}

impl PreflightCheck {
    /// Returns requirement and finding as one sentence.
    pub fn message(&self) -> String {
        format!("{}; required: {}", self.measured, self.requirement)
    }

    /// Returns the error of a start that this check alone refuses.
    pub fn error(&self) -> Diagnostic {
        let mut error = Diagnostic::new(self.code.unwrap_or(Code::Internal), self.message());
        error.hint.clone_from(&self.hint);
        error.details.clone_from(&self.details);
        error
    }
}

/// Response of `POST /v1/preflight`: every check, whether or not others failed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PreflightReport {
    /// The checks, by level.
    pub checks: Vec<PreflightCheck>,
}

impl PreflightReport {
    /// Returns the checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &PreflightCheck> {
        let checks = self.checks.iter();
        checks.filter(|check| check.verdict == Verdict::Fail)
    }

    /// Returns the error of a start that these checks refuse: the code and the hint of the first
    /// failure, and the messages of all. `None` if no check failed.
    pub fn refusal(&self) -> Option<Diagnostic> {
        let failures: Vec<&PreflightCheck> = self.failures().collect();
        let mut error = failures.first()?.error();
        if failures.len() == 1 {
            return Some(error);
        }
        let messages: Vec<String> = failures.iter().map(|check| check.message()).collect();
        error.message = format!(
            "{} checks failed:\n  {}",
            messages.len(),
            messages.join("\n  ")
        );
        let listed = failures.iter().map(|check| {
            serde_json::json!({
                "name": check.name, "code": check.code, "message": check.message(),
                "hint": check.hint,
            })
        });
        Some(error.detail("failures", listed.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    fn check(name: &str, code: Option<Code>) -> PreflightCheck {
        PreflightCheck {
            level: PreflightLevel::Worker,
            name: name.to_owned(),
            requirement: format!("much {name}"),
            measured: format!("little {name}"),
            verdict: code.map_or(Verdict::Pass, |_| Verdict::Fail),
            code,
            hint: code.map(|_| format!("get {name}")),
            details: None,
        }
    }

    #[test]
    fn documented_maximum_of_slots_is_the_limit() {
        let schema = serde_json::to_value(PreflightRequest::schema()).unwrap();
        let maximum = &schema["properties"]["slots"]["maximum"];
        assert_eq!(*maximum, worker_contract::limits::MAX_SLOTS);
    }

    #[test]
    fn a_refusal_has_the_first_code_and_names_all_failures() {
        let report = |checks: &[PreflightCheck]| PreflightReport {
            checks: checks.to_vec(),
        };
        let passed = check("time", None);
        assert_eq!(report(std::slice::from_ref(&passed)).refusal(), None);

        let ram = check("ram", Some(Code::InsufficientRam));
        let one = report(&[passed.clone(), ram.clone()]).refusal().unwrap();
        assert_eq!(one.message, "little ram; required: much ram");
        assert_eq!(one.details, None);

        let disk = check("disk", Some(Code::InsufficientDisk));
        let both = report(&[ram, passed, disk]).refusal().unwrap();
        assert_eq!(both.code, Code::InsufficientRam);
        assert_eq!(both.hint.as_deref(), Some("get ram"));
        assert_eq!(
            both.message,
            "2 checks failed:\n  little ram; required: much ram\n  little disk; required: much disk"
        );
        let details = both.details.unwrap();
        assert_eq!(details["failures"][1]["code"], "INSUFFICIENT_DISK");
        assert_eq!(details["failures"][1]["hint"], "get disk");
    }
}
