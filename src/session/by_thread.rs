//! What a client does with a session that it names by its thread, whether or not this process has a container for it: looks at it,
//! ends it, asks for its changes, has them brought to its folder.
//!
//! It must never start a container: that is [`Sessions::take_up`]. Whoever asks sees its own sessions only ([`may_see`]).

use crate::codex::event::{ThreadId, Usage};
use crate::config::WorkspaceMode;
use crate::config::identity::IdentityName;
use crate::plan::identity::{ContainerName, SessionId};
use crate::plan::request::WorkspaceAccess;
use crate::session::asked::Asked;
use crate::session::bring_back::{BringBack, BroughtBack};
use crate::session::error::SessionError;
use crate::session::handle::SessionHandle;
use crate::session::ownership::may_see;
use crate::session::registry::{Sessions, Urgency};
use crate::session::store::Found;
use crate::session::store::StoreError;
use crate::session::upkeep::{Doing, Standing, Upkeep, UpkeepError};
use crate::session::workspace::Applying;
use crate::wire::untrusted::Untrusted;
use crate::workspace::apply::Consent;
use crate::workspace::changes::Changes;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The longest path or reason that a summary shows, in characters.
const SHOWN: usize = 300;

/// A session as its clients see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub thread_id: ThreadId,
    pub session: SessionId,
    pub state: Standing,
    /// The folder on the host.
    pub folder: String,
    pub mode: WorkspaceMode,
    pub access: WorkspaceAccess,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Turns that began.
    pub turns: u64,
    pub created: String,
    pub changed: String,
    /// As Codex counts it.
    pub usage: Usage,
    /// Why it has no container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// What of a session outlives its being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Its thread and its workspace: a reply starts it again.
    Thread,
    Nothing,
}

impl Summary {
    /// `None`: it never came to a thread, or nothing can be read of it.
    pub fn of(found: &Found) -> Option<Self> {
        let record = found.record.as_ref().ok()?;
        let shown = |text: &str| Untrusted::new(text).one_line(SHOWN);
        Some(Self {
            thread_id: record.thread.as_ref()?.id.clone(),
            session: found.session.clone(),
            state: Standing::of(found),
            folder: shown(&record.start.folder.path().to_string_lossy()),
            mode: record.start.mode,
            access: record.start.access,
            model: record.launch.as_ref().map(|launch| launch.model.clone()),
            turns: record.turns,
            created: record.created.to_string(),
            changed: record.changed.to_string(),
            usage: record.usage,
            ended: record.end().map(|end| shown(&end.why)),
        })
    }
}

/// Of one whose record can't be read nobody knows whose it is.
fn is_seen(found: &Found, asker: Option<&IdentityName>) -> bool {
    match &found.record {
        Ok(record) => may_see(asker, record.owner.as_ref()),
        Err(_) => asker.is_none(),
    }
}

