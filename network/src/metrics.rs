//! Counters of what the network did since it started. They only grow; rates are the reader's work.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A snapshot of the counters, taken by [`crate::Network::metrics`].
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct NetworkMetrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The live counters, shared by the swarm task, the codecs and the fetches.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> NetworkMetrics {
                NetworkMetrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl NetworkMetrics {
            /// Every counter with its name, in a fixed order: for an exporter.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Payload bytes received: control frames, blob frames and gossip; transport overhead excluded.
    received_bytes,
    /// Payload bytes sent: control frames, blob frames and gossip; transport overhead excluded.
    sent_bytes,
    /// Pieces given to peers.
    pieces_served,
    /// Blob requests answered with "not found", "not yet" or "busy".
    blob_requests_refused,
    /// Pieces received and verified.
    pieces_verified,
    /// Pieces or lists of pieces received and found wrong.
    pieces_wrong,
    /// Frames received that were malformed or too long.
    frames_malformed,
    /// Control requests received.
    requests_received,
    /// Control requests dropped because the caller's event queue was full.
    requests_dropped,
    /// Gossip messages received.
    gossip_received,
    /// Gossip messages dropped because the caller's event queue was full.
    gossip_dropped,
    /// Connection events dropped because the caller's event queue was full.
    events_dropped,
    /// Misbehaviours counted against peers.
    penalties,
    /// Peers blocked for their misbehaviour.
    peers_blocked,
    /// Attempts to dial a bootstrap peer.
    bootstrap_dials,
}

/// Adds `n` to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_names_every_counter() {
        let counters = Counters::default();
        add(&counters.sent_bytes, 5);
        let entries = counters.snapshot().entries();
        assert!(entries.contains(&("sent_bytes", 5)));
        assert_eq!(entries.iter().map(|(_, value)| value).sum::<u64>(), 5);
    }
}
