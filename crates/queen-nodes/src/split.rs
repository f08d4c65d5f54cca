//! Models that are split over machines: the parts of a worker are started before it, and all of
//! them end together.

use std::sync::Arc;

use diagnostics::{Diagnostic, Narration};
use futures_util::future::join_all;
use hive_contract::{
    Capabilities, Device, EngineEntry, ModelDetails, ModelQuery, PART_ENGINE, RemotePart,
    SpawnRequest, SplitRole,
};
use hive_lifecycle::RunningHive;
use input_validation::{Backend, Generation, NodeName};
use node_link::Exposed;
use preflight_validation::{SplitNeed, SplitPlace, SplitShare, is_usable, plan_split};
use queen_contract::{DeployedPart, DeploymentSpec};
use queen_store::WorkerRow;

use crate::{
    Node,
    spawning::{SpawnError, Spawning},
    split_errors as errors,
    split_parts::part_id,
    split_table::Starting,
};

/// The worker of a split model that is to be started.
struct Whole<'a> {
    row: &'a WorkerRow,
    generation: Generation,
    wanted: &'a DeploymentSpec,
}

/// Where a part is computed.
struct PartPlace {
    node: Arc<Node>,
    hive: RunningHive,
    place: SplitPlace,
}

impl Spawning<'_> {
    /// Starts the parts of the worker, and makes them reachable for it. Returns what the worker must
    /// know, and what keeps its parts reachable and ends their start.
    ///
    /// If this fails, no part runs.
    pub(crate) async fn start_parts(
        &self,
        main: &RunningHive,
        (row, generation): (&WorkerRow, Generation),
        wanted: &DeploymentSpec,
    ) -> Result<(SplitRole, Parts<'_>), SpawnError> {
        let whole = Whole {
            row,
            generation,
            wanted,
        };
        let starting = self.nodes.splits().start(&row.worker_id);
        self.report_lost_parts(row, &wanted.split).await;
        self.stop_parts(&whole).await;
        let (own, others) = self.divide(main, &whole).await?;
        let started = self.start_each(&whole, &others).await;
        let exposed = match started {
            Ok(exposed) => exposed,
            Err(error) => {
                self.stop_parts(&whole).await;
                return Err(error.into());
            }
        };
        let ports = exposed.iter().zip(&others);
        let parts = ports.map(|(exposed, (_, share))| RemotePart {
            port: exposed.port(),
            layers: share.layers,
        });
        let role = SplitRole::Main {
            layers: own.layers,
            parts: parts.collect(),
        };
        let deployed = others.iter().map(|(part, _)| DeployedPart {
            node: part.place.node.clone(),
            device: part.place.device,
        });
        let splits = self.nodes.splits();
        splits.run_parts(&row.worker_id, deployed.collect());
        Ok((role, Parts { starting, exposed }))
    }

    /// Ends the start of a worker whose parts run: they are kept if it serves, and stopped
    /// otherwise.
    pub(crate) async fn parts_started(
        &self,
        parts: Parts<'_>,
        (row, generation): (&WorkerRow, Generation),
        wanted: &DeploymentSpec,
        serves: bool,
    ) {
        if serves {
            let splits = self.nodes.splits();
            splits.started(&row.worker_id, generation, parts.exposed);
        } else {
            self.nodes.splits().forget(&row.worker_id);
            let whole = Whole {
                row,
                generation,
                wanted,
            };
            self.stop_parts(&whole).await;
        }
        drop(parts.starting);
    }

    /// Measures the machines and divides the model. Returns the share of the worker, and the other
    /// parts.
    async fn divide(
        &self,
        main: &RunningHive,
        whole: &Whole<'_>,
    ) -> Result<(SplitShare, Vec<(PartPlace, SplitShare)>), SpawnError> {
        let query = ModelQuery {
            model: self.target.model.clone(),
        };
        let details = main.client.show_model(&query).await?;
        let need = need_of(&details, whole.wanted.context_length)?;
        let machine = main.client.capabilities().await?;
        let own = machine.devices.iter();
        let mut own = own.filter(|device| device.id == whole.row.key.device);
        let node = &self.target.node;
        let device = own
            .next()
            .ok_or_else(|| errors::no_device(node, self.target.backend))?;
        let mut places = vec![place(node, device)];
        let mut others = Vec::new();
        for name in whole.wanted.split.iter().filter(|name| *name != node) {
            let node = self.nodes.get(name)?;
            let on_node = |error: Diagnostic| errors::on_node(name, error);
            let hive = node.hive_soon().await.map_err(on_node)?;
            let machine = hive.client.capabilities().await;
            let machine = machine.map_err(|error| errors::on_node(name, error.into()))?;
            check_part_engine(name, &machine, self.target.backend)?;
            let device = best_device(name, &machine, self.target.backend, |device| {
                device.memory_free_bytes
            })?;
            let place = place(name, device);
            places.push(place.clone());
            others.push(PartPlace { node, hive, place });
        }
        let mut shares = plan_split(&need, &places)?.into_iter();
        let own = shares
            .next()
            .ok_or_else(|| errors::no_device(node, self.target.backend))?;
        Ok((own, others.into_iter().zip(shares).collect()))
    }

    async fn start_each(
        &self,
        whole: &Whole<'_>,
        others: &[(PartPlace, SplitShare)],
    ) -> Result<Vec<Exposed>, Diagnostic> {
        let mut exposed = Vec::with_capacity(others.len());
        for (number, (part, share)) in (1..).zip(others) {
            let port = self.start_part(whole, number, part, *share).await;
            let port = port.map_err(|error| errors::on_node(&part.place.node, error))?;
            let reached = part.node.link().reach(port).await?;
            let place = (part.place.node.clone(), port);
            self.nodes.splits().reached(&whole.row.worker_id, place);
            let reached = reached.ok_or_else(|| errors::carries_no_part(&part.place.node))?;
            let own = self.node.link().expose(reached).await?;
            exposed.push(own.ok_or_else(|| errors::reaches_no_part(self.node.name()))?);
        }
        Ok(exposed)
    }

    /// Starts a part. Returns its port.
    async fn start_part(
        &self,
        whole: &Whole<'_>,
        number: usize,
        part: &PartPlace,
        share: SplitShare,
    ) -> Result<u16, Diagnostic> {
        let worker = &whole.row.worker_id;
        let SplitPlace { node, device, .. } = &part.place;
        let message = format!(
            "starting a part of worker {worker} on {device} of {node}: {}, {}",
            diagnostics::counted(share.layers as usize, "layer"),
            diagnostics::bytes(share.bytes)
        );
        self.narrate(Narration::info("queen", "split", message))
            .await;
        let request = SpawnRequest {
            worker_id: part_id(worker, number)?,
            generation: whole.generation,
            model: self.target.model.clone(),
            device: *device,
            engine: None,
            queen_url: part.node.link().queen_url().await?,
            context_length: None,
            slots: None,
            threads: None,
            wait_ready: true,
            split: Some(SplitRole::Part {
                of: worker.clone(),
                memory_bytes: share.bytes,
            }),
        };
        Ok(part.hive.client.spawn(&request).await?.port)
    }

    /// Stops the parts of this generation of the worker, and earlier ones, as far as the machines
    /// respond. What is missed, [`Nodes::watch_splits`](crate::Nodes::watch_splits) stops.
    async fn stop_parts(&self, whole: &Whole<'_>) {
        let others = whole.wanted.split.iter();
        let others = others.filter(|name| **name != self.target.node);
        let stops = (1..).zip(others).map(|(number, name)| async move {
            let id = part_id(&whole.row.worker_id, number)?;
            let hive = self.nodes.get(name)?.hive_now()?;
            let known = hive.client.worker(&id).await.is_ok();
            if known {
                hive.client
                    .stop_worker(&id, whole.generation, Some(0))
                    .await?;
            }
            Ok::<(), Diagnostic>(())
        });
        for stopped in join_all(stops).await {
            if let Err(error) = stopped {
                tracing::warn!(%error, "a part of a model is not stopped yet");
            }
        }
    }
}

