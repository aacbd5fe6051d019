//! Carries out what [`decide`](super::decide) says: the one place that refreshes.
//!
//! Three things make it one: a mutex in this process, a lock file over all processes, and the mark that is written before the
//! token leaves. Each refresh is a task of its own, so that a caller who gives up can't lose what the provider has given
//! already. After a lock is taken everything is read again.

#![expect(
    clippy::disallowed_methods,
    reason = "whether a token has expired is a matter of the clock"
)]

use crate::auth::chatgpt::auth_file::{AuthFile, Fingerprint, NewTokens, Token};
use crate::auth::chatgpt::decide::{Action, Facts, Reason, Why, decide, is_usable};
use crate::auth::chatgpt::refresh_request::{EXCHANGE_LIMIT, Exchange, exchange};
use crate::auth::chatgpt::store::{FileError, Store, WriteBack};
use crate::auth::chatgpt::token::Moment;
use crate::auth::chatgpt::{Access, LoginError, LoginErrorKind, LoginStatus, RefreshToken};
use crate::auth::upstream::Upstream;
use crate::config::moment;
use crate::config::quantity::BaseUrl;
use crate::durable::lock::Lock;
use crate::redact::Redactor;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;

/// How long another process is waited for: as long as an exchange may take, and some for what is written.
const LOCK_LIMIT: Duration = EXCHANGE_LIMIT.saturating_add(Duration::from_secs(15));
/// How long the file is looked at for what another program wrote, after the provider refused. Where Codex sent the same token at
/// the same moment, one of the two is refused, and the other one's answer is being written.
const THEIR_WRITE: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// For how long, in seconds, a token that a refresh gave is not refreshed again, and a refresh that failed not repeated while
/// the old token is good.
const A_MOMENT: u64 = 60;

/// The host's login. Clones share it, and so does whatever process uses the same file.
#[derive(Debug, Clone)]
pub struct ChatGptLogin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    token_url: BaseUrl,
    upstream: Upstream,
    redactor: Redactor,
    memory: Mutex<Memory>,
    /// Whether `memory` has something to save: then nobody passes it by.
    unsaved: AtomicBool,
}

#[derive(Debug, Default)]
struct Memory {
    /// What a refresh gave and the file does not hold yet.
    unsaved: Option<Unsaved>,
    given: Option<(Fingerprint, Moment)>,
    failed: Option<Moment>,
    /// A refresh token that the provider refused, and how.
    refused: Option<(Fingerprint, Why)>,
}

#[derive(Debug)]
struct Unsaved {
    file: AuthFile,
    /// The refresh token that was spent for it.
    replaces: Fingerprint,
}

impl ChatGptLogin {
    /// Touches nothing yet. `redactor` learns every token.
    pub fn new(file: PathBuf, token_url: BaseUrl, upstream: Upstream, redactor: Redactor) -> Self {
        Self(Arc::new(Inner {
            store: Store::new(file),
            token_url,
            upstream,
            redactor,
            memory: Mutex::default(),
            unsaved: AtomicBool::new(false),
        }))
    }

    /// An access token that is good for ten minutes at least, as far as it says itself and can be had.
    pub async fn current(&self) -> Result<Arc<Access>, LoginError> {
        self.access(None).await
    }

    /// Another access token than the one that the provider did not take (HTTP 401).
    pub async fn after_refusal(&self, refused: &Access) -> Result<Arc<Access>, LoginError> {
        self.access(Some(refused.fingerprint)).await
    }

    /// The access token that the file holds, whatever is left of it.
    pub async fn stored(&self) -> Result<Arc<Access>, LoginError> {
        Ok(Arc::new(Access::of(&self.0.read().await?)))
    }

    /// What there is, without changing or asking anything.
    pub async fn status(&self) -> Result<LoginStatus, LoginError> {
        let file = self.0.read().await?;
        let spent = self.0.is_spent(&file).await?;
        Ok(LoginStatus {
            refresh_token: match (&file.refresh, spent) {
                (None, _) => RefreshToken::Missing,
                (Some(_), true) => RefreshToken::Spent,
                (Some(_), false) => RefreshToken::Ready,
            },
            expired: file.claims.expires.is_some_and(|expires| expires <= now()),
            expires: file.claims.expires,
            plan: file.id_claims.plan.or(file.claims.plan),
            email: file.id_claims.email.or(file.claims.email),
            account: file.account,
        })
    }

    /// Waits until no refresh is under way: before this process ends, so that none is lost.
    pub async fn settle(&self) {
        let _nothing_under_way = self.0.memory.lock().await;
    }

