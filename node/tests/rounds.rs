//! The worker and the disk together: first checkpoint, inner steps, a stop in the middle, the next checkpoint, a restart.
#![allow(clippy::unwrap_used)]

mod cards;

use cards::Cards;
use essaim_cuda_shim::Call;
use essaim_kernels::Exec;
use essaim_kernels::cuda::{CudaDevices, DeviceChoice, DeviceSource};
use essaim_network::BlobStore;
use essaim_node::disk::Disk;
use essaim_node::engine::{Engines, Trainer};
use essaim_node::reporter::{Reporter, Show};
use essaim_node::withheld::Withheld;
use essaim_node::worker::{Job, Outcome, WorkControl, Worker, WorkerError};
use essaim_protocol::assignment::Assignment;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::ledger::{Ledger, Span};
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_protocol::round::{WorkDone, WorkOrder};
use essaim_protocol::signing::Keypair;
use essaim_protocol::statements::{Contribution, NO_CLAIMS, Record};
use essaim_train::device::device_memory_bytes;
use essaim_train::round::Base;
use essaim_train::selfcheck::tiny_manifest;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

const RUN: RunId = RunId([9; 32]);
const FAR_MS: u64 = 3_600_000;

struct Bench {
    jobs: std::sync::mpsc::Sender<Job>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    manifest: Arc<Manifest>,
    member: MemberId,
    store: Arc<BlobStore>,
    withheld: Arc<Withheld>,
    disk: Arc<Disk>,
    reporter: Arc<Reporter>,
    clock: Instant,
}

impl Bench {
    fn new(root: &Path) -> Bench {
        Bench::on(root, DeviceChoice::Cpu, Arc::new(CudaDevices))
    }