/// The running parts of a worker that is being started.
pub(crate) struct Parts<'a> {
    starting: Starting<'a>,
    exposed: Vec<Exposed>,
}

fn place(node: &NodeName, device: &Device) -> SplitPlace {
    SplitPlace {
        node: node.clone(),
        device: device.id,
        backend: device.backend,
        free_bytes: device.memory_free_bytes,
    }
}

/// The usable device of a backend with the most memory, by this measure.
pub(crate) fn best_device<'a>(
    node: &NodeName,
    machine: &'a Capabilities,
    backend: Backend,
    memory: impl Fn(&Device) -> u64,
) -> Result<&'a Device, Diagnostic> {
    let devices = machine.devices.iter();
    let usable = devices.filter(|device| device.backend == backend && is_usable(device));
    // The first one of several equal ones.
    let best = usable.rev().max_by_key(|device| memory(device));
    best.ok_or_else(|| errors::no_device(node, backend))
}

/// Whether an engine of a machine computes parts of models on a backend.
pub(crate) fn computes_parts(engine: &EngineEntry, backend: Backend) -> bool {
    let is_part = engine.kind.as_deref() == Some(PART_ENGINE) && engine.problem.is_none();
    is_part && engine.backends.contains(&backend)
}

pub(crate) fn check_part_engine(
    node: &NodeName,
    machine: &Capabilities,
    backend: Backend,
) -> Result<(), Diagnostic> {
    let mut engines = machine.engines.iter();
    if engines.any(|engine| computes_parts(engine, backend)) {
        return Ok(());
    }
    Err(errors::no_part_engine(node, backend))
}

