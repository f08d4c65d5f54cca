use cpu_kernels::{Activation, Isa, add, exp, gated, rms_norm, rms_norm_heads, rotate, softcap};

use crate::random::floats;

fn exp_of(isa: Isa, values: &[f32]) -> Vec<f32> {
    let mut x = values.to_vec();
    exp(isa, &mut x);
    x
}

/// The error is below one unit in the last place.
pub fn exp_is_accurate(isa: Isa) {
    let x: Vec<f32> = (-1_050_000..900_000).map(|i| i as f32 * 1e-4).collect();
    let found = exp_of(isa, &x);
    assert!(found == exp_of(Isa::Plain, &x));
    let mut largest: f64 = 0.0;
    for (x, found) in x.iter().zip(found) {
        let expected = f64::from(*x).exp();
        let rounded = expected as f32;
        if rounded.is_finite() && rounded > 0.0 {
            let unit = f64::from(rounded.next_up()) - f64::from(rounded);
            largest = largest.max((f64::from(found) - expected).abs() / unit);
        } else {
            assert_eq!(found, rounded, "{x}");
        }
    }
    assert!(largest < 1.0, "{largest} units in the last place");
}

pub fn exp_handles_extremes(isa: Isa) {
    for (x, expected) in [
        (f32::NEG_INFINITY, 0.0),
        (f32::MIN, 0.0),
        (f32::INFINITY, f32::INFINITY),
        (f32::MAX, f32::INFINITY),
        (0.0, 1.0),
        (-0.0, 1.0),
    ] {
        assert_eq!(exp_of(isa, &[x; 16]), [expected; 16], "{x}");
    }
    assert!(exp_of(isa, &[f32::NAN; 16]).iter().all(|x| x.is_nan()));
}

pub fn gated_is_accurate(isa: Isa) {
    let mut gate: Vec<f32> = floats(1, 1000).iter().map(|x| x * 40.0).collect();
    gate.extend([0.0, -0.0, 1e-20, 90.0, -90.0, -200.0, 1e30]);
    let up = floats(2, gate.len());
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let run = |isa| {
            let mut gate = gate.clone();
            gated(isa, activation, &mut gate, &up);
            gate
        };
        let found = run(isa);
        assert_eq!(found, run(Isa::Plain));
        for ((x, up), found) in gate.iter().zip(&up).zip(&found) {
            let x = f64::from(*x);
            let active = match activation {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::GeluTanh => {
                    let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    x / 2.0 * (1.0 + z.tanh())
                }
            };
            let expected = active * f64::from(*up);
            let tolerance = 1e-6 * expected.abs().max(1.0);
            assert!(
                (f64::from(*found) - expected).abs() < tolerance,
                "{x}: {found}"
            );
        }
    }
}

pub fn softcap_is_accurate(isa: Isa) {
    let mut x: Vec<f32> = floats(1, 500).iter().map(|x| x * 100.0).collect();
    x.extend([0.0, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY]);
    for cap in [0.5, 30.0, 50.0] {
        let run = |isa| {
            let mut x = x.clone();
            softcap(isa, &mut x, cap);
            x
        };
        let found = run(isa);
        assert_eq!(found, run(Isa::Plain));
        for (x, found) in x.iter().zip(&found) {
            let expected = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
            let difference = (f64::from(*found) - expected).abs();
            assert!(difference < 5e-7 * f64::from(cap), "{x}: {found}");
        }
    }
}

pub fn norms_are_accurate(isa: Isa) {
    for length in [1, 15, 16, 64, 100, 576] {
        let (x, weight) = (floats(1, 3 * length), floats(2, length));
        let epsilon = 1e-5;
        let run = |isa| {
            let mut rows = vec![0.0; 3 * length];
            for (x, out) in x.chunks(length).zip(rows.chunks_mut(length)) {
                rms_norm(isa, x, &weight, epsilon, out);
            }
            let mut heads = x.clone();
            rms_norm_heads(isa, &mut heads, &weight, epsilon);
            assert_eq!(heads, rows);
            rows
        };
        let found = run(isa);
        assert_eq!(found, run(Isa::Plain));
        for (x, found) in x.chunks(length).zip(found.chunks(length)) {
            let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
            let root = (squares / length as f64 + f64::from(epsilon)).sqrt();
            for ((x, w), found) in x.iter().zip(&weight).zip(found) {
                let expected = f64::from(*x) / root * f64::from(*w);
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-6,
                    "{found} {expected}"
                );
            }
        }
    }
}

pub fn add_is_exact(isa: Isa) {
    for length in [0, 7, 16, 41] {
        let (mut x, y) = (floats(3, length), floats(4, length));
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        add(isa, &mut x, &y);
        assert_eq!(x, expected);
    }
}

pub fn rotation_is_accurate(isa: Isa) {
    for (width, pairs) in [(64, 32), (20, 10), (96, 24), (2, 1), (80, 16)] {
        let row = floats(1, 3 * width);
        let angles = floats(2, pairs);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let run = |isa| {
            let mut row = row.clone();
            rotate(isa, &mut row, width, &cos, &sin);
            row
        };
        let found = run(isa);
        assert_eq!(found, run(Isa::Plain));
        for (head, rotated) in row.chunks(width).zip(found.chunks(width)) {
            for (i, angle) in angles.iter().enumerate() {
                let (sin, cos) = f64::from(*angle).sin_cos();
                let (a, b) = (f64::from(head[i]), f64::from(head[i + pairs]));
                assert!((f64::from(rotated[i]) - (a * cos - b * sin)).abs() < 1e-6);
                assert!((f64::from(rotated[i + pairs]) - (b * cos + a * sin)).abs() < 1e-6);
            }
            assert_eq!(head[2 * pairs..], rotated[2 * pairs..]);
        }
    }
}
