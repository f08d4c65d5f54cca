//! The policy of the user, and what it would decide.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, JsonBody};
use diagnostics::{Code, Diagnostic};
use queen_contract::{DecisionKind, PolicyStatus, PolicyTest, PolicyTestCall};
use request_queue::ClientKey;
use scheduler::{NewRequest, PromptPrefixes, WorkerRequirements};
use scheduling_policy::Policy;

use crate::{
    Api,
    responses::{PolicyTestErrors, ReadErrors},
};

/// Deadline of the request that might arrive.
const DEADLINE: Duration = Duration::from_hours(1);

/// Show the policy
#[utoipa::path(get, path = "/v1/policy", tag = "decisions", security(("control_token" = [])),
    responses((status = 200, body = PolicyStatus, description = "The policy"), ReadErrors))]
pub(crate) async fn show(State(api): State<Arc<Api>>) -> Result<Json<PolicyStatus>, ErrorResponse> {
    let report = api.dispatcher.policy_report().await?;
    Ok(Json(PolicyStatus {
        file: api.policy.path().display().to_string(),
        script: api.policy.script(),
        problem: api.policy.problem(),
        failures: report.failures,
        suspended: report.suspended,
        last_failure: report.last_failure,
    }))
}

/// Show what would be decided for a request
///
/// With the script of the body, or else with the one in use, and without any. Nothing changes.
#[utoipa::path(post, path = "/v1/policy/test", tag = "decisions",
    security(("control_token" = [])), request_body = PolicyTestCall,
    responses((status = 200, body = PolicyTest, description = "The decisions"), PolicyTestErrors))]
pub(crate) async fn test(
    State(api): State<Arc<Api>>,
    JsonBody(call): JsonBody<PolicyTestCall>,
) -> Result<Json<PolicyTest>, ErrorResponse> {
    let script = call.script.as_deref().map(Policy::compile).transpose();
    let script = script.map_err(|error| not_usable(&error.to_string()))?;
    let model = api
        .nodes
        .check_named(call.model, call.node.as_ref())
        .await?;
    let dispatcher = &api.dispatcher;
    let request = NewRequest {
        id: format!("policy-test-{}", uuid::Uuid::now_v7()).parse()?,
        requirements: WorkerRequirements {
            model,
            backend: call.backend,
            node: call.node,
            capability: None,
        },
        priority: call.priority,
        client: ClientKey::default(),
        deadline: dispatcher.clock().deadline_in(DEADLINE),
        prompt: PromptPrefixes::new(Vec::new(), call.prompt_bytes),
    };
    let run = dispatcher.dry_run(request, script.map(Arc::new)).await?;
    let mut decisions = run.policy.iter().flatten();
    Ok(Json(PolicyTest {
        failed: decisions.any(|decision| decision.kind == DecisionKind::PolicyFailed),
        default: run.default,
        policy: run.policy,
    }))
}

fn not_usable(problem: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("the script is no policy: {problem}"),
    )
    .hint("`docs/policies.md` shows examples; `rbee-keeper policy test` tries a script")
    .param("script")
}
