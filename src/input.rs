//! Lines from standard input, with the book's prompt on a terminal.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use crate::error::{Doing, Error};
use crate::output::wrote;

/// What the book's clients ask for.
const PROMPT: &str = "Input lowercase sentence: ";

/// Standard input, taken line by line or piece by piece.
pub struct Input {
    prompts: bool,
    limit: usize,
    /// The last piece was not the end of its line.
    in_mid_line: bool,
}

impl Input {
    /// No line, or piece of one, will be longer than `limit` bytes.
    pub fn new(limit: usize) -> Input {
        let prompts = io::stdin().is_terminal() && io::stdout().is_terminal();
        Input { prompts, limit, in_mid_line: false }
    }

    /// The next line without its end; `None` at the end of input. Of a line
    /// over the limit so much comes back that it is over the limit, too.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(mut line) = self.piece()? else { return Ok(None) };
        while self.in_mid_line && self.piece()?.is_some() {}
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }

    /// The next line with its end, or so much of it as fits one byte over
    /// the limit; `None` at the end of input.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.prompts && !self.in_mid_line {
            let mut out = io::stdout();
            wrote(out.write_all(PROMPT.as_bytes()))?;
            wrote(out.flush())?;
        }
        let mut piece = Vec::new();
        let most = self.limit as u64 + 1;
        io::stdin()
            .lock()
            .take(most)
            .read_until(b'\n', &mut piece)
            .doing(|| "read standard input")?;
        self.in_mid_line = piece.last() != Some(&b'\n');
        if piece.is_empty() && self.prompts {
            wrote(io::stdout().write_all(b"\n"))?;
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}
