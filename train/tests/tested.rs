//! Whatever enters a record is computed by a thread that passed the known-answer test, though another thread made the context.
#![allow(clippy::unwrap_used)]

use essaim_kernels::Exec;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{F64Bits, Optimizer};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::{check_update, next_checkpoint};
use essaim_train::codec::{Update, UpdateFormat};
use essaim_train::inner::InnerLoop;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::{tiny_manifest, tiny_unit};

const RUN: RunId = RunId([6; 32]);
const MEMBER: MemberId = MemberId([8; 32]);

/// Whether a new thread has passed the test of `exec` once it did `work`; it has not before.
fn passes(exec: &Exec, work: impl FnOnce() + Send) -> bool {
    let thread = || {
        assert!(!exec.has_passed());
        work();
        exec.has_passed()
    };
    std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

#[test]
fn every_thread_passes_the_known_answer_test_where_numbers_of_records_arise() {
    let manifest = tiny_manifest(Optimizer::AdamW);
    let exec = &Exec::detect(2).unwrap();
    assert!(!passes(exec, || ()), "doing nothing passes no test");
    let context = RoundContext { exec, manifest: &manifest, run: RUN, round: 1 };
    let mut base = Base::initial(exec, &manifest);
    assert!(passes(exec, || _ = Base::initial(exec, &manifest)), "the first checkpoint");

    let begin = || InnerLoop::new(context, &base, 0, 1);
    assert!(passes(exec, || _ = begin()), "the start of an inner loop");
    let mut inner = begin();
    assert!(passes(exec, || _ = inner.step(&tiny_unit(&manifest, 0)).unwrap()), "an inner step");
    assert!(passes(exec, move || _ = inner.finish()), "the end of an inner loop");

    let result = begin().finish();
    let (format, header) = (UpdateFormat::of(&manifest), context.header(MEMBER));
    let encode = || format.encode(exec, &header, &result.pseudo_gradient, &result.moments).unwrap();
    assert!(passes(exec, || _ = encode()), "an update");
    let bytes = encode();
    assert!(passes(exec, || _ = Update::open(exec, &bytes, &format, &header).unwrap()), "an update's norm");
    assert!(passes(exec, || _ = check_update(&context, MEMBER, &bytes).unwrap()), "the check of an update");

    let contribution = Contribution {
        member: MEMBER,
        claim: Hash([0; 32]),
        update: Hash::of(&bytes),
        update_len_bytes: bytes.len() as u64,
        steps: 1,
        tokens: 36,
        loss: F64Bits(0),
    };
    let mut fetch = |_: &Contribution| {
        assert!(exec.has_passed(), "aggregation began before the test");
        Ok(bytes.clone())
    };
    assert!(passes(exec, || _ = next_checkpoint(&context, &[contribution], &mut fetch, &mut base).unwrap()));
}
