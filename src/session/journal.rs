//! One session's part of the audit: what of its life becomes a record, and with which ids.
//!
//! The one place where the audit meets the other rooms: they know traits of their own, and this file implements them. It
//! must never write a prompt, an answer or a file's content: sizes, names, digests and decisions are all there is.

use crate::audit::chain::Digest;
use crate::audit::journal::Sizes;
use crate::audit::record::{
    Actor, Call, Cause, Decision, Entry, HandedTo, Ids, Limit, Outcome, Recovery, Subject, Usage, Verdict, What,
};
use crate::audit::{Failure, Journal, NotRecorded};
use crate::auth::broker::passage::Endpoint;
use crate::auth::broker::witness as broker;
use crate::codex::approver::{Approval, ApprovalRequest, ApprovalSubject, Approver};
use crate::codex::client::StartedThread;
use crate::codex::event::{self, TurnEnd, TurnOutcome};
use crate::config::quantity::ProviderName;
use crate::config::rule::Rule;
use crate::config::target::Target;
use crate::config::{Config, Sourced};
use crate::egress::{Denial, Unwitnessed, Witness};
use crate::engine::argv;
use crate::obs::metrics::{self, LimitHit, Metrics};
use crate::plan::identity::SessionId;
use crate::plan::launch::LaunchPlan;
use crate::plan::proof::Proof;
use crate::redact::Redactor;
use crate::session::asked::{Asked, Asker};
use crate::session::error::{EndReason, SessionError};
use crate::session::store::record::Record;
use crate::session::told::{About, Distinct, Telling, Told};
use crate::workspace::apply::{Applied, Recovered, RecoveryEnd};
use crate::workspace::changes::Changes;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Begins this process's part of the audit. Blocks.
pub fn begin(config: &Config) -> Result<Journal, NotRecorded> {
    let sizes = Sizes {
        file: config.audit.file_size.value.bytes(),
        keep: config.audit.keep.value.bytes(),
    };
    Journal::begin(&config.state_dir.value, sizes, Redactor::of_process())
}

/// An apply that a killed process left came to its end. Of no session: its journal knows none. Blocks.
pub fn recovered(journal: &Journal, recovered: &Recovered) -> Result<(), NotRecorded> {
    let (end, files, left) = match &recovered.end {
        RecoveryEnd::RolledBack => (Recovery::RolledBack, 0, 0),
        RecoveryEnd::Finished { files, left } => (Recovery::Finished, files.len() as u64, left.len() as u64),
    };
    let what = What::ChangesRecovered {
        path: recovered.folder.clone(),
        base: recovered.patch.base.to_string(),
        sha256: recovered.patch.patch_sha256.clone(),
        end,
        files,
        left,
    };
    let entry = Entry {
        ids: Ids::default(),
        actor: None,
        what,
    };
    journal.record_for_good(&entry).map(drop)
}

/// Clones write for the same session.
#[derive(Clone)]
pub struct SessionJournal(Arc<Inner>);

struct Inner {
    journal: Journal,
    session: SessionId,
    state: Mutex<State>,
}

struct State {
    /// The call that is served.
    asked: Asked,
    thread: Option<String>,
    /// The turn that runs.
    turn: Option<u64>,
    turns: u64,
    told: Told,
}

impl fmt::Debug for SessionJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionJournal({})", self.0.session)
    }
}

impl SessionJournal {
    /// `turns`: those that the session had before.
    pub fn new(journal: Journal, session: SessionId, asked: Asked, turns: u64) -> Self {
        Self(Arc::new(Inner {
            journal,
            session,
            state: Mutex::new(State {
                asked,
                thread: None,
                turn: None,
                turns,
                told: Told::default(),
            }),
        }))
    }

    /// Of a session that was there before this process, for something that is done to it without a container.
    pub fn of_record(journal: Journal, record: &Record, asked: Asked) -> Self {
        let this = Self::new(journal, record.session.clone(), asked, record.turns);
        this.lock().thread = record.thread.as_ref().map(|thread| thread.id.to_string());
        this
    }