    async fn access(&self, refused: Option<Fingerprint>) -> Result<Arc<Access>, LoginError> {
        if !self.0.unsaved.load(Ordering::Acquire) {
            let file = self.0.read().await?;
            let facts = Facts {
                file: &file,
                now: now(),
                refused,
                spent: false,
                just_given: None,
                quiet: false,
            };
            if decide(&facts) == Action::Use {
                return Ok(Arc::new(Access::of(&file)));
            }
        }
        let inner = Arc::clone(&self.0);
        let renewing = tokio::spawn(async move { inner.renew(refused).await });
        renewing.await.unwrap_or(Err(LoginError::Ending))
    }
}

impl Inner {
    async fn renew(&self, refused: Option<Fingerprint>) -> Result<Arc<Access>, LoginError> {
        let mut memory = self.memory.lock().await;
        let mut lock = None;
        loop {
            if memory.unsaved.is_some() && lock.is_none() {
                lock = self.lock().await.inspect_err(|error| warn(error)).ok();
                if let Some(lock) = &lock {
                    self.save(&mut memory, lock).await;
                }
            }
            let file = match &memory.unsaved {
                Some(unsaved) => unsaved.file.clone(),
                None => self.read().await?,
            };
            let spent = self.is_spent(&file).await?;
            let facts = memory.facts(&file, refused, spent);
            let action = decide(&facts);
            let held = match (action, &lock) {
                (Action::Use, _) => return Ok(Arc::new(Access::of(&file))),
                (Action::Refresh(reason), Some(lock)) => {
                    return self.refresh(&mut memory, lock, &file, refused, reason).await;
                }
                // Whoever holds the lock may be refreshing, or have refreshed: a mark alone says nothing. Look again under it.
                (Action::Refresh(_) | Action::LogIn(Why::Spent), None) => self.lock().await,
                (Action::LogIn(why), _) => {
                    let token = file.refresh.as_ref().map(|token| token.fingerprint);
                    let said = memory.refused.filter(|(refused, _)| Some(*refused) == token);
                    return Err(self.log_in(said.map_or(why, |(_, said)| said)));
                }
            };
            match held {
                Ok(held) => lock = Some(held),
                Err(error) => return fall_back(&mut memory, &file, refused, error.into()),
            }
        }
    }

    /// Sends the file's refresh token, for the first and only time.
    async fn refresh(
        &self,
        memory: &mut Memory,
        lock: &Lock,
        file: &AuthFile,
        refused: Option<Fingerprint>,
        reason: Reason,
    ) -> Result<Arc<Access>, LoginError> {
        let Some(spent) = file.refresh.clone() else {
            return Err(LoginError::Ending);
        };
        if let Err(error) = self.marking(&spent, Store::mark).await {
            return fall_back(memory, file, refused, error.into());
        }
        let url = self.token_url.to_string();
        tracing::info!(%url, reason = reason.as_str(), "refreshing the ChatGPT login");
        let error = match exchange(&self.upstream, &self.token_url, &spent, reason).await {
            Exchange::Renewed(new) => return self.adopt(memory, lock, file, &spent, &new).await,
            Exchange::Refused(why) => {
                memory.refused = Some((spent.fingerprint, why));
                self.log_in(why)
            }
            Exchange::Unsent(reason) => {
                if let Err(error) = self.marking(&spent, Store::unmark).await {
                    warn(&error);
                }
                LoginError::Unreachable { url, reason }
            }
            Exchange::Unanswered(reason) => LoginError::Unanswered { url, reason },
        };
        if error.kind() == LoginErrorKind::LogIn
            && memory.unsaved.is_none()
            && let Some(theirs) = self.theirs(&spent).await
            && is_usable(&memory.facts(&theirs, refused, false))
        {
            return Ok(Arc::new(Access::of(&theirs)));
        }
        fall_back(memory, file, refused, error)
    }

