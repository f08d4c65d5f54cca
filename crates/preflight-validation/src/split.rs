//! How a model is divided between machines of which none has enough memory for it.

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, DeviceId, NodeName};

use crate::units::{size, sizes};

/// Memory that each part needs besides its layers, in bytes: activations, and the process.
const PART_BYTES: u64 = 256 << 20;

/// What a model needs on all machines together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitNeed {
    /// Size of the weights, in bytes.
    pub weight_bytes: u64,
    /// Size of the KV cache, in bytes.
    pub kv_bytes: u64,
    /// Number of layers that can be divided. That which computes the output is one of them.
    pub layers: u32,
}

/// A device that computes a part of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlace {
    /// The machine.
    pub node: NodeName,
    /// Its device.
    pub device: DeviceId,
    /// Kind of the device.
    pub backend: Backend,
    /// Memory that a part can use there, in bytes.
    pub free_bytes: u64,
}

/// The part of a model on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitShare {
    /// Number of layers.
    pub layers: u32,
    /// Memory for them, in bytes.
    pub bytes: u64,
}

/// Divides a model over `places` in proportion to their memory. Returns the share of each, which
/// fits, and has at least one layer.
///
/// Errors: `INSUFFICIENT_RAM` or `INSUFFICIENT_VRAM` with the memory of all places if they have too
/// little together, or if no whole number of layers for each fits; `INVALID_REQUEST` if the model
/// has fewer layers than there are places.
pub fn plan_split(need: &SplitNeed, places: &[SplitPlace]) -> Result<Vec<SplitShare>, Diagnostic> {
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    if need.layers < count {
        return Err(too_few_layers(need.layers, count));
    }
    let model = need.weight_bytes.saturating_add(need.kv_bytes);
    let each = model.div_ceil(u64::from(need.layers.max(1)));
    let bytes = |layers: u32| {
        let of_layers = each.saturating_mul(u64::from(layers));
        of_layers.saturating_add(PART_BYTES)
    };
    let mut layers = vec![1_u32; places.len()];
    for _ in count..need.layers {
        let able = places.iter().enumerate().filter(|(index, place)| {
            let next = layers[*index].saturating_add(1);
            bytes(next) <= place.free_bytes
        });
        // The one that stays the least full in proportion to its memory gets the next layer.
        let least_full = able.min_by_key(|(index, place)| {
            let next = u128::from(layers[*index]) + 1;
            next * u128::from(u32::MAX) / u128::from(place.free_bytes.max(1) >> 10).max(1)
        });
        let Some((index, _)) = least_full else {
            return Err(too_little(need, places));
        };
        layers[index] += 1;
    }
    let shares: Vec<SplitShare> = layers
        .into_iter()
        .map(|layers| SplitShare {
            layers,
            bytes: bytes(layers),
        })
        .collect();
    let mut all = shares.iter().zip(places);
    if all.all(|(share, place)| share.bytes <= place.free_bytes) {
        Ok(shares)
    } else {
        Err(too_little(need, places))
    }
}

/// The memory that a model needs on all places together, in bytes.
fn total(need: &SplitNeed, places: usize) -> u64 {
    let parts = PART_BYTES.saturating_mul(places as u64);
    let model = need.weight_bytes.saturating_add(need.kv_bytes);
    model.saturating_add(parts)
}

fn too_few_layers(layers: u32, places: u32) -> Diagnostic {
    let message =
        format!("the model has {layers} layers that can be divided, too few for {places} machines");
    Diagnostic::new(Code::InvalidRequest, message).hint("name fewer machines")
}

