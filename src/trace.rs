//! What passed on the wire, for the reader.
//!
//! A tool calls a `Trace` beside each send and receive. From this one list
//! of events come `-v`, the dialogue in the book's notation,
//!
//! ```text
//! C: GET /index.html HTTP/1.1
//! S: HTTP/1.1 200 OK
//! ```
//!
//! `-e`, the same with a note in the margin (what this is, by which rule),
//! and `--diagram`, the book's space-time diagram (`diagram.rs`). When none
//! is asked for, a `Trace` is empty: every call returns before it formats,
//! allocates or reads the clock.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::args::{Args, text};
use crate::diagram;
use crate::error::{Doing, Error};
use crate::output::printable;

/// A diagram of more events would be a poster.
pub const MAX_EVENTS: usize = 200;

/// Of a longer text only the beginning is shown.
const MAX_SHOWN: usize = 200;

/// Columns when standard error is not a terminal.
const DEFAULT_WIDTH: usize = 100;

/// Who speaks: a letter in the dialogue, a time line in the diagram. "Note
/// that a cache is both a server and a client at the same time." KR 2.2.5
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Client,
    Server,
    /// A proxy that answers its client.
    AsServer,
    /// A proxy that asks a server.
    AsClient,
}

impl Party {
    pub fn name(self) -> &'static str {
        match self {
            Party::Client => "client",
            Party::Server => "server",
            Party::AsServer | Party::AsClient => "proxy",
        }
    }

    pub fn is_proxy(self) -> bool {
        matches!(self, Party::AsServer | Party::AsClient)
    }

    /// Who speaks, in the dialogue; beside a proxy to whom, too.
    fn prefix(self, here: Party) -> &'static str {
        match (self, here.is_proxy()) {
            (Party::Client, false) => "C:",
            (Party::Server, false) => "S:",
            (Party::Client, true) => "C>P:",
            (Party::Server, true) => "S>P:",
            (Party::AsServer, _) => "P>C:",
            (Party::AsClient, _) => "P>S:",
        }
    }
}

/// One thing that happened, for the diagram.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the start of the run, by the clock of the tool that records.
    pub at: Duration,
    pub what: What,
    pub label: String,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A message of this party left (when it is ours) or arrived.
    Message(Party),
    /// A message of this party, or the answer to it, did not arrive.
    Lost(Party),
    /// A wait of ours that began then and ends at the event's time.
    TimeOut { since: Duration },
}

/// Nothing, or where the events go. A clone is the same trace.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Recorder>>);

/// The trace of this run, for `finish`.
static RUN: OnceLock<Arc<Recorder>> = OnceLock::new();

struct Recorder {
    title: String,
    here: Party,
    verbose: bool,
    explain: bool,
    /// The dialogue is the tool's result: on standard output, and a note
    /// beside each line.
    result: bool,
    diagram: Option<(PathBuf, File)>,
    width: usize,
    colour: bool,
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Trace {
    /// Reads `--verbose`, `--explain` (which includes it) and `--diagram`.
    /// `here` is the party that the tool plays. To be called once.
    pub fn from_args(args: &mut Args, here: Party) -> Result<Trace, Error> {
        let diagram = args.value("--diagram", text)?.map(PathBuf::from);
        let explain = args.flag("--explain");
        let verbose = args.flag("--verbose") || explain;
        Trace::new(args, here, [verbose, explain, false], diagram)
    }

    /// The same for a tool whose result is the dialogue: it is printed
    /// unless `--quiet` is given.
    pub fn of_result(args: &mut Args, here: Party) -> Result<Trace, Error> {
        let diagram = args.value("--diagram", text)?.map(PathBuf::from);
        let explain = args.flag("--explain");
        let verbose = args.flag("--verbose") | !args.flag("--quiet");
        Trace::new(args, here, [verbose, explain, true], diagram)
    }

    fn new(
        args: &Args,
        here: Party,
        [verbose, explain, result]: [bool; 3],
        diagram: Option<PathBuf>,
    ) -> Result<Trace, Error> {
        if !verbose && diagram.is_none() {
            return Ok(Trace(None));
        }
        let diagram = match diagram {
            // what does not work is found out now, not when the work is done
            Some(path) => {
                let mut options = OpenOptions::new();
                let file = options.create(true).append(true).open(&path);
                let file =
                    file.doing(|| format!("write {}", path.display()))?;
                Some((path, file))
            }
            None => None,
        };
        let (out, is_terminal) = match result {
            true => (libc::STDOUT_FILENO, io::stdout().is_terminal()),
            false => (libc::STDERR_FILENO, io::stderr().is_terminal()),
        };
        let recorder = Arc::new(Recorder {
            title: args.command_line(),
            here,
            verbose,
            explain,
            result,
            diagram,
            width: terminal_width(out).unwrap_or(DEFAULT_WIDTH),
            colour: is_terminal
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            start: Instant::now(),
            events: Mutex::default(),
        });
        let _ = RUN.set(recorder.clone());
        Ok(Trace(Some(recorder)))
    }

    /// Does `-e` want reasons?
    pub fn explains(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.explain)
    }

