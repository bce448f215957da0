//! Starts the binary, waits for what it prints, and takes it down again.
//! No test sleeps: each waits for the event itself, within a limit.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

pub const BINARY: &str = env!("CARGO_BIN_EXE_topdown");

/// No wait in a test is longer: what takes so long does not come.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A running server of ours.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    lines: Receiver<String>,
}

impl Server {
    /// Starts a tool on a free port and waits until it listens.
    pub fn start(tool: &str, args: &[&str]) -> Server {
        Server::start_in(Path::new("."), tool, args)
    }

    pub fn start_in(directory: &Path, tool: &str, args: &[&str]) -> Server {
        let mut command = Command::new(BINARY);
        command.arg(tool).current_dir(directory);
        if !args.contains(&"-l") {
            command.args(["-l", "0"]);
        }
        command.args(args);
        Server::spawn(command)
    }

    /// Starts any program that prints "listening on ADDRESS".
    pub fn spawn(mut command: Command) -> Server {
        command.stdout(Stdio::null());
        Server::spawn_keeping_stdout(command)
    }

    /// The same where the program's output goes somewhere already.
    pub fn spawn_keeping_stdout(mut command: Command) -> Server {
        command.stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _ = sender.send(line);
            }
        });
        let address = ([127, 0, 0, 1], 0).into();
        let mut server = Server { child, address, lines };
        let line = server.wait_for("listening on ");
        let address = line.rsplit(' ').next().unwrap();
        server.address = address.parse().unwrap();
        server
    }

    /// The next line on standard error that has this text in it.
    pub fn wait_for(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("'{text}' never came"),
            }
        }
    }

    /// All that is still printed until the end.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn signal(&self, signal: i32) {
        kill(self.child.id(), signal);
    }

    /// The exit status, which must come in time.
    pub fn wait(&mut self) -> i32 {
        wait(&mut self.child)
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends bytes, ends the sending side, and reads all that comes.
    pub fn dialogue(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect();
        socket.write_all(bytes.as_ref()).unwrap();
        let _ = socket.shutdown(std::net::Shutdown::Write);
        read_all(&mut socket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, LIMIT).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.set_write_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Everything up to the end of the connection; a reset is an end, too.
pub fn read_all(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("no end came; so far: {}", String::from_utf8_lossy(&bytes))
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// One response with Content-Length on a connection that stays open.
pub fn read_response(reader: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "cut: {head}");
    }
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "))
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

/// Sends a signal to a child of ours.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: two numbers; the child was not waited for, so the id is its.
    unsafe { libc::kill(pid as i32, signal) };
}

fn wait(child: &mut Child) -> i32 {
    let pid = child.id();
    let (done, waited) = channel::<()>();
    let watchdog = thread::spawn(move || {
        if waited.recv_timeout(LIMIT).is_err() {
            kill(pid, libc::SIGKILL);
        }
    });
    let status = child.wait().unwrap();
    let _ = done.send(());
    watchdog.join().unwrap();
    status.code().unwrap_or(-1)
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a tool of ours to its end.
pub fn run(args: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(args).env_remove("http_proxy");
    run_command(command, stdin)
}

/// Runs any command to its end, within the limit.
pub fn run_command(mut command: Command, stdin: impl AsRef<[u8]>) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.as_ref().to_vec();
    thread::spawn(move || input.write_all(&bytes));
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let status = wait(&mut child);
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    Ran { status, stdout, stderr }
}

/// A peer that answers each connection with its script: the first with the
/// first answer, and so on. It hands back what it was sent.
pub struct Script {
    pub address: SocketAddr,
    pub requests: Receiver<String>,
}

impl Script {
    pub fn new<A: Into<Vec<u8>>>(answers: Vec<A>) -> Script {
        let answers: Vec<Vec<u8>> =
            answers.into_iter().map(Into::into).collect();
        Script::with(answers.len(), move |i, socket| {
            let _ = socket.write_all(&answers[i]);
        })
    }

    /// For so many connections: read a request's head, then do as told.
    pub fn with(
        count: usize,
        answer: impl Fn(usize, &mut TcpStream) + Send + 'static,
    ) -> Script {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for i in 0..count {
                let Ok((mut socket, _)) = socket.accept() else { return };
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    match socket.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => break,
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let _ = sender.send(text);
                answer(i, &mut socket);
                // close, but not before the client has seen it all
                let _ = socket.shutdown(std::net::Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
            }
        });
        Script { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self) -> String {
        self.requests.recv_timeout(LIMIT).unwrap()
    }
}

/// A server that speaks as its test wants, on many connections at once, and
/// remembers what it was asked.
pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
}

impl Origin {
    /// `answer` gets each request's head and the connection; false ends it.
    pub fn new(
        answer: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Origin {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::<AtomicU32>::default();
        let (heads, count) = (asked.clone(), connections.clone());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for socket in socket.incoming().map_while(Result::ok) {
                count.fetch_add(1, SeqCst);
                let (answer, heads) = (answer.clone(), heads.clone());
                thread::spawn(move || serve(socket, &*answer, &heads));
            }
        });
        Origin { address, asked, connections }
    }

    /// The same answer to all; the connections stay open.
    pub fn same(answer: impl Into<Vec<u8>>) -> Origin {
        let answer = answer.into();
        Origin::new(move |_, socket| socket.write_all(&answer).is_ok())
    }

    /// The heads of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(SeqCst)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn serve(
    mut socket: TcpStream,
    answer: &impl Fn(&str, &mut TcpStream) -> bool,
    heads: &Mutex<Vec<String>>,
) {
    let _ = socket.set_nodelay(true);
    let _ = socket.set_read_timeout(Some(LIMIT));
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        heads.lock().unwrap().push(text.clone());
        if !answer(&text, &mut socket) {
            return;
        }
    }
}

/// A response with its length.
pub fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A directory of one test's own, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, count) = (std::process::id(), COUNT.fetch_add(1, SeqCst));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap().as_micros();
        let name = format!("topdown-test-{pid}-{now}-{count}");
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a file that has been lying there for an hour.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(hour_ago).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A page as Chromium has it, with a profile that goes with it.
pub fn chromium(more: &[&str], url: &str) -> Ran {
    let profile = Folder::new();
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-component-update",
        "--disable-background-networking",
        "--disable-sync",
        "--virtual-time-budget=3000",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", profile.text()));
    command.args(more).arg(url);
    run_command(command, "")
}

/// Numbers below a bound, the same ones for the same seed.
pub fn random(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |bound| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    }
}

/// Is this program here? If not, the test is skipped, and says so; in CI,
/// where all of them must be, it fails.
pub fn have(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&paths);
    if places.any(|p| p.join(program).is_file()) {
        return true;
    }
    skip(&format!("{program} is not installed"));
    false
}

/// Says that a test is skipped, and why; in CI nothing is.
pub fn skip(why: &str) {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{why}");
    // past the test runner's capture: a skip must be seen
    let line = format!("skipped: {why}\n");
    let _ = fs::File::options()
        .append(true)
        .open("/dev/stderr")
        .and_then(|mut stderr| stderr.write_all(line.as_bytes()));
}
