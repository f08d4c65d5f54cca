//! Decisions in words.

use diagnostics::excerpt;
use jiff::Timestamp;
use queen_contract::{Availability, Decision, DecisionCandidate, DecisionKind};
use scheduling_policy::Opinion;
use worker_contract::WorkerStatus;

use super::{Event, PlaceCandidate, PlaceVerdict, RouteCandidate, UnusableWorker};
use crate::{SpawnTarget, StopCause, WaitReason};

const GIB: f64 = 1_073_741_824.0;

impl Event {
    pub(super) fn describe(&self, time: Timestamp) -> Decision {
        let (request, worker, model) = self.subjects();
        let mut decision = Decision {
            time,
            kind: self.kind(),
            request: request.cloned(),
            model: model.cloned(),
            worker: worker.cloned(),
            node: None,
            reason: self.reason(),
            candidates: Vec::new(),
            more_candidates: 0,
        };
        match self {
            Self::Routed { candidates, .. } => {
                decision.node = candidates.best().map(|best| best.node.clone());
                let best = candidates.best();
                decision.candidates = candidates
                    .iter()
                    .map(|candidate| DecisionCandidate {
                        name: candidate.worker.to_string(),
                        chosen: Some(candidate) == best,
                        note: route_note(candidate),
                    })
                    .collect();
                decision.more_candidates = candidates.more() as u64;
            }
            Self::Waits {
                target,
                workers,
                refused,
                ..
            } => {
                decision.node = target.as_ref().map(|target| target.node.clone());
                let refused = refused.iter().map(|worker| DecisionCandidate {
                    name: worker.worker.to_string(),
                    chosen: false,
                    note: route_note(worker),
                });
                decision.candidates = refused.chain(workers.iter().map(unusable)).collect();
            }
            Self::Spawns { target, places, .. } | Self::Deploys { target, places, .. } => {
                decision.node = Some(target.node.clone());
                let is_chosen = |place: &PlaceCandidate| {
                    place.node == target.node && place.backend == target.backend
                };
                let places = places.iter();
                decision.candidates = places
                    .map(|place| place_candidate(place, is_chosen(place)))
                    .collect();
            }
            Self::SpawnFailed { target, .. } => decision.node = Some(target.node.clone()),
            Self::Refused { places, .. } => {
                let places = places.iter();
                decision.candidates = places.map(|place| place_candidate(place, false)).collect();
            }
            Self::AttemptFailed { .. }
            | Self::PolicyFailed { .. }
            | Self::Stops { .. }
            | Self::Lost { .. }
            | Self::PartLost { .. }
            | Self::Exited { .. } => {}
            Self::Yields { node, .. } => decision.node = Some(node.clone()),
        }
        decision
    }

    fn kind(&self) -> DecisionKind {
        match self {
            Self::Routed { .. } => DecisionKind::Route,
            Self::Waits { .. } => DecisionKind::Wait,
            Self::Spawns { .. } | Self::Deploys { .. } => DecisionKind::Spawn,
            Self::SpawnFailed { .. } => DecisionKind::SpawnFailed,
            Self::AttemptFailed { .. } => DecisionKind::AttemptFailed,
            Self::Refused { .. } => DecisionKind::Refuse,
            Self::PolicyFailed { .. } => DecisionKind::PolicyFailed,
            Self::Stops { .. } | Self::Yields { .. } => DecisionKind::Stop,
            Self::Lost { .. } | Self::PartLost { .. } | Self::Exited { .. } => DecisionKind::Lost,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Routed {
                attempt,
                candidates,
                ..
            } => {
                let number = candidates.more() + candidates.iter().count();
                let rule = match number {
                    1 => "it is the only worker that can run the request now".to_owned(),
                    _ if candidates
                        .iter()
                        .any(|worker| worker.opinion != Opinion::None) =>
                    {
                        format!("it comes first of {number} workers by the policy")
                    }
                    _ if candidates.best().is_some_and(|best| best.cached > 0) => {
                        format!(
                            "of {number} workers, it computed the beginning of the prompt before"
                        )
                    }
                    _ => format!("it has the least load of {number} workers"),
                };
                match attempt {
                    1 => rule,
                    _ => format!("attempt {attempt}: {rule}"),
                }
            }
            Self::Waits { reason, target, .. } => waits(*reason, target.as_ref()),
            Self::Spawns { target, places, .. } => {
                let chosen = places
                    .iter()
                    .find(|place| place.node == target.node && place.backend == target.backend);
                let has_opinion = |place: &PlaceCandidate| match &place.verdict {
                    PlaceVerdict::Possible { opinion, .. } => *opinion != Opinion::None,
                    PlaceVerdict::RefusedByPolicy(_) => true,
                    _ => false,
                };
                match chosen.map(|place| &place.verdict) {
                    Some(PlaceVerdict::Possible { .. }) if places.iter().any(has_opinion) => {
                        "no worker has the model; this place comes first by the policy".into()
                    }
                    Some(PlaceVerdict::Possible {
                        has_files: true, ..
                    }) => "no worker has the model; its files are on this node".into(),
                    Some(PlaceVerdict::Possible { .. }) => {
                        "no worker has the model; this place has the most free memory".into()
                    }
                    _ => "no worker has the model; the request names this node".into(),
                }
            }
            Self::Deploys { wanted, .. } => {
                format!("its deployment has fewer workers than it wants now: {wanted}")
            }
            Self::SpawnFailed { error, .. } | Self::Refused { error, .. } => {
                excerpt(&error.message, 400)
            }
            Self::AttemptFailed { error, again, .. } => {
                let what = match error {
                    None => "the worker has no free slot".to_owned(),
                    Some(error) => excerpt(&error.message, 400),
                };
                match again {
                    true => format!("{what}; another worker is tried"),
                    false => format!("{what}; no further attempt"),
                }
            }
            Self::Stops { cause, .. } => match cause {
                StopCause::Idle => "no request used its model for the time that was set".into(),
                StopCause::Surplus => "its deployment needs fewer workers".into(),
                StopCause::Memory => "another model needs its memory".into(),
                StopCause::Stalled => "it computed nothing and did not recover".into(),
                StopCause::Yield => "its GPU is left to other programs".into(),
                StopCause::Sleep => "its node is put to sleep".into(),
                StopCause::Return => "a GPU that was left to other programs is used again".into(),
            },
            Self::Yields { reason, .. } => excerpt(reason, 400),
            Self::PolicyFailed { failure, .. } => {
                format!("the default decides: {failure}")
            }
            Self::Exited { .. } => "its process has exited".into(),
            Self::PartLost { reason, .. } => {
                format!(
                    "{}; it is started again, with new parts",
                    excerpt(reason, 400)
                )
            }
            Self::Lost { .. } => "it sent no heartbeat for too long".into(),
        }
    }
}

