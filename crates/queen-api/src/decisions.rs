//! Why the queen did what it did.

use std::{str::FromStr, sync::Arc};

use axum::{Json, extract::State};
use daemon_shell::{ErrorResponse, PathArg, QueryArgs};
use diagnostics::{Code, Diagnostic, excerpt};
use queen_contract::{Decision, DecisionList, DecisionQuery};

use crate::{
    Api,
    responses::{DecisionErrors, LookupErrors},
};

/// Number of decisions unless the query says otherwise.
const DEFAULT_LIMIT: u32 = 50;

/// List the latest decisions
///
/// The queen remembers the last 2000 decisions since its start, and the hives which engine each
/// worker uses.
#[utoipa::path(get, path = "/v1/decisions", tag = "decisions",
    security(("control_token" = [])), params(DecisionQuery),
    responses((status = 200, body = DecisionList, description = "The decisions"), DecisionErrors))]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    QueryArgs(query): QueryArgs<DecisionQuery>,
) -> Result<Json<DecisionList>, ErrorResponse> {
    let decisions = decisions(&api, None, limit(query)).await?;
    Ok(Json(DecisionList { decisions }))
}

/// List the decisions about a request, a worker or a model
#[utoipa::path(get, path = "/v1/decisions/{about}", tag = "decisions",
    security(("control_token" = [])),
    params(("about" = String, Path, description = "id of a request or of a worker, or a model"),
        DecisionQuery),
    responses((status = 200, body = DecisionList, description = "The decisions"), LookupErrors))]
pub(crate) async fn about(
    State(api): State<Arc<Api>>,
    PathArg(Subject(about)): PathArg<Subject>,
    QueryArgs(query): QueryArgs<DecisionQuery>,
) -> Result<Json<DecisionList>, ErrorResponse> {
    let decisions = decisions(&api, Some(&about), limit(query)).await?;
    if decisions.is_empty() {
        return Err(unknown(&about).into());
    }
    Ok(Json(DecisionList { decisions }))
}

/// The decisions of the queen and of the hives, in order of time.
async fn decisions(
    api: &Api,
    about: Option<&str>,
    limit: usize,
) -> Result<Vec<Decision>, Diagnostic> {
    let own = api.dispatcher.decisions(about.map(str::to_owned), limit);
    let (own, engines) = tokio::join!(own, api.nodes.engine_decisions(about));
    let mut all = own?;
    all.extend(engines);
    all.sort_by_key(|decision| decision.time);
    all.drain(..all.len().saturating_sub(limit));
    Ok(all)
}

/// What decisions are about. Any text: what matches nothing is not found.
pub(crate) struct Subject(String);

impl FromStr for Subject {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        Ok(Self(text.to_owned()))
    }
}

fn limit(query: DecisionQuery) -> usize {
    query.limit.unwrap_or(DEFAULT_LIMIT) as usize
}

fn unknown(about: &str) -> Diagnostic {
    let about = excerpt(about, 100);
    Diagnostic::new(
        Code::NotFound,
        format!("no decision about `{about}` is known: it is no request, worker or model, or it is older than the last 2000 decisions"),
    )
    .hint("`rbee-keeper why` lists the latest decisions")
}
