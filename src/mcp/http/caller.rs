//! Who asks: put into each request by the door, and read by the handler.

use crate::config::identity::IdentityName;
use axum::http::request::Parts;
use rmcp::model::Extensions;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// There are no tokens.
    Anonymous,
    Known(IdentityName),
}

impl Caller {
    pub fn identity(&self) -> Option<&IdentityName> {
        match self {
            Self::Anonymous => None,
            Self::Known(name) => Some(name),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Known(name) => name.fmt(f),
        }
    }
}

/// Whose token a request came with; `None` over stdio and where there are no tokens.
pub fn identity_of(extensions: &Extensions) -> Option<&IdentityName> {
    extensions.get::<Parts>()?.extensions.get::<Caller>()?.identity()
}
