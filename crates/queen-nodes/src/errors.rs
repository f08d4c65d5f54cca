//! The errors of this crate.

use std::{io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::API_VERSION;
use input_validation::{ModelRef, NodeName, WorkerId};
use scheduler::SpawnTarget;
use ssh_registry::InvitationRefusal;
use state_files::Home;

/// Number of names that a hint shows.
const NAMES_SHOWN: usize = 12;

pub(crate) fn node_not_found(node: &NodeName) -> Diagnostic {
    Diagnostic::new(Code::NodeNotFound, format!("node {node} does not exist"))
        .hint(format!(
            "`rbee-keeper node add {node}` adds it; `rbee-keeper node list` lists the nodes"
        ))
        .param("node")
}

/// A hint that names what exists, as far as there is room.
pub(crate) fn one_of(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let names = names.join(", ");
    match more {
        0 => format!("use one of: {names}"),
        more => format!("use one of: {names}, or {more} more"),
    }
}

pub(crate) fn node_exists(node: &NodeName) -> Diagnostic {
    Diagnostic::new(Code::NodeExists, format!("node {node} exists already"))
        .hint(format!(
            "`rbee-keeper node update {node}` changes it, `rbee-keeper node remove {node}` \
             removes it"
        ))
        .param("name")
}

pub(crate) fn node_changing(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::NodeExists,
        format!("node {node} is being added, updated or removed"),
    )
    .hint("wait until that command has ended")
    .param("name")
}

pub(crate) fn own_machine() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        "the node local is the machine of the queen: it is always there, and not configurable",
    )
    .hint("start the queen with `--no-local-hive` to run no workers on its machine")
    .param("name")
}

/// The queen's own machine does not sleep: nobody would wake it.
pub(crate) fn own_machine_awake() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        "the node local is the machine of the queen, which has to stay awake",
    )
    .hint("other nodes can be put to sleep: `rbee-keeper node list` lists them")
    .param("name")
}

/// A change would make a node the queen's own machine.
pub(crate) fn not_local() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        "only the node local has the link `local`",
    )
    .hint("use the link `ssh` or `direct`")
    .param("spec.link")
}

/// Only a machine that has an invitation gets the link `joined`.
pub(crate) fn requires_invitation(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} would connect to the queen, which requires an invitation"),
    )
    .hint(format!(
        "`rbee-keeper node invite {node}` prints one, and the command for that machine"
    ))
    .param("spec.link")
}

/// The queen does not reach this node: there is no address to change.
pub(crate) fn connects_itself(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} connects to the queen by itself: there is nothing to change"),
    )
    .hint(format!(
        "to reach it otherwise, remove it with `rbee-keeper node remove {node}` and add it again"
    ))
    .param("spec.link")
}

/// The node does not connect to the queen.
pub(crate) fn not_joined(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} has not joined: the queen connects to it"),
    )
    .hint(format!(
        "`rbee-keeper node remove {node}` removes it, `rbee-keeper node invite {node}` invites its \
         machine to join"
    ))
}

pub(crate) fn invitation_not_found(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("there is no invitation for node {node} that can be used"),
    )
    .hint("`rbee-keeper node invitations` lists them")
    .param("name")
}

/// The secret is not one of an invitation.
pub(crate) fn invitation_unknown() -> Diagnostic {
    Diagnostic::new(
        Code::InvalidApiKey,
        "the invitation is not valid: it was revoked or replaced, or it is for another queen",
    )
    .hint(NEW_INVITATION)
}

pub(crate) fn invitation_refused(node: &NodeName, refusal: InvitationRefusal) -> Diagnostic {
    let message = match refusal {
        InvitationRefusal::Used => {
            format!("the invitation for node {node} was used by another machine")
        }
        InvitationRefusal::Expired(at) => {
            format!("the invitation for node {node} expired at {at}")
        }
    };
    Diagnostic::new(Code::InvalidApiKey, message).hint(NEW_INVITATION)
}

