//! The server of a schedule: how it is, when that changes, and what it answers.

use super::{CALL, Event, Kind, LIST, World};

/// How the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Well,
    Slow,
    Dead,
    Hung,
    /// Answers everything but calls, which fail at once or by their deadline.
    ListsOnly {
        hangs: bool,
    },
    /// Answers pings alone.
    PingsOnly {
        hangs: bool,
    },
}

impl World {
    pub(super) fn change(&mut self) {
        let hangs = self.picks.chance();
        let was_hung = self.mode == Mode::Hung;
        self.mode = match self.picks.below(10) {
            0..4 => Mode::Well,
            4 => Mode::Slow,
            5..7 => Mode::Dead,
            7 => Mode::Hung,
            8 => Mode::ListsOnly { hangs },
            _ => Mode::PingsOnly { hangs },
        };
        let forgets = self.picks.chance();
        self.needs_session |= forgets || self.mode == Mode::Dead;
        // A process that goes on answers what it was sent; a connection that is gone loses it.
        let goes_on = was_hung && matches!(self.mode, Mode::Well | Mode::Slow) && self.picks.chance();
        if goes_on || self.mode == Mode::Dead {
            for request in self.under_way.keys().copied().collect::<Vec<_>>() {
                self.at(self.now + 1, Event::Ends { request, answered: goes_on });
            }
        }
    }

    pub(super) fn answers(&self, kind: Kind) -> bool {
        match self.mode {
            Mode::Well | Mode::Slow => true,
            Mode::Dead | Mode::Hung => false,
            Mode::ListsOnly { .. } => !matches!(kind, Kind::Call { .. }),
            Mode::PingsOnly { .. } => kind == Kind::Ping,
        }
    }

    pub(super) fn send(&mut self, kind: Kind) {
        let deadline = if matches!(kind, Kind::Call { .. }) { CALL } else { LIST };
        let takes = match self.mode {
            Mode::Slow => self.picks.below(deadline * 3 / 2),
            _ => self.picks.below(400),
        };
        let (takes, answered) = match (self.mode, self.answers(kind)) {
            (_, true) => (takes, takes < deadline),
            (Mode::Hung | Mode::ListsOnly { hangs: true } | Mode::PingsOnly { hangs: true }, false) => {
                (deadline, false)
            }
            (_, false) => (takes.min(20), false),
        };
        self.sequence += 1;
        let request = self.sequence;
        self.under_way.insert(request, kind);
        // A call is over before its probe would count as lost.
        self.at(self.now + (1 + takes).min(deadline - 1), Event::Ends { request, answered });
    }
}
