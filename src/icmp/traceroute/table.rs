//! The table as traceroute(8) prints it, and the notes under it that nobody
//! else gives.

use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::dns::reverse::Names;
use crate::error::Error;
use crate::output::{json_string, wrote};

/// A difference of two hops' times that is worth a note, in milliseconds.
const NOTABLE: f64 = 0.2;

/// What became of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// `mark` is what stands behind the time, such as `H` for `!H`;
    /// `is_last`: the path ends there.
    Answer {
        from: IpAddr,
        rtt: f64,
        mark: String,
        is_last: bool,
    },
    Silent,
}

impl Cell {
    /// Who said that the path ends.
    fn speaker(&self) -> Option<IpAddr> {
        match self {
            Cell::Answer { from, is_last: true, .. } => Some(*from),
            _ => None,
        }
    }
}

pub struct Table {
    hops: RangeInclusive<u8>,
    queries: usize,
    /// Row by row; `None`: not yet known.
    pub cells: Vec<Option<Cell>>,
    /// `None`: addresses alone.
    names: Option<Names>,
    json: bool,
    /// Rows that are printed.
    printed: usize,
}

fn print(text: &str) -> Result<(), Error> {
    wrote(io::stdout().write_all(text.as_bytes()))
}

impl Table {
    pub fn new(
        hops: &RangeInclusive<u8>,
        queries: usize,
        numeric: bool,
        json: bool,
    ) -> Table {
        let cells = vec![None; hops.len() * queries];
        let names = (!numeric).then(Names::new);
        let hops = hops.clone();
        Table { hops, queries, cells, names, json, printed: 0 }
    }

    pub fn begin(
        &self,
        host: &str,
        target: IpAddr,
        size: usize,
    ) -> Result<(), Error> {
        if self.json {
            return Ok(());
        }
        let last = self.hops.end();
        print(&format!(
            "traceroute to {host} ({target}), {last} hops max, {size} byte \
             packets\n"
        ))
    }

    /// The time to live of a cell's probe.
    pub fn ttl(&self, cell: usize) -> u8 {
        self.hops.start().saturating_add((cell / self.queries) as u8)
    }

    fn row(&self, ttl: u8) -> &[Option<Cell>] {
        let row = usize::from(ttl.saturating_sub(*self.hops.start()));
        self.cells.chunks(self.queries).nth(row).unwrap_or(&[])
    }

    pub fn set(&mut self, cell: usize, outcome: Cell) {
        if let (Cell::Answer { from, .. }, Some(names)) =
            (&outcome, &mut self.names)
        {
            names.ask(*from);
        }
        self.cells[cell] = Some(outcome);
    }

    /// The TTL with which the path's end answered, as far as is known.
    pub fn end_of_path(&self) -> u8 {
        let is_end = |ttl: &u8| {
            let mut answers = self.row(*ttl).iter().flatten();
            answers.any(|c| matches!(c, Cell::Answer { is_last: true, .. }))
        };
        self.hops.clone().find(is_end).unwrap_or(*self.hops.end())
    }

    /// The longest time of a hop's probes.
    pub fn slowest(&self, ttl: u8) -> Option<f64> {
        if !self.hops.contains(&ttl) {
            return None;
        }
        times(self.row(ttl)).reduce(f64::max)
    }

    /// Is the next row complete but for a name?
    pub fn waits_for_name(&self) -> bool {
        self.names.is_some() && self.next_row().is_some_and(is_complete)
    }

    /// The first row that is not printed, if there is one.
    fn next_row(&self) -> Option<&[Option<Cell>]> {
        let ttl = self.ttl(self.printed * self.queries);
        let more = self.printed < self.hops.len() && ttl <= self.end_of_path();
        more.then(|| self.row(ttl))
    }

    /// Prints the rows that are complete. False: all are printed.
    pub fn print(&mut self) -> Result<bool, Error> {
        while let Some(row) = self.next_row() {
            let row: Vec<Cell> = row.iter().flatten().cloned().collect();
            if row.len() < self.queries || !self.are_settled(&row) {
                return Ok(true);
            }
            let ttl = self.ttl(self.printed * self.queries);
            print(&match self.json {
                true => self.json(ttl, &row),
                false => self.line(ttl, &row),
            })?;
            self.printed += 1;
        }
        Ok(false)
    }

    fn are_settled(&mut self, row: &[Cell]) -> bool {
        let Some(names) = &mut self.names else { return true };
        row.iter().all(|cell| match cell {
            Cell::Answer { from, .. } => names.is_settled(*from),
            Cell::Silent => true,
        })
    }

