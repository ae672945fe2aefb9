//! Element-wise arithmetic: each operation written is rounded once, none is fused.

use crate::exec::Exec;

/// Defines an in-place operation with one input slice: `$y = $value` for each pair of elements.
macro_rules! binary {
    ($(#[$doc:meta])* $name:ident($y:ident, $x:ident $(, $scalar:ident)*) = $value:expr) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// When the lengths differ.
        pub fn $name(exec: &Exec, y: &mut [f32], $($scalar: f32,)* x: &[f32]) {
            assert_eq!(y.len(), x.len(), concat!(stringify!($name), ": lengths differ"));
            let grain = exec.grain(y.len(), 2);
            exec.for_each_chunk(y, grain, |start, chunk| {
                let len = chunk.len();
                chunk.iter_mut().zip(&x[start..][..len]).for_each(|(y, &$x)| {
                    let $y = *y;
                    *y = $value;
                });
            });
        }
    };
}

binary! {
    /// `y = y + x`.
    add_assign(y, x) = y + x
}
binary! {
    /// `y = y * x`.
    mul_assign(y, x) = y * x
}
binary! {
    /// `y = y / x`.
    div_assign(y, x) = y / x
}
binary! {
    /// `y = y + a x`: the product is rounded, then the sum.
    scaled_add(y, x, a) = y + a * x
}
binary! {
    /// `y = y + w (x - y)`: difference, product and sum each rounded.
    lerp(y, x, w) = y + w * (x - y)
}
binary! {
    /// `y = a x + b y`: both products rounded, then the sum.
    axpby(y, x, a, b) = a * x + b * y
}

/// `out = x + y`.
///
/// # Panics
/// When the lengths differ.
pub fn add(exec: &Exec, x: &[f32], y: &[f32], out: &mut [f32]) {
    pairwise(exec, x, y, out, |x, y| x + y);
}

/// `out = x - y`.
///
/// # Panics
/// When the lengths differ.
pub fn sub(exec: &Exec, x: &[f32], y: &[f32], out: &mut [f32]) {
    pairwise(exec, x, y, out, |x, y| x - y);
}

#[inline(always)]
fn pairwise(exec: &Exec, x: &[f32], y: &[f32], out: &mut [f32], operation: impl Fn(f32, f32) -> f32 + Sync) {
    assert!(x.len() == out.len() && y.len() == out.len(), "x, y and out differ in length");
    let grain = exec.grain(out.len(), 2);
    exec.for_each_chunk(out, grain, |start, chunk| {
        let len = chunk.len();
        let inputs = x[start..][..len].iter().zip(&y[start..][..len]);
        chunk.iter_mut().zip(inputs).for_each(|(out, (&x, &y))| *out = operation(x, y));
    });
}

/// `x = a x`.
pub fn scale(exec: &Exec, x: &mut [f32], a: f32) {
    let grain = exec.grain(x.len(), 2);
    exec.for_each_chunk(x, grain, |_, chunk| chunk.iter_mut().for_each(|x| *x *= a));
}

/// `x = sqrt(x)`.
pub fn sqrt_assign(exec: &Exec, x: &mut [f32]) {
    let grain = exec.grain(x.len(), 4);
    exec.for_each_chunk(x, grain, |_, chunk| chunk.iter_mut().for_each(|x| *x = x.sqrt()));
}
