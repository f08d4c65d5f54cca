//! Python's `range`.

use std::{fmt, sync::Arc};

use minijinja::{
    Environment, Error, Value,
    value::{Enumerator, Object, ObjectRepr},
};

use super::error;

/// Maximum number of items, as in jinja2's sandbox.
const MAX_ITEMS: usize = 100_000;

/// Integers at a constant distance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
}

impl Range {
    fn len(self) -> usize {
        let distance = if self.step > 0 {
            i128::from(self.stop) - i128::from(self.start)
        } else {
            i128::from(self.start) - i128::from(self.stop)
        };
        let step = i128::from(self.step.unsigned_abs()).max(1);
        let count = (distance.max(0) + step - 1) / step;
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    fn at(self, index: i128) -> i64 {
        let value = i128::from(self.start) + index * i128::from(self.step);
        i64::try_from(value).unwrap_or(self.stop)
    }

    /// The part from index `start` to index `stop`, which are in bounds.
    pub(super) fn slice(self, start: i128, stop: i128, step: i128) -> Self {
        Self {
            start: self.at(start),
            stop: self.at(stop),
            step: i64::try_from(step)
                .unwrap_or(self.step)
                .saturating_mul(self.step),
        }
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let range = **self;
        let items = (0..range.len()).map(move |index| Value::from(range.at(index as i128)));
        Enumerator::Iter(Box::new(items))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "range({}, {}", self.start, self.stop)?;
        match self.step {
            1 => f.write_str(")"),
            step => write!(f, ", {step})"),
        }
    }
}

fn range(first: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(error("the step of a range is 0"));
    }
    let range = Range { start, stop, step };
    if range.len() > MAX_ITEMS {
        return Err(error(format!("a range has more than {MAX_ITEMS} items")));
    }
    Ok(Value::from_object(range))
}

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_function("range", range);
}
