//! One actor a session: launches the container, runs turns one at a time, ends. The only room that calls every effect
//! of a session.
//!
//! `mcp` and `cli` see [`registry::Sessions`] and [`handle::SessionHandle`], and for sessions without a container
//! [`upkeep::Upkeep`], [`bring_back::BringBack`] and [`reconcile`]; everything below is data to them. Nothing
//! here parses what Codex says or decides what a container may do: it carries out plans.
//!
//! - [`registry`]: all sessions of this process that have a container; find, shut down.
//! - [`starting`]: starts one, or takes one up.
//! - [`handle`]: what a caller holds of one session.
//! - [`surroundings`]: what the process was started with.
//! - [`ground`]: what every launch stands on: facts, engine, staged guest, broker; found out once.
//! - [`container`]: one container: started, proven, watched, ended.
//! - [`asked`]: who asked for a session or a turn.
//! - [`journal`]: what of a session becomes a record of the audit; [`told`] (pure) keeps a guest from flooding it.
//! - [`decide`]: what a launch would be.
//! - [`room`]: how many may be live at once.
//! - [`copying`]: how far the copy of a folder is.
//! - [`launch`]: plan → container → `Ready` proven → Codex initialised → thread started.
//! - [`thread`]: the thread of a session, and whose it is.
//! - [`actor`]: the loop of one session; [`order`]: what is asked of it; [`perils`]: what ends its container, and why.
//! - [`questions`]: what Codex asks, handed to whoever asked for the turn.
//! - [`quota`]: what sessions may spend, each and all together in a day.
//! - [`turn`]: what a turn came to.
//! - [`workspace`]: a session's workspace: filled, and read for changes.
//! - [`bring_back`]: brings changes to the user's folder, on record.
//! - [`by_thread`]: what a client does with a session that it names by its thread.
//! - [`store`]: sessions on disk: they outlive containers and servers.
//! - [`ownership`]: whose a session is, and who may know of it (pure).
//! - [`readiness`]: whether a session could be started now.
//! - [`parking`]: what becomes of a session without a container (pure).
//! - [`upkeep`]: what is done to sessions without a container; [`retention`] (pure) says which are too old or too much.
//! - [`transcript`]: the log of what happened in a session.
//! - [`stop_order`] (pure): the word that a session is to end, and whether anybody may come back to it.
//! - [`stop_request`]: how another process asks for a session's end.
//! - [`blocking`]: work that waits for the disk.
//! - [`directory`]: the session's files on the host.
//! - [`disk`]: whether a session writes more than it may.
//! - [`secrets`]: the files of secret mounts, in memory.
//! - [`staging`]: the copy of this binary that becomes PID 1.
//! - [`sweep`]: removes what dead owners left; [`reconcile`] has it do so without a session, and [`recover`] ends the applies that
//!   they left half-way.
//! - [`sign_in`]: what `auth status` shows, without a session.
//! - [`error`]: why a session could not start or ended.

pub mod actor;
pub mod asked;
mod blocking;
pub mod bring_back;
pub mod by_thread;
pub mod container;
pub mod copying;
pub mod decide;
pub mod directory;
pub mod disk;
pub mod error;
pub mod ground;
pub mod handle;
pub mod journal;
pub mod launch;
pub mod order;
pub mod ownership;
pub mod parking;
mod perils;
pub mod questions;
pub mod quota;
pub mod readiness;
pub mod reconcile;
mod recover;
pub mod registry;
mod retention;
mod room;
pub mod secrets;
pub mod sign_in;
pub mod staging;
mod starting;
mod stop_order;
pub mod stop_request;
pub mod store;
pub mod surroundings;
pub mod sweep;
mod thread;
mod told;
pub mod transcript;
pub mod turn;
pub mod upkeep;
pub mod workspace;