    /// Is anything recorded at all?
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// As whom this program asks a server.
    pub fn asker(&self) -> Party {
        match &self.0 {
            Some(recorder) if recorder.here.is_proxy() => Party::AsClient,
            _ => Party::Client,
        }
    }

    /// One line of the dialogue, with the note that `-e` puts beside it.
    /// `number` tells conversations apart; 0 where there is only one.
    pub fn line(
        &self,
        party: Party,
        number: u64,
        line: impl AsRef<[u8]>,
        note: impl FnOnce() -> String,
    ) {
        let Some(recorder) = self.0.as_ref().filter(|r| r.verbose) else {
            return;
        };
        let prefix = party.prefix(recorder.here);
        let line = printable(line);
        let line = match number {
            0 | 1 => format!("{prefix} {line}"),
            _ => format!("#{number} {prefix} {line}"),
        };
        let noted = recorder.explain || recorder.result;
        let note = if noted { note() } else { String::new() };
        recorder.print(&line, &note);
    }

    /// A piece of text that is a message of its own: a line of the dialogue
    /// and an arrow of the diagram.
    pub fn text(
        &self,
        party: Party,
        text: &[u8],
        note: impl FnOnce() -> String,
    ) {
        self.text_of(party, 0, text, note);
    }

    /// The same where there are several conversations.
    pub fn text_of(
        &self,
        party: Party,
        number: u64,
        text: &[u8],
        note: impl FnOnce() -> String,
    ) {
        if self.is_on() {
            let shown = &text[..text.len().min(MAX_SHOWN)];
            self.line(party, number, shown, note);
            self.message(party, || {
                let text = printable(shown.trim_ascii_end());
                match number {
                    0 | 1 => text,
                    _ => format!("#{number} {text}"),
                }
            });
        }
    }

    /// A fact or a decision that is no line of the dialogue: under `-v`.
    pub fn fact(&self, text: impl FnOnce() -> String) {
        if let Some(recorder) = self.0.as_ref().filter(|r| r.verbose) {
            recorder.print(&format!("-- {}", text()), "");
        }
    }

    /// The reason of a decision, in the margin: under `-e`.
    pub fn why(&self, reason: impl FnOnce() -> String) {
        if let Some(recorder) = self.0.as_ref().filter(|r| r.explain) {
            recorder.print("", &reason());
        }
    }

    /// A drawing of several lines, such as a header's: under `-e`.
    pub fn drawing(&self, drawing: impl FnOnce() -> String) {
        if self.0.as_ref().is_some_and(|r| r.explain) {
            let _ = io::stderr().write_all(drawing().as_bytes());
        }
    }

    /// A message for the diagram.
    pub fn message(&self, from: Party, label: impl FnOnce() -> String) {
        self.event(|_| What::Message(from), label);
    }

    /// A wait has just ended in vain: our last message, or the answer to it,
    /// was lost.
    pub fn timed_out(&self, waited: Duration) {
        if let Some(recorder) = &self.0 {
            let mut events = recorder.lock();
            let ours = What::Message(recorder.here);
            if let Some(last) = events.iter_mut().rfind(|e| e.what == ours) {
                last.what = What::Lost(recorder.here);
            }
        }
        let since = |at: Duration| at.saturating_sub(waited);
        self.event(
            |at| What::TimeOut { since: since(at) },
            || "time-out: lost, or late".into(),
        );
    }

    fn event(
        &self,
        what: impl FnOnce(Duration) -> What,
        label: impl FnOnce() -> String,
    ) {
        let drawn = |r: &&Arc<Recorder>| r.diagram.is_some();
        let Some(recorder) = self.0.as_ref().filter(drawn) else { return };
        let at = recorder.start.elapsed();
        let mut events = recorder.lock();
        // one more than are drawn, to know that there were more
        if events.len() <= MAX_EVENTS {
            events.push(Event { at, what: what(at), label: label() });
        }
    }
}

