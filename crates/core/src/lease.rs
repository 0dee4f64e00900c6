//! Which of several drivers drives: a lease in a store that compares and sets.
//!
//! Nobody compares clocks of different machines. A standby watches the lease's revision; when it has not changed for
//! [`LEASE_MS`] by the standby's own clock, it tries to set the next one, and of several only one succeeds. The holder sets a new
//! revision every [`LEASE_RENEW_MS`], and if it can't, steps down [`LEASE_STEP_DOWN_MS`] after it *asked* for the last one that
//! succeeded: before any standby can have taken over, as long as clocks run at much the same rate. What a holder did before it
//! noticed is fenced by run epochs and by files that are created exclusively.

use crate::ids::Millis;
use crate::limits::{LEASE_MS, LEASE_RENEW_MS, LEASE_STEP_DOWN_MS};
use alloc::vec::Vec;

/// Between two answers to a standby's looks: after longer it has not watched, and begins anew.
const GAP_MAX_MS: u64 = 2 * LEASE_RENEW_MS;

/// A driver, as the engine numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverIdx(pub u32);

/// What the store says of the lease: the revision is 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseState {
    /// Grows with every change.
    pub revision: u64,
    /// Who set it.
    pub holder: Option<DriverIdx>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The store was read.
    Read(LeaseState),
    /// The store took our revision.
    Taken {
        /// Which it is now.
        revision: u64,
        /// When the compare-and-set that this answers was asked for.
        asked: Millis,
    },
    /// It did not: someone else's revision came first, or the store did not answer.
    Refused {
        /// When the compare-and-set that this answers was asked for.
        asked: Millis,
    },
    /// Time passed.
    Tick,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEffect {
    /// Read the lease.
    Read,
    /// Set ourselves as holder if the revision is still this one.
    CompareAndSet {
        /// The revision that was seen.
        expected: u64,
        /// When: the answer must say it again, for answers may come late and out of order.
        asked: Millis,
    },
    /// Begin to drive.
    Lead,
    /// Stop at once: another driver may drive.
    StepDown,
    /// Come back with a `Tick` at this time.
    WakeAt(Millis),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Someone else drives, or nobody.
    Standby { seen: Option<Seen> },
    /// We drive; the last revision and when it was asked for.
    Leader { revision: u64, asked: Millis },
}

/// What a standby sees unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    state: LeaseState,
    since: Millis,
    latest: Millis,
    n_looks: u64,
}

/// One driver's view of the lease.
#[derive(Debug, Clone)]
pub struct Lease {
    me: DriverIdx,
    role: Role,
    /// A compare-and-set without an answer, and when it was asked for.
    asking: Option<Millis>,
    next_look: Millis,
    /// Whether the next answer is the first one to the last look.
    looked: bool,
}

impl Lease {
    /// A standby that knows nothing yet.
    pub fn new(me: DriverIdx) -> Lease {
        Lease {
            me,
            role: Role::Standby { seen: None },
            asking: None,
            next_look: Millis(0),
            looked: false,
        }
    }

