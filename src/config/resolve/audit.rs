//! `[audit]`: layers → settings.

use super::{Stack, at_least, needed};
use crate::config::Sourced;
use crate::config::audit::AuditSettings;
use crate::config::error::ConfigError;
use crate::config::key::{self, Key};
use crate::config::layer::{Scalar, Values};
use crate::config::quantity::ByteSize;
use toml::Spanned;

impl Stack<'_> {
    pub(super) fn audit(&self) -> Result<AuditSettings, ConfigError> {
        // A record has its line of 128 KiB at most, and a file that holds a few of them is no file.
        let size = |key: Key, in_file: fn(&Values) -> Option<&Spanned<Scalar>>| {
            let size: Sourced<ByteSize> = needed(key, self.value(key, in_file, None)?)?;
            at_least(key, size, "1MiB")
        };
        Ok(AuditSettings {
            file_size: size(key::AUDIT_FILE_SIZE, |v| v.audit.file_size.as_ref())?,
            keep: size(key::AUDIT_KEEP, |v| v.audit.keep.as_ref())?,
        })
    }
}
