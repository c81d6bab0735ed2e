//! Work on many names that mostly waits for the kernel, shared by as many threads as there are processors.
//!
//! Must never be why it is not done: where there is no other thread, this one does it.

use std::thread::{self, Builder};

/// For fewer, a thread takes longer to make than it helps,
const MANY: usize = 128;

/// and more of these would wait for each other in the kernel.
const MOST: usize = 4;

/// What `work` makes of all items: of each share its own, in their order. A share that ended in a panic is done again here.
pub fn shared<Item: Sync, Done: Send>(items: &[Item], work: impl Fn(&[Item]) -> Done + Sync) -> Vec<Done> {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let shares = if items.len() < MANY { 1 } else { processors().min(MOST) };
    let (own, others) = items.split_at(items.len().div_ceil(shares));
    thread::scope(|scope| {
        let others: Vec<_> = others
            .chunks(own.len().max(1))
            .map(|share| (share, Builder::new().spawn_scoped(scope, || work(share))))
            .collect();
        let mut done = vec![work(own)];
        for (share, other) in others {
            done.push(other.ok().and_then(|other| other.join().ok()).unwrap_or_else(|| work(share)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_in_one_share_and_the_shares_are_in_order() {
        for count in [0, 1, MANY - 1, MANY, MANY + 1, 10 * MANY + 3] {
            let items: Vec<usize> = (0..count).collect();
            let shares = shared(&items, <[usize]>::to_vec);
            assert!(shares.len() <= MOST && (count >= MANY || shares.len() == 1));
            assert_eq!(shares.concat(), items);
        }
    }

    #[test]
    fn a_share_that_panics_elsewhere_is_done_here() {
        let here = thread::current().id();
        let items = [0; 4 * MANY];
        let shares = shared(&items, |share| {
            assert_eq!(thread::current().id(), here, "not here");
            share.len()
        });
        assert_eq!(shares.iter().sum::<usize>(), items.len());
    }
}
