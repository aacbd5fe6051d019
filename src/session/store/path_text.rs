//! A path in a text file: as it is where it is UTF-8, as bytes where it is not. Nothing of it is lost. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Spelled", try_from = "Spelled")]
pub struct PathText(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Spelled {
    Text(String),
    Base64(String),
}

impl PathText {
    pub fn of(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl From<PathText> for Spelled {
    fn from(path: PathText) -> Self {
        match path.0.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Base64(STANDARD.encode(path.0.as_os_str().as_bytes())),
        }
    }
}

impl TryFrom<Spelled> for PathText {
    type Error = base64::DecodeError;

    fn try_from(spelled: Spelled) -> Result<Self, Self::Error> {
        Ok(Self(match spelled {
            Spelled::Text(text) => text.into(),
            Spelled::Base64(text) => OsString::from_vec(STANDARD.decode(text)?).into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    proptest! {
        #[test]
        fn every_path_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = PathText::of(Path::new(OsStr::from_bytes(&bytes)));
            let text = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<PathText>(&text).unwrap(), path);
        }
    }

    #[test]
    fn a_readable_path_is_readable() {
        let text = serde_json::to_string(&PathText::of(Path::new("/a b/ü"))).unwrap();
        assert_eq!(text, r#"{"text":"/a b/ü"}"#);
    }
}
