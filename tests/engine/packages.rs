//! Package clients inside really install a package through the relay where `network.from` names them, and the same
//! command is refused where it does not.
//!
//! The image has no such clients, so a session gets the host's own in its workspace. No registry is named here: which
//! hosts there are is read from the plan.

use crate::support::client::McpClient;
use crate::support::lane::Lane;
use crate::support::world::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command prints last that has used what it installed.
const DONE: &str = "INSTALLED";

/// One client, and a use of it. Commands run in the workspace, and find the client below `tools` there.
struct Client {
    /// As `network.from` has it.
    name: &'static str,
    /// Puts the host's own client below the directory.
    provide: fn(&Path),
    /// Files of the workspace.
    project: &'static [(&'static str, &'static str)],
    /// Each may take half a minute, of a loaded machine too.
    commands: &'static [&'static str],
}

const CARGO: Client = Client {
    name: "cargo",
    provide: provide_cargo,
    // A library without `std` needs neither a linker nor most of the toolchain.
    project: &[
        (
            "Cargo.toml",
            "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"1\"\n",
        ),
        (
            "src/lib.rs",
            "#![no_std]\npub fn digits(buffer: &mut itoa::Buffer) -> &str { buffer.format(42u8) }\n",
        ),
    ],
    commands: &[
        "export PATH=$PWD/tools/bin:$PATH CARGO_NET_RETRY=0; cargo fetch",
        "export PATH=$PWD/tools/bin:$PATH; cargo build --offline && ls target/debug/libuser.rlib && echo INSTALLED",
    ],
};

const NPM: Client = Client {
    name: "npm",
    provide: provide_npm,
    project: &[("package.json", "{}")],
    commands: &[
        "export LD_LIBRARY_PATH=$PWD/tools/lib NODE_PATH=$PWD/tools/modules npm_config_fetch_retries=0; \
         tools/bin/node tools/modules/npm/bin/npm-cli.js install --no-audit --no-fund is-number@7",
        "export LD_LIBRARY_PATH=$PWD/tools/lib; \
         tools/bin/node -e 'if (require(\"is-number\")(\"7\")) console.log(\"INSTALLED\")'",
    ],
};

const PIP: Client = Client {
    name: "pip",
    provide: provide_pip,
    project: &[],
    commands: &[
        "export LD_LIBRARY_PATH=$PWD/tools/lib PYTHONHOME=$PWD/tools PYTHONPATH=$PWD/tools/modules PIP_RETRIES=0; \
         tools/bin/python3 -m pip install --disable-pip-version-check --no-compile --no-deps --target site iniconfig",
        "export LD_LIBRARY_PATH=$PWD/tools/lib PYTHONHOME=$PWD/tools PYTHONPATH=$PWD/site; \
         tools/bin/python3 -c 'import iniconfig; iniconfig.IniConfig(\"x\", \"[a]\\nb=1\"); print(\"INSTALLED\")'",
    ],
};

fn cargo_builds_with_a_fetched_crate(lane: Lane) {
    installs(lane, &CARGO);
}

fn npm_installs_a_package(lane: Lane) {
    installs(lane, &NPM);
}

fn pip_installs_a_package(lane: Lane) {
    installs(lane, &PIP);
}

