//! What becomes of a recipient, and how that is told.

use crate::smtp::reply::Reply;

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server has taken the message for it.
    Accepted(Reply),
    /// The server has said no, at this command.
    Refused(&'static str, Reply),
    /// It cannot be, for a reason of ours.
    Impossible(String),
    /// Asked no further, by `--quit-after`; the last reply, if there was one
    /// for this recipient.
    NotSent(Option<Reply>),
    /// The connection was lost between the final dot and the reply: the
    /// message may have been delivered, or not.
    Unknown(String),
    /// It was not sent: the connection, or the server, failed.
    Failed(String),
}

impl Verdict {
    /// Why a recipient has not got it.
    pub fn why(&self) -> String {
        match self {
            Verdict::Refused(at, reply) => {
                format!("refused at {at}: {reply} ({})", reply.advice())
            }
            Verdict::Unknown(why) => format!(
                "unknown whether sent: the connection was lost after the \
                 final dot ({why}); sent again, it may arrive twice"
            ),
            Verdict::Failed(why) => format!("not sent: {why}"),
            Verdict::Impossible(why) => why.clone(),
            Verdict::Accepted(_) | Verdict::NotSent(_) => String::new(),
        }
    }
}
