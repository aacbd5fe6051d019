//! The file of tokens: what it says, and what may be wrong with it. Pure.

use crate::access::token::TokenDigest;
use crate::config::identity::IdentityName;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use subtle::ConditionallySelectable;

/// Of the shape below. A file of a newer one is refused: what it says of a token that this version does not read might be
/// what keeps the token out.
const VERSION: u32 = 1;

/// The longest file that is read, in bytes: some ten thousand tokens.
pub const MAX_BYTES: u64 = 2 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    #[error("the file of tokens {} can't be {what}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the file of tokens {} is longer than {MAX_BYTES} bytes, which no list of tokens is", path.display())]
    TooLong { path: PathBuf },
    #[error(
        "the file of tokens {} can't be read as one: {reason}. Mend it, or move it away and add the tokens anew", path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "others than its owner may write the file of tokens {} (mode {mode:04o}), and so let themselves in: chmod 600 it, and \
         look at `codex-mcp token list`", path.display()
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error(
        "the file of tokens {} belongs to user {owner}, who could let anybody in: it must be yours or root's", path.display()
    )]
    NotOurs { path: PathBuf, owner: u32 },
    #[error("there is a token `{0}` already; revoke it first (`codex-mcp token revoke {0}`), or take another name")]
    Taken(IdentityName),
    #[error("there is no token `{0}`; `codex-mcp token list` shows what there is")]
    Unknown(IdentityName),
    #[error("another process changes the file of tokens {}; try again", path.display())]
    Busy { path: PathBuf },
    #[error("no random bytes are to be had: {0}")]
    Random(#[source] getrandom::Error),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenList {
    version: u32,
    tokens: Vec<Listed>,
}

/// One token, without itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub name: IdentityName,
    pub sha256: TokenDigest,
    /// In seconds since 1970.
    pub created: u64,
}

impl Default for TokenList {
    fn default() -> Self {
        Self {
            version: VERSION,
            tokens: Vec::new(),
        }
    }
}

impl TokenList {
    /// The reason is for a message that names the file.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let list: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if list.version != VERSION {
            return Err(format!(
                "it is of format {}, and this version knows {VERSION}",
                list.version
            ));
        }
        for (at, token) in list.tokens.iter().enumerate() {
            if list.tokens[..at].iter().any(|earlier| earlier.name == token.name) {
                return Err(format!("it has the name `{}` twice", token.name));
            }
        }
        Ok(list)
    }

    pub fn text(&self) -> Vec<u8> {
        // Strings and numbers only: nothing of it fails.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub fn tokens(&self) -> &[Listed] {
        &self.tokens
    }

    pub fn add(&mut self, token: Listed) -> Result<(), TokensError> {
        match self.tokens.iter().any(|known| known.name == token.name) {
            true => Err(TokensError::Taken(token.name)),
            false => {
                self.tokens.push(token);
                Ok(())
            }
        }
    }

    pub fn revoke(&mut self, name: &IdentityName) -> Result<(), TokensError> {
        let before = self.tokens.len();
        self.tokens.retain(|known| known.name != *name);
        match self.tokens.len() < before {
            true => Ok(()),
            false => Err(TokensError::Unknown(name.clone())),
        }
    }

    /// Whose this is. Looks at all of them, so that the time tells nothing of which one it was.
    pub fn whose(&self, presented: &TokenDigest) -> Option<&IdentityName> {
        let mut found = u64::MAX;
        for (at, token) in (0u64..).zip(&self.tokens) {
            found.conditional_assign(&at, token.sha256.is(presented));
        }
        let found = usize::try_from(found).ok()?;
        self.tokens.get(found).map(|token| &token.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::token::{RANDOM, Token};

    fn listed(name: &str, byte: u8) -> (Token, Listed) {
        let token = Token::from_random(&[byte; RANDOM]);
        let sha256 = token.digest();
        let name = name.parse().unwrap();
        (
            token,
            Listed {
                name,
                sha256,
                created: 5,
            },
        )
    }

    #[test]
    fn a_token_is_its_owners_until_it_is_revoked() {
        let mut list = TokenList::default();
        let [(first, one), (second, two)] = [listed("ci", 1), listed("laptop", 2)];
        list.add(one).unwrap();
        list.add(two).unwrap();
        let list = TokenList::parse(&list.text()).unwrap();
        let whose = |list: &TokenList, token: &Token| list.whose(&token.digest()).map(ToString::to_string);
        assert_eq!(whose(&list, &first).as_deref(), Some("ci"));
        assert_eq!(whose(&list, &second).as_deref(), Some("laptop"));
        assert_eq!(whose(&list, &Token::from_random(&[3; RANDOM])), None);
        let mut list = list;
        assert!(matches!(list.add(listed("ci", 9).1), Err(TokensError::Taken(_))));
        list.revoke(&"ci".parse().unwrap()).unwrap();
        assert_eq!(whose(&list, &first), None);
        assert!(matches!(
            list.revoke(&"ci".parse().unwrap()),
            Err(TokensError::Unknown(_))
        ));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let digest = "0".repeat(64);
        let one = format!("{{\"name\":\"a\",\"sha256\":\"{digest}\",\"created\":1}}");
        for (text, reason) in [
            (String::new(), "EOF"),
            ("{\"version\":2,\"tokens\":[]}".into(), "format 2"),
            (format!("{{\"version\":1,\"tokens\":[{one},{one}]}}"), "twice"),
            ("{\"version\":1,\"tokens\":[],\"more\":1}".into(), "unknown field"),
        ] {
            let refused = TokenList::parse(text.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
