//! Members in this process, over a real network, with an operator that is honest or not.
#![allow(clippy::unwrap_used)]

mod operator;

use essaim_kernels::cuda::CudaDevices;
use essaim_node::config::Settings;
use essaim_node::datadir::DataDir;
use essaim_node::driver::{End, JoinError, JoinOptions, join};
use essaim_node::identity::Identity;
use essaim_node::reporter::{Reporter, Show};
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::link::JoinLink;
use operator::{Operator, Plan};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Takes part until the end of the run, with the identity and data in `root`.
async fn member(root: &Path, link: JoinLink) -> Result<End, JoinError> {
    let data_dir = DataDir::open(root, &link.run).unwrap();
    let settings = Settings {
        threads: Some(1),
        device: Some("cpu".into()),
        memory: Some("1G".into()),
        listen: Some(vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()]),
        mdns: Some(false),
        keep_rounds: None,
    };
    let options = JoinOptions {
        link,
        root: data_dir.root().to_owned(),
        config: settings.resolve().unwrap(),
        devices: Arc::new(CudaDevices),
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