    /// Before anything of a session is made.
    pub async fn launching(&self, plan: &LaunchPlan, folder: &Path) -> Result<(), NotRecorded> {
        let command = argv::run(plan);
        let program = command.program.as_os_str();
        let words = std::iter::once(program).chain(command.args.iter().map(AsRef::as_ref));
        let policy = serde_json::to_vec(&plan.network.policy).unwrap_or_default();
        let entry = {
            let state = self.lock();
            self.entry(
                &state,
                What::Launch {
                    call: call(&state.asked),
                    argv_sha256: Digest::of_parts(words.map(OsStrExt::as_bytes)),
                    image: plan.image.id.clone(),
                    policy_sha256: Digest::of(&policy),
                    workspace: folder.to_owned(),
                },
            )
        };
        self.for_good(entry).await
    }

    pub fn limits_proven(&self, proof: &Proof) -> Result<(), NotRecorded> {
        let limits = proof.limits.iter().map(|limit| Limit {
            name: limit.name.to_string(),
            limit: limit.limit,
            enforced: limit.enforced,
        });
        let limits = limits.collect();
        self.record(&self.lock(), What::LimitsProven { limits }).map(drop)
    }

    /// From here on records carry the thread's id.
    pub fn thread_started(&self, thread: &StartedThread) -> Result<(), NotRecorded> {
        let mut state = self.lock();
        state.thread = Some(thread.thread.to_string());
        let model = thread.model.one_line(128);
        self.record(&state, What::ThreadStarted { model }).map(drop)
    }

    /// Before a turn begins: what happens until [`Self::turn_ended`] is the turn's.
    pub fn turn_started(&self, asked: Asked) -> Result<(), NotRecorded> {
        let mut state = self.lock();
        let between = state.told.take();
        state.asked = asked;
        state.turns += 1;
        state.turn = Some(state.turns);
        let call = call(&state.asked);
        self.record(&state, What::TurnStarted { call, between }).map(drop)
    }

    /// A record that can't be written ends the session, which learns of it by [`Self::unaudited`].
    pub fn turn_ended(&self, end: Result<&TurnEnd, Outcome>, usage: event::Usage) {
        let (codex_turn, outcome) = match end {
            Ok(end) => (Some(end.turn.clone()), outcome(&end.outcome)),
            Err(outcome) => (None, outcome),
        };
        Metrics::of_process().turns.count(match outcome {
            Outcome::Completed => metrics::Turn::Completed,
            Outcome::Interrupted => metrics::Turn::Interrupted,
            Outcome::Failed => metrics::Turn::Failed,
            Outcome::Refused => metrics::Turn::Refused,
            Outcome::SessionOver => metrics::Turn::SessionOver,
        });
        let mut state = self.lock();
        let repeats = state.told.take();
        let what = What::TurnEnded {
            codex_turn,
            outcome,
            usage: Usage {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                total_tokens: usage.total_tokens,
            },
            repeats,
        };
        warn_if_lost(self.record(&state, what).map(drop));
        state.turn = None;
    }

    /// `endpoint` is one of the provider's that the host knows, without a query.
    fn use_credential(&self, provider: &str, endpoint: &str) -> Result<(), NotRecorded> {
        let mut state = self.lock();
        let what = |about| What::CredentialUsed {
            provider: provider.to_owned(),
            endpoint: match about {
                About::This => endpoint.to_owned(),
                About::AnyFurther => FURTHER.to_owned(),
            },
        };
        self.once(
            &mut state,
            |told| &mut told.credentials,
            format!("{provider} {endpoint}"),
            what,
        )
    }

    /// Before changes leave the session's copy.
    pub async fn handing_out(&self, changes: &Changes, to: HandedTo) -> Result<(), NotRecorded> {
        let entry = self.entry(
            &self.lock(),
            What::Changes {
                to,
                files: changes.files.len() as u64,
                insertions: changes.insertions,
                deletions: changes.deletions,
                sha256: changes
                    .patch_sha256
                    .parse()
                    .unwrap_or_else(|_| Digest::of(changes.patch.as_str().as_bytes())),
            },
        );
        self.for_good(entry).await
    }

