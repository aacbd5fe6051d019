//! Floods, slow ones and endless ones: the session's own bounds hold, and Codex and the host don't notice.

use super::{Inside, Scene};
use crate::support::lane::Lane;
use crate::support::servers::PERMITTED;
use crate::support::servers::http::ENDLESS;
use codex_mcp::wire::mux::FOR_PROXY;

const MIB: u64 = 1 << 20;
/// What the kernel's buffers of all sockets and pipes on the way may hold together, and ours beside them.
const IN_FLIGHT: u64 = 64 * MIB;
/// What the server may need for any number of connections, beside what it has when idle.
const GROWTH: u64 = 48 * MIB;

/// flood COUNT HOST:PORT ANSWERS: that many tunnels at once, asked for until that many are answered, and then held until
/// /tmp/release is there. /tmp/flood says how far it is.
const FLOOD: &str = r#"
flood() {
    cat >/tmp/flood.pl <<'EOF'
use IO::Socket::INET;
use IO::Select;
my ($count, $target, $answers) = @ARGV;
$SIG{PIPE} = 'IGNORE';
sub tell_all { open(my $out, '>', '/tmp/flood.part'); print $out @_; close $out; rename '/tmp/flood.part', '/tmp/flood'; }
# Without waiting for any: the kernel of the container queues what the guest has not yet accepted.
my @held = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1:18081', Blocking => 0) or die "connection $_: $!" } 1 .. $count;
my ($asking, $asked) = (IO::Select->new(@held), IO::Select->new);
my %seen;
while ($answers > $seen{200}) {
    my ($readable, $writable) = IO::Select->select($asked, $asking, undef, 1);
    for my $socket (@$writable) {
        syswrite $socket, "CONNECT $target HTTP/1.1\r\nHost: $target\r\n\r\n";
        $asking->remove($socket);
        $asked->add($socket);
    }
    for my $socket (@$readable) {
        sysread $socket, my $answer, 12;
        $seen{substr($answer, 9)}++;
        $asked->remove($socket);
    }
}
tell_all "open: ", scalar(@held), ", ", join(" ", map { "$_=$seen{$_}" } sort keys %seen), "\n";
select undef, undef, undef, 0.05 until -e '/tmp/release';
@held = ();
undef $asking; undef $asked;
tell_all "closed\n";
EOF
    setsid perl /tmp/flood.pl "$@" >/tmp/flood.log 2>&1 </dev/null &
    timeout 9 bash -c 'until test -e /tmp/flood; do sleep 0.05; done'
    cat /tmp/flood /tmp/flood.log
}
"#;

fn a_thousand_connections_leave_codex_its_own(lane: Lane) {
    let scene = Scene::new();
    let (sink, server) = (scene.servers.sink(PERMITTED), scene.servers.http(PERMITTED));
    let (held, port) = (sink.port(), server.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{held}/tcp\", \"good.test:{port}\"]\nconnections_per_second = 10000");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let mut inside = Inside::new(&world);
    inside.run("echo started");
    let before = inside.peak_memory();

    let ran = inside.run(&format!("{FLOOD}flood 1000 good.test:{held} {FOR_PROXY}\n"));
    assert_eq!(ran.line("open"), format!("1000, 200={FOR_PROXY}"), "{}", ran.text);
    assert_eq!(sink.connections().len(), FOR_PROXY);

    // They are all still open. The model endpoint has its own share, and so have commands.
    let text = inside.turn("#text still here");
    assert_eq!(text.text, "still here");
    let command = inside.run("echo \"flood: $(cat /tmp/flood)\"\n");
    assert!(command.line("flood").starts_with("open: 1000,"), "{}", command.text);

    let after = inside.run(&format!(
        "touch /tmp/release; timeout 9 bash -c 'until grep -q closed /tmp/flood; do sleep 0.05; done'\n\
         get after http://good.test:{port}/after\n"
    ));
    assert!(
        after.line("after").starts_with("000 200 exit=0 served GET /after"),
        "{}",
        after.text
    );
    let grown = inside.peak_memory() - before;
    assert!(grown < GROWTH, "the server's memory grew by {grown} bytes");
}

