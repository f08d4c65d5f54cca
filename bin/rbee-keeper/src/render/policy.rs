//! Text about the policy.

use diagnostics::escape;
use queen_contract::{PolicyStatus, PolicyTest};

use super::decisions;

/// Formats the result of `rbee-keeper policy show`.
pub(crate) fn status(status: &PolicyStatus) -> String {
    let mut lines = vec![format!("file      {}", escape(&status.file))];
    match &status.script {
        None => lines.push("in use    no script: rbee decides by its own rules".into()),
        Some(script) => {
            let functions = [("route", script.routes), ("place", script.places)];
            let functions: Vec<&str> = functions
                .iter()
                .filter(|(_, has)| *has)
                .map(|(name, _)| *name)
                .collect();
            let hash = escape(&script.sha256.chars().take(12).collect::<String>());
            lines.push(format!(
                "in use    {hash} since {:.0} ({})",
                script.loaded_at,
                functions.join(", ")
            ));
            let suspended = if status.suspended {
                ", too many in a row: it is not run until its file changes"
            } else {
                ""
            };
            lines.push(format!("failures  {}{suspended}", status.failures));
        }
    }
    if let Some(failure) = &status.last_failure {
        let message = escape(&failure.message);
        lines.push(format!("last      {:.0}  {message}", failure.time));
    }
    if let Some(problem) = &status.problem {
        lines.push(format!(
            "problem   the file cannot be used: {}",
            escape(problem)
        ));
    }
    lines.join("\n") + "\n"
}

/// Formats the result of `rbee-keeper policy test`.
pub(crate) fn test(test: &PolicyTest) -> String {
    let default = decisions::list(&test.default);
    let policy = match &test.policy {
        Some(policy) => decisions::list(policy),
        None => "no script is in use\n".to_owned(),
    };
    format!("without the policy\n{default}\nwith the policy\n{policy}")
}

#[cfg(test)]
mod tests {
    use queen_contract::{PolicyFailureEntry, PolicyScript};

    use super::*;

    #[test]
    fn the_state_of_a_policy_is_shown() {
        let mut shown = PolicyStatus {
            file: "/home/policy".into(),
            script: None,
            problem: Some("line 2, column 3: \u{1b}[31m".into()),
            failures: 0,
            suspended: false,
            last_failure: None,
        };
        assert_eq!(
            status(&shown),
            "file      /home/policy\n\
             in use    no script: rbee decides by its own rules\n\
             problem   the file cannot be used: line 2, column 3: \\u{1b}[31m\n"
        );
        shown.problem = None;
        shown.script = Some(PolicyScript {
            sha256: "0123456789abcdef".into(),
            loaded_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            routes: true,
            places: true,
        });
        shown.failures = 10;
        shown.suspended = true;
        shown.last_failure = Some(PolicyFailureEntry {
            time: "2026-01-02T03:05:05Z".parse().unwrap(),
            message: "Division by zero".into(),
        });
        assert_eq!(
            status(&shown),
            "file      /home/policy\n\
             in use    0123456789ab since 2026-01-02T03:04:05Z (route, place)\n\
             failures  10, too many in a row: it is not run until its file changes\n\
             last      2026-01-02T03:05:05Z  Division by zero\n"
        );
    }
}
