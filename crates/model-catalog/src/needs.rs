use hive_contract::{KvCacheSize, ModelMemory};
use model_format::{KvType, MemoryNeeds, ModelHeader};

/// What the memory of a model consists of, from its header.
pub(crate) fn memory_of(header: &ModelHeader) -> ModelMemory {
    let size = |kv: KvType| KvCacheSize {
        kv_type: kv.name().to_owned(),
        bytes_per_token: MemoryNeeds::new(header, kv).kv_bytes_per_token,
        used: kv == KvType::OF_ENGINE,
    };
    ModelMemory {
        layers: header.layers,
        weight_bytes: header.weight_bytes,
        kv_cache: KvType::ALL.map(size).to_vec(),
    }
}