    fn on(root: &Path, choice: DeviceChoice, cards: Arc<dyn DeviceSource>) -> Bench {
        for folder in ["state", "claims"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let manifest = Arc::new(tiny_manifest(Optimizer::Muon));
        let store = Arc::new(BlobStore::open(root.join("blobs")).unwrap());
        let disk = Arc::new(Disk::open(root).unwrap());
        let base = disk.find(&manifest).unwrap().head.map(|(record, _, base)| (record.value.round, base));
        let withheld = Arc::new(Withheld::default());
        let member = Keypair::from_secret(&[1; 32]).member();
        let exec = Exec::detect(2).unwrap();
        let reporter = Arc::new(Reporter::new(Instant::now(), Show::Nothing, None));
        let engines = Engines { choice, source: cards, memory_bytes: 1 << 30 };
        let chosen = engines.choose(&exec, &manifest, &reporter).unwrap();
        let worker = Worker {
            exec,
            manifest: manifest.clone(),
            run: RUN,
            member,
            trainer: Trainer::new(engines, chosen),
            store: store.clone(),
            disk: disk.clone(),
            withheld: withheld.clone(),
            reporter: reporter.clone(),
            base,
        };
        let (jobs, job_queue) = std::sync::mpsc::channel();
        let (outcome_sender, outcomes) = mpsc::unbounded_channel();
        std::thread::spawn(move || worker.run(&job_queue, &outcome_sender));
        Bench { jobs, outcomes, manifest, member, store, withheld, disk, reporter, clock: Instant::now() }
    }

    fn apply(&mut self, round: u64, contributions: Vec<Contribution>) -> (Hash, Hash) {
        self.jobs.send(Job::Apply { round, contributions }).unwrap();
        match self.outcomes.blocking_recv().unwrap() {
            Outcome::Advanced { round: done, result } if done == round => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Orders `steps` inner steps of `round` and feeds `batches` of them.
    fn work(&mut self, round: u64, steps: u64, batches: u64, control: WorkControl) -> Option<WorkDone> {
        self.try_work(round, steps, batches, control).unwrap()
    }

    fn try_work(
        &mut self,
        round: u64,
        steps: u64,
        batches: u64,
        control: WorkControl,
    ) -> Result<Option<WorkDone>, WorkerError> {
        let (sender, units) = mpsc::channel(64);
        for index in 0..batches {
            sender.try_send(self.batch(index)).unwrap();
        }
        drop(sender);
        let spans = vec![Span { start: 5, len: steps }];
        let assignment = Assignment { run: RUN, round, member: self.member, spans };
        let order = WorkOrder { round, assignment, base: NO_CLAIMS, base_tokens_total: 0, deadline_ms: FAR_MS };
        self.jobs.send(Job::Contribute { order, steps: steps as u32, units, control: Arc::new(control) }).unwrap();
        match self.outcomes.blocking_recv().unwrap() {
            Outcome::Worked { round: done, result } if done == round => result,
            other => panic!("{other:?}"),
        }
    }

    fn batch(&self, index: u64) -> Vec<u32> {
        let len = u64::from(self.manifest.inner.batch) * (u64::from(self.manifest.model.context) + 1);
        let vocab = u64::from(self.manifest.model.vocab_size);
        (0..len).map(|i| ((i * i + 7 * i * (index + 1) + 3) % vocab) as u32).collect()
    }

    fn control(&self, deadline_ms: u64) -> WorkControl {
        WorkControl::new(self.clock, deadline_ms)
    }

    fn contribution(&self, done: &WorkDone) -> Contribution {
        Contribution {
            member: self.member,
            claim: Hash([3; 32]),
            update: done.update,
            update_len_bytes: done.update_len_bytes,
            steps: done.steps,
            tokens: u64::from(done.steps) * self.manifest.tokens_per_step(),
            loss: done.loss,
        }
    }

    fn record(&self, round: u64, contributions: Vec<Contribution>, hashes: (Hash, Hash)) -> Vec<u8> {
        let record = Record {
            run: RUN,
            round,
            previous: Hash([1; 32]),
            claims: NO_CLAIMS,
            contributions,
            refusals: Vec::new(),
            admitted: Vec::new(),
            preimage: Hash([2; 32]),
            tokens_total: 0,
            ledger: Ledger::genesis(RUN).hash(),
            checkpoint: hashes.0,
            outer_state: hashes.1,
            heldout: Vec::new(),
            audits: Vec::new(),
            withdrawals: Vec::new(),
            slices: Vec::new(),
        };
        Keypair::from_secret(&[8; 32]).sign(record).to_bytes()
    }
}

#[test]
fn any_prefix_is_an_update_and_the_same_prefix_the_same_update() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path());
    bench.apply(0, Vec::new());
    let cut_off = bench.work(1, 5, 2, bench.control(FAR_MS)).unwrap();
    assert_eq!(cut_off.steps, 2, "no more data came");
    let whole = bench.work(1, 2, 2, bench.control(FAR_MS)).unwrap();
    assert_eq!((whole.steps, whole.update, whole.loss), (2, cut_off.update, cut_off.loss));
    let late = bench.work(1, 5, 5, bench.control(0)).unwrap();
    assert_eq!(late.steps, 1, "one that would end beyond the deadline is not begun");
    assert_ne!(late.update, whole.update);
    assert!(bench.store.contains(&late.update) && bench.withheld.holds(&late.update));
}

#[test]
fn work_that_is_stopped_before_it_begins_or_thrown_away_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path());
    bench.apply(0, Vec::new());
    for claim in [true, false] {
        let control = bench.control(FAR_MS);
        control.stop(claim);
        assert_eq!(bench.work(1, 3, 3, control), None);
    }
    assert_eq!(bench.work(1, 3, 0, bench.control(FAR_MS)), None, "no data");
    assert!(bench.store.hashes().unwrap().is_empty());
    bench.jobs.send(Job::Apply { round: 2, contributions: Vec::new() }).unwrap();
    let outcome = bench.outcomes.blocking_recv().unwrap();
    assert!(matches!(outcome, Outcome::Advanced { round: 2, result: Err(_) }), "round 1 is not here: {outcome:?}");
}

#[test]
fn a_restart_goes_on_from_the_head_and_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(dir.path());
    let initial = Base::initial(&Exec::detect(1).unwrap(), &bench.manifest);
    let first = bench.apply(0, Vec::new());
    assert_eq!(first, (initial.checkpoint_hash(&bench.manifest), initial.outer_hash()));
    let ledger = Ledger::genesis(RUN).to_bytes();
    bench.disk.write_head(0, &bench.record(0, Vec::new(), first), &ledger).unwrap();
    let done = bench.work(1, 2, 2, bench.control(FAR_MS)).unwrap();
    let contributions = vec![bench.contribution(&done)];
    let second = bench.apply(1, contributions.clone());
    assert_ne!(first, second);
    bench.disk.write_head(1, &bench.record(1, contributions, second), &ledger).unwrap();
    assert!(!bench.disk.folder(0).exists(), "the folder of the round before goes");
    assert!(dir.path().join("checkpoint/model.safetensors").is_file(), "the link points to the newest");
    let next = bench.work(2, 1, 1, bench.control(FAR_MS)).unwrap();
    let (manifest, path) = (bench.manifest.clone(), bench.disk.folder(1).join("model.safetensors"));
    drop(bench);

    let mut again = Bench::new(dir.path());
    assert_eq!(again.work(2, 1, 1, again.control(FAR_MS)).unwrap().update, next.update, "the same base, the same bits");
    drop(again);

    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = Disk::open(dir.path()).unwrap().find(&manifest).unwrap();
    assert!(found.head.is_none());
    assert!(found.damaged[0].contains("checkpoint has hash"), "{:?}", found.damaged);
}

