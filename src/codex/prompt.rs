//! A prompt that Codex will take: not empty, within its limit.

/// Codex refuses longer input: error -32602, `input_error_code: "input_too_large"`.
pub const MAX_PROMPT_CHARS: usize = 1_048_576;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("the prompt is empty: say what Codex is to do")]
    Empty,
    #[error(
        "the prompt has {actual} characters and Codex takes at most {MAX_PROMPT_CHARS}: put long material into a file in the workspace and name it"
    )]
    TooLong { actual: usize },
}

impl Prompt {
    pub fn parse(text: impl Into<String>) -> Result<Self, PromptError> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(PromptError::Empty);
        }
        // A string has at least a quarter as many characters as bytes: counting is only needed in between.
        if text.len() > MAX_PROMPT_CHARS {
            let actual = text.chars().count();
            if actual > MAX_PROMPT_CHARS {
                return Err(PromptError::TooLong { actual });
            }
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_characters_not_bytes() {
        assert!(Prompt::parse("ü".repeat(MAX_PROMPT_CHARS)).is_ok());
        assert_eq!(
            Prompt::parse("ü".repeat(MAX_PROMPT_CHARS + 1)),
            Err(PromptError::TooLong {
                actual: MAX_PROMPT_CHARS + 1
            })
        );
        assert_eq!(Prompt::parse(" \n"), Err(PromptError::Empty));
    }
}
