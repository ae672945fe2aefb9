//! Where the time of a step on a device goes. It observes; no number depends on it.

use super::pass::Done;
use crate::model::{Operator, Profile};
use essaim_kernels::cuda::Device;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Time spent in a step's parts, each waited for before the next was queued.
#[derive(Debug, Clone, Default)]
pub struct DeviceTimes {
    /// The model's operators.
    pub model: Profile,
    /// The norm of the gradient, and its scaling.
    pub clip: Duration,
    /// The optimiser's update.
    pub optimizer: Duration,
}

/// Times the parts of steps once it is started. Until then it waits for nothing.
#[derive(Debug, Default)]
pub(super) struct Clock {
    times: Option<RefCell<DeviceTimes>>,
}

impl Clock {
    /// Times everything from now on.
    pub(super) fn start(&mut self) {
        self.times = Some(RefCell::default());
    }

    /// What was timed since the last call.
    pub(super) fn take(&mut self) -> DeviceTimes {
        self.times.as_mut().map(|times| std::mem::take(times.get_mut())).unwrap_or_default()
    }

    /// Runs `work`, which queues `operator` on `device`.
    pub(super) fn time(&self, device: &Device, operator: Operator, work: impl FnOnce() -> Done) -> Done {
        self.book(device, |times, spent| times.model.add(operator, spent), work)
    }

    /// Runs `work`, which queues something on `device`, and has `account` keep its time.
    pub(super) fn book(
        &self,
        device: &Device,
        account: impl FnOnce(&mut DeviceTimes, Duration),
        work: impl FnOnce() -> Done,
    ) -> Done {
        let Some(times) = &self.times else { return work() };
        // What was queued before is not this part's.
        device.synchronize()?;
        let start = Instant::now();
        work()?;
        device.synchronize()?;
        account(&mut times.borrow_mut(), start.elapsed());
        Ok(())
    }
}
