//! What lies between processes: messages take time, get lost, arrive twice or late, and some processes can't be reached.

use crate::dice::Dice;
use std::collections::BTreeMap;
use tilework_core::ids::Millis;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    Driver(u32),
    Worker(u32),
    /// The work queue, the lease and the clients.
    Server,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    cut_off: BTreeMap<Node, Millis>,
}

/// How messages fare now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) delay_ms_max: u64,
}

impl Network {
    /// Cuts a process off until some time.
    pub(crate) fn cut_off(&mut self, node: Node, until: Millis) {
        let before = self.cut_off.insert(node, until);
        // A second cut never shortens the first.
        self.cut_off.insert(node, until.max(before.unwrap_or_default()));
    }

    /// Whether both ends are reached now, and the server that is between them.
    pub(crate) fn connects(&self, now: Millis, from: Node, to: Node) -> bool {
        [from, to, Node::Server]
            .iter()
            .all(|node| self.cut_off.get(node).is_none_or(|until| now >= *until))
    }

    /// After how long a message arrives: never, once, or twice.
    pub(crate) fn delays(&self, dice: &mut Dice, weather: Weather) -> Vec<u64> {
        if dice.happens(weather.lost) {
            return Vec::new();
        }
        let n_copies = 1 + usize::from(dice.happens(weather.repeated));
        (0..n_copies).map(|_| self.delay(dice, weather)).collect()
    }

    /// After how long something arrives that is neither lost nor repeated.
    pub(crate) fn delay(&self, dice: &mut Dice, weather: Weather) -> u64 {
        // Most are quick; some take long.
        let longest = if dice.happens(100) {
            weather.delay_ms_max
        } else {
            weather.delay_ms_max.min(10)
        };
        1 + dice.pick(0..longest.max(1))
    }
}
