//! `${NAME}` and `${NAME:-default}` inside one string that was already parsed.
//!
//! It is replaced in values and never in the text of a file, so that whatever a variable holds stays one string: it
//! can't end it and begin another key. Nothing is replaced twice. `$${` stands for a plain `${`.

use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InterpolationError<E> {
    #[error("`${{` without its `}}`; write `$${{` for a plain `${{`")]
    Unterminated,
    #[error("`${{{0}}}` names no variable: `A-Z a-z 0-9 _`, first no digit")]
    NotAName(String),
    #[error("the environment variable {0} is not set; set it, or give a fallback as in `${{{0}:-fallback}}`")]
    Unset(String),
    #[error(transparent)]
    Lookup(E),
}

/// Replaces every `${…}` of `text` by what `lookup` gives; `None` is an unset variable.
///
/// # Errors
///
/// Where a placeholder is malformed, or its variable is unset and it has no default.
pub fn interpolate<'t, 'v, E>(
    text: &'t str,
    lookup: impl Fn(&str) -> Result<Option<&'v str>, E>,
) -> Result<Cow<'t, str>, InterpolationError<E>> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, placeholder) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = &placeholder[2..];
            continue;
        }
        result.push_str(before);
        let (inner, after) = placeholder[2..]
            .split_once('}')
            .ok_or(InterpolationError::Unterminated)?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_variable_name(name) {
            return Err(InterpolationError::NotAName(inner.to_owned()));
        }
        let value = lookup(name).map_err(InterpolationError::Lookup)?;
        result.push_str(
            value
                .or(default)
                .ok_or_else(|| InterpolationError::Unset(name.to_owned()))?,
        );
        rest = after;
    }
    result.push_str(rest);
    Ok(Cow::Owned(result))
}

/// What POSIX shells take as the name of a variable.
pub fn is_variable_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !name.is_empty() && name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn with_variables(text: &str) -> Result<String, InterpolationError<Infallible>> {
        let lookup = |name: &str| {
            Ok(match name {
                "A" => Some("1"),
                "NESTED" => Some("${A}"),
                _ => None,
            })
        };
        interpolate(text, lookup).map(Cow::into_owned)
    }

    #[test]
    fn placeholders_are_replaced_once() {
        for (text, expected) in [
            ("plain $HOME $", "plain $HOME $"),
            ("${A}", "1"),
            ("<${A}${A}>", "<11>"),
            ("${B:-two}", "two"),
            ("${A:-two}", "1"),
            ("${B:-}", ""),
            ("${NESTED}", "${A}"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("é${A}é", "é1é"),
        ] {
            assert_eq!(with_variables(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_placeholder_is_refused() {
        assert_eq!(with_variables("${B}"), Err(InterpolationError::Unset("B".into())));
        assert_eq!(with_variables("${A"), Err(InterpolationError::Unterminated));
        for inner in ["", "1A", "A B", "A-B", "é", ":-x"] {
            let text = format!("${{{inner}}}");
            assert_eq!(with_variables(&text), Err(InterpolationError::NotAName(inner.into())));
        }
        assert_eq!(
            with_variables("${B}").unwrap_err().to_string(),
            "the environment variable B is not set; set it, or give a fallback as in `${B:-fallback}`"
        );
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_out_as_it_was(text in "[a$]{0,3}(\\$\\{[A-Z]{0,2}\\}?)?[a-z]{0,3}") {
            // A `$` right before `${` would itself be taken as the escape, so such texts have no escaped form of their own.
            prop_assume!(!text.contains("$${"));
            prop_assert_eq!(with_variables(&text.replace("${", "$${")), Ok(text));
        }
    }
}
