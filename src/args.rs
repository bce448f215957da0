//! The command line, on pico-args.
//!
//! A tool's help text is the one list of its options: a line such as
//!
//! ```text
//!   -W, --timeout SECONDS     wait that long for an answer
//! ```
//!
//! says that `-W5`, `-W 5`, `--timeout 5` and `--timeout=5` are the same and
//! that the option takes a value; without the capital word it is a flag.
//! What the text does not list is an unknown option. `Args::new` walks the
//! words once from left to right by these lines and hands pico-args words
//! without ambiguity, so the order of options, operands and look-ups never
//! matters; `--` ends the options.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::Tool;
use crate::error::Error;

/// One option of a help text.
struct Spec<'a> {
    short: Option<char>,
    long: &'a str,
    takes_value: bool,
}

/// What was typed after the tool's name.
pub struct Args {
    help: &'static str,
    command_line: String,
    options: pico_args::Arguments,
    operands: VecDeque<String>,
}

impl Args {
    /// Splits the words into options, by the tool's help text, and operands.
    pub fn new(tool: &'static Tool, words: &[String]) -> Result<Args, Error> {
        let specs = specs(tool.help);
        let command_line = format!("{} {}", tool.name, words.join(" "));
        let mut options = Vec::new();
        let mut operands = VecDeque::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                Some("-") => operands.extend(words.by_ref().cloned()),
                None | Some("") => operands.push_back(word.clone()),
                Some(rest) => {
                    option(&specs, rest, &mut words, &mut options)?;
                }
            }
        }
        let options = pico_args::Arguments::from_vec(options);
        Ok(Args { help: tool.help, command_line, options, operands })
    }

    /// Was the flag given (once or more)? `long` is its long name.
    pub fn flag(&mut self, long: &'static str) -> bool {
        let mut given = false;
        while self.options.contains(long) {
            given = true;
        }
        given
    }

    /// The value of an option that may be given once.
    pub fn value<T>(
        &mut self,
        long: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        let mut values = self.values(long, parse)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Error::Usage(format!("{}: given twice", self.name(long)))),
        }
    }

    /// The values of an option that may be given again and again.
    pub fn values<T>(
        &mut self,
        long: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Error> {
        let mut values = Vec::new();
        loop {
            let next = self.options.opt_value_from_str::<_, String>(long);
            let value = match next {
                Ok(Some(text)) => parse(&text),
                Ok(None) => return Ok(values),
                Err(other) => Err(other.to_string()),
            };
            let usage =
                |fault| Error::Usage(format!("{}: {fault}", self.name(long)));
            values.push(value.map_err(usage)?);
        }
    }

    /// Tool, options and operands, as they were typed.
    pub fn command_line(&self) -> String {
        self.command_line.clone()
    }

    /// The option as the help text writes it: `-W/--timeout`.
    fn name(&self, long: &str) -> String {
        let specs = specs(self.help);
        match specs.iter().find(|s| s.long == long).and_then(|s| s.short) {
            Some(short) => format!("-{short}/{long}"),
            None => long.to_string(),
        }
    }

    /// The next operand, which must be there: `what` is its name.
    pub fn operand(&mut self, what: &str) -> Result<String, Error> {
        let missing = || Error::Usage(format!("{what} is missing"));
        self.operands.pop_front().ok_or_else(missing)
    }

    /// The next operand, if there is one.
    pub fn optional_operand(&mut self) -> Option<String> {
        self.operands.pop_front()
    }

    /// All the operands that are left.
    pub fn rest(&mut self) -> Vec<String> {
        self.operands.drain(..).collect()
    }

    /// To be called last: nothing may be left over.
    pub fn finish(mut self) -> Result<(), Error> {
        if let Some(surplus) = self.operands.pop_front() {
            return Err(Error::Usage(format!("surplus operand '{surplus}'")));
        }
        let left = self.options.finish();
        assert!(left.is_empty(), "an option of the help text is never read");
        Ok(())
    }
}

/// One word that begins with `-`: a long option, or one or more short ones
/// (`-vL`, `-c5`). Appends `--long` or `--long value` to `options`.
fn option<'a>(
    specs: &[Spec],
    word: &str,
    words: &mut impl Iterator<Item = &'a String>,
    options: &mut Vec<OsString>,
) -> Result<(), Error> {
    let usage = |text: String| Err(Error::Usage(text));
    if word.starts_with('-') {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (word, None),
        };
        let Some(spec) = specs.iter().find(|s| s.long[1..] == *name) else {
            return usage(format!("unknown option '-{name}'"));
        };
        if value.is_some() && !spec.takes_value {
            return usage(format!("{}: takes no value", spec.long));
        }
        return take(specs, spec, value, words, options);
    }
    let mut rest = word.chars();
    while let Some(letter) = rest.next() {
        let Some(spec) = specs.iter().find(|s| s.short == Some(letter)) else {
            return usage(format!("unknown option '-{letter}'"));
        };
        if spec.takes_value {
            let value = rest.as_str().trim_start_matches('=');
            let value = (!value.is_empty()).then(|| value.to_string());
            return take(specs, spec, value, words, options);
        }
        take(specs, spec, None, words, options)?;
    }
    Ok(())
}

