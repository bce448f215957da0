//! A heartbeat: one datagram of 32 octets, all in network order.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      't'      |      'd'      |      'H'      |      'B'      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  Version = 1  |  Flags    |G|           Reserved            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +                        Session Number                         +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                        Sequence Number                        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   Interval, in milliseconds                   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                                                               |
//! +             Time Stamp, in nanoseconds since 1970             +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! G: goodbye. The session number is drawn at random when a client starts;
//! reserved bits are sent as zero and not looked at.

use std::time::Duration;

use crate::trace::header_drawing;

/// Octets of a heartbeat, no more and no less.
pub const LENGTH: usize = 32;

const MAGIC: [u8; 4] = *b"tdHB";
const VERSION: u8 = 1;
const GOODBYE: u8 = 1;

/// From a millisecond to a day.
const INTERVALS: std::ops::RangeInclusive<u32> = 1..=86_400_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The client ends of its own will.
    pub goodbye: bool,
    pub session: u64,
    /// From 1.
    pub sequence: u32,
    /// The longest time to the next one.
    pub interval: Duration,
    /// When it was sent, by the client's clock.
    pub stamp: u64,
}

impl Heartbeat {
    /// `None`: of another length, kind or version, or with an interval that
    /// is none.
    pub fn parse(bytes: &[u8]) -> Option<Heartbeat> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let u32_at = |at: usize| -> Option<u32> {
            let octets = bytes.get(at..at + 4)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*octets))
        };
        let u64_at = |at: usize| -> Option<u64> {
            Some(u64::from(u32_at(at)?) << 32 | u64::from(u32_at(at + 4)?))
        };
        let interval = u32_at(20)?;
        let good = bytes.starts_with(&MAGIC)
            && bytes[4] == VERSION
            && INTERVALS.contains(&interval);
        let heartbeat = Heartbeat {
            goodbye: bytes[5] & GOODBYE != 0,
            session: u64_at(8)?,
            sequence: u32_at(16)?,
            interval: Duration::from_millis(interval.into()),
            stamp: u64_at(24)?,
        };
        good.then_some(heartbeat)
    }

    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, u8::from(self.goodbye) * GOODBYE, 0, 0]);
        bytes.extend(self.session.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        let interval = self.interval.as_millis() as u32;
        bytes.extend(interval.to_be_bytes());
        bytes.extend(self.stamp.to_be_bytes());
        bytes
    }

    /// The datagram's fields in their boxes, for `-e`.
    pub fn draw(&self) -> String {
        let Heartbeat { goodbye, session, sequence, interval, stamp } = self;
        let (high, low) = (session >> 32, session & 0xffff_ffff);
        let (seconds, nanos) = (stamp / 1_000_000_000, stamp % 1_000_000_000);
        header_drawing(&[
            ("'t'".into(), 8),
            ("'d'".into(), 8),
            ("'H'".into(), 8),
            ("'B'".into(), 8),
            (format!("version {VERSION}"), 8),
            (format!("G = {}", u8::from(*goodbye)), 8),
            ("reserved".into(), 16),
            (format!("session number 0x{high:08x}"), 32),
            (format!("0x{low:08x}"), 32),
            (format!("sequence number {sequence}"), 32),
            (format!("interval {} ms", interval.as_millis()), 32),
            (format!("time stamp: {seconds} s"), 32),
            (format!("and {nanos} ns since 1970"), 32),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_octet_by_octet() {
        let heartbeat = Heartbeat {
            goodbye: true,
            session: 0x0102_0304_0506_0708,
            sequence: 9,
            interval: Duration::from_secs(1),
            stamp: 0x1112_1314_1516_1718,
        };
        let bytes = heartbeat.emit();
        let expected = [
            b't', b'd', b'H', b'B', 1, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0,
            0, 9, 0, 0, 3, 0xe8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
            0x18,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(Heartbeat::parse(&bytes), Some(heartbeat));
        // reserved bits do not matter
        let mut odd = bytes.clone();
        (odd[5], odd[6]) = (0xff, 0xff);
        assert_eq!(Heartbeat::parse(&odd), Some(heartbeat));
        for end in 0..LENGTH {
            assert_eq!(Heartbeat::parse(&bytes[..end]), None, "{end} octets");
        }
        assert_eq!(Heartbeat::parse(&[&bytes[..], &[0]].concat()), None);
        // another kind, another version, no interval
        for (at, value) in [(0, b'T'), (4, 2), (20, 0xff)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(Heartbeat::parse(&other), None, "octet {at}");
        }
    }
}
