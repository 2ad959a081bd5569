//! The stalls a view lists: what goes on first, then the newest.

use crate::model::{Snapshot, Stall};
use crate::view::order::Order;

/// At most `most` of those the filters keep.
pub fn listed<'a>(snapshot: &'a Snapshot, order: &Order, most: usize) -> Vec<&'a Stall> {
    let of = |ongoing: bool| {
        snapshot
            .stalls
            .iter()
            .filter(move |stall| stall.ongoing == ongoing && order.keeps_stall(stall))
    };
    of(true).chain(of(false)).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ongoing_ones_come_first_and_the_rest_stay_in_order() {
        let stall = |stall_id, ongoing| Stall { stall_id, ongoing, ..Stall::default() };
        let stalls = vec![stall(5, false), stall(4, true), stall(3, false), stall(2, true)];
        let snapshot = Snapshot { stalls, ..Snapshot::default() };
        let ids = |most| -> Vec<u64> {
            let listed = listed(&snapshot, &Order::default(), most);
            listed.iter().map(|stall| stall.stall_id).collect()
        };
        assert_eq!(ids(9), [4, 2, 5, 3]);
        assert_eq!(ids(3), [4, 2, 5]);
        assert_eq!(ids(0), [] as [u64; 0]);
    }
}
