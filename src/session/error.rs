//! Why a session could not start, or ended.

/// Every variant says what happened and what mends it: the text is shown to a person or a calling model as it is.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("this server is shutting down")]
    ShuttingDown,
}
