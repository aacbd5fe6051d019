use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const PLAIN: &str = include_str!("../../../../tests/fixtures/responses/plain.json");
const CODE_MODE: &str = include_str!("../../../../tests/fixtures/responses/code-mode.json");

fn terms() -> Terms {
    Terms {
        models: BTreeSet::from(["gpt-5.5".to_owned(), "gpt-6-sol".to_owned()]),
        web_search: WebSearch::Disabled,
    }
}

fn screened(body: &Value, terms: &Terms) -> Result<Value, String> {
    let document = Json::parse(body.to_string().as_bytes()).unwrap();
    let passed = screen(document, terms).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(passed).unwrap())
}

fn plain() -> Value {
    serde_json::from_str(PLAIN).unwrap()
}

/// The plain request, changed; what is said to that.
#[track_caller]
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut body = plain();
    change(&mut body);
    screened(&body, &terms()).unwrap_err()
}

#[test]
fn what_codex_sends_passes_but_for_what_tells_of_the_installation() {
    for text in [PLAIN, CODE_MODE] {
        let mut body: Value = serde_json::from_str(text).unwrap();
        let passed = screened(&body, &terms()).unwrap();
        let removed = body.as_object_mut().unwrap().remove("client_metadata").unwrap();
        assert!(removed.to_string().contains("installation"), "{removed}");
        assert_eq!(passed, body);
    }
}

#[test]
fn the_order_of_a_schema_is_kept() {
    let text = r#"{"model":"gpt-5.5","input":[],"store":false,"stream":true,"text":{"format":{"type":"json_schema","schema":{"properties":{"z":{},"a":{}}}}}}"#;
    let passed = screen(Json::parse(text.as_bytes()).unwrap(), &terms()).unwrap();
    assert_eq!(serde_json::to_string(&passed).unwrap(), text);
}

#[test]
fn every_forbidden_field_of_the_api_is_refused_by_its_name() {
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("background", json!(true)),
        ("prompt", json!({"id": "pmpt_1"})),
        ("metadata", json!({})),
        ("service_tier", json!("priority")),
        ("truncation", json!("auto")),
        ("user", json!("x")),
        ("safety_identifier", json!("x")),
        ("prompt_cache_retention", json!("24h")),
        ("max_tool_calls", json!(1)),
        ("context_management", json!([])),
        ("x", json!(null)),
    ] {
        let message = refused(|body| body[field] = value.clone());
        assert_eq!(message, format!("`{field}` is not one of the fields that pass"));
    }
}

#[test]
fn nothing_is_stored_and_everything_is_streamed() {
    assert_eq!(refused(|body| body["store"] = json!(true)), "`store` has to be false");
    assert_eq!(refused(|body| body["store"] = json!(null)), "`store` has to be false");
    assert_eq!(refused(|body| body["stream"] = json!(false)), "`stream` has to be true");
    for field in ["store", "stream"] {
        let message = refused(|body| drop(body.as_object_mut().unwrap().remove(field)));
        assert!(message.starts_with(&format!("`{field}` has to be")), "{message}");
    }
    assert_eq!(
        refused(|body| drop(body.as_object_mut().unwrap().remove("input"))),
        "`input` is missing"
    );
}

#[test]
fn only_the_sessions_models_are_asked() {
    for model in [json!("o3-pro"), json!(""), json!(null), json!(["gpt-5.5"])] {
        let message = refused(|body| body["model"] = model.clone());
        assert!(message.starts_with("`model` "), "{message}");
    }
    insta::assert_snapshot!(refused(|body| body["model"] = json!("o3-pro")), @"`model` is not a model of this session, which is gpt-5.5, gpt-6-sol; the operator sets it with codex.model or --model, and which a call may choose with codex.models");
}

#[test]
fn tools_that_the_provider_runs_are_refused_wherever_they_stand() {
    for tool in [
        "mcp",
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "computer_use_preview",
        "local_shell",
        "tool_search",
        "shell",
    ] {
        let tool = json!({"type": tool, "server_url": "https://evil.example"});
        let nested = json!({"type": "namespace", "name": "n", "description": "", "tools": [tool]});
        for message in [
            refused(|body| body["tools"] = json!([tool])),
            refused(|body| body["tools"] = json!([nested])),
            refused(|body| {
                body["input"] = json!([{"type": "additional_tools", "role": "developer", "tools": [nested]}]);
            }),
        ] {
            assert!(message.contains("type` "), "{message}");
        }
    }
    assert_eq!(
        refused(|body| body["input"] = json!([{"type": "additional_tools", "tools": [{"type": "mcp"}]}])),
        "`input[0].tools[0].type` has to be one of function, custom, namespace, web_search"
    );
    assert!(refused(|body| body["tool_choice"] = json!({"type": "mcp"})).starts_with("`tool_choice` "));
    assert!(refused(|body| body["include"] = json!(["file_search_call.results"])).starts_with("`include[0]` "));
}

