//! What asks: the same program in the container, through the proxy, and on the host, straight at the server.
//!
//! ```text
//! tunnel down|up|both PROXY TARGET BYTES CONNECT, then raw bytes, for `both` back what comes: prints the microseconds
//! requests direct|plain|connect|anew PROXY TARGET COUNT
//!                                        small requests one after the other: prints the microseconds of each
//! flood PROXY TARGET                     a download without end: prints a line when it flows, and at the end of stdin
//!                                        how many bytes came in how many microseconds since that line
//! ```

use crate::server::{Head, swallow, zeros};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Requests that are not counted before those that are.
const WARM_UPS: usize = 20;
/// Bytes of a small answer.
const SMALL: u64 = 200;
const BUFFER: usize = 256 << 10;

pub fn run(arguments: &[&str]) {
    match arguments {
        ["tunnel", "down", proxy, target, bytes] => {
            let mut connection = connect(proxy, target);
            let start = Instant::now();
            connection
                .get_mut()
                .write_all(format!("down {bytes}\n").as_bytes())
                .unwrap();
            swallow(&mut connection, bytes.parse().unwrap()).unwrap();
            println!("{}", start.elapsed().as_micros());
        }
        ["tunnel", "up", proxy, target, bytes] => {
            let mut connection = connect(proxy, target);
            let start = Instant::now();
            let order = format!("up {bytes}\n");
            zeros(connection.get_mut(), order.as_bytes(), bytes.parse().unwrap()).unwrap();
            connection.read_exact(&mut [0]).unwrap();
            println!("{}", start.elapsed().as_micros());
        }
        ["tunnel", "both", proxy, target, bytes] => {
            let mut connection = connect(proxy, target);
            let mut back = connection.get_ref().try_clone().unwrap();
            let start = Instant::now();
            back.write_all(format!("both {bytes}\n").as_bytes()).unwrap();
            let mut left: usize = bytes.parse().unwrap();
            while left > 0 {
                let came = connection.fill_buf().unwrap();
                let now = came.len().min(left);
                assert!(now > 0, "the server ended");
                back.write_all(&came[..now]).unwrap();
                connection.consume(now);
                left -= now;
            }
            connection.read_exact(&mut [0]).unwrap();
            println!("{}", start.elapsed().as_micros());
        }
        ["requests", how, proxy, target, count] => requests(how, proxy, target, count.parse().unwrap()),
        ["flood", proxy, target] => flood(proxy, target),
        _ => panic!("not understood: {arguments:?}"),
    }
}

fn open(address: &str) -> BufReader<TcpStream> {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    BufReader::with_capacity(BUFFER, connection)
}

fn connect(proxy: &str, target: &str) -> BufReader<TcpStream> {
    let mut connection = open(proxy);
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let answer = Head::read(&mut connection).unwrap().unwrap();
    assert!(answer.first.contains(" 200"), "{}", answer.first);
    connection
}

fn requests(how: &str, proxy: &str, target: &str, count: usize) {
    let open = || match how {
        "direct" => open(target),
        "plain" | "anew" => open(proxy),
        "connect" => connect(proxy, target),
        _ => panic!("no way to ask: {how}"),
    };
    let scheme = if matches!(how, "plain" | "anew") {
        format!("http://{target}")
    } else {
        String::new()
    };
    let request = format!("GET {scheme}/{SMALL} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut connection = open();
    let mut times = Vec::with_capacity(WARM_UPS + count);
    for _ in 0..WARM_UPS + count {
        let start = Instant::now();
        if how == "anew" {
            connection = open();
        }
        connection.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = Head::read(&mut connection).unwrap().unwrap();
        swallow(&mut connection, answer.length).unwrap();
        times.push(start.elapsed().as_micros());
        assert!(
            answer.first.contains(" 200") && answer.length == SMALL,
            "{}",
            answer.first
        );
    }
    for time in &times[WARM_UPS..] {
        println!("{time}");
    }
}

fn flood(proxy: &str, target: &str) {
    static RECEIVED: AtomicU64 = AtomicU64::new(0);
    let mut connection = connect(proxy, target);
    connection.get_mut().write_all(b"down 1000000000000\n").unwrap();
    let mut receive = move || {
        let count = connection.fill_buf().unwrap().len();
        assert!(count > 0, "the download ended");
        connection.consume(count);
        RECEIVED.fetch_add(count as u64, Ordering::Relaxed);
    };
    while RECEIVED.load(Ordering::Relaxed) < 16 << 20 {
        receive();
    }
    let before = RECEIVED.load(Ordering::Relaxed);
    let start = Instant::now();
    println!("flows");
    thread::spawn(move || {
        loop {
            receive();
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    println!(
        "{} {}",
        RECEIVED.load(Ordering::Relaxed) - before,
        start.elapsed().as_micros()
    );
}
