//! The book's space-time diagram, as SVG: a vertical time line for each
//! party, a sloping arrow for each message, an X where one was lost, a
//! bracket for each time-out.
//!
//! A proxy has a third line in the middle, its own.
//!
//! One tool has one clock. The ends of arrows on its own time line are true:
//! the time stands beside them. The other ends are drawn a fixed drop away,
//! since nobody here knows when the peer saw the message. Gaps are to scale
//! between a least and a greatest length, so that labels never meet and a
//! long wait does not fill a page; a gap that was cut short is marked.

use std::time::Duration;

use crate::trace::{Event, MAX_EVENTS, Party, What};

// Lengths in the drawing's own unit, which is a pixel at full size.
const MARGIN: i32 = 110;
/// From one time line to the next.
const APART: i32 = 260;
const TOP: i32 = 86;
/// How far an arrow drops on its way.
const DROP: i32 = 18;
/// Between the times of two events: less would let labels meet.
const LEAST_GAP: i32 = 48;
const GREATEST_GAP: i32 = 130;
/// Characters of a label that fit between the lines.
const LABEL: usize = 38;

/// Both colour schemes; a page's font size on A4 and on a phone.
pub const STYLE: &str = "\
text{font:11px ui-monospace,monospace;fill:#1b1f24}\
.t{font-size:14px;font-weight:bold}.n{fill:#59636e;font-size:10px}\
line,path{stroke:#1b1f24;stroke-width:1.2;fill:none}\
.c{stroke:#0b5cad}.s{stroke:#a1430a}.x{stroke:#c11a1a;stroke-width:2.4}\
.axis{stroke:#59636e;stroke-width:2}.b{stroke:#c11a1a}\
.bg{fill:#fff}marker path{fill:#59636e;stroke:none}\
@media(prefers-color-scheme:dark){\
text{fill:#e6e9ee}.n{fill:#a3adb8}line,path{stroke:#e6e9ee}\
.c{stroke:#6fb3ff}.s{stroke:#ffa877}.x,.b{stroke:#ff7b72}\
.axis{stroke:#a3adb8}.bg{fill:#14181d}\
marker path{fill:#a3adb8;stroke:none}}";

/// The drawing of a run: `here` is the party whose clock gave the times.
pub fn draw(title: &str, here: Party, events: &[Event]) -> String {
    let cut = events.len() > MAX_EVENTS;
    let events = &events[..events.len().min(MAX_EVENTS)];
    let heights = heights(events);
    let bottom = heights.last().map_or(TOP, |(y, _)| *y) + 2 * DROP + 10;
    let mut svg = start(title, here, bottom, cut);
    for (event, &(y, compressed)) in events.iter().zip(&heights) {
        if compressed {
            svg.push_str(&break_mark(here, y - LEAST_GAP / 2));
        }
        svg.push_str(&match event.what {
            What::Message(from) => arrow(event, from, here, y, false),
            What::Lost(from) => arrow(event, from, here, y, true),
            What::TimeOut { since } => {
                let began = events.iter().rposition(|e| e.at <= since);
                let top = began.map_or(TOP, |i| heights[i].0);
                bracket(event, here, top, y)
            }
        });
    }
    svg.push_str("</svg>\n");
    svg
}

/// The height of each event, and whether the gap before it was cut short.
fn heights(events: &[Event]) -> Vec<(i32, bool)> {
    let gaps: Vec<Duration> =
        events.windows(2).map(|e| e[1].at.saturating_sub(e[0].at)).collect();
    let mut sorted = gaps.clone();
    sorted.sort();
    // The median gap is drawn a little longer than the least.
    let median = sorted.get(gaps.len() / 2).map_or(1.0, Duration::as_secs_f64);
    let scale = 1.4 * f64::from(LEAST_GAP) / median.max(1e-6);
    let mut y = TOP + DROP + 14;
    let mut heights = vec![(y, false)];
    for gap in gaps {
        let true_length = gap.as_secs_f64() * scale;
        let length =
            true_length.clamp(f64::from(LEAST_GAP), f64::from(GREATEST_GAP));
        y += length as i32;
        heights.push((y, true_length > length));
    }
    heights.truncate(events.len());
    heights
}