fn installs(lane: Lane, client: &Client) {
    let from = format!("from = [\"{}\"]", client.name);
    let bundle = certificate_authorities();
    let network = format!("[network]\n{from}\nprivate = []\nca_bundle = \"{}\"", bundle.display());
    let Some(world) = World::with_config(lane, &network) else {
        return;
    };
    (client.provide)(&world.workspace().join("tools"));
    for (name, text) in client.project {
        let path = world.workspace().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    let hosts = derived_hosts(&world);
    // Where packages come from a mirror of this machine's network, its addresses need not be public.
    world.edit_config("private = []", &format!("private = {:?}", addresses(&hosts)));
    let result = run(&world, client);
    let content = &result["structuredContent"]["content"];
    assert!(content.as_str().unwrap().contains(DONE), "{result:#}");
    assert_eq!(denied(&result), BTreeSet::new(), "{result:#}");

    world.edit_config(&from, "from = []");
    let result = run(&world, client);
    let content = &result["structuredContent"]["content"];
    assert!(!content.as_str().unwrap().contains(DONE), "{result:#}");
    let denied = denied(&result);
    assert!(!denied.is_empty() && denied.is_subset(&hosts), "{hosts:?}: {result:#}");
}

fn run(world: &World, client: &Client) -> Value {
    let mut server = McpClient::start_in(world, |command| see_clients(world, command));
    let commands = client.commands.iter().map(|command| format!("#shell {command}\n"));
    let result = server.tool("codex", json!({"prompt": commands.collect::<String>()}));
    assert_ne!(result["isError"], true, "{result:#}");
    result
}

/// The host's clients too must be ones that the lane's user can start, and that know the authorities.
fn see_clients(world: &World, command: &mut Command) {
    let path = std::env::var("PATH").unwrap();
    let tools = world.workspace().join("tools/bin");
    command
        .env("PATH", format!("{path}:{}", tools.display()))
        .env("SSL_CERT_FILE", certificate_authorities());
}

/// What the plan says that `network.from` came to.
fn derived_hosts(world: &World) -> BTreeSet<String> {
    let mut command = world.codex_mcp(&["plan", "--json"]);
    see_clients(world, &mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = plan["plan"]["network"]["sources"][0]["rules"].as_array();
    let rules = rules.unwrap_or_else(|| panic!("no rules in {}", plan["plan"]["network"]));
    let hosts = rules
        .iter()
        .map(|rule| rule.as_str().unwrap().rsplit_once(':').unwrap().0);
    hosts.map(str::to_owned).collect()
}

fn addresses(hosts: &BTreeSet<String>) -> Vec<String> {
    hosts
        .iter()
        .flat_map(|host| (host.as_str(), 443).to_socket_addrs().unwrap())
        .map(|address| address.ip().to_string())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn denied(result: &Value) -> BTreeSet<String> {
    let denied = result["structuredContent"]["egressDenied"].as_array();
    let hosts = denied
        .into_iter()
        .flatten()
        .map(|denied| denied["host"].as_str().unwrap());
    hosts.map(str::to_owned).collect()
}

/// The system's, where OpenSSL is told of it or else where distributions have it.
fn certificate_authorities() -> PathBuf {
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"].map(PathBuf::from);
    told.into_iter()
        .chain(usual)
        .find(|path| path.is_file())
        .expect("this machine trusts some certificate authorities")
}

/// cargo and rustc, with as much of the toolchain as a library without `std` takes.
fn provide_cargo(tools: &Path) {
    let sysroot = PathBuf::from(printed(Command::new("rustc").args(["--print", "sysroot"])));
    for program in ["cargo", "rustc"] {
        take(&sysroot.join("bin").join(program), &tools.join("bin").join(program));
    }
    let is_file = |path: &Path| path.is_file();
    take_tree(&sysroot.join("lib"), &tools.join("lib"), &|path| is_file(path));
    let host = printed(Command::new("rustc").args(["--print", "host-tuple"]));
    let target = PathBuf::from("lib/rustlib").join(host).join("lib");
    take_tree(&sysroot.join(&target), &tools.join(&target), &|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        ["libcore-", "libcompiler_builtins-"]
            .iter()
            .any(|crate_| name.starts_with(crate_))
    });
}

/// Node.js, and npm among the modules that it was installed with.
fn provide_npm(tools: &Path) {
    let node = fs::canonicalize(which::which("node").unwrap()).unwrap();
    take(&node, &tools.join("bin/node"));
    take_libraries(&node, &tools.join("lib"));
    // …/npm/bin/npm-cli.js. Some distributions install what npm needs beside it and not below.
    let npm = fs::canonicalize(which::which("npm").unwrap()).unwrap();
    take_tree(npm.ancestors().nth(3).unwrap(), &tools.join("modules"), &|_| true);
}

/// A Python that has pip, with its standard library.
fn provide_pip(tools: &Path) {
    let places = "import os, sys, sysconfig, pip, _ssl; \
                  print(os.path.realpath(sys.executable), sysconfig.get_path('stdlib'), os.path.dirname(pip.__file__), _ssl.__file__, sep='\\n')";
    let printed = printed(Command::new("python3").args(["-c", places]));
    let [python, library, pip, tls] = *printed.lines().map(Path::new).collect::<Vec<_>>() else {
        panic!("not what was asked for: {printed}")
    };
    take(python, &tools.join("bin/python3"));
    for program in [python, tls] {
        take_libraries(program, &tools.join("lib"));
    }
    take_tree(pip, &tools.join("modules/pip"), &|_| true);
    let name = library.file_name().unwrap();
    take_tree(library, &tools.join("lib").join(name), &|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_left_out = [
            "__pycache__",
            "dist-packages",
            "ensurepip",
            "idlelib",
            "site-packages",
            "test",
        ];
        !is_left_out.contains(&name.as_ref()) && !name.starts_with("config-")
    });
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The libraries that a program was linked with, without the C library: that is the image's.
fn take_libraries(program: &Path, into: &Path) {
    let list = printed(Command::new("ldd").arg(program));
    for library in list
        .lines()
        .filter_map(|line| line.split_once("=> ")?.1.split(' ').next())
    {
        let library = Path::new(library);
        let name = library.file_name().unwrap().to_string_lossy();
        let of_libc = ["libc.", "libdl.", "libm.", "libpthread.", "librt."];
        if !of_libc.iter().any(|start| name.starts_with(start)) {
            take(&fs::canonicalize(library).unwrap(), &into.join(name.as_ref()));
        }
    }
}

/// Whatever `wanted` says of each entry; links stay links.
fn take_tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if !wanted(&entry) {
            continue;
        } else if entry.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&entry).unwrap(), target).unwrap();
        } else if entry.is_dir() {
            take_tree(&entry, &target, wanted);
        } else {
            take(&entry, &target);
        }
    }
}

/// A second name for the file where that is possible, else a copy: a toolchain is large. Nothing here writes to it.
fn take(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if !to.exists() && fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap();
    }
}

on_every_lane!(
    cargo_builds_with_a_fetched_crate,
    npm_installs_a_package,
    pip_installs_a_package,
);