    /// A router is named once, and again where another answers.
    fn line(&self, ttl: u8, row: &[Cell]) -> String {
        let mut line = format!("{ttl:2} ");
        let mut before = None;
        for cell in row {
            let Cell::Answer { from, rtt, mark, .. } = cell else {
                line.push_str(" *");
                continue;
            };
            if before != Some(from) {
                let who = match &self.names {
                    Some(names) => format!(" {} ({from})", names.name(*from)),
                    None => format!(" {from}"),
                };
                line.push_str(&who);
                before = Some(from);
            }
            line.push_str(&format!("  {rtt:.3} ms"));
            if !mark.is_empty() {
                line.push_str(&format!(" !{mark}"));
            }
        }
        line.push('\n');
        line
    }

    fn json(&self, ttl: u8, row: &[Cell]) -> String {
        let cells: Vec<String> = row
            .iter()
            .map(|cell| match cell {
                Cell::Silent => "null".into(),
                Cell::Answer { from, rtt, mark, is_last } => {
                    let name = self
                        .names
                        .as_ref()
                        .map_or("null".into(), |n| json_string(&n.name(*from)));
                    format!(
                        "{{\"from\":\"{from}\",\"name\":{name},\
                         \"rtt_ms\":{rtt:.3},\"mark\":\"{mark}\",\
                         \"last\":{is_last}}}"
                    )
                }
            })
            .collect();
        format!("{{\"hop\":{ttl},\"probes\":[{}]}}\n", cells.join(","))
    }

    /// Did the host itself answer?
    pub fn reached(&self, target: IpAddr) -> bool {
        let end = self.end_of_path();
        self.row(end).iter().flatten().any(|cell| match cell {
            Cell::Answer { from, mark, is_last, .. } => {
                *is_last && mark.is_empty() && *from == target
            }
            Cell::Silent => false,
        })
    }

    pub fn end(&self, target: IpAddr) -> Result<(), Error> {
        if self.json {
            return Ok(());
        }
        let notes = self.notes(target);
        let lines = notes.iter().map(|note| format!("note: {note}\n"));
        print(&lines.collect::<String>())
    }

    /// What the table does not mean, where one could think that it does.
    fn notes(&self, target: IpAddr) -> Vec<String> {
        let mut notes = Vec::new();
        let hops: Vec<u8> = (*self.hops.start()..=self.end_of_path()).collect();
        // (an error instead of an answer says nothing of hops before it)
        let passed = |c: &Cell| matches!(c, Cell::Answer { mark, .. } if mark.is_empty());
        let answers = |ttl: &u8| self.row(*ttl).iter().flatten().any(passed);
        let last = hops.iter().copied().rfind(answers);
        let is_silent = |ttl: &&u8| {
            let silent = |c: &Option<Cell>| *c == Some(Cell::Silent);
            Some(**ttl) < last && self.row(**ttl).iter().any(silent)
        };
        let lossy = list(hops.iter().filter(is_silent));
        if !lossy.is_empty() {
            notes.push(format!(
                "{lossy} left probes unanswered, but hops behind it \
                 answer: no loss on the path. Routers limit how much ICMP they \
                 send (RFC 1812 §4.3.2.8)."
            ));
        }
        let least = |ttl: &u8| times(self.row(*ttl)).reduce(f64::min);
        let is_slow = |ttl: &&u8| {
            let behind = hops.iter().filter(|b| b > ttl).filter_map(least);
            let quickest = behind.reduce(f64::min);
            least(ttl)
                .zip(quickest)
                .is_some_and(|(own, behind)| own - behind > NOTABLE)
        };
        let slow = list(hops.iter().filter(is_slow));
        if !slow.is_empty() {
            notes.push(format!(
                "{slow} took longer than one behind it: each time is of a \
                 packet of its own, routers forward first and answer later, \
                 and ways back differ."
            ));
        }
        let is_split = |ttl: &&u8| routers(self.row(**ttl)) > 1;
        let split = list(hops.iter().filter(is_split));
        if !split.is_empty() {
            notes.push(format!(
                "several routers answer at {split}: the path changed, or \
                 its load is shared packet by packet."
            ));
        }
        let end = self.row(self.end_of_path()).iter().flatten();
        let speakers: Vec<IpAddr> = end.filter_map(Cell::speaker).collect();
        let any = self.cells.iter().flatten().any(|c| *c != Cell::Silent);
        if any && !speakers.contains(&target) {
            let instead = match speakers.first() {
                Some(other) => format!("; {other} has, in its place"),
                None => String::new(),
            };
            notes.push(format!("{target} itself has not answered{instead}."));
        }
        notes
    }
}

