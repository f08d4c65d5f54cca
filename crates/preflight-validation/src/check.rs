use diagnostics::{Code, Details, Diagnostic};
use hive_contract::{PreflightCheck, PreflightLevel, Verdict};

/// A check before its result is known. Only [`fail`](Self::fail) and [`refuse`](Self::refuse)
/// create failures, so that each has a code and a hint.
pub(crate) struct Check {
    level: PreflightLevel,
    name: &'static str,
    requirement: String,
    details: Details,
}

impl Check {
    pub(crate) fn new(
        level: PreflightLevel,
        name: &'static str,
        requirement: impl Into<String>,
    ) -> Self {
        Self {
            level,
            name,
            requirement: requirement.into(),
            details: Details::new(),
        }
    }

    /// Adds a value for programs.
    pub(crate) fn detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn pass(self, measured: impl Into<String>) -> PreflightCheck {
        self.result(Verdict::Pass, measured.into(), None, None)
    }

    pub(crate) fn skip(self, reason: impl Into<String>) -> PreflightCheck {
        self.result(Verdict::Skipped, reason.into(), None, None)
    }

    pub(crate) fn warn(
        self,
        measured: impl Into<String>,
        hint: impl Into<String>,
    ) -> PreflightCheck {
        self.result(Verdict::Warn, measured.into(), None, Some(hint.into()))
    }

    pub(crate) fn fail(
        self,
        measured: impl Into<String>,
        code: Code,
        hint: impl Into<String>,
    ) -> PreflightCheck {
        self.result(
            Verdict::Fail,
            measured.into(),
            Some(code),
            Some(hint.into()),
        )
    }

    /// Fails with an error that another part of rbee reported. `hint` is used if it has none.
    pub(crate) fn refuse(mut self, error: &Diagnostic, hint: &str) -> PreflightCheck {
        if let Some(details) = &error.details {
            let values = details.iter().map(|(k, v)| (k.clone(), v.clone()));
            self.details.extend(values);
        }
        let hint = error.hint.clone().unwrap_or_else(|| hint.to_owned());
        self.fail(error.message.clone(), error.code, hint)
    }

    fn result(
        self,
        verdict: Verdict,
        measured: String,
        code: Option<Code>,
        hint: Option<String>,
    ) -> PreflightCheck {
        PreflightCheck {
            level: self.level,
            name: self.name.to_owned(),
            requirement: self.requirement,
            measured,
            verdict,
            code,
            hint,
            details: (!self.details.is_empty()).then(|| Box::new(self.details)),
        }
    }
}
