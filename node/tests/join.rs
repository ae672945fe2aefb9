//! Members in this process, over a real network, with an operator that is honest or not.
#![allow(clippy::unwrap_used)]

mod cards;
mod operator;

use cards::Cards;

use essaim_cuda_shim::{Call, STAND_IN, ShimDriver, WatchedDriver};
use essaim_kernels::Exec;
use essaim_kernels::cuda::{CudaDevices, Device, DeviceSource, device_self_test};
use essaim_node::config::Settings;
use essaim_node::datadir::DataDir;
use essaim_node::driver::{End, JoinError, JoinOptions, join};
use essaim_node::identity::Identity;
use essaim_node::reporter::{Reporter, Show};
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::link::JoinLink;
use essaim_train::engine::Engine;
use essaim_train::selfcheck::self_check_on;
use operator::{Operator, Plan};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Takes part until the end of the run, with the identity and data in `root`.
async fn member(root: &Path, link: JoinLink) -> Result<End, JoinError> {
    member_on(root, link, "cpu", Arc::new(CudaDevices)).await
}

/// The same with a choice of what trains.
async fn member_on(
    root: &Path,
    link: JoinLink,
    choice: &str,
    devices: Arc<dyn DeviceSource>,
) -> Result<End, JoinError> {
    let data_dir = DataDir::open(root, &link.run).unwrap();
    let settings = Settings {
        threads: Some(1),
        device: Some(choice.into()),
        memory: Some("1G".into()),
        listen: Some(vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()]),
        mdns: Some(false),
        keep_rounds: None,
    };
    let options = JoinOptions {
        link,
        root: data_dir.root().to_owned(),
        config: settings.resolve().unwrap(),
        devices,
        exit_when_finished: true,
        give_up_after: Some(Duration::from_secs(30)),
    };
    let identity = Identity::load_or_create(&root.join("key")).unwrap();
    let reporter = Arc::new(Reporter::new(Instant::now(), Show::Nothing, Some(root.join("status.json"))));
    join(options, identity, reporter, Instant::now()).await
}

fn checkpoint_in(root: &Path) -> Hash {
    Hash::of(&std::fs::read(root.join("checkpoint/model.safetensors")).unwrap())
}