#[test]
fn old_updates_and_claims_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("claims")).unwrap();
    let disk = Disk::open(dir.path()).unwrap();
    let hash = |name: &str| Hash::of(name.as_bytes());
    disk.note_updates(1, &[hash("a"), hash("b")]).unwrap();
    disk.note_updates(2, &[hash("b"), hash("c")]).unwrap();
    disk.write_claim(1, b"x").unwrap();
    disk.write_claim(2, b"x").unwrap();
    // After a restart, too.
    let disk = Disk::open(dir.path()).unwrap();
    assert_eq!(disk.forget_before(2).unwrap(), [hash("a")], "b is of round 2 as well");
    assert_eq!(std::fs::read_dir(dir.path().join("claims")).unwrap().count(), 1);
    assert_eq!(disk.forget_before(2).unwrap(), []);
    assert_eq!(disk.forget_before(3).unwrap(), [hash("b"), hash("c")]);
}

#[test]
fn a_device_that_fails_in_a_round_loses_that_round_and_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let [here, there] = ["cpu", "device"].map(|name| dir.path().join(name));
    let mut cpu = Bench::new(&here);
    cpu.apply(0, Vec::new());
    let wanted = cpu.work(1, 2, 2, cpu.control(FAR_MS)).unwrap();
    let cards = Arc::new(Cards::new(4 << 30));
    let mut bench = Bench::on(&there, DeviceChoice::Auto, cards.clone());
    assert_eq!(bench.reporter.status().device.as_deref(), Some("shim:0"));
    bench.apply(0, Vec::new());
    assert_eq!(bench.work(1, 2, 2, bench.control(FAR_MS)).unwrap().update, wanted.update, "the CPU's bits");
    cards.fail_at(Call::Launch, 300);
    let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
    assert!(matches!(error, WorkerError::Contribute(_)), "{error:?}");
    assert!(error.to_string().contains("inner steps of the round are lost") && !error.to_string().contains('\n'));
    assert_eq!(bench.work(1, 2, 2, bench.control(FAR_MS)).unwrap().update, wanted.update, "opened again");
    assert_eq!(cards.opened(), 2);
    bench.apply(0, Vec::new());
}

/// NVIDIA's driver may want a new process. That one, and not the CPU for ever, is what goes on.
#[test]
fn a_device_that_this_process_does_not_get_back_asks_for_another() {
    let dir = tempfile::tempdir().unwrap();
    for choice in [DeviceChoice::Auto, DeviceChoice::Cuda(None), DeviceChoice::Cuda(Some(0))] {
        let cards = Arc::new(Cards::new(4 << 30));
        let mut bench = Bench::on(&dir.path().join(choice.to_string()), choice, cards.clone());
        bench.apply(0, Vec::new());
        cards.fail_at(Call::Upload, 1);
        cards.take_away();
        let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
        assert!(matches!(error, WorkerError::Contribute(_)), "{error:?}");
        let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
        assert!(matches!(error, WorkerError::Restart(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("fell off the bus") && text.ends_with("starting again"), "{text}");
    }
}

/// One that opens and fails, round after round, is no better; one that worked in between is.
#[test]
fn a_device_that_fails_twice_in_a_row_asks_for_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let cards = Arc::new(Cards::new(4 << 30));
    let mut bench = Bench::on(dir.path(), DeviceChoice::Auto, cards.clone());
    let of_opening = cards.take_launches();
    bench.apply(0, Vec::new());
    for fails in [true, false, true] {
        if fails {
            cards.fail_at(Call::Upload, 1);
        }
        assert_eq!(bench.try_work(1, 2, 2, bench.control(FAR_MS)).is_err(), fails);
    }
    cards.fail_at_opening(Call::Launch, of_opening + 1);
    let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
    assert!(matches!(error, WorkerError::Contribute(_)), "opened again, and lost again: {error:?}");
    let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
    assert!(matches!(error, WorkerError::Restart(_)), "{error:?}");
    assert_eq!(cards.opened(), 3);
}

#[test]
fn a_device_that_fails_while_it_is_tested_again_asks_for_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let cards = Arc::new(Cards::new(4 << 30));
    let mut bench = Bench::on(dir.path(), DeviceChoice::Auto, cards.clone());
    bench.apply(0, Vec::new());
    cards.fail_at(Call::Upload, 1);
    cards.fail_at_opening(Call::Launch, 1);
    assert!(bench.try_work(1, 2, 2, bench.control(FAR_MS)).is_err());
    let error = bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap_err();
    assert!(matches!(error, WorkerError::Restart(_)), "{error:?}");
}

