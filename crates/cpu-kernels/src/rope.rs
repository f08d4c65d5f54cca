//! Rotary position embedding.

use crate::{
    Isa,
    lanes::{Kernel, LANES, Lanes, dispatch},
};

/// Rotates the heads of one row in place, each `width` numbers: number `i` and the one
/// `cos.len()` behind it turn by the angle `i`, whose cosine and sine are given. Numbers of a
/// head behind those stay.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::numbers;

    #[test]
    fn heads_turn_and_the_rest_stays() {
        for (width, pairs) in [(64, 32), (20, 10), (96, 24), (2, 1), (80, 16)] {
            let row = numbers(1, 3 * width);
            let angles = numbers(2, pairs);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            let run = |isa| {
                let mut row = row.clone();
                rotate(isa, &mut row, width, &cos, &sin);
                row
            };
            let plain = run(Isa::Plain);
            for isa in Isa::available() {
                assert_eq!(run(isa), plain, "{isa:?}");
            }
            for (head, turned) in row.chunks(width).zip(plain.chunks(width)) {
                for (i, angle) in angles.iter().enumerate() {
                    let (sin, cos) = f64::from(*angle).sin_cos();
                    let (a, b) = (f64::from(head[i]), f64::from(head[i + pairs]));
                    assert!((f64::from(turned[i]) - (a * cos - b * sin)).abs() < 1e-6);
                    assert!((f64::from(turned[i + pairs]) - (b * cos + a * sin)).abs() < 1e-6);
                }
                assert_eq!(head[2 * pairs..], turned[2 * pairs..]);
            }
        }
    }
}