fn too_little(need: &SplitNeed, places: &[SplitPlace]) -> Diagnostic {
    let needed = total(need, places.len());
    let free = places
        .iter()
        .map(|place| place.free_bytes)
        .fold(0, u64::saturating_add);
    let (have, needs) = sizes(free, needed);
    let each: Vec<String> = places
        .iter()
        .map(|place| {
            let free = size(place.free_bytes);
            format!("{free} on {} of {}", place.device, place.node)
        })
        .collect();
    let (weights, cache) = (size(need.weight_bytes), size(need.kv_bytes));
    let work = size(PART_BYTES);
    let problem = if free < needed {
        format!("{have} are free together")
    } else {
        format!(
            "its {} layers cannot be divided so that each part fits",
            need.layers
        )
    };
    let message = format!(
        "the model needs {needs} ({weights} for weights, {cache} for the KV cache, {work} for work \
         on each machine), and {problem}: {}",
        each.join(", ")
    );
    let on_cpu = places.iter().all(|place| place.backend == Backend::Cpu);
    let code = if on_cpu {
        Code::InsufficientRam
    } else {
        Code::InsufficientVram
    };
    Diagnostic::new(code, message)
        .hint("add a machine to `--split`, use a shorter `--context`, or free memory")
        .detail("need_bytes", needed)
        .detail("available_bytes", free)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn place(node: &str, free_bytes: u64) -> SplitPlace {
        SplitPlace {
            node: node.parse().unwrap(),
            device: DeviceId::Cpu(0),
            backend: Backend::Cpu,
            free_bytes,
        }
    }

    fn need(weight_bytes: u64, layers: u32) -> SplitNeed {
        SplitNeed {
            weight_bytes,
            kv_bytes: GIB,
            layers,
        }
    }

    #[test]
    fn the_layers_are_in_proportion_to_the_memory() {
        let layers = |need, places: &[SplitPlace]| {
            let shares = plan_split(&need, places).unwrap().into_iter();
            shares.map(|share| share.layers).collect::<Vec<_>>()
        };
        let machines = [
            place("big", 60 * GIB),
            place("a", 30 * GIB),
            place("b", 10 * GIB),
        ];
        assert_eq!(layers(need(39 * GIB, 40), &machines), [24, 12, 4]);
        // Nearly all memory is needed: what does not fit goes elsewhere.
        assert_eq!(layers(need(96 * GIB, 97), &machines), [59, 29, 9]);
        // A small model has a layer on each.
        assert_eq!(layers(need(GIB, 3), &machines), [1, 1, 1]);
    }

    #[test]
    fn too_little_memory_is_refused_with_all_numbers() {
        let machines = [place("big", 6 * GIB), place("desk", 3 * GIB)];
        let error = plan_split(&need(9 * GIB, 33), &machines).unwrap_err();
        assert_eq!(error.code, Code::InsufficientRam);
        assert_eq!(
            error.message,
            "the model needs 10.5 GiB (9.0 GiB for weights, 1.0 GiB for the KV cache, 256.0 MiB \
             for work on each machine), and 9.0 GiB are free together: 6.0 GiB on CPU-0 of big, \
             3.0 GiB on CPU-0 of desk"
        );
        let details = error.details.unwrap();
        assert_eq!(details["need_bytes"], (21 * GIB) / 2);
        assert_eq!(details["available_bytes"], 9 * GIB);
        // The sum is enough, but a layer is not divisible.
        let error = plan_split(&need(7 * GIB, 2), &machines).unwrap_err();
        assert!(
            error.message.contains("its 2 layers cannot be divided"),
            "{error}"
        );
        let error = plan_split(&need(GIB, 1), &machines).unwrap_err();
        assert_eq!(error.code, Code::InvalidRequest);
    }

    proptest! {
        #[test]
        fn every_layer_is_on_a_machine_where_it_fits(
            weight in 0_u64..400 * GIB,
            layers in 1_u32..130,
            free in prop::collection::vec(0_u64..200 * GIB, 1..6),
        ) {
            let places: Vec<_> = free.iter().map(|free| place("a", *free)).collect();
            let need = need(weight, layers);
            match plan_split(&need, &places) {
                Ok(shares) => {
                    prop_assert_eq!(shares.iter().map(|share| share.layers).sum::<u32>(), layers);
                    for (share, place) in shares.iter().zip(&places) {
                        prop_assert!(share.layers > 0 && share.bytes <= place.free_bytes);
                    }
                    let sum: u64 = shares.iter().map(|share| share.bytes).sum();
                    prop_assert!(sum >= total(&need, places.len()));
                }
                // With a layer more on each machine than it may get, there would be room.
                Err(error) if error.code == Code::InsufficientRam => {
                    let each = (weight + GIB).div_ceil(u64::from(layers));
                    let rounding = (each + PART_BYTES) * places.len() as u64;
                    let sum: u64 = free.iter().sum();
                    let has_place = free.iter().all(|free| *free >= PART_BYTES + each);
                    prop_assert!(!has_place || sum < total(&need, places.len()) + rounding);
                }
                Err(error) => prop_assert!((layers as usize) < places.len(), "{}", error),
            }
        }
    }
}