/// tunnels COUNT HOST:PORT: asks for them all at once, keeps them all, and counts the answers by their status.
const TUNNELS: &str = r#"
tunnels() { perl -MIO::Socket::INET -e '
    my ($count, $target) = @ARGV;
    my @held = map { my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:18081") or die $!;
        syswrite $s, "CONNECT $target HTTP/1.1\r\nHost: $target\r\n\r\n"; $s } 1 .. $count;
    my %seen;
    alarm 9;
    for my $socket (@held) { sysread $socket, my $answer, 12; $seen{substr($answer, 9)}++ }
    print "tunnels: ", join(" ", map { "$_=$seen{$_}" } sort keys %seen), "\n"' "$@"; }
"#;

fn connections_are_bounded_in_number_and_rate(lane: Lane) {
    let scene = Scene::new();
    let sink = scene.servers.sink(PERMITTED);
    let port = sink.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}/tcp\"]\nconnections = 4\nconnections_per_second = 1000");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let script = format!("{TUNNELS}tunnels 16 good.test:{port}\n");
    let ran = super::attack(&world, &script);
    assert_eq!(ran.line("tunnels"), "200=4 429=12");
    assert_eq!(sink.connections().len(), 4);
    let denied = ran.denied("good.test", port);
    assert_eq!(denied["count"], 12, "{denied:#}");
    assert!(
        denied["rule"].as_str().unwrap().contains("network.connections = 4"),
        "{denied:#}"
    );

    world.edit_config(
        "connections = 4\nconnections_per_second = 1000",
        "connections_per_second = 1",
    );
    let ran = super::attack(&world, &script);
    let refused: u64 = ran.line("tunnels").rsplit_once("429=").unwrap().1.parse().unwrap();
    // Two at once, and one more for each second that sixteen connections took.
    assert!((1..=14).contains(&refused), "{}", ran.text);
    let denied = ran.denied("good.test", port);
    assert_eq!(denied["count"], refused, "{denied:#}");
    assert!(
        denied["rule"].as_str().unwrap().contains("connections_per_second = 1"),
        "{denied:#}"
    );
}

/// Clients that never finish what they say hold a slot for a while and not for ever.
fn slow_requests_are_cut(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}\"]\nidle = \"2s\"\nconnect = \"2s\"");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let mut inside = Inside::new(&world);
    let ran = inside.run_patiently(&format!(
        r#"
perl -MIO::Socket::INET -e '
    $SIG{{PIPE}} = "IGNORE";
    my @begun = ("GET http://good.test:{port}/ HTTP/1.1\r\nHost: good.test:{port}\r\nX: ", "CONNECT ", "",
        "CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n",
        "CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n\x16\x03\x01\x20\x00\x01",
        "CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test:{port}\r\n\r\nGET / HTTP/1.1\r\nX: ");
    my @open = map {{
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:18081") or die $!;
        syswrite $socket, $begun[$_ % @begun];
        [$socket, $_ % @begun]
    }} 0 .. 31;
    my ($begun_at, %left) = (time);
    while (@open and time < $begun_at + 40) {{
        # A byte now and then, as slowly as one can: silence alone must not be what ends it.
        select undef, undef, undef, 0.1;
        my @still;
        for my $held (@open) {{
            my ($socket, $kind) = @$held;
            my $byte = $kind == 2 || $kind == 3 ? "" : "a";
            my $gone = defined($byte) && length($byte) && !defined(syswrite $socket, $byte);
            my $ready = ""; vec($ready, fileno($socket), 1) = 1;
            while (!$gone && select(my $r = $ready, undef, undef, 0)) {{ my $n = sysread $socket, my $x, 4096; $gone = 1 if !$n }}
            push @still, $held unless $gone;
        }}
        @open = @still;
    }}
    $left{{$_->[1]}}++ for @open;
    print "left: ", scalar(@open), " ", join(" ", map {{ "kind $_: $left{{$_}}" }} sort keys %left), "\n"'
get after http://good.test:{port}/after
"#
    ));
    assert_eq!(ran.line("left").trim(), "0", "{}", ran.text);
    assert!(
        ran.line("after").starts_with("000 200 exit=0 served GET /after"),
        "{}",
        ran.text
    );
    assert_eq!(server.targets(), ["/after"]);
}

