//! Copies of models from node to node: which nodes have a model, and the way of its files
//! through the queen.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::future::BoxFuture;
use hive_contract::{ContentQuery, CopySource, HiveClient, ManifestQuery, ModelManifest};
use http::{HeaderMap, HeaderValue, header};
use input_validation::{ModelRef, NodeName};
use rest_client::{CallError, Download};
use tokio::time::timeout;

use crate::{Node, Nodes, errors};

/// Longest wait for a node to begin to send a file.
const CONTENT_LIMIT: Duration = Duration::from_secs(10);

impl Nodes {
    /// Where the hive of `node` can copy a model from; `None` if no other node has it.
    /// `or_vendor` is whether the hive may fetch it from its vendor if the copy fails.
    pub(crate) async fn copy_source(
        &self,
        node: &Node,
        model: &ModelRef,
        revision: Option<&str>,
        or_vendor: bool,
    ) -> Result<Option<CopySource>, Diagnostic> {
        let holders = self.catalog().holders(model, revision);
        if holders.iter().all(|holder| holder == node.name()) {
            return Ok(None);
        }
        Ok(Some(CopySource {
            queen_url: node.link().queen_url().await?,
            or_vendor,
        }))
    }

    /// Lists the files of a model for the hive of `asker`, as another node has them.
    ///
    /// Errors: `MODEL_NOT_FOUND` if no other node has it at this revision, `HIVE_UNREACHABLE` if
    /// none of those that have it responds.
    pub async fn model_manifest(
        &self,
        asker: &NodeName,
        query: &ManifestQuery,
    ) -> Result<ModelManifest, Diagnostic> {
        let query = ManifestQuery {
            model: self.canonical(query.model.clone()),
            revision: query.revision.clone(),
        };
        let revision = query.revision.as_deref();
        self.of_holders(asker, &query.model, revision, |hive| {
            let query = query.clone();
            Box::pin(async move { hive.model_manifest(&query).await })
        })
        .await
    }

    /// Opens a file of a model for the hive of `asker`, on another node that has it with the
    /// SHA-256. `range` is the header `Range`.
    ///
    /// Errors: those of [`model_manifest`](Self::model_manifest), and `INVALID_REQUEST` for a
    /// range behind the end.
    pub async fn model_content(
        &self,
        asker: &NodeName,
        query: &ContentQuery,
        range: Option<&HeaderValue>,
    ) -> Result<Download, Diagnostic> {
        let range = range.map(|range| (header::RANGE, range.clone()));
        let headers: HeaderMap = range.into_iter().collect();
        let model = self.canonical(query.model.clone());
        self.of_holders(asker, &model, None, |hive| {
            let (query, headers) = (query.clone(), headers.clone());
            Box::pin(async move {
                let opened = timeout(CONTENT_LIMIT, hive.model_content(&query, headers));
                let late = |_| Err(CallError::Link(errors::hive_unresponsive()));
                opened.await.unwrap_or_else(late)
            })
        })
        .await
    }

    /// Asks the nodes that have a model, one after the other, until one can answer.
    async fn of_holders<T>(
        &self,
        asker: &NodeName,
        model: &ModelRef,
        revision: Option<&str>,
        ask: impl Fn(HiveClient) -> BoxFuture<'static, Result<T, CallError>>,
    ) -> Result<T, Diagnostic> {
        let mut failed = None;
        for holder in self.catalog().holders(model, revision) {
            if holder == *asker {
                continue;
            }
            let error = match self.get(&holder).and_then(|node| node.hive_now()) {
                Ok(hive) => match ask(hive.client).await {
                    Ok(answer) => return Ok(answer),
                    // The model was removed or replaced, which is not known here yet.
                    Err(CallError::Response(_, error)) if error.code == Code::ModelNotFound => {
                        continue;
                    }
                    Err(CallError::Response(_, error)) if error.code == Code::InvalidRequest => {
                        return Err(error);
                    }
                    Err(error) => error.into_diagnostic(),
                },
                Err(error) => error,
            };
            tracing::warn!(node = %holder, %model, %error, "cannot copy a model from a node");
            failed.get_or_insert(error);
        }
        Err(match failed {
            Some(error) => errors::holders_do_not_respond(model, &error),
            None => errors::on_no_other_node(model),
        })
    }
}
