//! One container: started, proven, watched, ended. The session's files are not its own: they were there before it and stay.
//!
//! It must never start anything inside before the proof: whoever holds a [`Container`] ends it by [`Container::stop`];
//! dropped without that, its client is killed and the rest is left to the next sweep.

use crate::auth::broker::SessionBroker;
use crate::codex::launch::last_words;
use crate::config::network::MOST_CONNECTIONS;
use crate::config::quantity::Rounded;
use crate::egress::SessionEgress;
use crate::engine::argv;
use crate::plan::launch::{LaunchPlan, LimitName};
use crate::plan::proof::{self, Proof};
use crate::session::error::{EndReason, SessionError};
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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// A container of a loaded machine was seen to take several seconds; one that takes this long has failed.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long after its pipe an engine's client may take to end.
const CLIENT_FOLLOWS: Duration = Duration::from_secs(5);
/// What conmon (podman) leaves where its client was started when the kernel killed something for memory inside.
const MEMORY_ENDED: &str = "oom";
/// An engine's client ends with 128 + SIGKILL where the container's PID 1 was killed.
const KILLED: i32 = 137;
/// The guest's own code where its wall clock is over (`guest::service::Ending`).
const WALL_CLOCK: i32 = 124;

/// A container, and all that goes with it.
pub struct Container {
    child: Child,
    /// Where its client was started.
    directory: PathBuf,
    plan: LaunchPlan,
    ground: Arc<Ground>,
    /// `None` before the guest is ready, and once the pipe was closed on purpose.
    link: Option<GuestLink>,
    proof: Option<Proof>,
    /// Serves the guest's connections; ends with the container.
    serving: Option<AbortOnDropHandle<()>>,
}

impl Container {
    /// Starts the engine's client, in the session's directory.
    pub async fn start(ground: Arc<Ground>, plan: LaunchPlan, directory: &Path) -> Result<Self, SessionError> {
        // One of an earlier container would be taken for this one's.
        let _ = std::fs::remove_file(directory.join(MEMORY_ENDED));
        let command = argv::run(&plan).in_directory(directory);
        tracing::debug!(%command, "starting the container");
        let spawner = ground.engine.spawner();
        let child = spawner.spawn(&command, ground.engine.env(), Stdin::Piped).await?;
        Ok(Self {
            child,
            directory: directory.to_owned(),
            plan,
            ground,
            link: None,
            proof: None,
            serving: None,
        })
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

    fn engine_name(&self) -> String {
        self.plan.engine.kind.to_string()
    }

    /// Waits until the container is gone by itself, and says why as far as it is known. May be dropped and asked again.
    pub async fn ended(&mut self) -> EndReason {
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
                    return EndReason::lost(format!("{end}; the session was ended for it"));
                }
                // The pipe closes a moment before its client ends.
                tokio::time::timeout(CLIENT_FOLLOWS, self.child.wait()).await.ok()
            }
            status = self.child.wait() => Some(status),
        };
        let how = match status.map(|status| status.map(|status| status.code())) {
            Some(Ok(Some(WALL_CLOCK))) => {
                let limit = self.plan.limits.wall;
                return EndReason::WallClock { limit };
            }
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
        EndReason::lost(self.with_last_words(how).await)
    }

    /// Why something inside ended, with what was said last in there.
    pub async fn with_last_words(&mut self, how: String) -> String {
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
        self.directory.join(MEMORY_ENDED).exists()
    }

    /// Has the guest tell what was used inside; where it does not in time, what it told last is what is known.
    pub async fn measure(&self, within: Duration) {
        if let Some(link) = &self.link {
            link.measure(within).await;
        }
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
        let (engine, name) = (&self.ground.engine, &self.plan.name);
        let commands = engine.stop_commands(name);
        let outcome = stop::stop(
            &mut self.child,
            move || drop((link, serving)),
            hurry,
            stop::Stop {
                commands: &commands,
                confirm: &|| Box::pin(engine.confirm_gone(name)),
                spawner: engine.spawner(),
                env: engine.env(),
                graces: Graces::DEFAULT,
            },
        )
        .await;
        if outcome == Outcome::MayRemain {
            tracing::warn!(name = %self.plan.name, "the engine did not confirm that the container is gone; the next start looks");
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