/// What a model needs on all machines together. An engine that receives no context allocates the
/// whole one of the model.
fn need_of(details: &ModelDetails, context: Option<u32>) -> Result<SplitNeed, Diagnostic> {
    let model = &details.model;
    let memory = details.memory.as_ref().filter(|memory| memory.layers > 0);
    let memory = memory.ok_or_else(|| errors::not_divisible(&model.model))?;
    let mut types = memory.kv_cache.iter();
    // The type that llama.cpp uses by default.
    let kv = types.find(|kv| kv.kv_type == "f16");
    let kv = kv.or(memory.kv_cache.first());
    let tokens = u64::from(context.unwrap_or(model.context_length));
    Ok(SplitNeed {
        weight_bytes: memory.weight_bytes,
        kv_bytes: kv.map_or(0, |kv| kv.bytes_per_token).saturating_mul(tokens),
        // That which computes the output counts as one.
        layers: memory.layers.saturating_add(1),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn details(memory: serde_json::Value) -> ModelDetails {
        let mut details = json!({
            "model": {
                "model": "hf:org/big", "size_bytes": 100, "context_length": 4096,
                "format": "gguf", "architecture": "llama", "parameters": 1, "quantization": "F16",
            },
            "metadata": {},
        });
        details["memory"] = memory;
        serde_json::from_value(details).unwrap()
    }

    #[test]
    fn the_need_is_that_of_the_whole_context_unless_one_is_named() {
        let known = details(json!({
            "layers": 32, "weight_bytes": 1000,
            "kv_cache": [
                {"kv_type": "f32", "bytes_per_token": 20, "used": true},
                {"kv_type": "f16", "bytes_per_token": 10, "used": false},
            ],
        }));
        let need = need_of(&known, None).unwrap();
        assert_eq!(
            (need.weight_bytes, need.kv_bytes, need.layers),
            (1000, 40960, 33)
        );
        assert_eq!(need_of(&known, Some(100)).unwrap().kv_bytes, 1000);
        let mock = details(serde_json::Value::Null);
        let error = need_of(&mock, None).unwrap_err();
        assert!(
            error.message.contains("hf:org/big cannot be split"),
            "{error}"
        );
    }
}
