//! Where each TTL ran out, as SVG: a time line for the sender and for each
//! hop, and for each probe an arrow to where it came, and one back.
//!
//! Times go down the page in the order of the probes, not to scale.

use std::net::IpAddr;

use super::table::{Cell, Table};
use crate::diagram::{STYLE, escape, shorten};

// Lengths in the drawing's own unit, which is a pixel at full size.
const MARGIN: usize = 70;
/// Right of the last line, where a label stands.
const LABEL: usize = 190;
const APART: usize = 150;
const TOP: usize = 96;
const ROW: usize = 40;
/// How far an arrow drops on its way.
const DROP: usize = 12;
/// More would not fit on a page.
const MAX_HOPS: usize = 12;

pub fn draw(title: &str, table: &Table, target: IpAddr) -> String {
    let first = table.ttl(0);
    let end = table.end_of_path();
    let all = usize::from(end - first + 1);
    let hops = all.min(MAX_HOPS);
    let cut = if all > hops { "; the first hops" } else { "" };
    let cells: Vec<(usize, &Cell)> = table
        .cells
        .iter()
        .enumerate()
        .filter(|(i, _)| usize::from(table.ttl(*i) - first) < hops)
        .filter_map(|(i, cell)| Some((i, cell.as_ref()?)))
        .collect();
    let bottom = TOP + ROW * cells.len() + 20;
    let width = MARGIN + APART * hops + LABEL;
    let height = bottom + 30;
    let middle = width / 2;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" \
         viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" style=\"max-width:100%;height:auto\" \
         role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" \
         markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L8 4L0 8z\"/></marker></defs>\n\
         <rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"t\" x=\"{middle}\" y=\"26\" text-anchor=\"middle\">{1}\
         </text>\n<text class=\"n\" x=\"{middle}\" y=\"44\" \
         text-anchor=\"middle\">each router takes 1 from the TTL; \
         X: it ran out{cut}</text>\n",
        escape(title),
        escape(&shorten(title, width / 9)),
    );
    axis(&mut svg, 0, "sender", "", bottom);
    for hop in 0..hops {
        let at_hop = |(i, _): &&(usize, &Cell)| {
            usize::from(table.ttl(*i) - first) == hop
        };
        let who =
            cells.iter().filter(at_hop).find_map(|(_, cell)| match cell {
                Cell::Answer { from, .. } => Some(*from),
                Cell::Silent => None,
            });
        let name = format!("hop {}", usize::from(first) + hop);
        let address = who.map_or("?".into(), |who| who.to_string());
        axis(&mut svg, hop + 1, &name, &address, bottom);
    }
    for (row, (i, cell)) in cells.iter().enumerate() {
        let hop = usize::from(table.ttl(*i) - first) + 1;
        let y = TOP + ROW * row + 12;
        probe(&mut svg, table.ttl(*i), hop, y, cell, target);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where a time line stands; the sender's is number 0.
fn x(line: usize) -> usize {
    MARGIN + APART * line
}

fn axis(svg: &mut String, line: usize, name: &str, who: &str, bottom: usize) {
    let x = x(line);
    let (name_y, who_y) = (TOP - 26, TOP - 12);
    svg.push_str(&format!(
        "<text x=\"{x}\" y=\"{name_y}\" text-anchor=\"middle\">{name}</text>\n\
         <text class=\"n\" x=\"{x}\" y=\"{who_y}\" text-anchor=\"middle\">{0}\
         </text>\n<line class=\"axis\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" \
         y2=\"{bottom}\" marker-end=\"url(#head)\"/>\n",
        escape(&shorten(who, 24)),
    ));
}

/// A probe's way there, the TTL at each router, and the answer's way back.
fn probe(
    svg: &mut String,
    ttl: u8,
    hop: usize,
    y: usize,
    cell: &Cell,
    target: IpAddr,
) {
    let (start, end) = (x(0), x(hop));
    let low = y + DROP;
    let arrow = "marker-end=\"url(#head)\"";
    svg.push_str(&format!(
        "<text class=\"n\" x=\"{0}\" y=\"{1}\" text-anchor=\"end\">TTL {ttl}\
         </text>\n",
        start - 8,
        y + 4
    ));
    // what is left of it behind each router
    for passed in 1..hop {
        let left = usize::from(ttl).saturating_sub(passed);
        let (at, height) = (x(passed) + 4, y + DROP * passed / hop - 3);
        svg.push_str(&format!(
            "<text class=\"n\" x=\"{at}\" y=\"{height}\">{left}</text>\n"
        ));
    }
    let Cell::Answer { from, rtt, mark, is_last } = cell else {
        let end = end - APART / 3;
        let (beside, label) = (end + 10, low + 4);
        svg.push_str(&format!(
            "<line class=\"c\" x1=\"{start}\" y1=\"{y}\" x2=\"{end}\" \
             y2=\"{low}\"/>\n<text class=\"n\" x=\"{beside}\" \
             y=\"{label}\">no answer</text>\n"
        ));
        return;
    };
    let back = low + DROP;
    svg.push_str(&format!(
        "<line class=\"c\" x1=\"{start}\" y1=\"{y}\" x2=\"{end}\" y2=\"{low}\" \
         {arrow}/>\n<line class=\"s\" x1=\"{end}\" y1=\"{low}\" \
         x2=\"{start}\" y2=\"{back}\" {arrow}/>\n"
    ));
    let said = match (is_last, mark.as_str()) {
        (false, _) => {
            let (a, b) = (end - 5, end + 5);
            let (c, d) = (low - 5, low + 5);
            svg.push_str(&format!(
                "<path class=\"x\" d=\"M{a} {c}L{b} {d}M{a} {d}L{b} {c}\"/>\n"
            ));
            "time exceeded".to_string()
        }
        (true, "") if *from == target => "the host itself".to_string(),
        (true, "") => "port unreachable".to_string(),
        (true, mark) => format!("unreachable !{mark}"),
    };
    let (label_x, label_y) = (end + 10, low + 4);
    svg.push_str(&format!(
        "<text class=\"n\" x=\"{label_x}\" y=\"{label_y}\">{0}, {rtt:.3} ms\
         </text>\n",
        escape(&said)
    ));
}