fn start(title: &str, here: Party, bottom: i32, cut: bool) -> String {
    let height = bottom + 30;
    let width = axis(Party::Server, here) + MARGIN;
    let middle = width / 2;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" style=\"max-width:100%;height:auto\" \
         role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"t\" x=\"{middle}\" y=\"26\" text-anchor=\"middle\">{1}\
         </text>\n\
         <text class=\"n\" x=\"{middle}\" y=\"44\" text-anchor=\"middle\">\
         times in ms, by the {2}'s clock{3}</text>\n",
        escape(title),
        escape(&shorten(title, 52)),
        here.name(),
        if cut { "; only the first messages are drawn" } else { "" },
    );
    let proxy = here.is_proxy().then_some(here);
    for party in [Party::Client, Party::Server].into_iter().chain(proxy) {
        let x = axis(party, here);
        let y = TOP - 14;
        svg.push_str(&format!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{0}</text>\n\
             <line class=\"axis\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" \
             y2=\"{bottom}\" marker-end=\"url(#head)\"/>\n\
             <text class=\"n\" x=\"{x}\" y=\"{1}\" text-anchor=\"middle\">\
             time</text>\n",
            party.name(),
            bottom + 16,
        ));
    }
    svg
}

/// Where a party's time line stands: a proxy's in the middle.
fn axis(party: Party, here: Party) -> i32 {
    match party {
        Party::Client => MARGIN,
        Party::Server if here.is_proxy() => MARGIN + 2 * APART,
        _ => MARGIN + APART,
    }
}

/// On which side of our time line is nothing drawn: -1 is the left.
fn outer_side(from: Party, here: Party) -> i32 {
    match (here, from) {
        (Party::Client, _) => -1,
        (Party::Server, _) => 1,
        (_, Party::Client | Party::AsServer) => 1,
        (_, Party::Server | Party::AsClient) => -1,
    }
}

/// Where a message goes to.
fn receiver(from: Party, here: Party) -> Party {
    match from {
        Party::AsServer => Party::Client,
        Party::AsClient => Party::Server,
        _ if here.is_proxy() => here,
        Party::Client => Party::Server,
        Party::Server => Party::Client,
    }
}

/// A message. `y` is the true end: where it left us, or reached us.
fn arrow(
    event: &Event,
    from: Party,
    here: Party,
    y: i32,
    lost: bool,
) -> String {
    let ours = from == here || from.is_proxy();
    let (y1, y2) = if ours { (y, y + DROP) } else { (y - DROP, y) };
    let (x1, mut x2) = (axis(from, here), axis(receiver(from, here), here));
    let middle = ((x1 + x2) / 2, (y1 + y2) / 2);
    let slope = f64::from(y2 - y1) / f64::from(x2 - x1);
    let angle = slope.atan().to_degrees();
    let class = match from {
        Party::Client | Party::AsClient => "c",
        Party::Server | Party::AsServer => "s",
    };
    let mut end = y2;
    if lost {
        x2 = x1 + (x2 - x1) * 3 / 4;
        end = y1 + (y2 - y1) * 3 / 4;
    }
    let head = if lost { "" } else { " marker-end=\"url(#head)\"" };
    let mut out = format!(
        "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" \
         y2=\"{end}\"{head}/>\n\
         <text x=\"{0}\" y=\"{1}\" text-anchor=\"middle\" \
         transform=\"rotate({angle:.2} {0} {1})\">{2}<title>{3}</title>\
         </text>\n",
        middle.0,
        middle.1 - 5,
        // short enough not to reach the X
        escape(&shorten(&event.label, if lost { LABEL / 2 } else { LABEL })),
        escape(&event.label),
    );
    if lost {
        out.push_str(&format!(
            "<path class=\"x\" d=\"M{0} {1}l12 12m0 -12l-12 12\"/>\n",
            x2 - 6,
            end - 6,
        ));
    }
    let side = outer_side(from, here);
    out.push_str(&beside(axis(here, here), side, y + 4, &time(event.at)));
    out
}