/// What another program took is not the driver's failure: a new process has no more of it.
#[test]
fn a_device_whose_memory_is_gone_leaves_the_cpu_if_that_was_allowed() {
    let dir = tempfile::tempdir().unwrap();
    for choice in [DeviceChoice::Auto, DeviceChoice::Cuda(Some(0))] {
        let cards = Arc::new(Cards::new(4 << 30));
        let mut bench = Bench::on(&dir.path().join(choice.to_string()), choice, cards.clone());
        bench.apply(0, Vec::new());
        cards.fail_at(Call::Upload, 1);
        cards.shrink(1 << 20);
        assert!(bench.try_work(1, 2, 2, bench.control(FAR_MS)).is_err());
        let next = bench.try_work(1, 2, 2, bench.control(FAR_MS));
        match choice {
            DeviceChoice::Auto => {
                assert!(next.unwrap().is_some());
                assert_eq!(bench.reporter.status().device.as_deref(), Some("cpu"));
            }
            _ => {
                let error = next.unwrap_err();
                assert!(matches!(error, WorkerError::Engine(_)), "{error:?}");
                assert!(error.to_string().contains("trying again in the next round"), "{error}");
                cards.shrink(4 << 30);
                assert!(bench.try_work(1, 2, 2, bench.control(FAR_MS)).unwrap().is_some());
            }
        }
    }
}

#[test]
fn a_card_without_memory_for_the_run_is_refused_with_the_numbers() {
    let (manifest, exec) = (tiny_manifest(Optimizer::Muon), Exec::detect(1).unwrap());
    let reporter = Reporter::new(Instant::now(), Show::Nothing, None);
    let choose = |choice, device_bytes, memory_bytes| {
        let engines = Engines { choice, source: Arc::new(Cards::new(device_bytes)), memory_bytes };
        engines.choose(&exec, &manifest, &reporter).map(|chosen| (chosen.micro_batch, chosen.needed_bytes))
    };
    let spare = 256 << 20;
    let [one, two, three] = [1, 2, 3].map(|size| device_memory_bytes(&manifest, size));
    assert_eq!(choose(DeviceChoice::Auto, spare + two, 1 << 30).unwrap(), (2, two));
    assert_eq!(choose(DeviceChoice::Cuda(None), 1 << 30, 1 << 30).unwrap(), (3, three));
    assert_eq!(reporter.status().device.as_deref(), Some("shim:0"));
    let error = choose(DeviceChoice::Cuda(Some(0)), spare + one - 1, 1 << 30).unwrap_err().to_string();
    assert!(error.contains("even with one sequence at a time") && error.contains("KiB"), "{error}");
    let error = choose(DeviceChoice::Cuda(Some(0)), 1 << 30, 1 << 10).unwrap_err().to_string();
    assert!(error.contains("beside the device") && error.contains("1.0 KiB are allowed"), "{error}");
    assert_eq!(choose(DeviceChoice::Auto, spare, 1 << 30).unwrap().0, 3);
    assert_eq!(reporter.status().device.as_deref(), Some("cpu"));
    let engines = Engines { choice: DeviceChoice::Cuda(Some(1)), source: Arc::new(Cards::new(0)), memory_bytes: 0 };
    let error = engines.precheck().unwrap_err().to_string();
    assert_eq!(error, "--device cuda:1: there is no CUDA device 1; this machine has 1");
}
