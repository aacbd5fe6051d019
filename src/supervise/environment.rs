//! The whole environment of a child, as data. A child inherits nothing from this process: what is not in here it
//! does not see. Which variables may be in here is the caller's policy.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// The names alone: a proxy's address may hold a password.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_debugged() {
        let environment: Environment = [("HTTPS_PROXY".into(), "http://user:secret@proxy".into())]
            .into_iter()
            .collect();
        assert_eq!(format!("{environment:?}"), r#"{"HTTPS_PROXY"}"#);
    }
}
