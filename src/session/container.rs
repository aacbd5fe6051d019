//! One container: started, proven, watched, ended, and its files removed with it.
//!
//! It must never start anything inside before the proof, and never outlive its removal: whoever holds a [`Container`] ends
//! it by [`Container::stop`]; dropped without that, its client is killed and the rest is left to the next sweep.

use crate::auth::broker::SessionBroker;
use crate::codex::event::ThreadId;
use crate::codex::launch::last_words;
use crate::config::network::MOST_CONNECTIONS;
use crate::config::quantity::Rounded;
use crate::egress::SessionEgress;
use crate::engine::argv;
use crate::plan::launch::{LaunchPlan, LimitName};
use crate::plan::proof::{self, Proof};
use crate::session::directory::SessionDirectory;
use crate::session::error::SessionError;
use crate::session::ground::Ground;
use crate::supervise::child::Child;
use crate::supervise::ladder::{Graces, Outcome};
use crate::supervise::spawner::Stdin;
use crate::supervise::stop;
use crate::wire::contract::{Figures, GuestStream};
use crate::wire::link::{self, GuestLink, GuestStreams, LinkEnd, LinkError, Opened};
use crate::wire::mux;
use crate::wire::untrusted::Untrusted;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// A container of a loaded machine was seen to take several seconds; one that takes this long has failed.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long after its pipe an engine's client may take to end.
const CLIENT_FOLLOWS: Duration = Duration::from_secs(5);
/// How long an end waits for the session's files to be gone. What takes longer goes on beside it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);
/// What conmon (podman) leaves where its client was started when the kernel killed something for memory inside.
const MEMORY_ENDED: &str = "oom";
/// An engine's client ends with 128 + SIGKILL where the container's PID 1 was killed.
const KILLED: i32 = 137;

/// A container, and all that goes with it.
pub struct Container {
    child: Child,
    plan: LaunchPlan,
    ground: Arc<Ground>,
    directory: Option<SessionDirectory>,
    /// `None` before the guest is ready, and once the pipe was closed on purpose.
    link: Option<GuestLink>,
    proof: Option<Proof>,
    /// Serves the guest's connections; ends with the container.
    serving: Option<AbortOnDropHandle<()>>,
}

impl Container {
    /// Starts the engine's client. The files go with the container, also where it can't be started.
    pub async fn start(
        ground: Arc<Ground>,
        plan: LaunchPlan,
        directory: SessionDirectory,
    ) -> Result<Self, SessionError> {
        // One of an earlier container would be taken for this one's.
        let _ = std::fs::remove_file(directory.root().join(MEMORY_ENDED));
        let command = argv::run(&plan).in_directory(directory.root());
        tracing::debug!(%command, "starting the container");
        match ground
            .engine
            .spawner()
            .spawn(&command, ground.engine.env(), Stdin::Piped)
            .await
        {
            Ok(child) => Ok(Self {
                child,
                plan,
                ground,
                directory: Some(directory),
                link: None,
                proof: None,
                serving: None,
            }),
            Err(error) => {
                directory.remove_or_warn();
                Err(error.into())
            }
        }
    }

    /// Shakes hands with the guest and proves what it read back. Nothing untrusted runs before that: the host starts
    /// Codex only in what it has proven. From here on the guest's connections are served.
    pub async fn prove(
        &mut self,
        broker: &SessionBroker,
        egress: &SessionEgress,
    ) -> Result<(GuestLink, Proof), SessionError> {
        let (Some(stdin), Some(stdout)) = (self.child.take_stdin(), self.child.take_stdout()) else {
            return Err(self.not_started().await);
        };
        mux::widen(&stdout);
        let connecting = link::connect(stdout, stdin, &self.plan.guest);
        let connected = match tokio::time::timeout(READY_LIMIT, connecting).await {
            Ok(Ok(connected)) => connected,
            // The pipe closed before the guest spoke: the engine's words tell more than "closed".
            Ok(Err(LinkError::Ended(LinkEnd::Pipe(_)))) => return Err(self.not_started().await),
            Ok(Err(error)) => return Err(SessionError::Link(error)),
            Err(_) => {
                return Err(SessionError::ReadyTimeout {
                    engine: self.engine_name(),
                    limit: READY_LIMIT,
                });
            }
        };
        let proof = proof::prove(&self.plan, &connected.ready)?;
        self.link = Some(connected.link.clone());
        self.proof = Some(proof.clone());
        self.serving = Some(serve(broker.clone(), egress.clone(), connected.streams));
        Ok((connected.link, proof))
    }

    async fn not_started(&mut self) -> SessionError {
        // The client has closed the pipe; its exit follows, and with it the last of its words.
        let _ = tokio::time::timeout(CLIENT_FOLLOWS, self.child.wait()).await;
        SessionError::NotStarted {
            engine: self.engine_name(),
            stderr: self.child.stderr_text().await,
        }
    }

    pub fn plan(&self) -> &LaunchPlan {
        &self.plan
    }

