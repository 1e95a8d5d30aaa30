//! Independent pieces of work on every core, answers in the order of the questions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What `work` makes of each item.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let help = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(place) else { return done };
            done.push((place, work(item)));
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let crew: Vec<_> = (0..cores).map(|_| scope.spawn(help)).collect();
        let join = |member: thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            member.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        crew.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_in_the_order_of_the_questions() {
        let questions: Vec<u32> = (0..100).collect();
        assert_eq!(each(&questions, |n| n * 2), (0..100).map(|n| n * 2).collect::<Vec<_>>());
        assert!(each(&[0_u32; 0], |n| *n).is_empty());
    }
}
