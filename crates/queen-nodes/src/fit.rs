//! How models fit on devices.

use futures_util::future::join_all;
use hive_contract::{Device, ModelDetails, ModelMemory};
use model_format::MemoryNeeds;
use queen_contract::{ContextFit, DeviceFit};

use crate::Nodes;

impl Nodes {
    /// How a model fits on the devices of all nodes. Those of a node that does not respond are as
    /// its hive last reported them.
    pub(crate) async fn fit(&self, details: &ModelDetails) -> Vec<DeviceFit> {
        let nodes = self.all();
        let devices = nodes.iter().map(|node| async move {
            let known = || node.entry().devices;
            match node.hive_now() {
                Ok(hive) => match hive.client.capabilities().await {
                    Ok(capabilities) => capabilities.devices,
                    Err(_) => known(),
                },
                Err(_) => known(),
            }
        });
        let devices = join_all(devices).await;
        let all = nodes.iter().zip(devices).flat_map(|(node, devices)| {
            let has_files = self.catalog().is_on(node.name(), &details.model.model);
            devices.into_iter().map(move |device| DeviceFit {
                node: node.name().clone(),
                contexts: match &details.memory {
                    Some(memory) => contexts(memory, details.model.context_length, &device),
                    None => Vec::new(),
                },
                device,
                has_files,
            })
        });
        all.collect()
    }
}

/// Computes the longest context in the free memory of a device.
fn contexts(memory: &ModelMemory, context_length: u32, device: &Device) -> Vec<ContextFit> {
    let fit = memory.kv_cache.iter().map(|kv| {
        let needs = MemoryNeeds {
            weight_bytes: memory.weight_bytes,
            kv_bytes_per_token: kv.bytes_per_token,
            context_length,
        };
        ContextFit {
            kv_type: kv.kv_type.clone(),
            context_length: needs.context_in(device.memory_free_bytes),
            minimum_bytes: needs.bytes(1),
            full_bytes: needs.bytes(context_length),
        }
    });
    fit.collect()
}

#[cfg(test)]
mod tests {
    use hive_contract::KvCacheSize;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_context_is_what_free_memory_leaves_for_the_cache() {
        let size = |kv_type: &str, bytes_per_token| KvCacheSize {
            kv_type: kv_type.to_owned(),
            bytes_per_token,
            used: false,
        };
        let memory = ModelMemory {
            layers: 2,
            weight_bytes: 1000,
            kv_cache: vec![size("f32", 100), size("f16", 50)],
        };
        let device = |free: u64| -> Device {
            serde_json::from_value(json!({
                "id": "CPU-0", "backend": "cpu", "name": "x", "memory_total_bytes": 1_000_000,
                "memory_free_bytes": free,
            }))
            .unwrap()
        };
        let lengths = |free: u64| {
            let fit = contexts(&memory, 64, &device(free)).into_iter();
            fit.map(|fit| fit.context_length).collect::<Vec<_>>()
        };
        // 16 tokens are the smallest part of a cache.
        assert_eq!(lengths(1000 + 16 * 50 - 1), [None, None]);
        assert_eq!(lengths(1000 + 16 * 50), [None, Some(16)]);
        assert_eq!(lengths(1000 + 40 * 100), [Some(32), Some(64)]);
        assert_eq!(lengths(1_000_000), [Some(64), Some(64)]);
        let fit = contexts(&memory, 64, &device(0));
        assert_eq!((fit[0].minimum_bytes, fit[0].full_bytes), (2600, 7400));
        assert_eq!((fit[1].minimum_bytes, fit[1].full_bytes), (1800, 4200));
    }
}
