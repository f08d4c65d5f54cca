//! What scripts can do: compute, and nothing else.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use rhai::{
    Dynamic, Engine, FLOAT, INT, Module, Shared,
    packages::{
        ArithmeticPackage, BasicArrayPackage, BasicIteratorPackage, BasicMapPackage,
        BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage, Package as _,
    },
};

use crate::limits;

/// Functions of Rhai that compute. Those of its language package are left out: one of them sleeps.
static LIBRARY: LazyLock<Vec<Shared<Module>>> = LazyLock::new(|| {
    vec![
        ArithmeticPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicIteratorPackage::new().as_shared_module(),
        BasicMapPackage::new().as_shared_module(),
        BasicMathPackage::new().as_shared_module(),
        BasicStringPackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
        own_functions(),
    ]
});

/// Words of Rhai that scripts cannot use.
const FORBIDDEN: [&str; 6] = ["eval", "print", "debug", "Fn", "call", "curry"];

fn own_functions() -> Shared<Module> {
    const GIB: f64 = 1_073_741_824.0;
    let mut module = Module::new();
    module.set_native_fn("gib", |number: INT| Ok(number as FLOAT * GIB));
    module.set_native_fn("gib", |number: FLOAT| Ok(number * GIB));
    module.into()
}

/// An engine for the calls of one decision, which share the limit of operations.
pub(crate) struct LimitedEngine {
    pub(crate) engine: Engine,
    /// Operations of the calls before this one, and of this one.
    counts: Arc<(AtomicU64, AtomicU64)>,
}

impl LimitedEngine {
    pub(crate) fn new() -> Self {
        let mut engine = Engine::new_raw();
        for module in LIBRARY.iter() {
            engine.register_global_module(Shared::clone(module));
        }
        for word in FORBIDDEN {
            engine.disable_symbol(word);
        }
        engine
            .set_strict_variables(true)
            .set_fail_on_invalid_map_property(true)
            .set_max_operations(limits::OPERATIONS)
            .set_max_call_levels(limits::CALL_LEVELS)
            .set_max_expr_depths(limits::EXPRESSION_DEPTH, limits::EXPRESSION_DEPTH)
            .set_max_string_size(limits::STRING_BYTES)
            .set_max_array_size(limits::ARRAY_ELEMENTS)
            .set_max_map_size(limits::MAP_ENTRIES)
            .set_max_variables(limits::VARIABLES)
            .set_max_functions(limits::FUNCTIONS);
        let counts = Arc::<(AtomicU64, AtomicU64)>::default();
        let counted = Arc::clone(&counts);
        engine.on_progress(move |operations| {
            let (before, now) = &*counted;
            now.store(operations, Ordering::Relaxed);
            let all = before.load(Ordering::Relaxed).saturating_add(operations);
            (all > limits::OPERATIONS).then_some(Dynamic::UNIT)
        });
        Self { engine, counts }
    }

    /// Counts the operations of the call that has ended.
    pub(crate) fn call_ended(&self) {
        let (before, now) = &*self.counts;
        before.fetch_add(now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}