impl Sessions {
    /// All that have a thread and that `asker` may know of, the one in which something happened last first.
    pub async fn summaries(&self, asker: Option<&IdentityName>) -> Result<Vec<Summary>, SessionError> {
        let found = self.upkeep()?.list().await?;
        let seen = found.iter().filter(|found| is_seen(found, asker));
        let mut summaries: Vec<Summary> = seen.filter_map(Summary::of).collect();
        summaries.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.thread_id.cmp(&b.thread_id)));
        Ok(summaries)
    }

    pub async fn summary(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Result<Summary, SessionError> {
        let found = self.found(thread, asker).await?;
        Summary::of(&found).ok_or_else(|| SessionError::UnknownThread(thread.clone()))
    }

    /// What happened in it, oldest first: the lines of its log.
    pub async fn log(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Result<Vec<Value>, SessionError> {
        let session = self.found(thread, asker).await?.session;
        Ok(self.upkeep()?.logs(session.as_str()).await?)
    }

    /// Ends its container, wherever that is, and waits for it. `false`: it had none.
    pub async fn close(
        &self,
        thread: &ThreadId,
        keeping: Keeping,
        asker: Option<&IdentityName>,
    ) -> Result<bool, SessionError> {
        let (upkeep, session) = (self.upkeep()?, self.found(thread, asker).await?.session);
        let had_one = match self.find_for(thread, asker) {
            Some(handle) => {
                handle.stop(Urgency::Graceful).await;
                true
            }
            None => upkeep.stop(session.as_str()).await?,
        };
        if keeping == Keeping::Nothing {
            let end = async |name: &ContainerName| {
                let ground = self.ground().await?;
                Ok(ground.engine.remove([name.as_str()]).await?)
            };
            upkeep.remove(session.as_str(), end).await?;
        }
        Ok(had_one)
    }

    /// What it changed so far. `None`: it works on the folder itself.
    pub async fn changes_of(&self, thread: &ThreadId, asked: Asked) -> Result<Option<Changes>, SessionError> {
        let asker = asked.identity.clone();
        if let Some(handle) = self.find_for(thread, asker.as_ref()) {
            return handle.changes(&CancellationToken::new()).await;
        }
        let session = self.found(thread, asker.as_ref()).await?.session;
        match self.bring_back()?.changes(session.as_str(), asked).await {
            Ok(changes) => Ok(Some(changes)),
            Err(SessionError::NothingCompared) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Brings what it changed to its folder, or says what that would do. Where a turn runs here, after that.
    pub async fn apply(
        &self,
        thread: &ThreadId,
        doing: Doing,
        expect_hash: Option<String>,
        asked: Asked,
    ) -> Result<BroughtBack, SessionError> {
        let asker = asked.identity.clone();
        if let Some(handle) = self.find_for(thread, asker.as_ref()) {
            match handle.bring_back(doing, expect_hash.clone()).await {
                // It ended meanwhile, and is nobody's.
                Err(SessionError::NotBegun(_)) => {}
                brought => return brought,
            }
        }
        let session = self.found(thread, asker.as_ref()).await?.session;
        let bring_back = self.bring_back()?;
        // A task that a shutdown waits for: what has begun to be written is finished, and on record.
        let applying = self.0.tasks.spawn(async move {
            let applying = Applying {
                consent: Consent::Explicit,
                expect_hash: expect_hash.as_deref(),
            };
            bring_back.apply(session.as_str(), doing, applying, asked).await
        });
        applying
            .await
            .unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()))
    }

    /// What the operator set that a session is held to, each value with where it comes from. Nothing of providers and secrets.
    pub fn policy(&self) -> Value {
        let config = &self.0.config;
        json!({
            "runtime": config.runtime,
            "image": config.image,
            "model": config.codex.model,
            "limits": config.limits,
            "network": config.network,
            "workspace": config.workspace,
            "sessions": config.sessions,
            "quota": config.quota,
            "mcp": config.mcp,
        })
    }

    /// The models that a call may name.
    pub fn models(&self) -> Vec<String> {
        let codex = &self.0.config.codex;
        let named = codex.models.iter().map(|model| model.value.to_string());
        let mut models: Vec<String> = codex
            .model
            .iter()
            .map(|model| model.value.to_string())
            .chain(named)
            .collect();
        models.sort();
        models.dedup();
        models
    }

    /// Somebody else's is none.
    fn find_for(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Option<SessionHandle> {
        self.find(thread).filter(|handle| may_see(asker, handle.owner()))
    }

    async fn found(&self, thread: &ThreadId, asker: Option<&IdentityName>) -> Result<Found, SessionError> {
        let unknown = || SessionError::UnknownThread(thread.clone());
        match self.upkeep()?.show(thread.as_str()).await {
            // It takes beginnings of ids as well, which name a thread for a person only.
            Ok(found) if found.is_thread(thread) && is_seen(&found, asker) => Ok(found),
            Ok(_) | Err(UpkeepError::Store(StoreError::Unknown(_) | StoreError::Ambiguous { .. })) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    fn upkeep(&self) -> Result<Upkeep, SessionError> {
        Ok(Upkeep::new(&self.0.config)?)
    }

    fn bring_back(&self) -> Result<BringBack, SessionError> {
        BringBack::new(Arc::clone(&self.0.config), Arc::clone(&self.0.surroundings))
    }
}
