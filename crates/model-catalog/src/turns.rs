use std::collections::VecDeque;

use tokio::sync::watch;

/// Lets a limited number of downloads run at the same time, in the order in which they asked:
/// they share the bandwidth, and the first ones are complete earlier.
#[derive(Debug)]
pub(crate) struct Turns {
    limit: usize,
    queue: watch::Sender<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// Those that run, and after them those that wait.
    numbers: VecDeque<u64>,
}

/// Permission to run. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.turns
            .queue
            .send_modify(|queue| queue.numbers.retain(|other| *other != number));
    }
}

impl Turns {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            queue: watch::Sender::default(),
        }
    }

    /// Waits for its turn. `waiting` is called with the position among those that wait, from 1,
    /// whenever it changes.
    pub(crate) async fn take(&self, waiting: impl Fn(usize) + Send) -> Turn<'_> {
        let mut changes = self.queue.subscribe();
        let mut number = 0;
        self.queue.send_modify(|queue| {
            number = queue.next;
            queue.next += 1;
            queue.numbers.push_back(number);
        });
        // Leaves the queue also if this future is dropped.
        let turn = Turn {
            turns: self,
            number,
        };
        let mut last = None;
        loop {
            let before = {
                let queue = changes.borrow_and_update();
                let mut numbers = queue.numbers.iter();
                numbers.position(|other| *other == number).unwrap_or(0)
            };
            let Some(position) = (before + 1).checked_sub(self.limit).filter(|p| *p > 0) else {
                return turn;
            };
            if last.replace(position) != Some(position) {
                waiting(position);
            }
            // Cannot fail: `self` has the sender.
            let _ = changes.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn turns_come_in_order_and_those_who_leave_are_skipped() {
        let turns = Turns::new(2);
        let positions = Mutex::new(Vec::new());
        let take = |name: &'static str| {
            let positions = &positions;
            turns.take(move |position| positions.lock().unwrap().push((name, position)))
        };
        let one = take("1").now_or_never().unwrap();
        let two = take("2").now_or_never().unwrap();
        let (mut third, mut fourth) = (Box::pin(take("3")), Box::pin(take("4")));
        let mut fifth = Box::pin(take("5"));
        for future in [&mut third, &mut fourth, &mut fifth] {
            assert!(future.now_or_never().is_none());
        }
        drop(fourth);
        assert!(third.as_mut().now_or_never().is_none());
        assert!(fifth.as_mut().now_or_never().is_none());
        drop(one);
        let third = third.now_or_never().unwrap();
        assert!(fifth.as_mut().now_or_never().is_none());
        drop((two, third));
        assert!(fifth.now_or_never().is_some());
        assert_eq!(
            *positions.lock().unwrap(),
            [("3", 1), ("4", 2), ("5", 3), ("5", 2), ("5", 1)]
        );
    }
}
