//! Work that waits for the disk, away from the runtime's own threads.

/// Runs `work` on a thread that may block. A panic in it goes on here. It goes on by itself where the future is dropped.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
}