    /// What became of changes that were to be written to the user's folder.
    pub async fn written(&self, applied: &Result<Applied, SessionError>) -> Result<(), NotRecorded> {
        let what = match applied {
            Ok(applied) => What::ChangesWritten {
                files: applied.files.len() as u64,
                refused: None,
            },
            Err(error) => What::ChangesWritten {
                files: 0,
                refused: Some(error.to_string()),
            },
        };
        let entry = self.entry(&self.lock(), what);
        self.for_good(entry).await
    }

    /// The session never came to a thread.
    pub async fn not_started(&self, error: &SessionError) {
        Metrics::of_process().ends.count(metrics::End::NotStarted);
        self.over(Cause::NotStarted, error.to_string()).await;
    }

    pub async fn ended(&self, reason: &EndReason) {
        count_end(reason);
        let cause = match reason {
            EndReason::Stopped | EndReason::ServerEnded => Cause::Stopped,
            EndReason::GivenUp => Cause::Abandoned,
            EndReason::Idle { .. } => Cause::Idle,
            EndReason::WallClock { .. } => Cause::WallClock,
            EndReason::DiskLimit { .. } => Cause::DiskLimit,
            EndReason::Lost { .. } => Cause::Lost,
            // There is nothing left to write to.
            EndReason::Unaudited(_) => return,
        };
        self.over(cause, reason.to_string()).await;
    }

    async fn over(&self, cause: Cause, why: String) {
        let entry = {
            let mut state = self.lock();
            let repeats = state.told.take();
            self.entry(&state, What::SessionEnded { cause, why, repeats })
        };
        warn_if_lost(self.for_good(entry).await);
    }

    /// Waits until nothing can be recorded any more: the session must end then.
    pub async fn unaudited(&self) -> Failure {
        self.0.journal.failed().await
    }

    /// Blocks until the disk has it.
    fn approval(&self, request: &ApprovalRequest, decision: event::Decision) -> Result<(), NotRecorded> {
        let (subject, text) = match &request.subject {
            ApprovalSubject::Command(_) => (Subject::Command, request.subject.describe()),
            ApprovalSubject::Patch(_) => (Subject::Patch, request.subject.describe()),
        };
        let (decision, telling) = match decision {
            event::Decision::Accepted => (Decision::Accepted, Telling::Record),
            event::Decision::Declined => (Decision::Declined, self.lock().told.decline()),
        };
        if telling == Telling::Count {
            return Ok(());
        }
        let what = What::Approval {
            subject,
            sha256: Digest::of(text.as_str().as_bytes()),
            text: text.one_line(200),
            decision,
        };
        let entry = self.entry(&self.lock(), what);
        self.0.journal.record_for_good(&entry).map(drop)
    }

    fn once(
        &self,
        state: &mut State,
        group: fn(&mut Told) -> &mut Distinct,
        key: String,
        what: impl FnOnce(About) -> What,
    ) -> Result<(), NotRecorded> {
        let ids = self.ids(state);
        let actor = Some(actor(&state.asked));
        group(&mut state.told).count(key, |about| {
            let what = what(about);
            self.0.journal.record(&Entry { ids, actor, what })
        })
    }

    fn record(&self, state: &State, what: What) -> Result<u64, NotRecorded> {
        self.0.journal.record(&self.entry(state, what))
    }

    async fn for_good(&self, entry: Entry) -> Result<(), NotRecorded> {
        let journal = self.0.journal.clone();
        // A slow disk is not the runtime's.
        let writing = tokio::task::spawn_blocking(move || journal.record_for_good(&entry));
        let written = writing
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
        written.map(drop)
    }

    fn entry(&self, state: &State, what: What) -> Entry {
        Entry {
            ids: self.ids(state),
            actor: Some(actor(&state.asked)),
            what,
        }
    }