#[test]
fn nothing_is_fetched_remembered_or_referred_to() {
    for part in [
        json!({"type": "input_image", "image_url": "https://evil.example/?q=secret"}),
        json!({"type": "input_image", "image_url": {"url": "data:image/png;base64,AA"}}),
        json!({"type": "input_image", "image_url": " data:image/png;base64,AA"}),
        json!({"type": "input_image", "image_url": "DATA:text/html,x"}),
        json!({"type": "input_image", "file_id": "file_1"}),
        json!({"type": "input_file", "file_url": "https://evil.example"}),
        json!({"type": "input_file", "file_data": "AA"}),
        json!({"type": "input_audio", "audio_url": "https://evil.example"}),
        json!({"type": "input_text", "text": "x", "file_url": "https://evil.example"}),
        json!("a bare string"),
    ] {
        for message in [
            refused(|body| body["input"] = json!([{"type": "message", "role": "user", "content": [part]}])),
            refused(|body| body["input"] = json!([{"type": "function_call_output", "call_id": "c", "output": [part]}])),
        ] {
            assert!(message.starts_with("`input[0]."), "{message}");
        }
    }
    for item in [
        json!({"type": "item_reference", "id": "msg_1"}),
        json!({"role": "user", "content": "without a type"}),
        json!({"type": "mcp_call", "server_label": "x"}),
        json!({"type": "mcp_approval_response", "approve": true}),
        json!({"type": "computer_call_output", "output": {"image_url": "https://evil.example"}}),
        json!({"type": "code_interpreter_call", "container_id": "c"}),
        json!({"type": "image_generation_call", "id": "ig_1"}),
        json!({"type": "web_search_call", "action": {"type": "open_page", "url": "https://evil.example"}}),
        json!({"type": "message", "role": "user", "content": [], "file_url": "x"}),
        json!({"type": ["message"], "role": "user", "content": []}),
    ] {
        let message = refused(|body| body["input"] = json!([item]));
        assert!(message.starts_with("`input[0]"), "{message}");
    }
    assert_eq!(
        refused(|body| body["text"] =
            json!({"format": {"type": "json_schema", "schema": {"a": [{"$ref": "https://evil.example"}]}}})),
        "`text.format.schema.a[0].$ref` refers to something outside the request"
    );
}

#[test]
fn a_web_search_is_the_operators_to_allow() {
    let mut body = plain();
    body["tools"] = json!([{"type": "web_search", "external_web_access": true, "search_content_types": ["text"]}]);
    let message = screened(&body, &terms()).unwrap_err();
    assert!(message.contains("codex.web_search = \"live\""), "{message}");
    let live = Terms {
        web_search: WebSearch::Live,
        ..terms()
    };
    assert_eq!(screened(&body, &live).unwrap()["tools"], body["tools"]);
}

#[test]
fn a_name_from_inside_is_cut_and_cleaned() {
    let name = format!("a\u{1b}[2J`{}", "b".repeat(200));
    let message = refused(|body| body[name.as_str()] = json!(1));
    assert_eq!(
        message,
        format!("`a[2J{}` is not one of the fields that pass", "b".repeat(60))
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("type"),
        Just("content"),
        Just("image_url"),
        Just("tools"),
        Just("message"),
        Just("input_image"),
        Just("output"),
        Just("url"),
        Just("https://evil.example"),
        Just("data:image/png;base64,AA"),
        Just("function_call_output"),
        Just("function"),
        Just("namespace"),
        Just("mcp"),
        Just("parameters"),
    ];
    let leaf = prop_oneof![
        word.clone().prop_map(|text| json!(text)),
        Just(Value::Null),
        any::<bool>().prop_map(|flag| json!(flag)),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((word.clone(), inner), 0..4).prop_map(|fields| Value::Object(
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

/// Every address that is no data and no text of a tool's own schema.
fn addresses(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(addresses),
        Value::Object(fields) => fields.iter().any(|(name, value)| match name.as_str() {
            "parameters" => false,
            "image_url" | "url" | "file_url" => value.as_str().is_some_and(|url| url.starts_with("https:")),
            _ => addresses(value),
        }),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_address_passes_where_a_provider_would_fetch_it(items in proptest::collection::vec(any_json(), 1..4)) {
        let mut body = plain();
        body["input"] = Value::Array(items);
        if let Ok(passed) = screened(&body, &terms()) {
            prop_assert!(!addresses(&passed["input"]), "{passed}");
        }
    }

    #[test]
    fn what_passed_once_passes_again_unchanged(items in proptest::collection::vec(any_json(), 1..4)) {
        let mut body = plain();
        body["input"] = Value::Array(items);
        if let Ok(passed) = screened(&body, &terms()) {
            prop_assert_eq!(screened(&passed, &terms()).unwrap(), passed);
        }
    }
}