/// Writes the diagram, if one was asked for: whatever came of the run, what
/// passed until then is drawn.
pub fn finish() -> Result<(), Error> {
    let Some(recorder) = RUN.get() else { return Ok(()) };
    let Some((path, mut file)) =
        recorder.diagram.as_ref().map(|(path, file)| (path, file))
    else {
        return Ok(());
    };
    let drawing =
        diagram::draw(&recorder.title, recorder.here, &recorder.lock());
    let _ = file.set_len(0); // (a pipe has no length)
    file.write_all(drawing.as_bytes())
        .doing(|| format!("write {}", path.display()))
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line on the left, the note in the margin on the right; beside
    /// each other where they fit, in one write so that threads do not mix.
    fn print(&self, line: &str, note: &str) {
        let (line, note) = (&printable(line), &printable(note));
        let margin = (self.width * 45 / 100).clamp(30, 60);
        if self.result && !self.explain {
            // a short note, beside any line
            let dim = if note.is_empty() { "" } else { &self.dim(note) };
            let text = format!("{line:margin$} {dim}");
            return self.write(format!("{}\n", text.trim_end()));
        }
        let room = self.width.saturating_sub(margin + 3).max(24);
        let notes = wrap(note, room);
        let mut out = String::new();
        let mut beside = notes.iter();
        let long = line.chars().count() >= margin;
        if long || notes.is_empty() {
            out.push_str(line);
        } else {
            let first = beside.next().map_or("", |note| note);
            out.push_str(&format!("{line:margin$}{}", self.dim(first)));
        }
        out.push('\n');
        for note in beside {
            out.push_str(&format!("{:margin$}{}\n", "", self.dim(note)));
        }
        self.write(out);
    }

    fn write(&self, text: String) {
        let _ = match self.result {
            true => io::stdout().write_all(text.as_bytes()),
            false => io::stderr().write_all(text.as_bytes()),
        };
    }

    fn dim(&self, note: &str) -> String {
        match self.colour {
            true => format!("\x1b[2m| {note}\x1b[0m"),
            false => format!("| {note}"),
        }
    }
}

/// Breaks a text into lines of at most `width` characters, where it can. A
/// citation such as "RFC 9112 §3" stays on one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let cited = [("RFC ", "RFC\0"), ("KR ", "KR\0"), (" §", "\0§")];
    let glued =
        cited.iter().fold(text.to_string(), |t, (a, b)| t.replace(a, b));
    for word in glued.split_whitespace() {
        match lines.last_mut() {
            Some(line)
                if line.chars().count() + 1 + word.chars().count() <= width =>
            {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines.iter().map(|line| line.replace('\0', " ")).collect()
}

/// The columns of the terminal that the descriptor is, if it is one.
fn terminal_width(fd: libc::c_int) -> Option<usize> {
    // SAFETY: all zeros is a valid winsize, and the call fills it in.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) != 0 {
            return None;
        }
        size
    };
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 40)
}

/// Draws a header as the RFCs do, 32 bits a row, with this packet's values:
/// `fields` are (what to write in the box, its width in bits).
pub fn header_drawing(fields: &[(String, usize)]) -> String {
    let rule = format!("  {}+\n", "+-".repeat(32));
    let mut out = String::from("   0                   1                   ");
    out.push_str("2                   3\n  ");
    for bit in 0..32 {
        out.push_str(&format!(" {}", bit % 10));
    }
    out.push('\n');
    out.push_str(&rule);
    let mut bits = 0;
    for (text, width) in fields {
        let room = width * 2 - 1;
        let start = if bits == 0 { "  |" } else { "" };
        out.push_str(&format!("{start}{text:^room$.room$}|"));
        bits += width;
        if bits >= 32 {
            out.push('\n');
            out.push_str(&rule);
            bits = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_trace_formats_nothing() {
        let trace = Trace::default();
        trace.line(Party::Client, 0, "x", || unreachable!());
        trace.fact(|| unreachable!());
        trace.why(|| unreachable!());
        trace.message(Party::Client, || unreachable!());
    }

    #[test]
    fn notes_wrap_between_words() {
        assert_eq!(wrap("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrap("", 6), [""; 0]);
        assert_eq!(wrap("see RFC 1 §2", 9), ["see", "RFC 1 §2"]);
    }

    #[test]
    fn a_header_is_drawn_as_the_rfc_draws_it() {
        let fields = [("source 7".to_string(), 16), ("to 9".to_string(), 16)];
        let drawing = header_drawing(&fields);
        let row = drawing.lines().nth(3).unwrap();
        assert_eq!(row.len(), 2 + 65);
        assert_eq!(
            row,
            "  |           source 7            |             to 9              |"
        );
    }
}
