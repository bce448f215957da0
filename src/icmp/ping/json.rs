//! The events and the summary of `icmp-ping --json`, an object a line.

use super::host::Host;
use super::report::{Code, Event, Packet, Times};
use crate::output::json_string;
use crate::ping::record::Heard;

/// What happened to a request of a host.
pub fn event(host: &Host, event: &Event) -> String {
    let (kind, sequence, more) = match event {
        Event::Reply { heard, packet, times } => {
            let packet = of_packet(packet) + &of_times(times);
            match heard {
                Heard::Answer { sequence, rtt, .. } => {
                    ("reply", sequence, of_rtt(packet, *rtt))
                }
                Heard::Late { sequence, rtt } => {
                    ("late", sequence, of_rtt(packet, *rtt))
                }
                Heard::Duplicate { sequence, rtt } => {
                    ("duplicate", sequence, of_rtt(packet, *rtt))
                }
                Heard::Stranger => return String::new(),
            }
        }
        Event::Bad { sequence, packet, why } => {
            let why = json_string(why);
            ("bad", sequence, format!("{},\"why\":{why}", of_packet(packet)))
        }
        Event::Error { sequence, from, code } => {
            let Code { kind, code, meaning, quote } = code;
            let words = json_string(&meaning.words);
            let quote = quote.map_or("null".into(), |quote| {
                let (from, to) = (quote.source, quote.target);
                let ttl = quote.ttl;
                format!("{{\"from\":\"{from}\",\"to\":\"{to}\",\"ttl\":{ttl}}}")
            });
            let more = format!(
                ",\"from\":\"{from}\",\"type\":{kind},\"code\":{code},\
                 \"words\":{words},\"quote\":{quote}"
            );
            ("error", sequence, more)
        }
        Event::TimedOut { sequence } => ("timeout", sequence, String::new()),
        Event::Local { sequence, why } => {
            ("not sent", sequence, format!(",\"why\":{}", json_string(why)))
        }
    };
    let name = json_string(&host.name);
    format!(
        "{{\"event\":\"{kind}\",\"host\":{name},\"seq\":{sequence}{more}}}\n"
    )
}

fn of_packet(packet: &Packet) -> String {
    let ttl = packet.ttl.map_or("null".into(), |ttl| ttl.to_string());
    let Packet { octets, from, .. } = packet;
    format!(",\"from\":\"{from}\",\"bytes\":{octets},\"ttl\":{ttl}")
}

fn of_rtt(packet: String, rtt: f64) -> String {
    format!("{packet},\"rtt_ms\":{rtt:.3}")
}

fn of_times(times: &Option<Times>) -> String {
    let Some(Times { otime, rtime, ttime, clocks }) = times else {
        return String::new();
    };
    let mut text =
        format!(",\"otime\":{otime},\"rtime\":{rtime},\"ttime\":{ttime}");
    if let Some((offset, delay)) = clocks {
        text.push_str(&format!(",\"offset_ms\":{offset},\"delay_ms\":{delay}"));
    }
    text
}

/// All that was sent to a host, and what came.
pub fn summary(host: &Host) -> String {
    let record = &host.record;
    let times = record.rtts.summary().map_or("null".into(), |s| s.json());
    format!(
        "{{\"event\":\"summary\",\"host\":{},\"address\":\"{}\",\"sent\":{},\
         \"received\":{},\"late\":{},\"duplicates\":{},\"reordered\":{},\
         \"bad\":{},\"errors\":{},\"rtt_ms\":{times}}}\n",
        json_string(&host.name),
        host.address.ip(),
        record.sent,
        record.answered,
        record.late,
        record.duplicates,
        record.reordered,
        host.bad,
        host.errors
    )
}
