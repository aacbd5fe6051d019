//! Whose a presented token is, by the file as it is now: a token that was revoked is nobody's with the next request.
//!
//! It must never let somebody in because something failed: a file that can't be read, that has gone, or that has no token
//! left lets nobody in. Only where there never was one is everybody the same.

use crate::access::file::{TokenList, TokensError};
use crate::access::store::{TokenStore, Version};
use crate::access::token::TokenDigest;
use crate::config::identity::IdentityName;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is known of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There are no tokens: everybody is the same.
    Anonymous,
    Known(IdentityName),
    /// No token, or none of ours.
    Stranger,
}

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// There is no file of tokens.
    Open,
    /// So many tokens; with none left, nobody comes in.
    Locked { tokens: usize },
}

/// Clones share what was read.
#[derive(Debug, Clone)]
pub struct Doorkeeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: TokenStore,
    known: Mutex<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    version: Option<Version>,
    /// `None`: there never was a file.
    list: Option<Arc<TokenList>>,
}

impl Doorkeeper {
    /// Reads the file, so that a server that can't know its clients does not start. Blocks.
    pub fn new(store: TokenStore) -> Result<Self, TokensError> {
        let known = match store.read()? {
            Some((version, list)) => Known {
                version: Some(version),
                list: Some(Arc::new(list)),
            },
            None => Known {
                version: None,
                list: None,
            },
        };
        Ok(Self(Arc::new(Inner {
            store,
            known: Mutex::new(known),
        })))
    }

    /// Blocks.
    pub fn door(&self) -> Result<Door, TokensError> {
        Ok(match self.list()? {
            None => Door::Open,
            Some(list) => Door::Locked {
                tokens: list.tokens().len(),
            },
        })
    }

    /// `presented` is what was said to be a token. Blocks.
    pub fn judge(&self, presented: Option<TokenDigest>) -> Result<Verdict, TokensError> {
        let Some(list) = self.list()? else {
            return Ok(Verdict::Anonymous);
        };
        let whose = presented.and_then(|presented| list.whose(&presented).cloned());
        Ok(whose.map_or(Verdict::Stranger, Verdict::Known))
    }

    fn list(&self) -> Result<Option<Arc<TokenList>>, TokensError> {
        let version = self.0.store.version();
        let known = self.lock().clone();
        if version == known.version {
            return Ok(known.list);
        }
        // What is remembered of a file that can't be read is what it said before: it is asked again with each request.
        let read = self.0.store.read()?;
        let mut known = self.lock();
        *known = match read {
            Some((version, list)) => Known {
                version: Some(version),
                list: Some(Arc::new(list)),
            },
            // It was there, or another thread read it: that it has gone opens nothing.
            None => Known {
                version: None,
                list: known.list.is_some().then(Arc::default),
            },
        };
        Ok(known.list.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Replaced as one.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_what_the_file_says_now_and_a_failure_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = TokenStore::new(dir.path().join("tokens.json"));
        let door = Doorkeeper::new(store.clone()).unwrap();
        assert_eq!(door.judge(None).unwrap(), Verdict::Anonymous);
        assert_eq!(door.door().unwrap(), Door::Open);
        // The first token that is added locks the door of a server that runs.
        let name: IdentityName = "ci".parse().unwrap();
        let token = store.add(name.clone(), 1).unwrap().digest();
        assert_eq!(door.judge(None).unwrap(), Verdict::Stranger);
        assert_eq!(door.judge(Some(token)).unwrap(), Verdict::Known(name.clone()));
        assert_eq!(door.judge(Some(TokenDigest::of(b"guess"))).unwrap(), Verdict::Stranger);
        assert_eq!(door.door().unwrap(), Door::Locked { tokens: 1 });
        store.revoke(&name).unwrap();
        assert_eq!(door.judge(Some(token)).unwrap(), Verdict::Stranger);
        let token = store.add(name.clone(), 2).unwrap().digest();
        fs::set_permissions(store.path(), Permissions::from_mode(0o666)).unwrap();
        assert!(door.judge(Some(token)).is_err());
        fs::set_permissions(store.path(), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(door.judge(Some(token)).unwrap(), Verdict::Known(name));
        fs::remove_file(store.path()).unwrap();
        assert_eq!(door.judge(None).unwrap(), Verdict::Stranger);
        assert_eq!(door.judge(Some(token)).unwrap(), Verdict::Stranger);
    }
}
