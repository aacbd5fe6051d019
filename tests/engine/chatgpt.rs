//! Turns by the host's ChatGPT login, against a stand-in of the hosts: real Codex inside knows nothing of it.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::servers::chatgpt::{ACCOUNT, ChatGpt, Fault};
use crate::support::world::World;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tokio::runtime::Runtime;

struct Scene {
    world: World,
    chatgpt: ChatGpt,
    _runtime: Runtime,
}

impl Scene {
    /// A login whose access token has so many seconds left; later ones are good for an hour.
    fn new(lane: Lane, seconds: i64) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let chatgpt = runtime.block_on(ChatGpt::start());
        let world = World::new(lane)?;
        let codex_home = world.path("codex-home");
        fs::create_dir(&codex_home).unwrap();
        chatgpt.set_lifetime(seconds);
        let file = codex_home.join("auth.json");
        fs::write(&file, chatgpt.log_in()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chatgpt.set_lifetime(3600);
        world.give_to_user(&codex_home);
        world.edit_config("provider = \"scripted\"", "provider = \"openai\"");
        world.edit_config(
            "[limits]\n",
            &format!(
                "[auth]\nmode = \"chatgpt\"\nfile = \"{}\"\nchatgpt_base_url = \"{}\"\ntoken_url = \"{}\"\n[limits]\n",
                file.display(),
                chatgpt.base_url(),
                chatgpt.token_url(),
            ),
        );
        Some(Self {
            world,
            chatgpt,
            _runtime: runtime,
        })
    }

    fn auth_file(&self) -> String {
        fs::read_to_string(self.world.path("codex-home/auth.json")).unwrap()
    }

    fn tokens(&self) -> Vec<String> {
        let file: Value = serde_json::from_str(&self.auth_file()).unwrap();
        ["id_token", "access_token", "refresh_token"]
            .map(|token| file["tokens"][token].as_str().unwrap().to_owned())
            .to_vec()
    }
}

fn a_turn_by_a_login_that_expires_refreshes_it_once_and_no_token_is_inside(lane: Lane) {
    let Some(scene) = Scene::new(lane, 20) else { return };
    let before = scene.tokens();
    let mut client = McpClient::start(&scene.world);
    // What a search inside would find, tokens begin with it; put together there, so that it does not find itself.
    let result = client.tool(
        "codex",
        json!({"prompt": "#shell p=ey; env | grep -c \"${p}J\"; grep -rlE \"${p}J[A-Za-z0-9_-]{20,}[.]\" / --exclude-dir=proc \
                --exclude-dir=sys 2>/dev/null | grep -v '^/opt/codex/\\|^/usr/' | head -3; echo searched"}),
    );
    assert_ne!(result["isError"], true, "{result:#}");
    let text = result["structuredContent"]["content"].as_str().unwrap();
    assert!(text.contains("\n0\nsearched"), "{text}");

    let counts = scene.chatgpt.counts();
    assert_eq!(
        (counts.refreshes, counts.reuses, counts.unauthorized),
        (1, 0, 0),
        "{counts:?}"
    );
    assert!(counts.served >= 2, "{counts:?}");
    let requests = scene.chatgpt.requests();
    let turns: Vec<_> = requests.iter().filter(|request| request.method == "POST").collect();
    let after = scene.tokens();
    assert_ne!(before, after);
    for request in &turns {
        assert_eq!(request.headers["chatgpt-account-id"], ACCOUNT);
        assert_eq!(
            request.headers["authorization"],
            format!("Bearer {}", after[1]).as_str()
        );
    }
    // Every session's audit, results and progress.
    let said = format!("{result}{:?}", client.notifications);
    assert!(before.iter().chain(&after).all(|token| !said.contains(token.as_str())));
    let metadata = fs::metadata(scene.world.path("codex-home/auth.json")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

fn a_login_that_is_refused_in_the_middle_is_refreshed_and_the_turn_goes_on(lane: Lane) {
    let Some(scene) = Scene::new(lane, 3600) else { return };
    let mut client = McpClient::start(&scene.world);
    let first = client.tool("codex", json!({"prompt": "#text one"}));
    assert_eq!(first["structuredContent"]["content"], "one", "{first:#}");
    scene.chatgpt.forget_access();
    let thread = first["structuredContent"]["threadId"].as_str().unwrap();
    let second = client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text two"}));
    assert_eq!(second["structuredContent"]["content"], "two", "{second:#}");
    let counts = scene.chatgpt.counts();
    assert_eq!((counts.refreshes, counts.reuses), (1, 0), "{counts:?}");
}

fn a_refused_refresh_ends_the_turn_with_what_to_run(lane: Lane) {
    let Some(scene) = Scene::new(lane, 3600) else { return };
    let mut client = McpClient::start(&scene.world);
    let first = client.tool("codex", json!({"prompt": "#text one"}));
    assert_eq!(first["structuredContent"]["content"], "one", "{first:#}");
    scene.chatgpt.forget_access();
    scene.chatgpt.fault(Fault::Refuse(401, "refresh_token_expired"));
    let thread = first["structuredContent"]["threadId"].as_str().unwrap();
    for _ in 0..2 {
        let failed = client.tool("codex-reply", json!({"threadId": thread, "prompt": "#text two"}));
        assert_eq!(failed["isError"], true, "{failed:#}");
        let text = failed["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("codex login") && text.contains("auth.json"), "{text}");
    }
    let counts = scene.chatgpt.counts();
    assert_eq!(
        (counts.token_requests, counts.reuses),
        (1, 0),
        "it is asked once: {counts:?}"
    );
    drop(client);

    // And a session that would begin with it is refused before anything is made.
    let output = scene.world.codex_mcp(&["run"]).arg("hi").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("codex login"), "{stderr}");
    assert!(scene.world.running().is_empty());
}

fn sessions_of_two_servers_refresh_once(lane: Lane) {
    let Some(scene) = Scene::new(lane, 20) else { return };
    let mut clients = [McpClient::start(&scene.world), McpClient::start(&scene.world)];
    let calls: Vec<(usize, u64)> = (0..8)
        .map(|number| {
            (
                number % 2,
                clients[number % 2].begin_tool("codex", json!({"prompt": "#text hello"})),
            )
        })
        .collect();
    for (client, id) in calls {
        let answer = clients[client].answer(id);
        assert_eq!(answer["result"]["structuredContent"]["content"], "hello", "{answer:#}");
    }
    let counts = scene.chatgpt.counts();
    assert_eq!(
        (counts.refreshes, counts.reuses, counts.unauthorized),
        (1, 0, 0),
        "{counts:?}"
    );
}

on_every_lane!(
    a_turn_by_a_login_that_expires_refreshes_it_once_and_no_token_is_inside,
    a_login_that_is_refused_in_the_middle_is_refreshed_and_the_turn_goes_on,
    a_refused_refresh_ends_the_turn_with_what_to_run,
    sessions_of_two_servers_refresh_once,
);