    fn ids(&self, state: &State) -> Ids {
        Ids {
            request: state.asked.request.clone(),
            session: Some(self.0.session.to_string()),
            thread: state.thread.clone(),
            turn: state.turn,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole at every point where a holder could panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands where too many different ones came before.
const FURTHER: &str = "further ones, which are counted and not told apart";

fn actor(asked: &Asked) -> Actor {
    match &asked.by {
        Asker::CommandLine => Actor::Cli,
        Asker::McpClient { name, version } => Actor::McpClient {
            name: name.clone(),
            version: version.clone(),
            identity: asked.identity.clone(),
        },
    }
}

fn call(asked: &Asked) -> Call {
    Call {
        tool: asked.tool.to_owned(),
        parameters: asked.parameters.clone(),
    }
}

fn count_end(reason: &EndReason) {
    use metrics::End;
    let metrics = Metrics::of_process();
    metrics.ends.count(match reason {
        EndReason::Stopped | EndReason::ServerEnded => End::Stopped,
        EndReason::GivenUp => End::Abandoned,
        EndReason::Idle { .. } => End::Idle,
        EndReason::WallClock { .. } => {
            metrics.limits.count(LimitHit::WallClock);
            End::WallClock
        }
        EndReason::DiskLimit { .. } => {
            metrics.limits.count(LimitHit::Disk);
            End::DiskLimit
        }
        EndReason::Lost { .. } => End::Lost,
        EndReason::Unaudited(_) => End::Unaudited,
    });
}

fn outcome(outcome: &TurnOutcome) -> Outcome {
    match outcome {
        TurnOutcome::Completed => Outcome::Completed,
        TurnOutcome::Interrupted => Outcome::Interrupted,
        TurnOutcome::Failed(_) => Outcome::Failed,
    }
}

/// What it is about has happened already; that the session ends for it is seen to elsewhere.
fn warn_if_lost(written: Result<(), NotRecorded>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the end of something is not in the audit");
    }
}

impl Witness for SessionJournal {
    fn allowed(&self, target: &Target, rule: &Sourced<Rule>) -> Result<(), Unwitnessed> {
        Metrics::of_process().egress.count(metrics::Verdict::Allowed);
        let mut state = self.lock();
        let target = target.to_string();
        let rule = format!("`{}` ({})", rule.value, rule.origin);
        let key = format!("{target} {rule}");
        let what = |about| egress(Verdict::Allowed, about, Some(target), rule);
        self.once(&mut state, |told| &mut told.allowed, key, what)
            .map_err(|_| Unwitnessed)
    }

    fn denied(&self, denial: &Denial) {
        Metrics::of_process().egress.count(metrics::Verdict::Denied);
        let mut state = self.lock();
        let target = denial.target.as_ref().map(ToString::to_string);
        let rule = denial.rule();
        let key = format!("{} {rule}", target.as_deref().unwrap_or_default());
        let what = |about| egress(Verdict::Denied, about, target, rule);
        // It is refused in any case; the journal has said why it wrote nothing.
        let _ = self.once(&mut state, |told| &mut told.denied, key, what);
    }
}

impl broker::Witness for SessionJournal {
    fn credential_used(&self, provider: &ProviderName, endpoint: Endpoint) -> Result<(), broker::Unwitnessed> {
        self.use_credential(provider.as_str(), endpoint.path())
            .map_err(|_| broker::Unwitnessed)
    }
}

fn egress(verdict: Verdict, about: About, target: Option<String>, rule: String) -> What {
    match about {
        About::This => What::Egress { verdict, target, rule },
        About::AnyFurther => What::Egress {
            verdict,
            target: None,
            rule: FURTHER.to_owned(),
        },
    }
}

/// Puts each decision of another approver on record before Codex hears of it. One that can't be recorded is to decline.
pub struct RecordedApprover<A> {
    decides: A,
    journal: SessionJournal,
    runtime: tokio::runtime::Handle,
}

impl<A> RecordedApprover<A> {
    /// Needs a running runtime, whose threads for blocking work wait for the disk.
    pub fn new(decides: A, journal: SessionJournal) -> Self {
        Self {
            decides,
            journal,
            runtime: tokio::runtime::Handle::current(),
        }
    }
}

impl<A: Approver> Approver for RecordedApprover<A> {
    fn consider(&self, request: &ApprovalRequest, approval: Approval) {
        let (journal, runtime, asked) = (self.journal.clone(), self.runtime.clone(), request.clone());
        let recorded = Approval::new(move |decision| {
            runtime.spawn_blocking(move || match journal.approval(&asked, decision) {
                Ok(()) => approval.answer(decision),
                // Dropped without an answer, it declines.
                Err(_) => drop(approval),
            });
        });
        self.decides.consider(request, recorded);
    }
}

#[cfg(test)]
mod tests;
