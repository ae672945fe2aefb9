//! A run in a simulation: the real state machines of `essaim-protocol` over a virtual clock, an unreliable network and
//! disks that survive crashes. Everything follows from one seed, so that a failure is seen again by its seed.
//!
//! [`world::World`] drives the machines; [`checkers`] watch what is observable from outside, each for one promise.
//! The arithmetic is a toy ([`arithmetic`]): what matters here is who agrees on what.

pub mod arithmetic;
pub mod byzantine;
pub mod checkers;
pub mod coordinator;
pub mod link;
pub mod node;
pub mod queue;
pub mod rng;
pub mod world;

use checkers::Referee;
use world::World;

/// A fault built in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The coordinator's disk forgets signed lists when it restarts.
    ForgetsLists,
    /// The coordinator's disk forgets receipted claims when it restarts.
    ForgetsClaims,
    /// The coordinator sends a receipt before its claim is on disk.
    ReceiptsFirst,
    /// Members forget their claims when they restart, and may make others.
    ForgetfulMembers,
    /// Members serve updates to whoever asks, whenever; and the coordinator asks at once.
    ServesEarly,
    /// One member's arithmetic is wrong.
    WrongArithmetic,
    /// Nothing that members send arrives.
    Silence,
}

/// What kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Members, all told: honest, byzantine, late.
    pub members: usize,
    /// Rounds of the run.
    pub rounds: u64,
    /// Messages lost, in thousandths.
    pub loss_permille: u32,
    /// Members that break the rules, in thousandths.
    pub byzantine_permille: u32,
    /// Members that start after the run did, in thousandths.
    pub late_permille: u32,
    /// Mean time between crashes of one member, milliseconds.
    pub member_crash_every_ms: u64,
    /// Mean time between crashes of the coordinator, milliseconds.
    pub coordinator_crash_every_ms: u64,
    /// Contributions that must count, in thousandths of the members of all rounds.
    pub share_permille: u64,
    /// A fault built in on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Plan {
    /// What `cargo test` and the `simulate` command run: 200 members, 50 rounds, 30 % of messages lost.
    pub fn standard(seed: u64) -> Plan {
        Plan {
            seed,
            members: 200,
            rounds: 50,
            loss_permille: 300,
            byzantine_permille: 80,
            late_permille: 200,
            member_crash_every_ms: 900_000,
            coordinator_crash_every_ms: 240_000,
            share_permille: 650,
            sabotage: None,
        }
    }

    /// A few members and rounds, for tests of the checkers.
    pub fn small(seed: u64) -> Plan {
        Plan { members: 12, rounds: 8, share_permille: 333, ..Plan::standard(seed) }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Virtual time at the end.
    pub now_ms: u64,
    /// Events.
    pub events: u64,
    /// Records signed, record 0 included.
    pub records: u64,
    /// Rounds asked for.
    pub rounds: u64,
    /// Contributions that counted, over all rounds.
    pub contributions: u64,
    /// Listed claims that did not count.
    pub refusals: u64,
    /// Statements that the coordinator refused.
    pub refused: u64,
    /// Members, summed over rounds.
    pub member_rounds: u64,
    /// Rounds without a contribution.
    pub empty_rounds: u64,
    /// Crashes of members.
    pub member_crashes: u64,
    /// Crashes of the coordinator.
    pub coordinator_crashes: u64,
    /// Honest members that run at the end.
    pub honest_alive: usize,
    /// Of these, those that adopted the last record.
    pub honest_at_end: usize,
    /// Highest position handed out.
    pub positions: u64,
}

/// Runs a plan to its end.
///
/// # Errors
/// What the first checker to fail saw, with the seed.
pub fn run(plan: Plan) -> Result<Summary, String> {
    let (world, referee) = play(plan);
    match referee.finish(&world.summary()) {
        Ok(()) => Ok(world.summary()),
        Err(why) => Err(format!("seed {}: {why}", plan.seed)),
    }
}

/// Runs a plan and gives everything back, checked or not.
pub fn play(plan: Plan) -> (World, Referee) {
    let mut world = World::new(plan);
    let mut referee = Referee::new(world.signed_manifest(), world.signatures(), plan.share_permille);
    while world.advance() {
        if !referee.observe(world.take_observations()) {
            break;
        }
    }
    referee.observe(world.take_observations());
    (world, referee)
}