fn ten_gigabytes_are_cut_where_the_operator_said(lane: Lane) {
    let scene = Scene::new();
    let (plain, tunnelled) = (scene.servers.http(PERMITTED), scene.servers.http(PERMITTED));
    let (port, other) = (plain.port(), tunnelled.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}\", \"good.test:{other}\"]\nbytes = \"32MiB\"");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let download = |url: &str| {
        format!(
            "curl -sS -o /dev/null -w 'stream: %{{http_code}} %{{size_download}} ' {url} 2>/dev/null; echo exit=$?\n\
             get again {url}\n"
        )
    };
    let (whole, cut) = (format!("{ENDLESS} exit=0"), 32 * MIB);
    for (server, url) in [
        (&plain, format!("http://good.test:{port}/endless")),
        (&tunnelled, format!("-p http://good.test:{other}/endless")),
    ] {
        let mut inside = Inside::new(&world);
        inside.run("echo started");
        let before = inside.peak_memory();
        let ran = inside.run_patiently(&download(&url));
        let stream = ran.line("stream");
        let parts: Vec<&str> = stream.split(' ').collect();
        let [status, size, ended] = parts[..] else {
            panic!("{stream}")
        };
        let size: u64 = size.parse().unwrap();
        assert_eq!(status, "200");
        assert!(!stream.contains(&whole) && ended != "exit=0", "{stream}");
        // What was counted last may pass, and what was on its way may be lost.
        assert!((cut / 2..=cut + MIB).contains(&size), "{stream}");
        assert!(server.endless_sent() < cut + IN_FLIGHT, "{}", server.endless_sent());
        assert!(
            ran.line("again").contains("429"),
            "nothing is left for another: {}",
            ran.text
        );
        let denied = ran
            .denied
            .iter()
            .find(|entry| entry["rule"].as_str().unwrap().contains("network.bytes = "));
        assert!(denied.is_some(), "{:#?}", ran.denied);
        let grown = inside.peak_memory() - before;
        assert!(grown < GROWTH, "the server's memory grew by {grown} bytes");
        assert_eq!(inside.turn("#text still here").text, "still here");
    }
}