/// What helps if an invitation is refused, on the machine of the queen.
const NEW_INVITATION: &str =
    "`rbee-keeper node invite NAME` on the machine of the queen prints a new invitation";

/// A hive that joins or connects has another interface version.
pub(crate) fn hive_incompatible(version: &str, api_version: u32) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the hive is version {} (interface {api_version}), the queen is version {} (interface \
             {API_VERSION})",
            excerpt(version, 40),
            env!("CARGO_PKG_VERSION"),
        ),
    )
    .hint("install the same version of rbee on both machines")
    .detail("hive_api_version", api_version)
    .detail("queen_api_version", API_VERSION)
}

pub(crate) fn token_required(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} is reached by its address, which requires the token of its hive"),
    )
    .hint(format!(
        "its token is in `{}` of its home, or in the file of its `--token-file`: pass a copy with \
         `--hive-token-file FILE`",
        Home::NODE_TOKEN
    ))
    .param("token")
}

pub(crate) fn invalid_token() -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, "the token of the node is invalid")
        .hint("a token has at least 16 printable ASCII characters")
        .param("token")
}

pub(crate) fn token_in_use(node: &NodeName, other: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("node {node} has the token of node {other}: every node needs its own"),
    )
    .hint("start its hive with another `--token-file`")
    .param("token")
}

pub(crate) fn token_not_removed(file: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("cannot remove {}: {error}", file.display()),
    )
}

pub(crate) fn log_unreadable(file: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("cannot read the log {}: {error}", file.display()),
    )
    .hint("a hive that the queen did not start logs elsewhere")
}

/// Workers run on a node that is to be removed.
pub(crate) fn node_in_use(node: &NodeName, what: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::NodeInUse,
        format!("node {node} is in use: {}", what.join(", ")),
    )
    .hint(format!(
        "`rbee-keeper node remove {node} --force` stops its workers and parts and removes it; \
         deployments that name it stay, and have no worker there"
    ))
    .detail("in_use", what)
}

/// The error for a model that no node has, by the name that the client used.
pub fn model_not_found(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("model \"{}\" does not exist", excerpt(name, 120)),
    )
    .hint("`rbee-keeper model list` and `GET /v1/models` list the models, for example `builtin:haiku`")
    .param("model")
}

/// The error for a model that could be fetched and is on no node.
pub(crate) fn not_on_any_node(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("the model {model} is not on any node"),
    )
    .hint(format!(
        "fetch it with `rbee-keeper model pull {model}`, or start the queen with `--auto-pull` \
         to let requests fetch models"
    ))
    .param("model")
    .detail("can_be_fetched", true)
}

pub(crate) fn on_no_other_node(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("no other node has the files of {model}"),
    )
    .param("model")
}

pub(crate) fn holders_do_not_respond(model: &ModelRef, error: &Diagnostic) -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        format!(
            "no node that has the files of {model} can send them: {}",
            error.message
        ),
    )
}

/// Says what to do about an error of a job on a node. Other nodes than the queen's have no token
/// of the hub.
pub(crate) fn on_node(error: Diagnostic, node: Option<&NodeName>) -> Diagnostic {
    match node {
        Some(node) if *node != NodeName::local() && error.code == Code::ModelAccessDenied => error
            .hint(format!(
                "the token of the hub stays on the queen's machine; fetch the model there with \
                 `rbee-keeper pull MODEL`, then copy it with `rbee-keeper pull MODEL --node {node}`"
            )),
        _ => error,
    }
}

/// Says why a file that is on the queen's machine does not exist on another node.
pub(crate) fn on_target(error: Diagnostic, target: &SpawnTarget) -> Diagnostic {
    match &target.model {
        ModelRef::File(_)
            if error.code == Code::ModelNotFound && target.node != NodeName::local() =>
        {
            error.hint(format!(
                "paths are those of the node {}: put the file there, or use a model of `hf:` or \
                 `ollama:`, which is copied from node to node",
                target.node
            ))
        }
        _ => error,
    }
}