    /// Records that the session has a thread, so that a crash leaves its workspace to its user.
    pub fn record_thread(&self, thread: &ThreadId) -> Result<(), SessionError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        directory
            .record_thread(thread.as_str())
            .map_err(|source| SessionError::Files {
                what: "can't write below",
                path: directory.root().to_owned(),
                source,
            })
    }

    fn engine_name(&self) -> String {
        self.plan.engine.kind.to_string()
    }

    /// Waits until the container is gone by itself, and says why as far as it is known. May be dropped and asked again.
    pub async fn ended(&mut self) -> String {
        let link_ended = async {
            match &self.link {
                Some(link) => link.ended().await,
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            // In this order: the client ends for what ended the link, and that is what has to be told.
            biased;
            end = link_ended => {
                if end.is_violation() {
                    return format!("{end}; the session was ended for it");
                }
                // The pipe closes a moment before its client ends.
                tokio::time::timeout(CLIENT_FOLLOWS, self.child.wait()).await.ok()
            }
            status = self.child.wait() => Some(status),
        };
        let how = match status.map(|status| status.map(|status| status.code())) {
            Some(Ok(Some(KILLED))) if self.memory_kills() > 0 || self.engine_saw_memory_end() => {
                self.memory_limit_reached()
            }
            // Docker has no such file, and a guest that is killed among many may not have come to tell. Its last figures are
            // no proof, and a hint.
            Some(Ok(Some(KILLED))) => match self.figures().memory_peak {
                Some(peak) => format!(
                    "its container was killed (exit 137), cause unproven; its memory had last peaked at {} of memory limit {}",
                    Rounded(peak),
                    self.plan.limits.memory
                ),
                None => "its container was killed (exit 137), cause unproven".to_owned(),
            },
            Some(Ok(Some(code))) => format!("{} ended with code {code}", self.engine_name()),
            Some(Ok(None)) => format!("{} was killed", self.engine_name()),
            Some(Err(_)) | None => format!("{} closed its pipe", self.engine_name()),
        };
        let stderr = self.child.stderr_text().await;
        match last_words(&stderr) {
            Some(line) => format!("{how}. Its last words: {}", Untrusted::new(line).one_line(300)),
            None => how,
        }
    }

    /// How often the kernel killed inside for memory, by the guest's word. Without a limit of its own, what was killed may
    /// have been anybody's.
    pub fn memory_kills(&self) -> u64 {
        match (&self.link, &self.proof) {
            (Some(link), Some(proof)) if proof.enforces(LimitName::Memory) => *link.memory_kills().borrow(),
            _ => 0,
        }
    }

    /// Whether the engine says that the kernel killed for memory inside. A guest that was the one to go said nothing.
    fn engine_saw_memory_end(&self) -> bool {
        self.directory
            .as_ref()
            .is_some_and(|directory| directory.root().join(MEMORY_ENDED).exists())
    }

    /// What was used inside, as the guest last told it.
    pub fn figures(&self) -> Figures {
        match (&self.link, &self.proof) {
            (Some(link), Some(proof)) => proof.own_figures(*link.figures().borrow()),
            _ => Figures::default(),
        }
    }

    pub fn memory_limit_reached(&self) -> String {
        let peak = match self.figures().memory_peak {
            Some(peak) => format!(" (peak {})", Rounded(peak)),
            None => String::new(),
        };
        format!(
            "killed: memory limit {} reached{peak}; raise limits.memory or --memory",
            self.plan.limits.memory
        )
    }

    /// Ends the container. `hurry` resolving skips every grace.
    pub async fn stop(&mut self, hurry: impl Future<Output = ()> + Send) {
        let link = self.link.take();
        let serving = self.serving.take();
        let commands = self.ground.engine.stop_commands(&self.plan.name);
        let outcome = stop::stop(
            &mut self.child,
            move || drop((link, serving)),
            hurry,
            stop::Stop {
                commands: &commands,
                spawner: self.ground.engine.spawner(),
                env: self.ground.engine.env(),
                graces: Graces::DEFAULT,
            },
        )
        .await;
        if outcome == Outcome::MayRemain {
            tracing::warn!(name = %self.plan.name, "the engine did not confirm that the container is gone; the next start looks");
        }
    }

    /// Removes its files, after [`Self::stop`].
    pub async fn remove_files(mut self) {
        if let Some(directory) = self.directory.take() {
            // Thousands of files take their time, which is not the runtime's.
            let removing = tokio::task::spawn_blocking(move || directory.remove_or_warn());
            if tokio::time::timeout(REMOVAL_LIMIT, removing).await.is_err() {
                tracing::warn!(session = %self.plan.session, "the session's files are still being removed");
            }
        }
    }
}

// More could never be had: each takes a stream of the proxy's.
const _: () = assert!(MOST_CONNECTIONS as usize <= mux::FOR_PROXY);

/// Serves the guest's connections until the link ends or the handle is dropped.
fn serve(broker: SessionBroker, egress: SessionEgress, mut streams: GuestStreams) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(Opened { kind, stream }) = streams.next().await {
            // Whoever asked has gone: nobody wants an answer any more, however long it takes the server to give one.
            let (ended, reset) = (stream.end_token(), stream.reset_token());
            let (broker, egress) = (broker.clone(), egress.clone());
            let serving = async move {
                match kind {
                    GuestStream::Model => broker.serve(stream).await,
                    GuestStream::Proxy => egress.serve(stream, ended).await,
                }
            };
            connections.spawn(reset.run_until_cancelled_owned(serving));
            while connections.try_join_next().is_some() {}
        }
    }))
}