/// What a client inside does not read stays with the server outside, whatever else passes meanwhile.
fn a_slow_reader_does_not_fill_the_host(lane: Lane) {
    let scene = Scene::new();
    let (slow, fast) = (scene.servers.http(PERMITTED), scene.servers.http(PERMITTED));
    let (slow_port, fast_port) = (slow.port(), fast.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(
        lane,
        &format!("allow = [\"good.test:{slow_port}\", \"good.test:{fast_port}\"]"),
    ) else {
        return;
    };
    let mut inside = Inside::new(&world);
    inside.run("echo started");
    let before = inside.peak_memory();
    let ran = inside.run_patiently(&format!(
        r#"
perl -MIO::Socket::INET -e '
    my @held;
    for (1 .. 8) {{
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:18081") or die $!;
        syswrite $socket, "GET http://good.test:{slow_port}/endless HTTP/1.1\r\nHost: good.test:{slow_port}\r\n\r\n";
        sysread $socket, my $answer, 12;
        print "slow: $answer\n";
        push @held, $socket;
    }}
    # That it got through is what gives the others the time to pile up.
    print "fast: ", qx(curl -sS http://good.test:{fast_port}/endless | head -c 33554432 | wc -c);
'
"#
    ));
    assert_eq!(ran.line("slow"), "HTTP/1.1 200");
    assert_eq!(ran.line("fast").trim(), "33554432", "{}", ran.text);
    // Each of eight has the buffers of two sockets and a stream.
    assert!(slow.endless_sent() < 8 * IN_FLIGHT / 2, "{}", slow.endless_sent());
    let grown = inside.peak_memory() - before;
    assert!(grown < GROWTH, "the server's memory grew by {grown} bytes");
}

/// Whether it said so by a reset or only by the end of what it sends, after which a server may still answer.
fn a_client_that_leaves_ends_its_download(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\"]")) else {
        return;
    };
    let mut inside = Inside::new(&world);
    for how in ["", "-p"] {
        inside.run(&format!(
            "for i in 1 2 3; do curl -sS -m 1 -o /dev/null {how} http://good.test:{port}/endless; done\n"
        ));
        let begun = server.endless_sent();
        assert!(begun > 0);
        std::thread::sleep(std::time::Duration::from_secs(1));
        let later = server.endless_sent();
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(server.endless_sent(), later, "after {begun} bytes with {how:?}");
    }
}

fn idle_and_old_connections_end(lane: Lane) {
    let scene = Scene::new();
    let (server, sink) = (scene.servers.http(PERMITTED), scene.servers.sink(PERMITTED));
    let (port, raw) = (server.port(), sink.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}\", \"good.test:{raw}/tcp\"]\nidle = \"1s\"");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    // 28 is curl's own patience, and 0 a whole answer, which none of these is.
    let cut = |seen: &str| !seen.contains("exit=28") && !seen.contains("exit=0 ");
    let idle = super::attack(
        &world,
        &format!(
            "get plain http://good.test:{port}/stall\n\
             get tunnel -p http://good.test:{port}/stall\n\
             perl -MIO::Socket::INET -e 'alarm 9; my $s = IO::Socket::INET->new(PeerAddr => q(127.0.0.1:18081)) or die $!;
                print $s qq(CONNECT good.test:{raw} HTTP/1.1\\r\\nHost: good.test:{raw}\\r\\n\\r\\n);
                my @said = <$s>; print q(silent: ), $said[0]'\n"
        ),
    );
    for label in ["plain", "tunnel"] {
        assert!(cut(idle.line(label)), "{label}: {}", idle.text);
    }
    assert!(
        idle.line("silent").starts_with("HTTP/1.1 200"),
        "it ended: {}",
        idle.text
    );
    assert_eq!(sink.connections().len(), 1);
    assert!(idle.denied.is_empty(), "nothing was refused: {:#?}", idle.denied);

    world.edit_config("idle = \"1s\"", "total = \"2s\"");
    let old = super::attack(
        &world,
        &format!("get plain http://good.test:{port}/drip\nget tunnel -p http://good.test:{port}/drip\n"),
    );
    for label in ["plain", "tunnel"] {
        assert!(cut(old.line(label)), "{label}: {}", old.text);
    }
    assert_eq!(server.targets(), ["/stall", "/stall", "/drip", "/drip"]);
    assert!(old.denied.is_empty(), "nothing was refused: {:#?}", old.denied);
}