fn waits(reason: WaitReason, target: Option<&SpawnTarget>) -> String {
    let at = target.map_or(String::new(), |target| {
        format!(" on node {} ({})", target.node, target.backend)
    });
    match reason {
        WaitReason::Busy { waiting } => {
            format!("all slots are busy; requests that wait for the model: {waiting}")
        }
        WaitReason::Loading => format!("a worker is starting or loading the model{at}"),
        WaitReason::Waking => format!("the node is asleep and is woken for it{at}"),
        WaitReason::Memory => format!("the model needs memory{at} that other models use"),
        WaitReason::Backoff { remaining } => {
            let seconds = remaining.as_secs_f64().ceil();
            format!("the last start{at} failed; the next attempt is in {seconds} s")
        }
        WaitReason::Policy => "the policy refuses all workers that could run it now".to_owned(),
    }
}

fn route_note(candidate: &RouteCandidate) -> String {
    let mut note = format!(
        "node {}, {} of {} slots free",
        candidate.node, candidate.free_slots, candidate.slots
    );
    if candidate.cached > 0 {
        note.push_str("; computed the beginning of the prompt before");
    }
    if candidate.failed_before {
        note.push_str("; it failed this request before");
    } else if candidate.node_failed_before {
        note.push_str("; a worker of its node failed this request before");
    }
    note.push_str(&opinion_note(&candidate.opinion));
    note
}

fn opinion_note(opinion: &Opinion) -> String {
    match opinion {
        Opinion::None => String::new(),
        Opinion::Score(score) => format!("; score of the policy: {score}"),
        Opinion::Refused(reason) => format!("; the policy refuses it: {reason}"),
    }
}

fn unusable(worker: &UnusableWorker) -> DecisionCandidate {
    let note = match (worker.availability, worker.status) {
        (Availability::Silent, _) => "it sends no heartbeats",
        (Availability::Failed, _) => "a connection to it failed",
        (Availability::Stalled, _) => "it computes nothing",
        (Availability::Stopping, _) | (_, WorkerStatus::Draining | WorkerStatus::Stopped) => {
            "it is being stopped"
        }
        (_, WorkerStatus::Starting) => "it loads the model",
        (_, WorkerStatus::Ready | WorkerStatus::Busy) => "all its slots are busy",
    };
    DecisionCandidate {
        name: worker.worker.to_string(),
        chosen: false,
        note: note.into(),
    }
}

pub(crate) fn place_candidate(place: &PlaceCandidate, chosen: bool) -> DecisionCandidate {
    let note = match &place.verdict {
        PlaceVerdict::Possible {
            has_files,
            free_bytes,
            starting,
            asleep,
            paused,
            broken,
            needs_room,
            opinion,
        } => {
            let mut note = match has_files {
                true => "has the files".to_owned(),
                false => "does not have the files".to_owned(),
            };
            if *free_bytes > 0 {
                note = format!("{note}, {:.1} GiB free", *free_bytes as f64 / GIB);
            }
            for (is_so, text) in [
                (*starting, "the node is being connected"),
                (*asleep, "the node is asleep and has to be woken"),
                (*paused, "a start failed a short time ago"),
                (*broken, "starts failed too often"),
                (*needs_room, "other models use its memory"),
            ] {
                if is_so {
                    note = format!("{note}; {text}");
                }
            }
            note.push_str(&opinion_note(opinion));
            note
        }
        PlaceVerdict::RefusedByPolicy(reason) => format!("the policy refuses it: {reason}"),
        PlaceVerdict::LeftToOthers(reason) => reason.clone(),
        PlaceVerdict::NotNamed => "the request names another node".into(),
        PlaceVerdict::NotOfDeployment => "the deployment names other nodes".into(),
        PlaceVerdict::HasPart => {
            "it computes a part of the model for the worker, which runs on another node".into()
        }
        PlaceVerdict::Connecting => "the node is being connected".into(),
        PlaceVerdict::Starting => "other models are being loaded there".into(),
        PlaceVerdict::Occupied => "its device has a worker of the model".into(),
        PlaceVerdict::TooSmall => "it has too little memory".into(),
        PlaceVerdict::RefusedBefore(error) => format!("a start was refused: {error}"),
        PlaceVerdict::Asleep(reason) => format!("it is not woken: {reason}"),
        PlaceVerdict::Down(error) => format!("the node is down: {error}"),
        PlaceVerdict::NoDevice => "it has no usable device of this kind".into(),
        PlaceVerdict::FailedBefore => "a start for this request failed there".into(),
    };
    DecisionCandidate {
        name: format!("{} {}", place.node, place.backend),
        chosen,
        note,
    }
}

#[cfg(test)]
mod tests;
