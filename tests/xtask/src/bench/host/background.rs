//! A thread that does something again and again.

use crate::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that does something again and again until this is dropped.
pub struct Background<T> {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<T>>>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts to call `step`; what it returns is kept, and its first failure ends it.
    pub fn start(mut step: impl FnMut() -> Result<T> + Send + 'static) -> Background<T> {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_told = is_over.clone();
        let work = move || {
            let mut made = Vec::new();
            while !is_told.load(Ordering::Relaxed) {
                made.push(step()?);
            }
            Ok(made)
        };
        Background { is_over, thread: Some(std::thread::spawn(work)) }
    }

    /// Ends it; what was returned.
    pub fn stop(mut self) -> Result<Vec<T>> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or_else(|| Ok(Ok(Vec::new()))).map_err(|_| "a thread panicked".to_owned())?
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