/// What a script leaves behind whose downloads time out: the server says nothing, and the clients have closed without a word.
fn clients_that_gave_up_leave_their_places_to_others(lane: Lane) {
    let scene = Scene::new();
    let (server, silent) = (scene.servers.http(PERMITTED), scene.servers.sink(PERMITTED));
    let (port, raw) = (server.port(), silent.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let Some(world) = scene.world(lane, &format!("allow = [\"good.test:{port}\", \"good.test:{raw}\"]")) else {
        return;
    };
    let ran = Inside::new(&world).run_patiently(&format!(
        "for i in $(seq {FOR_PROXY}); do curl -sS -m 6 http://good.test:{raw}/ & done; wait\n\
         curl -sS -m 50 -o /dev/null -w 'after: %{{http_code}}\\n' http://good.test:{port}/after\n"
    ));
    assert_eq!(silent.connections().len(), FOR_PROXY, "{}", ran.text);
    assert_eq!(ran.line("after"), "200", "{}", ran.text);
}

/// Uploads and downloads at full speed whose clients go by a reset, or are killed: whatever is on its way in both directions
/// just then, the session goes on.
fn clients_that_break_off_end_nothing_else(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let sink = scene.servers.sink(PERMITTED);
    let (port, raw) = (server.port(), sink.port());
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!(
        "allow = [\"good.test:{port}\", \"good.test:{raw}/tcp\"]\nconnections_per_second = 1000\nbytes = \"100GiB\"\nbytes_per_second = \"64MiB\""
    );
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let ran = Inside::new(&world).run_patiently(&format!(
        r#"perl -MIO::Socket::INET -MSocket -e '
    $SIG{{PIPE}} = "IGNORE";
    for (1 .. 40) {{
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:18081") or die $!;
        syswrite $socket, "CONNECT good.test:{raw} HTTP/1.1\r\nHost: good.test:{raw}\r\n\r\n";
        sysread $socket, my $answer, 4096;
        for (1 .. 48) {{ syswrite $socket, "x" x 65536 }}
        setsockopt $socket, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0);
        close $socket;
    }}'
for i in $(seq 10); do
    for j in 1 2 3; do
        curl -sS -o /dev/null http://good.test:{port}/endless & down=$!
        head -c 1000000000 /dev/zero | curl -sS -o /dev/null -T - http://good.test:{port}/upload & up=$!
        sleep 0.2; kill -9 $down $up
    done
done 2>/dev/null
get after http://good.test:{port}/after
"#
    ));
    assert!(
        ran.line("after").starts_with("000 200 exit=0 served GET /after"),
        "{}",
        ran.text
    );
    assert_eq!(sink.connections().len(), 40);
}

/// A client that had ended its own sending is told of a cut like any other.
fn a_cut_looks_like_no_end(lane: Lane) {
    let scene = Scene::new();
    let server = scene.servers.http(PERMITTED);
    let port = server.port();
    scene.dns.set("good.test", &[PERMITTED]);
    let config = format!("allow = [\"good.test:{port}/tcp\"]\nidle = \"1s\"");
    let Some(world) = scene.world(lane, &config) else {
        return;
    };
    let ran = super::attack(
        &world,
        &format!(
            r#"perl -MIO::Socket::INET -e '
    for my $ended (0, 1) {{
        alarm 9;
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:18081") or die $!;
        syswrite $socket, "CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test:{port}\r\n\r\n";
        sysread $socket, my $answer, 4096;
        syswrite $socket, "GET /stall HTTP/1.1\r\nHost: good.test\r\n\r\n";
        shutdown $socket, 1 if $ended;
        my $read;
        do {{ $read = sysread $socket, my $part, 4096 }} while $read;
        print "cut $ended: ", defined $read ? "an end" : $!, "\n";
    }}'
"#
        ),
    );
    for ended in [0, 1] {
        assert_eq!(
            ran.line(&format!("cut {ended}")),
            "Connection reset by peer",
            "{}",
            ran.text
        );
    }
}

on_every_lane!(
    clients_that_gave_up_leave_their_places_to_others,
    a_cut_looks_like_no_end,
    clients_that_break_off_end_nothing_else,
    a_thousand_connections_leave_codex_its_own,
    connections_are_bounded_in_number_and_rate,
    slow_requests_are_cut,
    ten_gigabytes_are_cut_where_the_operator_said,
    a_slow_reader_does_not_fill_the_host,
    a_client_that_leaves_ends_its_download,
    idle_and_old_connections_end,
);
