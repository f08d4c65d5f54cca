use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::Priority;
use request_queue::{ClientKey, Deadline};
use scheduler::{
    NewRequest, NodeFacts, NodeMap, NodeState, PromptPrefixes, RequestOutcome, Scheduler,
    SchedulerEffect, SchedulerEvent, SchedulerSettings, WorkerRequirements,
};
use worker_contract::WorkerHeartbeat;

use super::workers;

/// Requests that are routed. As many as one in ten run at the same time.
const REQUESTS: usize = 20_000;
const RUNNING: usize = 2000;
const NOW: Duration = Duration::from_secs(1);

/// Percentiles of the time from a request to its worker, in microseconds.
pub struct Routing {
    pub p50: f64,
    pub p99: f64,
}

/// Measures the scheduler itself, with free slots everywhere.
pub fn measure(hives: u32, count: u32) -> Result<Routing> {
    let mut scheduler = Scheduler::new(SchedulerSettings::default());
    let names = (0..hives).map(|number| Ok(format!("node-{number}").parse()?));
    let names: Vec<NodeName> = names.collect::<Result<_>>()?;
    let up = NodeFacts {
        state: NodeState::Up,
        ..NodeFacts::default()
    };
    let nodes: NodeMap = names
        .iter()
        .map(|name| (name.clone(), up.clone()))
        .collect();
    scheduler.handle(SchedulerEvent::Nodes(nodes), NOW);
    for (number, node) in (0..count).zip(names.iter().cycle()) {
        let heartbeat = WorkerHeartbeat {
            worker: workers::info(number, node)?,
            timestamp: Timestamp::now(),
            sequence: 0,
        };
        scheduler.heartbeat(heartbeat, NOW).0?;
    }
    let mut times = Vec::with_capacity(REQUESTS);
    let mut running = std::collections::VecDeque::new();
    for number in 0..REQUESTS {
        let request = request(number)?;
        let id = request.id.clone();
        let begun = Instant::now();
        let effects = scheduler.submit(request, NOW)?;
        times.push(begun.elapsed());
        let assigned = effects.iter().any(
            |effect| matches!(effect, SchedulerEffect::Assign(assigned, _) if *assigned == id),
        );
        ensure!(assigned, "request {id} has no worker: {effects:?}");
        running.push_back(id);
        if running.len() > RUNNING
            && let Some(id) = running.pop_front()
        {
            let finished = SchedulerEvent::Finished(id, RequestOutcome::Completed);
            scheduler.handle(finished, NOW);
        }
    }
    times.sort_unstable();
    let percentile = |of_hundred: usize| {
        let time = times.get(times.len() * of_hundred / 100);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(Routing {
        p50: percentile(50),
        p99: percentile(99),
    })
}

fn request(number: usize) -> Result<NewRequest> {
    let model = workers::model(u32::try_from(number)?);
    Ok(NewRequest {
        id: format!("request-{number}").parse()?,
        requirements: WorkerRequirements::model(model.parse()?),
        priority: Priority::Interactive,
        client: ClientKey::default(),
        deadline: Deadline::at(Duration::from_secs(600)),
        prompt: PromptPrefixes::default(),
    })
}
