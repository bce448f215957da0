//! The envelope, as a client hands it over: MAIL and a RCPT for each
//! recipient, in groups where the server takes them so. RFC 5321 §3.3,
//! RFC 2920

use super::{COMMAND, Dialogue, Mail, Offers, Step, Stop, Verdict, refused};
use crate::error::Error;
use crate::smtp::address::Address;
use crate::smtp::explain;
use crate::smtp::reply::Reply;

/// Commands that may be on their way at a time: their replies have to fit
/// the sockets' buffers. RFC 2920 §3.1
const PIPELINED: usize = 50;

impl Dialogue<'_> {
    /// MAIL and RCPT: a verdict for each recipient, `Accepted` for now.
    pub(super) fn envelope(
        &mut self,
        mail: &Mail,
    ) -> Result<Vec<Verdict>, Stop> {
        let book = self.manner.book;
        let impossible = |why| Stop::Verdict(Verdict::Impossible(why));
        let mut commands =
            commands(&self.offers, mail, book).map_err(impossible)?;
        if self.manner.quit_after == Some(Step::Mail) {
            commands.truncate(1);
        }
        let mut replies: Vec<Reply> = Vec::new();
        let at_once = if self.offers.pipelining { PIPELINED } else { 1 };
        for group in commands.chunks(at_once) {
            self.send_group(group)?;
            for _ in group {
                let reply = self.reply(COMMAND);
                // what follows a no to MAIL is only its echo
                let no = replies.first().filter(|mail| !mail.is_done());
                match (reply, no) {
                    (Ok(reply), _) if reply.code != 421 => replies.push(reply),
                    (_, Some(no)) => return Err(refused("MAIL", no.clone())),
                    (Ok(reply), None) if replies.is_empty() => {
                        return Err(refused("MAIL", reply));
                    }
                    (Ok(leaves), None) => {
                        return Ok(cut_short(&replies[1..], &leaves, mail));
                    }
                    (Err(error), None) => return Err(error.into()),
                }
            }
            if !replies[0].is_done() {
                return Err(refused("MAIL", replies.swap_remove(0)));
            }
        }
        self.quit_after(Step::Mail)?;
        let replies = replies.into_iter().skip(1); // MAIL's
        let verdict = |reply: Reply| match reply.is_done() {
            true => Verdict::Accepted(reply),
            false => Verdict::Refused("RCPT", reply),
        };
        Ok(replies.map(verdict).collect())
    }

    /// Commands that leave together.
    fn send_group(&self, group: &[String]) -> Result<(), Error> {
        for line in group {
            self.show(line, explain::command(line.as_bytes()));
        }
        if group.len() > 1 {
            self.trace.why(|| {
                format!(
                    "these {} leave together, before any is answered: \
                     PIPELINING. RFC 2920",
                    group.len()
                )
            });
        }
        self.send(format!("{}\r\n", group.join("\r\n")).as_bytes())
    }
}

/// MAIL, with the extensions that are needed, and a RCPT for each recipient;
/// or why the server cannot take this mail.
pub fn commands(
    offers: &Offers,
    mail: &Mail,
    book: bool,
) -> Result<Vec<String>, String> {
    let message = mail.message;
    let from = mail.from.map_or(String::new(), Address::to_string);
    let colon = if book { ": " } else { ":" };
    let mut command = format!("MAIL FROM{colon}<{from}>");
    match offers.size {
        Some(limit) if limit > 0 && message.size > limit => {
            return Err(format!(
                "the message has {} octets, and the server takes {limit} at \
                 most (RFC 1870)",
                message.size
            ));
        }
        Some(_) => command.push_str(&format!(" SIZE={}", message.size)),
        None => {}
    }
    if message.eight_bit {
        if !offers.eight_bit {
            return Err(
                "the message has octets over 127, and the server does \
                        not offer 8BITMIME (RFC 6152)"
                    .into(),
            );
        }
        command.push_str(" BODY=8BITMIME");
    }
    let addresses = mail.from.iter().chain(&mail.to);
    let mut addresses = addresses.filter(|address| !address.is_ascii());
    if message.utf8_header || addresses.next().is_some() {
        if !offers.utf8 {
            return Err("an address or the header is not ASCII, and the \
                        server does not offer SMTPUTF8 (RFC 6531)"
                .into());
        }
        command.push_str(" SMTPUTF8");
    }
    let rcpt = |to: &&Address| format!("RCPT TO{colon}<{to}>");
    Ok([command].into_iter().chain(mail.to.iter().map(rcpt)).collect())
}

/// 421 among the replies to RCPT: who was refused before stays refused, all
/// others will have to be asked again.
fn cut_short(replies: &[Reply], leaves: &Reply, mail: &Mail) -> Vec<Verdict> {
    let verdict = |i: usize| match replies.get(i) {
        Some(reply) if !reply.is_done() => reply.clone(),
        _ => leaves.clone(),
    };
    let all = 0..mail.to.len();
    all.map(|i| Verdict::Refused("RCPT", verdict(i))).collect()
}