    /// Whether this driver drives.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Where it stands, by the name of its state. For those who look at the machine from outside.
    pub fn state(&self) -> &'static str {
        match (self.role, self.asking) {
            (Role::Standby { seen: None }, None) => "New",
            (Role::Standby { .. }, None) => "Standby",
            (Role::Standby { .. }, Some(_)) => "Asking",
            (Role::Leader { .. }, None) => "Leader",
            (Role::Leader { .. }, Some(_)) => "Renewing",
        }
    }

    /// Takes one event and appends what must be done. `now` never goes back.
    pub fn on_event(&mut self, now: Millis, event: LeaseEvent, effects: &mut Vec<LeaseEffect>) {
        match event {
            LeaseEvent::Read(state) => self.on_read(now, state, effects),
            LeaseEvent::Taken { revision, asked } => self.on_taken(now, revision, asked, effects),
            LeaseEvent::Refused { asked } => self.on_refused(asked, effects),
            LeaseEvent::Tick => {}
        }
        self.look(now, effects);
    }

    fn on_read(&mut self, now: Millis, state: LeaseState, effects: &mut Vec<LeaseEffect>) {
        match &mut self.role {
            Role::Leader { revision, .. } => {
                if state.holder == Some(self.me) {
                    // A renewal whose answer was lost; when it was asked for is not known any more.
                    *revision = state.revision.max(*revision);
                    self.next_look = now;
                } else if state.revision > *revision {
                    // A revision that we did not set ends our time, whatever the clock says.
                    self.step_down(now, effects);
                }
            }
            Role::Standby { seen } => {
                let is_new_look = u64::from(core::mem::take(&mut self.looked));
                // While nobody answered, the store may have been lost, and its numbers have begun anew: the same one is another then.
                let goes_on = |before: &Seen| before.state == state && now.0 - before.latest.0 <= GAP_MAX_MS;
                let Seen { since, n_looks, .. } = match seen.filter(goes_on) {
                    Some(before) => *seen.insert(Seen {
                        latest: now,
                        n_looks: before.n_looks + is_new_look,
                        ..before
                    }),
                    None => {
                        // Looks from here on end when the lease does, not up to one look later.
                        self.next_look = Millis(now.0 + LEASE_RENEW_MS);
                        *seen.insert(Seen {
                            state,
                            since: now,
                            latest: now,
                            n_looks: 0,
                        })
                    }
                };
                let is_ours = state.holder.is_none_or(|holder| holder == self.me);
                // A clock that jumps does not make it long: there must have been as many looks.
                let is_old = now.0 - since.0 >= LEASE_MS && n_looks >= LEASE_MS / LEASE_RENEW_MS;
                let is_free = is_ours || is_old;
                if is_free && self.asking.is_none() {
                    self.ask(now, state.revision, effects);
                }
            }
        }
    }

    fn ask(&mut self, now: Millis, expected: u64, effects: &mut Vec<LeaseEffect>) {
        self.asking = Some(now);
        effects.push(LeaseEffect::CompareAndSet { expected, asked: now });
    }

    fn on_taken(&mut self, now: Millis, revision: u64, asked: Millis, effects: &mut Vec<LeaseEffect>) {
        self.asking = self.asking.filter(|awaited| *awaited != asked);
        let is_outdated = match self.role {
            Role::Leader { asked: latest, .. } => asked <= latest,
            Role::Standby { seen } => seen.is_some_and(|seen| revision < seen.state.revision),
        };
        // An answer may take so long that others think the lease has ended.
        if is_outdated || now.0 - asked.0 >= LEASE_STEP_DOWN_MS {
            return;
        }
        if !self.is_leader() {
            effects.push(LeaseEffect::Lead);
        }
        self.role = Role::Leader { revision, asked };
        self.next_look = Millis(asked.0 + LEASE_RENEW_MS);
    }

    fn on_refused(&mut self, asked: Millis, effects: &mut Vec<LeaseEffect>) {
        if self.asking == Some(asked) {
            self.asking = None;
            if self.is_leader() {
                effects.push(LeaseEffect::Read);
            }
        }
    }

    fn step_down(&mut self, now: Millis, effects: &mut Vec<LeaseEffect>) {
        self.role = Role::Standby { seen: None };
        self.asking = None;
        self.next_look = now;
        effects.push(LeaseEffect::StepDown);
    }

    fn look(&mut self, now: Millis, effects: &mut Vec<LeaseEffect>) {
        if self.asking.is_some_and(|asked| now.0 - asked.0 >= LEASE_RENEW_MS) {
            // An answer that has not come yet is waited for no longer.
            self.asking = None;
        }
        if let Role::Leader { asked, .. } = self.role
            && now.0 - asked.0 >= LEASE_STEP_DOWN_MS
        {
            self.step_down(now, effects);
        }
        if now >= self.next_look {
            match self.role {
                Role::Leader { revision, .. } if self.asking.is_none() => {
                    self.ask(now, revision, effects);
                }
                Role::Leader { .. } => {}
                Role::Standby { .. } => {
                    self.looked = true;
                    effects.push(LeaseEffect::Read);
                }
            }
            self.next_look = Millis(now.0 + LEASE_RENEW_MS);
        }
        let step_down_at = match self.role {
            Role::Leader { asked, .. } => Millis(asked.0 + LEASE_STEP_DOWN_MS),
            Role::Standby { .. } => self.next_look,
        };
        effects.push(LeaseEffect::WakeAt(self.next_look.min(step_down_at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(lease: &mut Lease, now: u64, event: LeaseEvent) -> Vec<LeaseEffect> {
        let mut effects = Vec::new();
        lease.on_event(Millis(now), event, &mut effects);
        effects.retain(|effect| !matches!(effect, LeaseEffect::WakeAt(_)));
        effects
    }

    fn held(revision: u64, holder: u32) -> LeaseEvent {
        LeaseEvent::Read(LeaseState {
            revision,
            holder: Some(DriverIdx(holder)),
        })
    }

    fn taken(revision: u64, asked: u64) -> LeaseEvent {
        LeaseEvent::Taken {
            revision,
            asked: Millis(asked),
        }
    }

    fn refused(asked: u64) -> LeaseEvent {
        LeaseEvent::Refused { asked: Millis(asked) }
    }

    fn compare_and_set(expected: u64, asked: u64) -> LeaseEffect {
        LeaseEffect::CompareAndSet {
            expected,
            asked: Millis(asked),
        }
    }

    const FREE: LeaseEvent = LeaseEvent::Read(LeaseState {
        revision: 0,
        holder: None,
    });

    fn leader_at_0() -> Lease {
        let mut lease = Lease::new(DriverIdx(1));
        assert_eq!(step(&mut lease, 0, LeaseEvent::Tick), [LeaseEffect::Read]);
        assert_eq!(step(&mut lease, 0, FREE), [compare_and_set(0, 0)]);
        assert_eq!(step(&mut lease, 0, taken(1, 0)), [LeaseEffect::Lead]);
        lease
    }

    #[test]
    fn a_free_lease_is_taken_and_renewed() {
        let mut lease = leader_at_0();
        let renewal = step(&mut lease, LEASE_RENEW_MS, LeaseEvent::Tick);
        assert_eq!(renewal, [compare_and_set(1, LEASE_RENEW_MS)]);
        assert!(step(&mut lease, LEASE_RENEW_MS + 5, taken(2, LEASE_RENEW_MS)).is_empty());
        assert!(lease.is_leader());
    }

    #[test]
    fn a_leader_that_cannot_renew_steps_down_before_anyone_takes_over() {
        let mut leader = leader_at_0();
        let mut standby = Lease::new(DriverIdx(2));
        step(&mut standby, 0, LeaseEvent::Tick);
        for now in [0, LEASE_RENEW_MS, 2 * LEASE_RENEW_MS, LEASE_MS - 1] {
            let effects = step(&mut standby, now, held(1, 1));
            assert!(effects.iter().all(|effect| *effect == LeaseEffect::Read));
        }
        step(&mut standby, LEASE_MS, LeaseEvent::Tick);
        step(&mut leader, LEASE_RENEW_MS, LeaseEvent::Tick);
        let effects = step(&mut leader, LEASE_STEP_DOWN_MS, LeaseEvent::Tick);
        assert!(effects.contains(&LeaseEffect::StepDown));
        assert!(!leader.is_leader());
        let effects = step(&mut standby, LEASE_MS, held(1, 1));
        assert!(effects.contains(&compare_and_set(1, LEASE_MS)));
    }

    #[test]
    fn a_standby_whose_clock_jumps_looks_again_before_it_takes_over() {
        let mut standby = Lease::new(DriverIdx(2));
        step(&mut standby, 0, LeaseEvent::Tick);
        step(&mut standby, 0, held(1, 1));
        step(&mut standby, 60_000, LeaseEvent::Tick);
        let effects = step(&mut standby, 60_000, held(1, 1));
        assert!(effects.is_empty(), "{effects:?}");
    }

    /// All that a store knew was lost, and revisions began anew with the next leader: a standby that had watched the same number for long
    /// took the lease from it at once. The simulator's seeds 6110 and 11107 had two leaders.
    #[test]
    fn a_number_that_a_lost_store_gives_again_is_watched_anew() {
        let watch = || {
            let mut standby = Lease::new(DriverIdx(2));
            for look in 0..LEASE_MS / LEASE_RENEW_MS {
                step(&mut standby, look * LEASE_RENEW_MS, LeaseEvent::Tick);
                step(&mut standby, look * LEASE_RENEW_MS, held(3, 1));
            }
            standby
        };
        let mut standby = watch();
        step(&mut standby, LEASE_MS, LeaseEvent::Tick);
        let effects = step(&mut standby, LEASE_MS, held(3, 1));
        assert_eq!(effects, [compare_and_set(3, LEASE_MS)]);
        // By another holder's name ...
        let mut standby = watch();
        step(&mut standby, LEASE_MS, LeaseEvent::Tick);
        assert!(step(&mut standby, LEASE_MS, held(3, 7)).is_empty());
        // ... or after a silence.
        let mut standby = watch();
        let later = LEASE_MS + 2 * LEASE_RENEW_MS;
        step(&mut standby, later, LeaseEvent::Tick);
        assert!(step(&mut standby, later, held(3, 1)).is_empty());
    }

    #[test]
    fn a_lease_that_is_renewed_is_left_alone() {
        let mut standby = Lease::new(DriverIdx(2));
        for round in 0..20 {
            let effects = step(&mut standby, round * LEASE_RENEW_MS, held(round + 1, 1));
            assert!(
                effects.iter().all(|effect| *effect == LeaseEffect::Read),
                "{effects:?}"
            );
        }
    }

    #[test]
    fn a_leader_that_sees_another_holder_steps_down() {
        let mut lease = leader_at_0();
        assert_eq!(step(&mut lease, 10, held(2, 7))[0], LeaseEffect::StepDown);
    }

    #[test]
    fn an_answer_that_comes_too_late_makes_no_leader() {
        let mut lease = Lease::new(DriverIdx(1));
        step(&mut lease, 0, LeaseEvent::Tick);
        step(&mut lease, 0, FREE);
        let effects = step(&mut lease, LEASE_STEP_DOWN_MS, taken(1, 0));
        assert!(!effects.contains(&LeaseEffect::Lead) && !lease.is_leader());
    }

    #[test]
    fn a_question_is_asked_once_while_its_answer_is_awaited() {
        let mut lease = Lease::new(DriverIdx(1));
        let start = 3 * LEASE_RENEW_MS;
        step(&mut lease, start, LeaseEvent::Tick);
        assert_eq!(step(&mut lease, start, FREE), [compare_and_set(0, start)]);
        assert!(step(&mut lease, start + 1, FREE).is_empty());
        assert!(step(&mut lease, start + 2, FREE).is_empty());
    }

    #[test]
    fn a_leader_renews_once_whatever_it_reads_meanwhile() {
        let mut lease = leader_at_0();
        assert!(step(&mut lease, 1, refused(0)).is_empty(), "it was answered");
        step(&mut lease, LEASE_RENEW_MS, LeaseEvent::Tick);
        assert!(step(&mut lease, LEASE_RENEW_MS + 1, held(1, 1)).is_empty());
    }

    #[test]
    fn a_standby_waits_from_the_first_answer_for_as_long_as_the_lease_and_no_longer() {
        let mut standby = Lease::new(DriverIdx(2));
        let start = 10_000;
        step(&mut standby, start, LeaseEvent::Tick);
        let answered = start + LEASE_RENEW_MS - 1;
        step(&mut standby, answered, held(1, 1));
        let n_looks = LEASE_MS / LEASE_RENEW_MS;
        for look in 1..=n_looks {
            let now = answered + look * LEASE_RENEW_MS;
            assert!(step(&mut standby, now - 1, LeaseEvent::Tick).is_empty());
            assert_eq!(step(&mut standby, now, LeaseEvent::Tick), [LeaseEffect::Read]);
            let effects = step(&mut standby, now, held(1, 1));
            let is_old = look == n_looks;
            assert_eq!(effects.contains(&compare_and_set(1, now)), is_old, "{effects:?}");
        }
    }

    #[test]
    fn a_leader_wakes_in_time_to_step_down() {
        let mut lease = leader_at_0();
        let mut effects = Vec::new();
        lease.on_event(Millis(LEASE_RENEW_MS + 500), LeaseEvent::Tick, &mut effects);
        let wake = LeaseEffect::WakeAt(Millis(LEASE_STEP_DOWN_MS));
        assert_eq!(effects.last(), Some(&wake));
    }

    #[test]
    fn an_answer_counts_from_its_own_question() {
        let mut lease = Lease::new(DriverIdx(1));
        step(&mut lease, 0, LeaseEvent::Tick);
        step(&mut lease, 0, FREE);
        step(&mut lease, LEASE_RENEW_MS, LeaseEvent::Tick);
        // The first question's answer is on its way, and the second one is asked.
        let effects = step(&mut lease, LEASE_RENEW_MS, FREE);
        assert_eq!(effects, [compare_and_set(0, LEASE_RENEW_MS)]);
        let late = LEASE_STEP_DOWN_MS - 1;
        assert!(step(&mut lease, late, taken(1, 0)).contains(&LeaseEffect::Lead));
        let effects = step(&mut lease, LEASE_STEP_DOWN_MS, LeaseEvent::Tick);
        assert!(effects.contains(&LeaseEffect::StepDown));
    }

    #[test]
    fn an_answer_that_a_later_revision_has_overtaken_makes_no_leader() {
        let mut lease = Lease::new(DriverIdx(1));
        step(&mut lease, 0, LeaseEvent::Tick);
        step(&mut lease, 0, FREE);
        step(&mut lease, 10, held(2, 7));
        assert!(step(&mut lease, 20, taken(1, 0)).is_empty());
        assert!(!lease.is_leader());
    }

    #[test]
    fn an_answer_that_comes_twice_renews_once() {
        let mut lease = leader_at_0();
        step(&mut lease, LEASE_RENEW_MS, LeaseEvent::Tick);
        step(&mut lease, LEASE_RENEW_MS, taken(2, LEASE_RENEW_MS));
        assert!(step(&mut lease, LEASE_RENEW_MS + 10, taken(1, 0)).is_empty());
        let renewal = step(&mut lease, 2 * LEASE_RENEW_MS, LeaseEvent::Tick);
        assert_eq!(renewal, [compare_and_set(2, 2 * LEASE_RENEW_MS)]);
    }

    #[test]
    fn a_leader_that_is_refused_reads_and_renews_what_is_its_own() {
        let mut lease = leader_at_0();
        let asked = LEASE_RENEW_MS;
        step(&mut lease, asked, LeaseEvent::Tick);
        assert_eq!(step(&mut lease, asked + 5, refused(asked)), [LeaseEffect::Read]);
        let effects = step(&mut lease, asked + 9, held(2, 1));
        assert_eq!(effects, [compare_and_set(2, asked + 9)]);
        assert!(step(&mut lease, asked + 9, refused(asked)).is_empty());
        assert!(lease.is_leader());
    }

    #[test]
    fn a_standby_that_is_refused_waits_for_its_next_look() {
        let mut lease = Lease::new(DriverIdx(1));
        step(&mut lease, 0, LeaseEvent::Tick);
        step(&mut lease, 0, FREE);
        assert!(step(&mut lease, 1, refused(0)).is_empty());
        assert_eq!(
            step(&mut lease, LEASE_RENEW_MS, LeaseEvent::Tick),
            [LeaseEffect::Read]
        );
    }
}
