//! How the system's allocator gives memory back.
//!
//! A build takes large blocks for a moment, in many threads. glibc keeps what is freed, in up to eight pools a core, as it expects that it is
//! wanted again: resident memory then becomes nearly twice what is in use. With fewer pools and large blocks that go back at once,
//! it stays near it, at no cost in time that could be measured. glibc reads how it is to do that from the environment, at the
//! start, so the program starts itself once more with it; the only other way is a call that Rust holds for unsafe.

/// Starts the program again with the allocator told to give memory back, where it is glibc's and nobody has told it anything. Where that does not
/// work, the program goes on as it is.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn give_back() {
    use std::env;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const TOLD: [&str; 4] = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"];
    const BLOCK: &str = "131072";
    if TOLD.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let pools = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only where it failed.
    let _ = command.args(arguments).env(TOLD[0], pools.to_string()).env(TOLD[1], BLOCK).env(TOLD[2], BLOCK).exec();
}

/// Other allocators do as they do.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
