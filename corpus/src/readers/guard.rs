//! The parquet library panics on some damaged files (a count of zero it divides by, an offset below zero): 21 of 24,000 files with
//! one byte changed. Here that becomes a refusal like any other.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that [`guarded`] catches off stderr: a program calls it once, at its start. Others are shown as before.
pub fn quiet_guarded_panics() {
    let shown = take_hook();
    set_hook(Box::new(move |info| {
        if !GUARDED.get() {
            shown(info);
        }
    }));
}

/// What `work` gives, or what it panicked with. It must leave nothing half done that outlives it.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_becomes_a_reason() {
        let zero = std::hint::black_box(0);
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| 7 / zero), Err("attempt to divide by zero".to_owned()));
        assert_eq!(guarded(|| panic!("at {zero}")).map(|(): ()| ()), Err("at 0".to_owned()));
    }
}
