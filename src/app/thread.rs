//! Threads of the control plane, each with a runtime of its own, and who learns that one of them has ended
//! by itself: without any of them the process is not what it promises, and looks well from outside.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One is enough for the process to end: what finds no place need not be told.
const MOST: usize = 4;

/// Where obituaries are left. Clone freely.
#[derive(Clone, Debug)]
pub(super) struct Register(mpsc::Sender<&'static str>);

impl Register {
    /// With the names of the threads that have ended.
    pub(super) fn new() -> (Self, mpsc::Receiver<&'static str>) {
        let (register, ended) = mpsc::channel(MOST);
        (Self(register), ended)
    }

    /// For a thread that has to last: any end of it is told.
    fn of_any_end(&self, name: &'static str) -> Obituary {
        Obituary { name, told: End::Any, register: self.0.clone() }
    }

    /// For one that ends rightly with those whom it serves: told is only a panic.
    pub(super) fn of_panic(&self, name: &'static str) -> Obituary {
        Obituary { name, told: End::Panic, register: self.0.clone() }
    }
}

/// Left by a thread as it ends; a panic drops it too.
#[derive(Debug)]
pub(super) struct Obituary {
    name: &'static str,
    told: End,
    register: mpsc::Sender<&'static str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Any,
    Panic,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if self.told == End::Any || thread::panicking() {
            // Full: another end is known already. Closed: the process ends.
            self.register.try_send(self.name).unwrap_or_default();
        }
    }
}

/// Starts a thread with a runtime of its own, which ends with this future.
pub(super) fn start<F: Future<Output = ()>>(
    name: &'static str,
    register: &Register,
    future: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let obituary = register.of_any_end(name);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _obituary = obituary;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(future()),
            Err(error) => tracing::error!(%error, name, "a thread has no runtime"),
        }
    })
}

/// Ends when one of these tasks has panicked; one that has done its work is not missed.
pub(super) async fn any_panics(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(end: impl FnOnce() + Send + 'static) -> Option<&'static str> {
        let (register, mut ended) = Register::new();
        let thread = start("control", &register, move || async move { end() }).expect("a thread");
        drop((register, thread.join()));
        ended.blocking_recv()
    }

    #[test]
    fn a_thread_that_panics_or_just_ends_leaves_its_name() {
        assert_eq!(end(|| std::panic::resume_unwind(Box::new("a bug"))), Some("control"));
        assert_eq!(end(|| {}), Some("control"));
    }

    #[test]
    fn one_that_serves_others_is_missed_only_after_a_panic() {
        let (register, mut ended) = Register::new();
        for panics in [false, true] {
            let obituary = register.of_panic("keeper");
            let thread = thread::spawn(move || {
                let _obituary = obituary;
                if panics {
                    std::panic::resume_unwind(Box::new("a bug"));
                }
            });
            assert_eq!(thread.join().is_err(), panics);
        }
        drop(register);
        assert_eq!(ended.blocking_recv(), Some("keeper"));
        assert_eq!(ended.blocking_recv(), None, "once");
    }

    #[test]
    fn a_task_that_panics_ends_the_thread_and_one_that_is_done_does_not() {
        let (register, mut ended) = Register::new();
        let thread = start("control", &register, || async {
            let mut tasks = JoinSet::new();
            tasks.spawn_local(async {});
            tasks.spawn_local(async {
                tokio::task::yield_now().await;
                std::panic::resume_unwind(Box::new("a bug"));
            });
            any_panics(tasks).await;
        });
        assert!(thread.expect("a thread").join().is_ok(), "the thread itself ended in order");
        assert_eq!(ended.blocking_recv(), Some("control"));
    }
}
