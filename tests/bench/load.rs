//! The load that wrk and ab cannot make:
//!
//! ```text
//! load echo ADDRESS CONNECTIONS BYTES SECONDS   messages there and back
//! load udp ADDRESS SOCKETS BYTES SECONDS        datagrams there and back
//! load idle ADDRESS CONNECTIONS PATH            connections that wait
//! load tunnel PROXY ADDRESS PATH SECONDS        GET through CONNECT
//! load tunnels PROXY ADDRESS COUNT              tunnels that wait
//! ```
//!
//! `echo` keeps one message of so many bytes under way on each connection
//! and prints messages a second; `udp` does so with datagrams. `idle` opens connections, makes a request
//! on each, prints "held", waits for a line on standard input, and makes a
//! request on each again. `tunnel` prints bytes a second over two tunnels,
//! `tunnels` prints "held" and waits for a line.

#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    args.retain(|arg| arg != "--bench"); // cargo's own
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", address, connections, bytes, seconds] => echo(
            address,
            connections.parse().unwrap(),
            bytes.parse().unwrap(),
            Duration::from_secs_f64(seconds.parse().unwrap()),
        ),
        ["udp", address, sockets, bytes, seconds] => udp(
            address,
            sockets.parse().unwrap(),
            bytes.parse().unwrap(),
            Duration::from_secs_f64(seconds.parse().unwrap()),
        ),
        ["idle", address, connections, path] => {
            idle(address, connections.parse().unwrap(), path);
        }
        ["tunnel", proxy, address, path, seconds] => {
            let time = Duration::from_secs_f64(seconds.parse().unwrap());
            let get = || get_through(proxy, address, path, time);
            let bytes: u64 = std::thread::scope(|scope| {
                let two = [scope.spawn(get), scope.spawn(get)];
                two.into_iter().map(|t| t.join().unwrap()).sum()
            });
            println!("{}", bytes as f64 / time.as_secs_f64());
        }
        ["tunnels", proxy, address, count] => {
            let count: usize = count.parse().unwrap();
            let open = |_| connect_through(proxy, address);
            let held: Vec<TcpStream> = (0..count).map(open).collect();
            println!("held");
            let _ = io::stdin().read_line(&mut String::new());
            drop(held);
        }
        _ => eprintln!("usage: load echo|udp|idle|tunnel|tunnels ADDRESS …"),
    }
}

fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// A tunnel that is open.
fn connect_through(proxy: &str, address: &str) -> TcpStream {
    let mut socket = connect(proxy);
    let request = format!("CONNECT {address} HTTP/1.1\r\nHost: h\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head[9..].starts_with(b"200"), "no tunnel");
    socket
}

/// GET again and again through one tunnel: how many bytes came.
fn get_through(proxy: &str, address: &str, path: &str, time: Duration) -> u64 {
    let mut socket = connect_through(proxy, address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut buffer = vec![0; 256 * 1024];
    let start = Instant::now();
    let (mut bytes, mut left) = (0, 0);
    while start.elapsed() < time {
        if left == 0 {
            socket.write_all(request.as_bytes()).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                socket.read_exact(&mut buffer[..1]).unwrap();
                head.push(buffer[0]);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            left = length.split("\r\n").next().unwrap().parse().unwrap();
        }
        let most = buffer.len().min(left);
        let count = socket.read(&mut buffer[..most]).unwrap();
        assert!(count > 0, "the tunnel ended");
        (bytes, left) = (bytes + count as u64, left - count);
    }
    bytes
}

fn echo(address: &str, connections: usize, bytes: usize, time: Duration) {
    let mut sockets: Vec<TcpStream> =
        (0..connections).map(|_| connect(address)).collect();
    let message = vec![b'a'; bytes];
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|s| libc::pollfd {
            fd: s.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    for socket in &mut sockets {
        socket.write_all(&message).unwrap();
    }
    let mut left = vec![bytes; connections];
    let mut buffer = vec![0; bytes];
    let start = Instant::now();
    let mut messages: u64 = 0;
    while start.elapsed() < time {
        let count = polled.len() as libc::nfds_t;
        // SAFETY: an array of so many pollfds, alive.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, 5000) };
        assert!(ready > 0, "no answer within 5 s");
        for (i, poll) in polled.iter().enumerate() {
            if poll.revents == 0 {
                continue;
            }
            let read = sockets[i].read(&mut buffer[..left[i]]).unwrap();
            assert!(read > 0, "the server closed a connection");
            left[i] -= read;
            if left[i] == 0 {
                messages += 1;
                left[i] = bytes;
                sockets[i].write_all(&message).unwrap();
            }
        }
    }
    println!("{:.0}", messages as f64 / start.elapsed().as_secs_f64());
}

fn udp(address: &str, count: usize, bytes: usize, time: Duration) {
    let open = |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        socket
    };
    let sockets: Vec<UdpSocket> = (0..count).map(open).collect();
    let poll = |socket: &UdpSocket| libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = sockets.iter().map(poll).collect();
    let (message, mut buffer) = (vec![b'a'; bytes], vec![0; bytes]);
    for socket in &sockets {
        socket.send(&message).unwrap();
    }
    let (start, mut messages) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        let count = polled.len() as libc::nfds_t;
        // SAFETY: an array of so many pollfds, alive.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, 5000) };
        assert!(ready > 0, "no answer within 5 s");
        for (socket, poll) in sockets.iter().zip(&polled) {
            if poll.revents != 0 {
                assert_eq!(socket.recv(&mut buffer).unwrap(), bytes);
                messages += 1;
                socket.send(&message).unwrap();
            }
        }
    }
    println!("{:.0}", messages as f64 / start.elapsed().as_secs_f64());
}

fn idle(address: &str, connections: usize, path: &str) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls fill in, or read, the struct they are given.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let ask = |socket: &mut TcpStream| {
        socket.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(socket);
        let mut line = String::new();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "closed");
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
    };
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let mut socket = connect(address);
        ask(&mut socket);
        sockets.push(socket);
    }
    println!("held");
    io::stdin().read_line(&mut String::new()).unwrap();
    let start = Instant::now();
    sockets.iter_mut().for_each(ask);
    println!("{:.1}", start.elapsed().as_secs_f64() * 1e6 / connections as f64);
}
