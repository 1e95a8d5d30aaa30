//! Traced requests on their way from the workers to whoever sends them on. Bounded: what finds no place
//! is handed back, to be counted and let go. No request ever waits for a collector.

use tokio::sync::mpsc;

use crate::model::trace::Trace;

/// Traced requests waiting. One holds 1 to 4 KiB.
pub const QUEUE: usize = 4_096;

/// The workers' end. Clone freely.
#[derive(Clone, Debug)]
pub struct TraceSender(mpsc::Sender<Trace>);

/// The sending end.
#[derive(Debug)]
pub struct TraceReceiver(mpsc::Receiver<Trace>);

/// Both ends.
pub fn channel() -> (TraceSender, TraceReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (TraceSender(sender), TraceReceiver(receiver))
}

impl TraceSender {
    /// Hands a request over; never waits.
    ///
    /// # Errors
    /// How many spans are lost, since the queue is full or nobody sends any more.
    pub fn send(&self, trace: Trace) -> Result<(), u64> {
        self.0.try_send(trace).map_err(|refused| refused.into_inner().spans())
    }
}

impl TraceReceiver {
    /// The next one; `None` when the last worker has ended and nothing is left.
    pub async fn next(&mut self) -> Option<Trace> {
        self.0.recv().await
    }

    /// The next one, if one waits.
    pub fn try_next(&mut self) -> Option<Trace> {
        self.0.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trace::example;

    #[tokio::test]
    async fn what_finds_no_place_is_handed_back_by_its_number_of_spans() {
        let (sender, mut receiver) = channel();
        for _ in 0..QUEUE {
            assert_eq!(sender.send(example(1)), Ok(()));
        }
        assert_eq!(sender.send(example(2)), Err(3), "a request and two attempts");
        assert!(receiver.next().await.is_some());
        assert_eq!(sender.send(example(1)), Ok(()), "there is a place again");
        drop(receiver);
        assert_eq!(sender.send(example(0)), Err(1), "nobody sends any more");
    }
}
