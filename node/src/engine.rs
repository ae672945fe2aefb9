//! What trains: the CPU, or a device. Chosen when the manifest is known, and again after a device failed.

use crate::events::{Event, bytes_text};
use crate::reporter::Reporter;
use essaim_kernels::Exec;
use essaim_kernels::cuda::{Device, DeviceChoice, DeviceError, DeviceSource};
use essaim_protocol::manifest::Manifest;
use essaim_train::engine::Engine;
use essaim_train::selfcheck::{SelfCheckError, self_check_on};
use essaim_train::{device, inner};
use std::sync::Arc;

/// Why nothing can train.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model does not fit the CPU's memory.
    #[error(
        "this run needs {needed}, {allowed} are allowed: give more with --memory, or join from a larger machine",
        needed = bytes_text(*needed_bytes), allowed = bytes_text(*allowed_bytes)
    )]
    Memory {
        /// What the smallest micro-batch needs, bytes.
        needed_bytes: u64,
        /// What is allowed, bytes.
        allowed_bytes: u64,
    },
    /// No device that was asked for can do it.
    #[error("--device {choice}: {reason}")]
    Device {
        /// What was asked for.
        choice: DeviceChoice,
        /// Why none can, device by device.
        reason: String,
    },
    /// A device failed, and its driver does not give it back to this process: NVIDIA's wants a new process after some failures.
    #[error("a device failed, and this process does not get it back ({reason})")]
    Restart {
        /// What the driver said.
        reason: String,
    },
}

/// Why one device is not used.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    SelfCheck(#[from] SelfCheckError),
    #[error(
        "this run needs {needed} of its memory even with one sequence at a time, and {free} of {total} can be used",
        needed = bytes_text(*needed_bytes), free = bytes_text(*free_bytes), total = bytes_text(*total_bytes)
    )]
    DeviceMemory { needed_bytes: u64, free_bytes: u64, total_bytes: u64 },
    #[error(
        "beside the device this run needs {needed} of the machine's memory, and {allowed} are allowed; give more with --memory",
        needed = bytes_text(*needed_bytes), allowed = bytes_text(*allowed_bytes)
    )]
    HostMemory { needed_bytes: u64, allowed_bytes: u64 },
}

impl Refusal {
    /// Whether it may be otherwise for another process: the driver failed, and the device was found neither too small nor wrong.
    fn is_of_the_driver(&self) -> bool {
        let (Refusal::Device(error) | Refusal::SelfCheck(SelfCheckError::Device(error))) = self else { return false };
        matches!(error, DeviceError::Failed { .. } | DeviceError::NoDriver { .. })
    }
}

/// What trains, ready to be used.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The device; none for the CPU.
    device: Option<Device>,
    /// Sequences at a time that fit its memory.
    pub micro_batch: u32,
    /// What training needs of its memory, bytes.
    pub needed_bytes: u64,
}

impl Chosen {
    /// For the inner loop.
    pub fn engine(&self) -> Engine<'_> {
        self.device.as_ref().map_or(Engine::Cpu, Engine::Device)
    }
}

/// What the user wants to train on, and where devices come from.
#[derive(Debug, Clone)]
pub struct Engines {
    /// What is wanted.
    pub choice: DeviceChoice,
    /// Where devices come from.
    pub source: Arc<dyn DeviceSource>,
    /// Most of the machine's memory that training may use, bytes.
    pub memory_bytes: u64,
}

impl Engines {
    /// Refuses what can be refused before the run is known: a device asked for where there is none.
    ///
    /// # Errors
    /// [`EngineError::Device`].
    pub fn precheck(&self) -> Result<(), EngineError> {
        let DeviceChoice::Cuda(number) = self.choice else { return Ok(()) };
        let listed = self.source.devices().and_then(|devices| match number {
            Some(ordinal) if ordinal as usize >= devices.len() => {
                Err(DeviceError::NoSuchDevice { ordinal, count: devices.len() as u32 })
            }
            _ => Ok(()),
        });
        listed.map_err(|error| self.refused(error.to_string()))
    }