fn take<'a>(
    specs: &[Spec],
    spec: &Spec,
    value: Option<String>,
    words: &mut impl Iterator<Item = &'a String>,
    options: &mut Vec<OsString>,
) -> Result<(), Error> {
    let long = spec.long;
    options.push(long.into());
    if !spec.takes_value {
        return Ok(());
    }
    let Some(value) = value.or_else(|| words.next().cloned()) else {
        return Err(Error::Usage(format!("{long}: its value is missing")));
    };
    // `-o -v URL`: more likely a slip than a file of that name. It also
    // keeps pico-args' words free of ambiguity.
    let name = value.split('=').next().unwrap_or_default();
    let is_option = |s: &Spec| {
        s.long == name || s.short.is_some_and(|c| value == format!("-{c}"))
    };
    if specs.iter().any(is_option) {
        let text = format!("{long}: its value is missing before '{value}'");
        return Err(Error::Usage(text));
    }
    options.push(value.into());
    Ok(())
}

/// The options that a help text lists.
fn specs(help: &str) -> Vec<Spec<'_>> {
    help.lines().filter_map(spec).collect()
}

fn spec(line: &str) -> Option<Spec<'_>> {
    let text = line.strip_prefix("  ")?.trim_start();
    let option = text.split("  ").next()?;
    let (short, option) = match option.split_once(", ") {
        Some((short, long)) => (short.chars().nth(1), long),
        None => (None, option),
    };
    let (long, takes_value) = match option.split_once(' ') {
        Some((long, _value)) => (long, true),
        None => (option, false),
    };
    long.starts_with("--").then_some(Spec { short, long, takes_value })
}

/// A number in a range; `what` names it: "ttl must be 1 to 255, not '999'".
pub fn number<T>(
    what: &'static str,
    range: std::ops::RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| match text.parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => {
            let (low, high) = (range.start(), range.end());
            Err(format!("{what} must be {low} to {high}, not '{text}'"))
        }
    }
}

/// Seconds, with a fraction if need be: `0.2`, from 1 ms to a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.001..=86_400.0).contains(&s) => {
            Ok(Duration::from_secs_f64(s))
        }
        _ => Err(format!("seconds must be 0.001 to 86400, not '{text}'")),
    }
}

/// A size in bytes: `4096`, `64k`, `10M`, `2G` (powers of 1024).
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
    let unit: u64 = match text[digits.len()..].to_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => 0,
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("a size is 4096, 64k, 10M or 2G, not '{text}'")),
    }
}

/// Any text.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;

    static TOOL: Tool = Tool {
        name: "test",
        section: "",
        summary: "",
        help: "usage: topdown test\n\n  -v, --verbose       say more\n  \
               -c, --count N        how many\n      --list NAME     more\n",
        run: |_| Ok(Outcome::Yes),
    };

    fn args(words: &[&str]) -> Result<Args, Error> {
        let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        Args::new(&TOOL, &words)
    }

    fn fault(words: &[&str]) -> String {
        let count = |mut args: Args| {
            args.value("--count", number("count", 1..=255))?;
            args.values("--list", text)?;
            args.flag("--verbose");
            args.operand("HOST")?;
            args.finish()
        };
        match args(words).and_then(count) {
            Ok(()) => "none".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_way_to_write_an_option_is_the_same() {
        for words in [
            &["-c5", "h"][..],
            &["h", "-c", "5"],
            &["--count=5", "h"],
            &["--count", "5", "--", "h"],
            &["-vc5", "h"],
        ] {
            let mut args = args(words).unwrap();
            let count = args.value("--count", number("count", 1..=9)).unwrap();
            assert_eq!(count, Some(5), "{words:?}");
            assert_eq!(args.operand("HOST").unwrap(), "h");
        }
    }

    #[test]
    fn a_fault_names_the_option_and_the_text() {
        assert_eq!(fault(&["h"]), "none");
        assert_eq!(fault(&["-x", "h"]), "unknown option '-x'");
        assert_eq!(fault(&["--cuont=1", "h"]), "unknown option '--cuont'");
        assert_eq!(
            fault(&["-c", "999", "h"]),
            "-c/--count: count must be 1 to 255, not '999'"
        );
        assert_eq!(fault(&["h", "-c"]), "--count: its value is missing");
        assert_eq!(
            fault(&["-c", "-v", "h"]),
            "--count: its value is missing before '-v'"
        );
        assert_eq!(fault(&["-c1", "-c2", "h"]), "-c/--count: given twice");
        assert_eq!(fault(&["--verbose=1"]), "--verbose: takes no value");
        assert_eq!(fault(&[]), "HOST is missing");
        assert_eq!(fault(&["h", "i"]), "surplus operand 'i'");
    }

    #[test]
    fn values_keep_their_quotes_and_signs() {
        let mut args =
            args(&["--list=\"a\"", "--list", "-1", "--", "-h"]).unwrap();
        let list = args.values("--list", text).unwrap();
        assert_eq!(list, ["\"a\"", "-1"]);
        assert_eq!(args.rest(), ["-h"]);
    }

    #[test]
    fn units() {
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert!(size("k").is_err() && size("0").is_err());
        assert!(size("99999999999G").is_err() && size("1kk").is_err());
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        assert!(seconds("0").is_err() && seconds("nan").is_err());
    }
}
