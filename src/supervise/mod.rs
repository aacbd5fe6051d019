//! Child process trees: starting them, ending them, and knowing whose they are.
//!
//! Nothing here knows what an engine or a session is: it gets command lines and returns ends. It must never block a
//! runtime thread on a child, and never signal a process it has not started or already reaped.
//!
//! - [`command`]: a command line as data.
//! - [`spawner`]: the one thread that starts engine clients.
//! - [`child`]: a started client, its process group and its pipes.
//! - [`output`]: run a short command to its end, bounded in time and output.
//! - [`ladder`]: the stop ladder as a pure state machine.
//! - [`stop`]: performs the ladder's actions on a child.
//! - [`owner`]: which process owns a container: pid, start time, boot id.
//! - [`reconcile`]: which containers of dead owners to remove (pure).

pub mod child;
pub mod command;
pub mod ladder;
pub mod output;
pub mod owner;
pub mod reconcile;
pub mod spawner;
pub mod stop;