pub(crate) fn pull_cancelled(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::Cancelled,
        format!("the download of {model} was cancelled"),
    )
    .hint(format!(
        "what was fetched is kept; `rbee-keeper model pull {model}` continues it"
    ))
}

pub(crate) fn pull_stream_ended(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        format!("the hive's event stream ended before {model} was complete"),
    )
}

pub(crate) fn deployment_not_found(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(Code::NotFound, format!("{model} is not deployed"))
        .hint("`rbee-keeper deployments` lists the deployments; `rbee-keeper worker stop ID` stops one worker")
        .param("model")
}

pub(crate) fn wrong_slots(model: &ModelRef, slots: u32, most: u32) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{model}: a worker cannot run {slots} requests at a time"),
    )
    .hint(format!("choose 1 to {most} slots"))
    .param("slots")
}

pub(crate) fn deployed_twice(model: &ModelRef) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{model} is listed more than once"),
    )
    .hint("describe all workers of a model in one deployment")
    .param("deployments")
}

pub(crate) fn wrong_worker_numbers(model: &ModelRef, min: u32, max: u32) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("{model}: {min} to {max} workers is not a range"),
    )
    .hint("the minimum is 0 to 1000, and the maximum 1 to 1000 and not less than the minimum")
    .param("max_workers")
}

pub(crate) fn worker_not_found(id: &WorkerId) -> Diagnostic {
    Diagnostic::new(Code::WorkerNotFound, format!("worker {id} does not exist"))
        .hint("`rbee-keeper worker list` lists the workers")
}

pub(crate) fn no_hive(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        format!("the queen was started without a hive on node {node}"),
    )
    .hint("start it without `--no-local-hive`")
}

pub(crate) fn hive_starting() -> Diagnostic {
    Diagnostic::new(Code::HiveUnreachable, "the hive is still starting")
}

pub(crate) fn hive_did_not_start() -> Diagnostic {
    Diagnostic::new(Code::HiveUnreachable, "the hive did not start in time").hint(see_hive_log())
}

pub(crate) fn hive_unresponsive() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "the hive does not respond; it and its workers keep running",
    )
}

/// The node has no device of the requested backend, or it cannot be used.
pub(crate) fn device_refused(error: Diagnostic, node: &NodeName) -> Diagnostic {
    let message = format!("node {node}: {}", error.message);
    Diagnostic { message, ..error }.param("backend")
}

pub(crate) fn spawn_cancelled(worker: &WorkerId) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerStartFailed,
        format!("the start of worker {worker} was cancelled"),
    )
}

pub(crate) fn spawn_stream_ended() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "the hive's event stream ended before the result of the spawn",
    )
}

pub(crate) fn spawn_stream_silent(limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::LoadingTimeout,
        format!(
            "the hive reported no progress of the spawn for {} s",
            limit.as_secs()
        ),
    )
    .hint(see_hive_log())
}

pub(crate) fn unreadable_spawn_result(error: &serde_json::Error) -> Diagnostic {
    Diagnostic::new(
        Code::HiveBadResponse,
        format!("cannot parse the hive's result of a spawn: {error}"),
    )
}

pub(crate) fn already_stopping() -> Diagnostic {
    Diagnostic::new(Code::Draining, "the queen is already shutting down")
}

pub(crate) fn stopped_before_completion() -> Diagnostic {
    Diagnostic::new(
        Code::Draining,
        "the queen shut down before the request had finished",
    )
}

pub(crate) fn foreign_heartbeat(worker: &WorkerId, node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidApiKey,
        format!("the token of worker {worker} is not the token of node {node}"),
    )
    .hint("workers receive the token from the hive that spawns them")
}

fn see_hive_log() -> String {
    format!("see `{}` in rbee's home directory", Home::HIVE_LOG)
}
