//! The special values of the elementary functions: the table of SEMANTICS.md §15.
#![allow(unreachable_pub)]

use essaim_kernels::{Exec, math};

/// Name, function, and inputs with results, as bits.
pub type Elementary = (&'static str, fn(&Exec, &mut [f32]), &'static [(u32, u32)]);

/// Every function with inputs and the results' bits, in both as they stand: these NaN are the canonical one.
pub const ELEMENTARY: [Elementary; 5] = [
    (
        "exp",
        math::exp_slice,
        &[
            (0x0000_0000, 0x3f80_0000),
            (0x8000_0000, 0x3f80_0000),
            (0x0000_0001, 0x3f80_0000),
            (0x8000_0001, 0x3f80_0000),
            (0x7f80_0000, 0x7f80_0000),
            (0xff80_0000, 0x0000_0000),
            (0x7f7f_ffff, 0x7f80_0000),
            (0xff7f_ffff, 0x0000_0000),
            (0x7fc0_0000, 0x7fc0_0000),
            (0xffc0_1234, 0x7fc0_0000),
            (0x7f80_0001, 0x7fc0_0000),
            // The largest finite result, the first overflow, the smallest subnormal result, the first zero.
            (0x42b1_7217, 0x7f7f_ff84),
            (0x42b1_7218, 0x7f80_0000),
            (0xc2cf_f1b4, 0x0000_0001),
            (0xc2cf_f1b5, 0x0000_0000),
        ],
    ),
    (
        "log",
        math::log_slice,
        &[
            (0x3f80_0000, 0x0000_0000),
            (0x0000_0000, 0xff80_0000),
            (0x8000_0000, 0xff80_0000),
            (0x0000_0001, 0xc2ce_8ed0),
            (0x8000_0001, 0x7fc0_0000),
            (0x7f80_0000, 0x7f80_0000),
            (0xff80_0000, 0x7fc0_0000),
            (0xbf80_0000, 0x7fc0_0000),
            (0xffc0_1234, 0x7fc0_0000),
            (0x7f80_0001, 0x7fc0_0000),
        ],
    ),
    (
        "rsqrt",
        math::rsqrt_slice,
        &[
            (0x0000_0000, 0x7f80_0000),
            (0x8000_0000, 0xff80_0000),
            (0x0000_0001, 0x64b5_04f3),
            (0x8000_0001, 0x7fc0_0000),
            (0x7f80_0000, 0x0000_0000),
            (0xff80_0000, 0x7fc0_0000),
            (0xbf80_0000, 0x7fc0_0000),
            (0xffc0_1234, 0x7fc0_0000),
            (0x7f80_0001, 0x7fc0_0000),
        ],
    ),
    (
        "sigmoid",
        math::sigmoid_slice,
        &[
            (0x0000_0000, 0x3f00_0000),
            (0x8000_0000, 0x3f00_0000),
            (0x0000_0001, 0x3f00_0000),
            (0x8000_0001, 0x3f00_0000),
            (0x7f80_0000, 0x3f80_0000),
            (0xff80_0000, 0x0000_0000),
            (0xc2b1_7217, 0x0020_0010),
            (0xc2b1_7218, 0x0000_0000),
            (0xffc0_1234, 0x7fc0_0000),
            (0x7f80_0001, 0x7fc0_0000),
        ],
    ),
    (
        "silu",
        math::silu_slice,
        &[
            (0x0000_0000, 0x0000_0000),
            (0x8000_0000, 0x8000_0000),
            (0x0000_0001, 0x0000_0000),
            (0x8000_0001, 0x8000_0000),
            (0x7f80_0000, 0x7f80_0000),
            (0xff80_0000, 0x7fc0_0000),
            (0xff7f_ffff, 0x8000_0000),
            (0xc2b1_7218, 0x8000_0000),
            (0xffc0_1234, 0x7fc0_0000),
            (0x7f80_0001, 0x7fc0_0000),
        ],
    ),
];
