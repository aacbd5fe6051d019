//! Child process trees: starting them, ending them, and knowing whose they are.
//!
//! Nothing here knows what an engine or a session is: it gets command lines and returns ends. It must never block a
//! runtime thread on a child, and never signal a process it has not started or already reaped, but for those that [`monitor`] names.
//!
//! - [`command`]: a command line as data.
//! - [`environment`]: the whole environment of a child, as data.
//! - [`spawner`]: the one thread that starts engine clients.
//! - [`child`]: a started client, its process group and its pipes.
//! - [`stderr_tail`]: what a child writes to stderr: logged, and the last of it kept for error texts.
//! - [`lines`]: what a child says, cut into lines and made plain.
//! - [`output`]: run a short command to its end, bounded in time and output.
//! - [`tool`]: run a tool that takes minutes to its end, its output streamed line by line.
//! - [`ladder`]: the stop ladder as a pure state machine.
//! - [`stop`]: performs the ladder's actions on a child.
//! - [`monitor`]: what a killed podman client leaves that podman does not know of.
//! - [`owner`]: which process owns a container: pid, start time, boot.
//! - [`reconcile`]: which containers of dead owners to remove (pure).

pub mod child;
pub mod command;
pub mod environment;
pub mod ladder;
pub mod lines;
pub mod monitor;
pub mod output;
pub mod owner;
pub mod reconcile;
pub mod spawner;
pub mod stderr_tail;
pub mod stop;
pub mod tool;
