//! Many callers of one model.

use std::{fs, pin::pin};

use bdd::World;
use cucumber::{then, when};
use futures_util::{StreamExt as _, future::join_all};
use hive_contract::{JobEvent, Progress, PullRequest};
use queen_contract::QueenClient;

use crate::LIMIT;

/// What a caller does when it has seen that the download runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Caller {
    Stays,
    /// As `rbee-keeper` does on Ctrl+C.
    Cancels,
    /// Closes its connection.
    Leaves,
}

/// The events of each caller that stayed.
#[derive(Debug, Default)]
struct Seen(Vec<Vec<JobEvent>>);

#[when(regex = r"^(\d+) callers pull (\S+), (\d+) of which cancel and (\d+) leave in the middle$")]
async fn pull(world: &mut World, count: usize, model: String, cancel: usize, leave: usize) {
    let request = PullRequest {
        model: model.parse().unwrap(),
        revision: None,
    };
    let queen = world.queen();
    let callers = (0..count).map(|number| {
        let caller = match number {
            n if n < cancel => Caller::Cancels,
            n if n < cancel + leave => Caller::Leaves,
            _ => Caller::Stays,
        };
        call(&queen, &request, caller)
    });
    let all = join_all(callers).await;
    world.get::<Seen>().0 = all.into_iter().flatten().collect();
    assert_eq!(world.get::<Seen>().0.len(), count - cancel - leave);
}

async fn call(queen: &QueenClient, request: &PullRequest, caller: Caller) -> Option<Vec<JobEvent>> {
    let job = queen.pull_model(None, request).await.unwrap().job_id;
    let mut seen = Vec::new();
    {
        let mut events = pin!(queen.catalog_job_events(None, &job).await.unwrap());
        while let Some(event) = events.next().await {
            seen.push(event.unwrap());
            if caller != Caller::Stays && !wholes(&seen).is_empty() {
                break;
            }
        }
    }
    if caller == Caller::Cancels {
        queen.cancel_catalog_job(None, &job).await.unwrap();
    }
    (caller == Caller::Stays).then_some(seen)
}

#[when(regex = r"^two hives that share the directory of models pull (\S+) at the same time$")]
async fn two_hives(world: &mut World, model: String) {
    let (models, other) = (world.files().models(), world.dir().join("other"));
    fs::create_dir_all(&models).unwrap();
    fs::create_dir_all(&other).unwrap();
    std::os::unix::fs::symlink(models, other.join("models")).unwrap();
    for args in [&["pull", &model][..], &["model", "verify", &model]] {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let running = [world.home(), other.clone()].map(|home| {
            let mut command = world.command("rbee-keeper", &args);
            world.start_command(command.env("RBEE_HOME", home))
        });
        for running in running {
            let finished = running.finish(LIMIT * 6).await;
            assert_eq!(finished.code, Some(0), "{finished:#?}");
        }
    }
}

/// The progress of the whole model.
fn wholes(events: &[JobEvent]) -> Vec<&Progress> {
    let progress = events.iter().filter_map(|event| match event {
        JobEvent::Progress(progress) if progress.item.is_none() => Some(progress),
        _ => None,
    });
    progress.collect()
}

#[then("each of the others has seen the progress to the end")]
fn seen_to_the_end(world: &mut World) {
    for events in &world.get::<Seen>().0 {
        let progress = wholes(events);
        assert!(progress.len() > 3, "{progress:?}");
        assert!(progress.is_sorted_by_key(|progress| progress.done));
        let last = progress.last().unwrap();
        assert_eq!(Some(last.done), last.total);
        assert!(matches!(events.last(), Some(JobEvent::Result(_))));
    }
}
