//! What the container reaches: two servers on the host's loopback, a process of their own so that they share no thread
//! with the relay.
//!
//! One speaks HTTP/1.1 with keep-alive: `GET /BYTES` is answered with so many zeros, `PUT` with `ok` once the body is
//! read. The other speaks neither TLS nor HTTP: `down BYTES`, `up BYTES` or `both BYTES` and a line feed, then the bytes,
//! `both` sending while it receives, then for `up` and `both` a single byte back.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Bytes of one write; large, so that the servers are never what is measured.
const CHUNK: usize = 256 << 10;

/// Prints both ports (HTTP's first) and serves until its stdin ends, which it does with the process that started it.
pub fn serve() {
    let [http, raw] = [answer_http as fn(TcpStream) -> io::Result<()>, answer_raw].map(|answer| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                connection.set_nodelay(true).unwrap();
                // A client that goes is the end of a measurement.
                thread::spawn(move || answer(connection));
            }
        });
        port
    });
    println!("{http} {raw}");
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

fn answer_http(mut connection: TcpStream) -> io::Result<()> {
    let mut requests = BufReader::with_capacity(CHUNK, connection.try_clone()?);
    while let Some(request) = Head::read(&mut requests)? {
        let mut words = request.first.split(' ');
        match (words.next(), words.next().and_then(|path| path.rsplit('/').next())) {
            (Some("GET"), Some(bytes)) => {
                let bytes = bytes.parse().unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                zeros(&mut connection, head.as_bytes(), bytes)?;
            }
            _ => {
                swallow(&mut requests, request.length)?;
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
        }
    }
    Ok(())
}

fn answer_raw(mut connection: TcpStream) -> io::Result<()> {
    let mut orders = BufReader::with_capacity(CHUNK, connection.try_clone()?);
    let mut order = String::new();
    orders.read_line(&mut order)?;
    match order.trim_end().split_once(' ') {
        Some(("down", bytes)) => zeros(&mut connection, &[], bytes.parse().unwrap()),
        Some(("up", bytes)) => {
            swallow(&mut orders, bytes.parse().unwrap())?;
            connection.write_all(b"!")
        }
        Some(("both", bytes)) => {
            let bytes = bytes.parse().unwrap();
            let mut sender = connection.try_clone()?;
            let sending = thread::spawn(move || zeros(&mut sender, &[], bytes));
            swallow(&mut orders, bytes)?;
            sending.join().unwrap()?;
            connection.write_all(b"!")
        }
        _ => panic!("no order: {order:?}"),
    }
}

/// The first line of a message and the length of its body.
pub struct Head {
    pub first: String,
    pub length: u64,
}

impl Head {
    /// `None` where the other side has closed.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(Some(Self { first, length }))
    }
}

/// `first`, and then so many zeros; the two in one write where they are short.
pub fn zeros(to: &mut impl Write, first: &[u8], bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; first.len() + CHUNK];
    chunk[..first.len()].copy_from_slice(first);
    let at_once = bytes.min(CHUNK as u64);
    to.write_all(&chunk[..first.len() + at_once as usize])?;
    chunk.fill(0);
    let mut left = bytes - at_once;
    while left > 0 {
        let now = left.min(CHUNK as u64);
        to.write_all(&chunk[..now as usize])?;
        left -= now;
    }
    Ok(())
}

/// Reads exactly so many bytes, and nothing is done with them.
pub fn swallow(from: &mut impl BufRead, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let now = from.fill_buf()?.len().min(bytes.try_into().unwrap_or(usize::MAX));
        if now == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        from.consume(now);
        bytes -= now as u64;
    }
    Ok(())
}
