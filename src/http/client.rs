use crate::{Tool, args::Args, error::*};
pub static TOOL: Tool = Tool {
    name: "web-client",
    section: "KR 2.2.3",
    summary: "",
    help: "usage: x\n\n  -h, --help   x\n",
    run,
};
fn run(_a: Args) -> Result<Outcome, Error> {
    Ok(Outcome::Yes)
}
