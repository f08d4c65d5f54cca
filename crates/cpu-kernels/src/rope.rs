//! Rotary position embedding.

use crate::{
    isa::Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// Rotates the heads of one row in place. Element `i` of a head of `width` elements is paired with
/// element `i + cos.len()` and rotated by the angle with cosine `cos[i]` and sine `sin[i]`.
/// Elements from `2 * cos.len()` on are unchanged.
pub fn rotate(isa: Isa, row: &mut [f32], width: usize, cos: &[f32], sin: &[f32]) {
    dispatch(
        isa,
        Rotate {
            row,
            width,
            cos,
            sin,
        },
    );
}

struct Rotate<'a> {
    row: &'a mut [f32],
    width: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let pairs = self.cos.len();
        let (cos, cos_rest) = self.cos.as_chunks::<LANES>();
        let (sin, sin_rest) = self.sin.as_chunks::<LANES>();
        for head in self.row.chunks_exact_mut(self.width) {
            let (first, second) = head[..2 * pairs].split_at_mut(pairs);
            let (first, first_rest) = first.as_chunks_mut::<LANES>();
            let (second, second_rest) = second.as_chunks_mut::<LANES>();
            let angles = cos.iter().zip(sin);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                let (x, y) = turn(l, [l.load(a), l.load(b)], [l.load(cos), l.load(sin)]);
                l.store(x, a);
                l.store(y, b);
            }
            let ends = [l.load_part(first_rest), l.load_part(second_rest)];
            let (x, y) = turn(l, ends, [l.load_part(cos_rest), l.load_part(sin_rest)]);
            l.store_part(x, first_rest);
            l.store_part(y, second_rest);
        }
    }
}

#[inline(always)]
fn turn<L: Lanes>(l: L, [a, b]: [L::F32; 2], [cos, sin]: [L::F32; 2]) -> (L::F32, L::F32) {
    (
        l.sub(l.mul(a, cos), l.mul(b, sin)),
        l.add(l.mul(b, cos), l.mul(a, sin)),
    )
}
