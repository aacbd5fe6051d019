//! Which models a provider offers: what `auth status` asks it, with the credential that a session would use.
//!
//! One bounded request. What comes back is a stranger's text: only ids that a configuration could name are taken.

use crate::auth::broker::refusal::provider_message;
use crate::auth::upstream::{OutgoingBody, Upstream, UpstreamError};
use crate::config::quantity::{BaseUrl, ModelId};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT};
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;

/// The longest that an answer may take, connecting included.
const LIMIT: Duration = Duration::from_secs(20);
/// The largest answer that is read, in bytes. OpenRouter's list has some 600 KB.
const MAX_ANSWER: usize = 4 << 20;
const MAX_MODELS: usize = 2000;

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("no answer within {} s", LIMIT.as_secs())]
    Late,
    #[error("it answered HTTP {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("its answer is no list of models")]
    NotAList,
}

/// Asks `base_url/models`. `headers` hold the credential.
pub async fn list(
    upstream: &Upstream,
    base_url: &BaseUrl,
    query: &str,
    headers: HeaderMap,
) -> Result<Vec<ModelId>, ModelsError> {
    let body: OutgoingBody = Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.uri_mut() = format!("{base_url}/models{query}")
        .parse()
        .map_err(|_| ModelsError::NotAList)?;
    *request.headers_mut() = headers;
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    let agent = concat!("codex-mcp/", env!("CARGO_PKG_VERSION"));
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(agent));
    let asking = async {
        let answer = upstream.send(base_url.scheme, request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|_| ModelsError::NotAList)?.to_bytes();
        if !status.is_success() {
            return Err(ModelsError::Refused {
                status: status.as_u16(),
                message: provider_message(&body),
            });
        }
        ids(&body).ok_or(ModelsError::NotAList)
    };
    let asked = tokio::time::timeout(LIMIT, asking).await;
    asked.unwrap_or(Err(ModelsError::Late))
}

/// `data[].id`, as the API has it, or `models[].slug`, as the ChatGPT backend has it.
fn ids(body: &[u8]) -> Option<Vec<ModelId>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let named = |list: &str, name: &str| -> Option<Vec<ModelId>> {
        let models = body.get(list)?.as_array()?.iter();
        let ids = models.filter_map(|model| model.get(name)?.as_str()?.parse().ok());
        Some(ids.take(MAX_MODELS).collect())
    };
    // The scripted model answers with both, as Codex wants it.
    let lists = [named("data", "id"), named("models", "slug")];
    lists.into_iter().flatten().max_by_key(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(body: &str) -> Option<Vec<String>> {
        let ids = ids(body.as_bytes())?;
        Some(ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_forms_are_lists() {
        let api = r#"{"data": [{"id": "gpt-5.5"}, {"id": "a b"}, {"id": 1}, {}], "models": []}"#;
        assert_eq!(names(api), Some(vec!["gpt-5.5".to_owned()]));
        let backend = r#"{"models": [{"slug": "gpt-6-sol"}, {"slug": "gpt-5.5"}]}"#;
        assert_eq!(names(backend), Some(vec!["gpt-6-sol".to_owned(), "gpt-5.5".to_owned()]));
        for other in ["", "[]", "{}", r#"{"data": 1}"#] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in "\\PC{0,80}") {
            let _ = names(&body);
        }
    }
}