    /// Chooses what trains, and reports it with the reason in one line.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn choose(&self, exec: &Exec, manifest: &Manifest, reporter: &Reporter) -> Result<Chosen, EngineError> {
        self.choose_again(exec, manifest, reporter, false)
    }

    /// As [`Engines::choose`]; after a device was `lost`, and if a driver refuses what it gave before, [`EngineError::Restart`] instead of the CPU or nothing.
    fn choose_again(
        &self,
        exec: &Exec,
        manifest: &Manifest,
        reporter: &Reporter,
        lost: bool,
    ) -> Result<Chosen, EngineError> {
        let mut refused_by_driver = None;
        let try_device = |ordinal| {
            self.try_device(ordinal, exec, manifest).inspect_err(|refusal| {
                if refusal.is_of_the_driver() {
                    refused_by_driver.get_or_insert_with(|| refusal.to_string());
                }
            })
        };
        let picked = self.choice.pick(&*self.source, try_device);
        if lost && !matches!(picked, Ok((Some(_), _))) {
            // The driver refused a device, or does not even say which there are.
            let refused = refused_by_driver.or_else(|| self.source.devices().err().map(|error| error.to_string()));
            if let Some(reason) = refused {
                return Err(EngineError::Restart { reason });
            }
        }
        let (chosen, reason) = match picked.map_err(|reason| self.refused(reason))? {
            (Some(chosen), reason) => (chosen, reason),
            (None, reason) => (self.cpu(manifest, exec.threads())?, reason),
        };
        reporter.report(&event(&chosen, exec, reason));
        Ok(chosen)
    }

    fn refused(&self, reason: String) -> EngineError {
        EngineError::Device { choice: self.choice, reason }
    }

    fn cpu(&self, manifest: &Manifest, threads: usize) -> Result<Chosen, EngineError> {
        let micro_batch = inner::micro_batch_for(manifest, self.memory_bytes, threads);
        let micro_batch = micro_batch.ok_or_else(|| EngineError::Memory {
            needed_bytes: inner::memory_bytes(manifest, 1, threads),
            allowed_bytes: self.memory_bytes,
        })?;
        Ok(Chosen { device: None, micro_batch, needed_bytes: inner::memory_bytes(manifest, micro_batch, threads) })
    }

    fn try_device(&self, ordinal: u32, exec: &Exec, manifest: &Manifest) -> Result<Chosen, Refusal> {
        let needed_bytes = device::host_memory_bytes(manifest);
        if needed_bytes > self.memory_bytes {
            return Err(Refusal::HostMemory { needed_bytes, allowed_bytes: self.memory_bytes });
        }
        let device = self.source.open(ordinal)?;
        let free_bytes = device::usable_bytes(&device);
        let micro_batch = device::micro_batch_for(manifest, free_bytes).ok_or_else(|| Refusal::DeviceMemory {
            needed_bytes: device::device_memory_bytes(manifest, 1),
            free_bytes,
            total_bytes: device.info().memory_bytes,
        })?;
        self_check_on(exec, Engine::Device(&device))?;
        let needed_bytes = device::device_memory_bytes(manifest, micro_batch);
        Ok(Chosen { device: Some(device), micro_batch, needed_bytes })
    }
}

fn event(chosen: &Chosen, exec: &Exec, reason: String) -> Event {
    match &chosen.device {
        Some(device) => {
            let info = device.info();
            Event::Engine {
                device: format!("{}:{}", info.kind, info.ordinal),
                name: info.name.clone(),
                memory_bytes: Some(info.memory_bytes),
                reason,
            }
        }
        None => Event::Engine {
            device: "cpu".into(),
            name: format!("{} threads, {}", exec.threads(), exec.path()),
            memory_bytes: None,
            reason,
        },
    }
}

/// Rounds that a device may lose one after the other before this process gives up on it.
const LOSSES_MAX: u32 = 2;

/// What trains, and what is to be done when it fails.
#[derive(Debug)]
pub struct Trainer {
    engines: Engines,
    /// None after a device failed, until the next round.
    chosen: Option<Chosen>,
    /// Failures of a driver since the last work that was done.
    losses: u32,
    last_loss: String,
}

impl Trainer {
    /// Trains on what was chosen.
    pub fn new(engines: Engines, chosen: Chosen) -> Trainer {
        Trainer { engines, chosen: Some(chosen), losses: 0, last_loss: String::new() }
    }

    /// What trains the next round: the same as the last, or after a failure what can be had now.
    ///
    /// # Errors
    /// [`EngineError::Restart`]: only a new process can go on. Others: then the round is sat out.
    pub fn ready(&mut self, exec: &Exec, manifest: &Manifest, reporter: &Reporter) -> Result<&Chosen, EngineError> {
        let chosen = match self.chosen.take() {
            Some(chosen) => chosen,
            None if self.losses >= LOSSES_MAX => return Err(EngineError::Restart { reason: self.last_loss.clone() }),
            None => self.engines.choose_again(exec, manifest, reporter, self.losses > 0)?,
        };
        Ok(self.chosen.insert(chosen))
    }

    /// Gives back a device that failed, or had no room.
    pub fn lost(&mut self, error: &DeviceError) {
        self.chosen = None;
        if matches!(error, DeviceError::Failed { .. }) {
            self.losses += 1;
            self.last_loss = error.to_string();
        }
    }

    /// The work of a round was done.
    pub fn worked(&mut self) {
        self.losses = 0;
    }
}