    /// The login that another program wrote in place of the one whose refresh token was `spent`.
    async fn theirs(&self, spent: &Token) -> Option<AuthFile> {
        let appearing = async {
            loop {
                if let Ok(file) = self.read().await
                    && file.refresh.as_ref().map(|token| token.fingerprint) != Some(spent.fingerprint)
                {
                    return file;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        tokio::time::timeout(THEIR_WRITE, appearing).await.ok()
    }

    fn log_in(&self, why: Why) -> LoginError {
        LoginError::LogIn {
            file: self.store.file().to_owned(),
            why,
        }
    }

    /// Keeps what a refresh gave: in memory at once, then in the file.
    async fn adopt(
        &self,
        memory: &mut Memory,
        lock: &Lock,
        file: &AuthFile,
        spent: &Token,
        new: &NewTokens,
    ) -> Result<Arc<Access>, LoginError> {
        let at = now();
        let renewed = file
            .renewed(new, &moment::rfc3339(at.0))
            .map_err(|flaw| FileError::Flawed {
                path: self.store.file().to_owned(),
                flaw,
            })?;
        self.learn(&renewed);
        let access = Arc::new(Access::of(&renewed));
        memory.given = Some((access.fingerprint, at));
        memory.failed = None;
        // An earlier one that could not be saved still has to replace what the file holds.
        let replaces = memory
            .unsaved
            .as_ref()
            .map_or(spent.fingerprint, |earlier| earlier.replaces);
        memory.unsaved = Some(Unsaved {
            file: renewed,
            replaces,
        });
        self.unsaved.store(true, Ordering::Release);
        if new.refresh.is_none()
            && let Err(error) = self.marking(spent, Store::unmark).await
        {
            // The provider keeps it good, and so it may be sent again; without that, a person logs in once more.
            warn(&error);
        }
        self.save(memory, lock).await;
        Ok(access)
    }

    /// Writes what is not written yet. Where that fails it stays in memory, and is tried again before anything else.
    async fn save(&self, memory: &mut Memory, _lock: &Lock) {
        let Some(unsaved) = &memory.unsaved else { return };
        let (store, file, replaces) = (self.store.clone(), unsaved.file.clone(), unsaved.replaces);
        let saved = self.blocking(move || store.write_back(&file, replaces)).await;
        match saved {
            Ok(outcome) => {
                if outcome == WriteBack::NotOurs {
                    tracing::info!("the ChatGPT login was changed by another program meanwhile; theirs is kept");
                }
                memory.unsaved = None;
                self.unsaved.store(false, Ordering::Release);
            }
            Err(error) => tracing::warn!(
                %error,
                "the refreshed ChatGPT login could not be saved and is kept in memory only: if this process ends before it \
                 can be, log in again with `codex login`"
            ),
        }
    }

    async fn read(&self) -> Result<AuthFile, FileError> {
        let store = self.store.clone();
        let file = self.blocking(move || store.read()).await?;
        self.learn(&file);
        Ok(file)
    }

    fn learn(&self, file: &AuthFile) {
        file.secrets().for_each(|secret| self.redactor.learn(secret.expose()));
    }

    async fn is_spent(&self, file: &AuthFile) -> Result<bool, FileError> {
        match file.refresh.clone() {
            Some(token) => {
                let store = self.store.clone();
                self.blocking(move || store.is_spent(&token)).await
            }
            None => Ok(false),
        }
    }

    async fn lock(&self) -> Result<Lock, FileError> {
        let store = self.store.clone();
        self.blocking(move || store.lock_refresh(LOCK_LIMIT)).await
    }

    async fn marking(&self, token: &Token, how: fn(&Store, &Token) -> Result<(), FileError>) -> Result<(), FileError> {
        let (store, token) = (self.store.clone(), token.clone());
        self.blocking(move || how(&store, &token)).await
    }

    /// Files may lie on a slow or dead network file system: not on a runtime thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            // The runtime is shutting down.
            Err(stopped) => Err(FileError::Io {
                what: "use",
                path: self.store.file().to_owned(),
                error: std::io::Error::other(stopped),
            }),
        }
    }
}

impl Memory {
    fn facts<'f>(&self, file: &'f AuthFile, refused: Option<Fingerprint>, spent: bool) -> Facts<'f> {
        let now = now();
        let a_moment_ago = |at: Moment| now < at.plus(A_MOMENT);
        Facts {
            file,
            now,
            refused,
            spent,
            just_given: self.given.filter(|(_, at)| a_moment_ago(*at)).map(|(token, _)| token),
            quiet: self.failed.is_some_and(a_moment_ago),
        }
    }
}

/// A refresh that failed is no harm while the old access token is good.
fn fall_back(
    memory: &mut Memory,
    file: &AuthFile,
    refused: Option<Fingerprint>,
    error: LoginError,
) -> Result<Arc<Access>, LoginError> {
    if !is_usable(&memory.facts(file, refused, false)) {
        return Err(error);
    }
    memory.failed = Some(now());
    warn(&error);
    Ok(Arc::new(Access::of(file)))
}

fn warn(error: &dyn std::error::Error) {
    tracing::warn!(%error, "the ChatGPT login was not refreshed");
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Moment(since.map_or(0, |since| since.as_secs()))
}