fn status_of(root: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(root.join("status.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_late_and_restarted_members_hold_the_checkpoint_of_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let [here, early, late] = ["operator", "early", "late"].map(|name| dir.path().join(name));
    let plan = Plan { rounds: 9, members_min: 1, lies_in_round: None };
    let operator = Operator::start(&here, plan).await;
    let (link, mut recorded) = (operator.link(), operator.recorded());
    let serving = tokio::spawn(operator.run());
    let first = async {
        // Cut off in the middle, as by a crash, then started again.
        let until = recorded.clone().wait_for(|last| last.is_some_and(|(round, _)| round >= 2)).await.map(|_| ());
        until.unwrap();
    };
    tokio::select! {
        end = member(&early, link.clone()) => panic!("ended before it was cut off: {end:?}"),
        () = first => {}
    }
    recorded.wait_for(|last| last.is_some()).await.unwrap();
    let (one, two) = tokio::join!(member(&early, link.clone()), member(&late, link));
    assert_eq!((one.unwrap(), two.unwrap()), (End::Finished, End::Finished));
    let (round, checkpoint) = recorded.borrow().unwrap();
    assert_eq!(round, 9);
    assert_eq!((checkpoint_in(&early), checkpoint_in(&late)), (checkpoint, checkpoint));
    assert!(status_of(&late)["included"].as_u64().unwrap() >= 1, "the late one took part: {}", status_of(&late));
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_a_device_and_one_on_the_cpu_train_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let [here, device, cpu] = ["operator", "device", "cpu"].map(|name| dir.path().join(name));
    let operator = Operator::start(&here, Plan { rounds: 4, members_min: 2, lies_in_round: None }).await;
    let (link, recorded) = (operator.link(), operator.recorded());
    let serving = tokio::spawn(operator.run());
    let on_device = member_on(&device, link.clone(), "auto", Arc::new(Cards::new(4 << 30)));
    let (one, two) = tokio::join!(on_device, member(&cpu, link));
    assert_eq!((one.unwrap(), two.unwrap()), (End::Finished, End::Finished));
    let (_, checkpoint) = recorded.borrow().unwrap();
    assert_eq!((checkpoint_in(&device), checkpoint_in(&cpu)), (checkpoint, checkpoint));
    let status = status_of(&device);
    assert_eq!(status["device"], "shim:0");
    assert!(status["included"].as_u64().unwrap() >= 1, "its work counted: {status}");
    serving.abort();
}

/// As `essaim join` does: what ends with [`End::Restart`] is started again on the same data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_device_failed_for_good_is_started_again_and_takes_part_on() {
    let dir = tempfile::tempdir().unwrap();
    let [here, root] = ["operator", "member"].map(|name| dir.path().join(name));
    let operator = Operator::start(&here, Plan { rounds: 8, members_min: 1, lies_in_round: None }).await;
    let (link, recorded) = (operator.link(), operator.recorded());
    let serving = tokio::spawn(operator.run());
    let cards = Arc::new(Cards::new(4 << 30));
    let fail = async {
        let mut recorded = recorded.clone();
        recorded.wait_for(|last| last.is_some_and(|(round, _)| round >= 2)).await.map(|_| ()).unwrap();
        cards.take_away();
        cards.fail_at(Call::Launch, 1);
    };
    let (end, ()) = tokio::join!(member_on(&root, link.clone(), "cuda:0", cards.clone()), fail);
    let End::Restart { reason } = end.unwrap() else { panic!("it went on") };
    assert!(reason.contains("fell off the bus"), "{reason}");
    cards.bring_back();
    let end = member_on(&root, link, "cuda:0", cards.clone()).await.unwrap();
    assert_eq!((end, cards.opened()), (End::Finished, 2));
    assert_eq!(checkpoint_in(&root), recorded.borrow().unwrap().1);
    assert!(status_of(&root)["included"].as_u64().unwrap() >= 1, "{}", status_of(&root));
    serving.abort();
}

/// Kernels that a device runs before it is taken for a run.
fn launches_at_opening() -> u64 {
    let watched = WatchedDriver::new(ShimDriver::open().unwrap());
    let device = Device::new(watched.clone());
    device_self_test(&device).unwrap();
    self_check_on(&Exec::detect(1).unwrap(), Engine::Device(&device)).unwrap();
    watched.take_counts().launches
}

/// The program itself, on a stand-in for NVIDIA's library whose driver fails for the rest of a process. It is one process, which is replaced: nobody
/// starts it again, and its standard output goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_driver_wants_a_new_process_becomes_one() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { rounds: 1000, members_min: 1, lies_in_round: None };
    let operator = Operator::start(&dir.path().join("operator"), plan).await;
    let link = operator.link().to_string();
    let serving = tokio::spawn(operator.run());
    let out = dir.path().join("events");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_essaim"))
        .args(["join", &link, "--device", "cuda:0", "--threads", "1", "--memory", "1G", "--no-mdns", "--json"])
        .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--data-dir"])
        .arg(dir.path().join("member"))
        .env("LD_LIBRARY_PATH", Path::new(STAND_IN).parent().unwrap())
        .env("ESSAIM_STAND_IN_FAIL", format!("cuLaunchKernel:{}:719:2", launches_at_opening() + 1))
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let mut events = Vec::new();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let text = std::fs::read_to_string(&out).unwrap();
        events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).collect();
        if events.iter().filter(|event| event["event"] == "round_started").count() >= 3 {
            break;
        }
        assert_eq!(child.try_wait().unwrap(), None, "{text}");
    }
    let _ = child.kill();
    let _ = child.wait();
    serving.abort();
    let order: Vec<&str> = events
        .iter()
        .filter_map(|event| match event["event"].as_str().unwrap() {
            "warning" => event["message"].as_str().unwrap().ends_with("starting again").then_some("starting again"),
            name => ["started", "round_started"].into_iter().find(|known| *known == name),
        })
        .collect();
    // A round that is lost, one that cannot begin, and a new process that is given work.
    let want = ["started", "round_started", "round_started", "starting again", "started", "round_started"];
    assert_eq!(order.get(..want.len()), Some(&want[..]), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_asked_for_and_not_there_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { rounds: 2, members_min: 1, lies_in_round: None };
    let link = Operator::start(&dir.path().join("operator"), plan).await.link();
    let error = member_on(&dir.path().join("member"), link, "cuda:3", Arc::new(Cards::new(4 << 30))).await.unwrap_err();
    assert_eq!(error.to_string(), "--device cuda:3: there is no CUDA device 3; this machine has 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_another_checkpoint_is_refused_and_kept_as_proof() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("member");
    let plan = Plan { rounds: 5, members_min: 1, lies_in_round: Some(2) };
    let operator = Operator::start(&dir.path().join("operator"), plan).await;
    let link = operator.link();
    let serving = tokio::spawn(operator.run());
    let end = member(&root, link).await.unwrap();
    let End::Halted { reason } = &end else { panic!("{end:?}") };
    assert!(reason.contains("record") && reason.contains("evidence"), "{reason}");
    let folders: Vec<_> = std::fs::read_dir(root.join("evidence")).unwrap().flatten().collect();
    assert_eq!(folders.len(), 1);
    assert!(folders[0].path().join("record").is_file());
    assert_eq!(status_of(&root)["activity"], "halted");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { rounds: 1, members_min: 1, lies_in_round: None };
    let operator = Operator::start(&dir.path().join("operator"), plan).await;
    let mut link = operator.link();
    link.run = RunId([5; 32]);
    let serving = tokio::spawn(operator.run());
    let error = member(&dir.path().join("member"), link).await.unwrap_err();
    assert!(matches!(error, JoinError::SentAway { .. } | JoinError::UnknownRun { .. }), "{error}");
    serving.abort();
}