fn is_complete(row: &[Option<Cell>]) -> bool {
    row.iter().all(Option::is_some)
}

/// The times of a row, in milliseconds.
fn times(row: &[Option<Cell>]) -> impl Iterator<Item = f64> {
    row.iter().flatten().filter_map(|cell| match cell {
        Cell::Answer { rtt, .. } => Some(*rtt),
        Cell::Silent => None,
    })
}

/// How many different routers passed the probes on, or threw them away.
fn routers(row: &[Option<Cell>]) -> usize {
    let mut all: Vec<IpAddr> = Vec::new();
    for cell in row.iter().flatten() {
        match cell {
            Cell::Answer { from, is_last: false, .. }
                if !all.contains(from) =>
            {
                all.push(*from);
            }
            _ => {}
        }
    }
    all.len()
}

/// `hop 2`, or `hops 2, 5 and 6`; nothing of none.
fn list<'a>(numbers: impl Iterator<Item = &'a u8>) -> String {
    let all: Vec<String> = numbers.map(u8::to_string).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("hops {} and {last}", rest.join(", "))
        }
        Some((only, _)) => format!("hop {only}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: u8, rtt: f64, mark: &str, is_last: bool) -> Option<Cell> {
        let from = IpAddr::from([192, 0, 2, last]);
        Some(Cell::Answer { from, rtt, mark: mark.into(), is_last })
    }

    fn table(cells: Vec<Option<Cell>>) -> Table {
        let mut table = Table::new(&(1..=30), 3, true, false);
        table.cells[..cells.len()].clone_from_slice(&cells);
        table
    }

    #[test]
    fn lines_as_traceroute_prints_them() {
        let table = table(vec![
            answer(1, 0.5, "", false),
            Some(Cell::Silent),
            answer(1, 1.25, "", false),
            answer(2, 2.0, "", false),
            answer(3, 2.0, "", false),
            answer(3, 2.0, "H", true),
        ]);
        let row = |ttl| -> Vec<Cell> {
            table.row(ttl).iter().flatten().cloned().collect()
        };
        assert_eq!(
            table.line(1, &row(1)),
            " 1  192.0.2.1  0.500 ms *  1.250 ms\n"
        );
        assert_eq!(
            table.line(2, &row(2)),
            " 2  192.0.2.2  2.000 ms 192.0.2.3  2.000 ms  2.000 ms !H\n"
        );
        assert_eq!(table.end_of_path(), 2);
        assert!(!table.reached(IpAddr::from([192, 0, 2, 3])));
    }

    #[test]
    fn the_notes_come_where_they_apply() {
        let target = IpAddr::from([192, 0, 2, 9]);
        let plain = table(vec![
            answer(1, 1.0, "", false),
            answer(1, 1.0, "", false),
            answer(1, 1.0, "", false),
            answer(9, 2.0, "", true),
            answer(9, 2.0, "", true),
            answer(9, 2.0, "", true),
        ]);
        assert_eq!(plain.notes(target), [""; 0]);
        assert!(plain.reached(target));
        let other = IpAddr::from([192, 0, 2, 8]);
        assert!(!plain.reached(other), "who answered is somebody else");
        let near = table(vec![
            answer(1, 1.0 + NOTABLE / 2.0, "", false),
            answer(1, 1.0 + NOTABLE / 2.0, "", false),
            answer(1, 1.0 + NOTABLE / 2.0, "", false),
            answer(9, 1.0, "", true),
        ]);
        assert_eq!(near.notes(target), [""; 0], "no difference to speak of");
        let odd = table(vec![
            answer(1, 5.0, "", false),
            Some(Cell::Silent),
            answer(2, 6.0, "", false),
            Some(Cell::Silent),
            Some(Cell::Silent),
            Some(Cell::Silent),
            answer(9, 2.0, "", true),
            answer(9, 2.0, "", true),
            Some(Cell::Silent),
        ]);
        let notes = odd.notes(target);
        assert!(notes[0].starts_with("hops 1 and 2 left probes"), "{notes:?}");
        assert!(notes[1].starts_with("hop 1 took longer"), "{notes:?}");
        assert!(notes[2].ends_with("packet by packet."), "{notes:?}");
        assert_eq!(notes.len(), 3);
        let lost = table(vec![answer(1, 1.0, "H", true), None, None]);
        let note =
            "192.0.2.9 itself has not answered; 192.0.2.1 has, in its place.";
        assert_eq!(lost.notes(target), [note]);
        let refused = table(vec![answer(9, 1.0, "X", true), None, None]);
        assert_eq!(refused.notes(target), [""; 0], "it has answered: no");
        assert!(!refused.reached(target));
    }
}
