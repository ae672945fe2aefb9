//! The book of misbehaviour: who did what, when it is too much, and when it is forgiven. Sans-IO: time is an argument.

use libp2p::PeerId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The most peers that the book remembers.
const PEERS_MAX: usize = 4096;

/// What a peer can do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A frame that is malformed, too long, or has trailing bytes. 3 points.
    MalformedFrame,
    /// Bytes of a blob that do not belong to its hash. 6 points: an honest peer checks before it serves.
    WrongBlob,
    /// Gossip that the caller rejected. 2 points.
    BadGossip,
    /// A control message that the caller found wrong: unsigned, stale, replayed. 2 points.
    BadRequest,
    /// More requests than are served. 1 point.
    Flooding,
    /// Proven misconduct: blocked at once.
    Severe,
}

impl Misbehaviour {
    fn points(self, config: &PenaltyConfig) -> f64 {
        match self {
            Misbehaviour::Flooding => 1.0,
            Misbehaviour::BadGossip | Misbehaviour::BadRequest => 2.0,
            Misbehaviour::MalformedFrame => 3.0,
            Misbehaviour::WrongBlob => 6.0,
            Misbehaviour::Severe => config.threshold_points,
        }
    }
}

/// When a peer is blocked, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct PenaltyConfig {
    /// Points from which on a peer is blocked. Default 10.
    pub threshold_points: f64,
    /// How long it takes to forgive one point. Default 60 s.
    pub forgive_point: Duration,
    /// How long a peer is blocked. Default 5 min.
    pub block: Duration,
}

impl Default for PenaltyConfig {
    fn default() -> Self {
        PenaltyConfig {
            threshold_points: 10.0,
            forgive_point: Duration::from_secs(60),
            block: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    points: f64,
    at: Instant,
    blocked_until: Option<Instant>,
}

/// Points of every peer that misbehaved. Bounded: when it is full, the entry with the fewest points makes way.
#[derive(Debug)]
pub struct PenaltyBook {
    config: PenaltyConfig,
    entries: HashMap<PeerId, Entry>,
}

impl PenaltyBook {
    /// An empty book.
    pub fn new(config: PenaltyConfig) -> PenaltyBook {
        PenaltyBook { config, entries: HashMap::new() }
    }

    /// The points of `peer` at `now`.
    pub fn points(&self, now: Instant, peer: &PeerId) -> f64 {
        self.entries.get(peer).map_or(0.0, |entry| self.decayed(now, entry))
    }

    fn decayed(&self, now: Instant, entry: &Entry) -> f64 {
        let forgiven =
            now.saturating_duration_since(entry.at).as_secs_f64() / self.config.forgive_point.as_secs_f64().max(1e-9);
        (entry.points - forgiven).max(0.0)
    }

    /// Counts a misbehaviour. `true` if the peer is to be blocked now.
    pub fn add(&mut self, now: Instant, peer: PeerId, what: Misbehaviour) -> bool {
        let points = self.points(now, &peer) + what.points(&self.config);
        let was_blocked = self.entries.get(&peer).and_then(|entry| entry.blocked_until);
        let block = points >= self.config.threshold_points && was_blocked.is_none();
        if !self.entries.contains_key(&peer) && self.entries.len() >= PEERS_MAX {
            self.make_room(now);
        }
        let blocked_until = if block { Some(now + self.config.block) } else { was_blocked };
        self.entries.insert(peer, Entry { points, at: now, blocked_until });
        block
    }

    fn make_room(&mut self, now: Instant) {
        let fewest = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.blocked_until.is_none())
            .min_by(|(_, a), (_, b)| self.decayed(now, a).total_cmp(&self.decayed(now, b)))
            .or_else(|| self.entries.iter().min_by_key(|(_, entry)| entry.blocked_until))
            .map(|(peer, _)| *peer);
        if let Some(peer) = fewest {
            self.entries.remove(&peer);
        }
    }

    /// The peers whose block is over at `now`, each once; their points are forgiven down to half the threshold.
    pub fn take_unblocked(&mut self, now: Instant) -> Vec<PeerId> {
        let over = |entry: &Entry| entry.blocked_until.is_some_and(|until| until <= now);
        let peers: Vec<PeerId> = self.entries.iter().filter(|(_, e)| over(e)).map(|(peer, _)| *peer).collect();
        for peer in &peers {
            if let Some(entry) = self.entries.get_mut(peer) {
                *entry = Entry { points: self.config.threshold_points / 2.0, at: now, blocked_until: None };
            }
        }
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> PenaltyBook {
        PenaltyBook::new(PenaltyConfig::default())
    }

    #[test]
    fn persistence_is_blocked_once_and_forgiven_in_time() {
        let (mut book, now, peer) = (book(), Instant::now(), PeerId::random());
        assert!(!book.add(now, peer, Misbehaviour::WrongBlob));
        assert!(book.add(now, peer, Misbehaviour::WrongBlob));
        assert!(!book.add(now, peer, Misbehaviour::WrongBlob), "it is blocked already");
        assert!(book.take_unblocked(now + Duration::from_secs(299)).is_empty());
        assert_eq!(book.take_unblocked(now + Duration::from_secs(300)), [peer]);
        assert!(book.take_unblocked(now + Duration::from_secs(301)).is_empty());
        assert!(book.add(now + Duration::from_secs(301), peer, Misbehaviour::WrongBlob));
    }

    #[test]
    fn an_occasional_slip_is_forgotten() {
        let (mut book, mut now, peer) = (book(), Instant::now(), PeerId::random());
        for _ in 0..100 {
            assert!(!book.add(now, peer, Misbehaviour::MalformedFrame));
            now += Duration::from_secs(180);
        }
        assert_eq!(book.points(now, &peer), 0.0);
    }

    #[test]
    fn severe_is_blocked_at_once() {
        let (mut book, now) = (book(), Instant::now());
        assert!(book.add(now, PeerId::random(), Misbehaviour::Severe));
    }

    #[test]
    fn the_book_is_bounded_and_keeps_the_blocked() {
        let (mut book, now, bad) = (book(), Instant::now(), PeerId::random());
        assert!(book.add(now, bad, Misbehaviour::Severe));
        for _ in 0..PEERS_MAX + 10 {
            book.add(now, PeerId::random(), Misbehaviour::Flooding);
        }
        assert_eq!(book.entries.len(), PEERS_MAX);
        assert_eq!(book.take_unblocked(now + Duration::from_secs(300)), [bad]);
    }
}
