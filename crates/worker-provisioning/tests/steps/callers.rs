//! Many callers of one worker binary.

use std::{collections::BTreeSet, fs, pin::pin};

use bdd::World;
use cucumber::{then, when};
use futures_util::{StreamExt as _, future::join_all};
use hive_contract::{JobEvent, ProvisionRequest, ProvisionResponse};
use queen_contract::QueenClient;

/// The results of the callers that stayed.
#[derive(Debug, Default)]
struct Results(Vec<ProvisionResponse>);

#[when(regex = r"^(\d+) callers provision (\S+), (\d+) of which cancel in the middle$")]
async fn provision(world: &mut World, count: usize, name: String, cancel: usize) {
    let repository = format!("file://{}/repository", world.dir().display());
    let request = ProvisionRequest {
        repository: Some(repository.parse().unwrap()),
        ..ProvisionRequest::of(name.parse().unwrap())
    };
    let queen = world.queen();
    let callers = (0..count).map(|number| call(&queen, &request, number < cancel));
    let results = join_all(callers).await;
    world.get::<Results>().0 = results.into_iter().flatten().collect();
}

async fn call(
    queen: &QueenClient,
    request: &ProvisionRequest,
    cancels: bool,
) -> Option<ProvisionResponse> {
    let job = queen.provision(None, request).await.unwrap().job_id;
    let mut events = pin!(queen.catalog_job_events(None, &job).await.unwrap());
    while let Some(event) = events.next().await {
        match event.unwrap() {
            // The build has begun, and is that of all.
            JobEvent::Narration(_) if cancels => {
                queen.cancel_catalog_job(None, &job).await.unwrap();
            }
            JobEvent::Cancelled {} => return None,
            JobEvent::Result(result) => return Some(serde_json::from_value(result).unwrap()),
            JobEvent::Error(error) => panic!("{error:?}"),
            JobEvent::Narration(_) | JobEvent::Progress(_) => {}
        }
    }
    panic!("the events ended early");
}

#[then(regex = r"^(\d+) of them have the same binary, after one build$")]
fn same(world: &mut World, count: usize) {
    let results = &world.get::<Results>().0;
    assert_eq!(results.len(), count, "{results:?}");
    let paths: BTreeSet<&str> = results.iter().map(|r| r.binary_path.as_str()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    let builds = fs::read_to_string(world.dir().join("builds")).unwrap();
    assert_eq!(builds.lines().count(), 1, "{builds}");
}
