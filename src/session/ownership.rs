//! Whose a session is, and who may know of it. Pure.
//!
//! A session belongs to the identity that began it. To any other it is not there: not listed, not found, in no error, and no
//! answer tells it from one that never was.

use crate::config::identity::IdentityName;

/// Whether whoever asks may know of a session of this owner.
///
/// Whoever comes without an identity is the user of this machine: over stdio, by the command line, or over HTTP while there
/// are no tokens. The sessions of such a one have no owner, and no token reaches them.
pub fn may_see(asker: Option<&IdentityName>, owner: Option<&IdentityName>) -> bool {
    match asker {
        None => true,
        Some(asker) => owner == Some(asker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_sees_its_own_and_the_machines_user_everything() {
        let [ci, other]: [IdentityName; 2] = ["ci", "other"].map(|name| name.parse().unwrap());
        assert!(may_see(Some(&ci), Some(&ci)));
        assert!(!may_see(Some(&ci), Some(&other)));
        assert!(!may_see(Some(&ci), None));
        assert!(may_see(None, Some(&ci)) && may_see(None, None));
    }
}
