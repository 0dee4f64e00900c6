//! Workers that lie: what is above the published detection limit is caught before it is committed, every time. The same by the thousand, for
//! more shapes, is `cargo xtask soak lies`.
#![cfg(debug_assertions)]

mod campaign;

use campaign::{Campaign, Elements, Tally};
use tilework_linalg::Number;
use tilework_linalg::lies::Lie;

const TILE: (usize, usize) = (24, 48);
/// Lies of each kind.
const N: u64 = 60;

fn campaign<T: Number>(k: usize, elements: Elements) -> Campaign<T> {
    Campaign::new((TILE.0, TILE.1, k), elements, k as u64)
}

fn caught_before_commit<T: Number>() {
    for (k, elements) in [
        (64, Elements::Normal),
        (600, Elements::Normal),
        (600, Elements::Positive),
    ] {
        let mut campaign = campaign::<T>(k, elements);
        for (name, lie) in Lie::ALL {
            let tally: Tally = if matches!(lie, Lie::Pair(_)) {
                campaign.tell_pairs((1e6, 1e9), N)
            } else {
                campaign.tell_many(lie, N, 20 * N)
            };
            let what = format!("{name}, k {k}, {elements:?}: {tally:?}");
            assert_eq!(tally.n_above, N, "{what}");
            assert!(tally.holds(), "{what}");
            if tally.n_passing_expected < 0.01 {
                assert_eq!(tally.n_above_by_bound, N, "{what}");
            }
            assert_eq!(tally.n_above_caught, N, "{what}");
            // What passes is far below the errors that rounding may make in its row: what else is below the limit stands out.
            assert!(tally.passed_max < 0.02, "{what}");
        }
    }
}

#[test]
fn every_lie_above_the_limit_is_caught_in_f64() {
    caught_before_commit::<f64>();
}

#[test]
fn every_lie_above_the_limit_is_caught_in_f32() {
    caught_before_commit::<f32>();
}

/// Right at the limit, where a bound that is looser than it says lets them pass.
#[test]
fn bits_whose_change_is_just_above_the_limit_are_caught() {
    let mut campaign = campaign::<f64>(600, Elements::Normal);
    let mut all = Tally::default();
    // Of elements of about 24, with limits of about 1e-9.
    for bit in 14..34 {
        for _ in 0..40 {
            campaign.tell(Lie::Bit(bit), &mut all);
        }
    }
    assert_eq!(all.n_above, all.n_above_by_bound, "{all:?}");
    assert!(all.n_above > 100 && all.n_below > 100, "{all:?}");
    assert!(all.passed_max < 0.02, "{all:?}");
}

/// A pair that is L times the limit is within the bound with a chance of at most 1 in 2 L; an eighth of these are, and nearly all of those stand
/// out.
#[test]
fn cancelling_pairs_pass_no_more_often_than_is_published() {
    let mut campaign = campaign::<f64>(64, Elements::Normal);
    let tally = campaign.tell_pairs((1.0, 4.0), 1000);
    assert!(tally.holds(), "{tally:?}");
    let n_passed = tally.n_above - tally.n_above_by_bound;
    assert!(n_passed > 5, "the pairs are too large for this test: {tally:?}");
    assert!(tally.n_above - tally.n_above_caught < n_passed / 5, "{tally:?}");
}

/// Rows that stand out although they are right have the same bits once more, and are known for it then; of even ones none does.
#[test]
fn rows_that_stand_out_and_are_right_are_not_refused() {
    fn looked_at<T: Number>(elements: Elements) -> u64 {
        campaign::<T>(600, elements).n_second_looks(20)
    }
    for elements in [Elements::Normal, Elements::Positive] {
        assert_eq!(looked_at::<f64>(elements), 0, "{elements:?}");
        assert_eq!(looked_at::<f32>(elements), 0, "{elements:?}");
    }
    for n_looked_at in [
        looked_at::<f64>(Elements::Uneven),
        looked_at::<f32>(Elements::Uneven),
    ] {
        assert!((1..=4).contains(&n_looked_at), "{n_looked_at}");
    }
}
