//! The table of what is stored: by URI, several variants each, the least
//! recently used first to go. The contents are in memory, or in files of
//! `cache/disk.rs`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::stored::{Content, Stored};
use super::why::WhyNot;
use crate::error::Error;
use crate::http::fields::Fields;

/// One object takes at most this part of the cache.
const GREATEST_PART: u64 = 8;
/// Variants of one URI: more are a Vary on something that never repeats.
const MAX_VARIANTS: usize = 16;

/// URIs whose last invalidation is remembered.
const MAX_INVALIDATED: usize = 4096;

/// What is stored, and how much that may be.
pub struct Store {
    /// In octets, of all together.
    limit: u64,
    table: Mutex<Table>,
    disk: Option<Disk>,
}

#[derive(Default)]
struct Table {
    by_uri: HashMap<Arc<str>, Vec<Slot>>,
    /// When each was last used, as a count: the oldest is first.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    size: u64,
    /// Octets of contents that are being received.
    coming: u64,
    /// Invalidations so far, and when each URI had its last.
    stamp: u64,
    invalidated: HashMap<Arc<str>, u64>,
    /// Those before this one are not in `invalidated` any longer.
    forgotten: u64,
}

struct Slot {
    used: u64,
    stored: Arc<Stored>,
}

impl Store {
    /// With a directory, what it holds from earlier is found again.
    pub fn open(limit: u64, directory: Option<&str>) -> Result<Store, Error> {
        let (disk, found) = match directory {
            None => (None, Vec::new()),
            Some(directory) => {
                let (disk, found) = Disk::open(directory)?;
                (Some(disk), found)
            }
        };
        let store = Store { limit, table: Mutex::default(), disk };
        for stored in found {
            store.insert(Arc::new(stored));
        }
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a URI's variants the one that answers these fields; of several the
    /// newest.
    pub fn find(
        &self,
        uri: &str,
        fields: &Fields,
    ) -> Result<Arc<Stored>, WhyNot> {
        let mut table = self.lock();
        let table = &mut *table;
        let variants = table.by_uri.get_mut(uri).ok_or(WhyNot::UriMiss)?;
        let matching = variants.iter_mut().filter(|s| s.stored.matches(fields));
        // "a cache MUST use the most recent one (as determined by the Date
        // header field)" RFC 9111 §4
        let newest = matching.max_by_key(|s| (s.stored.made, s.used));
        let slot = newest.ok_or(WhyNot::VaryMiss)?;
        let uri = table.by_use.remove(&slot.used);
        table.uses += 1;
        slot.used = table.uses;
        table.by_use.extend(uri.map(|uri| (slot.used, uri)));
        Ok(slot.stored.clone())
    }

    /// How long one object may be.
    pub fn greatest(&self) -> u64 {
        self.limit / GREATEST_PART
    }

    /// Room for so many octets that are to come. What is being received
    /// takes together no more than the whole cache.
    pub fn reserve(&self, octets: u64) -> bool {
        let mut table = self.lock();
        let fits = table.coming + octets <= self.limit;
        if fits {
            table.coming += octets;
        }
        fits
    }

    /// Gives such room back.
    pub fn release(&self, octets: u64) {
        self.lock().coming -= octets;
    }

    /// Keeps a response that has come as a whole, on the disk if there is
    /// one.
    pub fn keep(&self, mut stored: Stored, stamp: u64) -> Result<(), WhyNot> {
        if stored.size() > self.greatest() {
            return Err(WhyNot::TooLarge);
        }
        if self.is_overtaken(&stored.uri, stamp) {
            return Err(WhyNot::Overtaken);
        }
        if let Some(disk) = &self.disk {
            let saved = disk.save(&stored).ok_or(WhyNot::NoDisk)?;
            stored.content = Content::Disk(Arc::new(saved));
        }
        self.insert(Arc::new(stored));
        Ok(())
    }

    /// Puts a 304's new fields in the old one's place. `None`: its content
    /// is not what was stored, or an unsafe request has overtaken it.
    pub fn replace(
        &self,
        old: &Arc<Stored>,
        mut fresh: Stored,
        stamp: u64,
    ) -> Option<Arc<Stored>> {
        let bytes = fresh.bytes().ok();
        let overtaken = self.is_overtaken(&fresh.uri, stamp);
        let Some(bytes) = bytes.filter(|_| !overtaken) else {
            self.discard(old);
            return None;
        };
        if let Some(disk) = &self.disk {
            fresh.content = Content::Memory(bytes);
            let Some(saved) = disk.save(&fresh) else {
                self.discard(old);
                return Some(Arc::new(fresh)); // for once
            };
            fresh.content = Content::Disk(Arc::new(saved));
        }
        if old.varies != fresh.varies {
            self.discard(old);
        }
        let fresh = Arc::new(fresh);
        self.insert(fresh.clone());
        Some(fresh)
    }

    /// Counts invalidations: who asks the origin takes this first.
    pub fn stamp(&self) -> u64 {
        self.lock().stamp
    }

    /// Was the URI invalidated after that?
    fn is_overtaken(&self, uri: &str, stamp: u64) -> bool {
        let table = self.lock();
        let last = table.invalidated.get(uri).copied();
        last.unwrap_or(table.forgotten) > stamp
    }

    /// In place of what answered the same request, and of the least recently
    /// used, as far as there is no room.
    fn insert(&self, stored: Arc<Stored>) {
        let mut table = self.lock();
        let uri = stored.uri.clone();
        let same = |s: &Slot| s.stored.varies == stored.varies;
        let same = table.take(&uri, same);
        let newer = |old: &Slot| old.stored.received > stored.received;
        let newest = match same.into_iter().find(newer) {
            Some(newer) => newer.stored, // of two files found at the start
            None => stored,
        };
        table.uses += 1;
        let used = table.uses;
        table.size += newest.size();
        table.by_use.insert(used, uri.clone());
        let slot = Slot { used, stored: newest };
        let variants = table.by_uri.entry(uri.clone()).or_default();
        variants.push(slot);
        let oldest = variants.iter().map(|s| s.used).min();
        let surplus = oldest.filter(|_| variants.len() > MAX_VARIANTS);
        let mut gone = Vec::new();
        if let Some(surplus) = surplus {
            gone = table.take(&uri, |s| s.used == surplus);
        }
        while table.size > self.limit {
            let Some((&used, uri)) = table.by_use.first_key_value() else {
                break;
            };
            let uri = uri.clone();
            gone.extend(table.take(&uri, |s| s.used == used));
        }
        drop(table);
        gone.iter().for_each(|slot| self.forget(&slot.stored));
    }

    /// An unsafe request has changed what the URI names. RFC 9111 §4.4
    pub fn invalidate(&self, uri: &str) -> bool {
        let mut table = self.lock();
        table.stamp += 1;
        let stamp = table.stamp;
        if table.invalidated.len() >= MAX_INVALIDATED {
            // what is on its way counts as overtaken: it is not stored
            table.invalidated.clear();
            table.forgotten = stamp;
        }
        table.invalidated.insert(uri.into(), stamp);
        let gone = table.take(uri, |_| true);
        drop(table);
        gone.iter().for_each(|slot| self.forget(&slot.stored));
        !gone.is_empty()
    }

    /// Takes out this very one: its file is not what it was.
    pub fn discard(&self, stored: &Arc<Stored>) {
        let this = |s: &Slot| Arc::ptr_eq(&s.stored, stored);
        let gone = self.lock().take(&stored.uri, this);
        gone.iter().for_each(|slot| self.forget(&slot.stored));
    }

    fn forget(&self, stored: &Stored) {
        if let (Some(disk), Content::Disk(saved)) =
            (&self.disk, &stored.content)
        {
            disk.remove(saved);
        }
    }

    /// All that is stored, the most recently used first; their number and
    /// size.
    pub fn list(&self, most: usize) -> (Vec<Arc<Stored>>, usize, u64) {
        let table = self.lock();
        let find = |(used, uri): (&u64, &Arc<str>)| {
            let variants = table.by_uri.get(uri)?;
            let slot = variants.iter().find(|s| s.used == *used)?;
            Some(slot.stored.clone())
        };
        let newest = table.by_use.iter().rev().filter_map(find).take(most);
        (newest.collect(), table.by_use.len(), table.size)
    }

    /// The variants of a URI, whatever they answer.
    pub fn variants(&self, uri: &str) -> Vec<Arc<Stored>> {
        let table = self.lock();
        let variants = table.by_uri.get(uri).into_iter().flatten();
        variants.map(|slot| slot.stored.clone()).collect()
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }
}

impl Table {
    /// Takes variants of a URI out of the table.
    fn take(&mut self, uri: &str, of: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let Some(variants) = self.by_uri.get_mut(uri) else {
            return Vec::new();
        };
        let (gone, left) = variants.drain(..).partition(|slot| of(slot));
        let gone: Vec<Slot> = gone;
        *variants = left;
        if variants.is_empty() {
            self.by_uri.remove(uri);
        }
        for slot in &gone {
            self.by_use.remove(&slot.used);
            self.size -= slot.stored.size();
        }
        gone
    }
}