/// A wait in vain, from one height to another, along our time line.
fn bracket(event: &Event, here: Party, top: i32, y: i32) -> String {
    let side = outer_side(here, here);
    let x = axis(here, here) + 3 * side;
    let mut out = format!(
        "<path class=\"b\" d=\"M{x} {top}h{0}V{y}h{1}\"/>\n",
        5 * side,
        -5 * side,
    );
    out.push_str(&beside(axis(here, here), side, y + 4, &time(event.at)));
    let label = shorten(&event.label, LABEL);
    out.push_str(&format!(
        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"{2}\">{3}</text>\n",
        axis(here, here) - 10 * side,
        y + 4,
        if side < 0 { "start" } else { "end" },
        escape(&label),
    ));
    out
}

/// Two short strokes across our time line: here it is not to scale.
fn break_mark(here: Party, y: i32) -> String {
    let x = axis(here, here) - 6;
    format!("<path d=\"M{x} {y}l12 -5M{x} {0}l12 -5\"/>\n", y + 5)
}

/// A small text on one side of a time line.
fn beside(axis: i32, side: i32, y: i32, text: &str) -> String {
    let x = axis + 12 * side;
    let anchor = if side < 0 { "end" } else { "start" };
    format!(
        "<text class=\"n\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">\
         {text}</text>\n"
    )
}

fn time(at: Duration) -> String {
    format!("{:.3}", at.as_secs_f64() * 1e3)
}

/// Cut to so many columns; letters from Hangul on take two.
pub fn shorten(text: &str, columns: usize) -> String {
    let width = |c: char| if c >= '\u{1100}' { 2 } else { 1 };
    if text.chars().map(width).sum::<usize>() <= columns {
        return text.to_string();
    }
    let mut left = columns - 1;
    let fits = |c: &char| {
        left = left.saturating_sub(width(*c));
        left > 0
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Text as XML takes it. XML knows no control characters at all.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ms: u64, what: What) -> Event {
        let at = Duration::from_millis(ms);
        Event { at, what, label: "<\"GET\"\u{1}>".into() }
    }

    #[test]
    fn events_never_stand_closer_than_their_labels() {
        for count in [1, 2, 200] {
            let events: Vec<Event> = (0..count)
                .map(|i| event(i * i * i, What::Message(Party::Client)))
                .collect();
            let heights = heights(&events);
            assert_eq!(heights.len(), events.len());
            for pair in heights.windows(2) {
                let gap = pair[1].0 - pair[0].0;
                assert!((LEAST_GAP..=GREATEST_GAP).contains(&gap));
            }
        }
        assert!(heights(&[]).is_empty());
    }

    #[test]
    fn two_hundred_events_are_drawn_and_more_are_said_to_be_cut() {
        for (count, cut) in [(200, false), (201, true)] {
            let message = What::Message(Party::Client);
            let events: Vec<Event> =
                (0..count).map(|i| event(i, message)).collect();
            let svg = draw("many", Party::Client, &events);
            assert_eq!(svg.matches("class=\"c\"").count(), 200);
            assert_eq!(svg.contains("only the first"), cut);
        }
    }

    #[test]
    fn a_drawing_is_well_formed_and_escaped() {
        let since = Duration::ZERO;
        let events = [
            event(0, What::Message(Party::Client)),
            event(1, What::Lost(Party::Client)),
            event(1001, What::TimeOut { since }),
            event(1002, What::Message(Party::Server)),
        ];
        for here in [Party::Client, Party::Server] {
            let svg = draw("a & b", here, &events);
            assert!(svg.contains("a &amp; b"));
            assert!(svg.contains("&lt;&quot;GET&quot;\u{fffd}&gt;"));
            assert!(svg.contains("class=\"x\"") && svg.contains("1001.000"));
            assert_eq!(svg.matches("<line").count(), 2 + 3);
        }
    }
}
