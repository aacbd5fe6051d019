//! All sessions of this process: start one, find one by its thread, end them all.

use crate::codex::event::{ThreadId, TurnEnd, TurnEvent};
use crate::codex::prompt::Prompt;
use crate::config::Config;
use crate::config::Sourced;
use crate::config::quantity::ModelId;
use crate::plan::launch::Unenforced;
use crate::plan::request::WorkspaceAccess;
use crate::session::error::SessionError;
use crate::workspace::diff::Changes;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a new session is started with. Everything here was parsed and checked for shape by the caller.
#[derive(Debug, Clone)]
pub struct StartSession {
    /// The folder to work on, as asked for; relative to the folder this process was started in. `None`: that folder.
    pub workspace: Option<PathBuf>,
    pub access: WorkspaceAccess,
    pub model: Option<Sourced<ModelId>>,
    pub thread: crate::codex::client::ThreadSettings,
}

/// What a launch came to, for results and for people.
#[derive(Debug, Clone)]
pub struct LaunchReport {
    pub session: crate::plan::identity::SessionId,
    pub engine: String,
    pub image: String,
    /// Where the workspace came from on the host.
    pub workspace: PathBuf,
    pub unenforced: Vec<Unenforced>,
}

/// How hurried an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Graceful,
    /// A second signal: skip every grace period.
    Immediate,
}

#[derive(Clone)]
pub struct Sessions {
    _inner: Arc<Config>,
}

impl Sessions {
    /// Touches nothing yet: the engine is looked for when the first session starts.
    pub fn new(config: Arc<Config>) -> Self {
        Self { _inner: config }
    }

    /// Launches a container, proves it, starts Codex and a thread in it.
    pub async fn start(&self, _start: StartSession) -> Result<SessionHandle, SessionError> {
        unimplemented!()
    }

    pub fn find(&self, _thread: &ThreadId) -> Option<SessionHandle> {
        unimplemented!()
    }

    /// Ends every session and waits for it. May be called again with `Immediate` while the first call waits.
    pub async fn shut_down(&self, _urgency: Urgency) {
        unimplemented!()
    }
}

#[derive(Clone)]
pub struct SessionHandle {}

impl SessionHandle {
    pub fn thread(&self) -> &ThreadId {
        unimplemented!()
    }

    pub fn report(&self) -> &LaunchReport {
        unimplemented!()
    }

    /// Runs one turn to its end. Turns of one session queue. Events are dropped, never waited for, where the receiver
    /// is slow; the end never is.
    pub async fn run_turn(&self, _prompt: Prompt, _events: mpsc::Sender<TurnEvent>) -> Result<TurnEnd, SessionError> {
        unimplemented!()
    }

    /// Interrupts the running turn, and kills what it left running. Does nothing where none runs.
    pub async fn interrupt(&self) {
        unimplemented!()
    }

    /// What the session changed in its copy of the workspace so far.
    pub async fn changes(&self) -> Result<Changes, SessionError> {
        unimplemented!()
    }

    pub async fn stop(&self, _urgency: Urgency) {
        unimplemented!()
    }
}
