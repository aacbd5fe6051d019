//! Who may use the HTTP transport: named tokens, of which the disk has digests only.
//!
//! It must never write, log or compare a token itself: one is made, shown once, and from then on it is its digest. It
//! knows nothing of HTTP and nothing of sessions. What touches the disk blocks: not for runtime threads.
//!
//! - [`token`]: a token and its digest (pure).
//! - [`file`]: what the file says, and what may be wrong with it (pure).
//! - [`store`]: adds, lists and revokes: under a lock, the file replaced whole.
//! - [`doorkeeper`]: whose a presented token is, by the file as it is now.

pub mod doorkeeper;
pub mod file;
pub mod store;
pub mod token;

pub use doorkeeper::{Doorkeeper, Verdict};
pub use file::TokensError;
pub use store::TokenStore;
