//! Tries whether a store keeps its word: that of several writers of one name exactly one wins, that what was written is there,
//! and that nothing is replaced which has changed. Many that speak like S3 do not, and a log in such a store is lost.
//!
//! What it writes lies below a prefix of its own, and is removed. Nothing is proven by it: a store that breaks its word
//! seldom may pass.

use std::collections::BTreeSet;
use std::io;
use std::sync::Barrier;

use super::{Bucket, Condition};

/// How hard a store is tried.
#[derive(Debug, Clone, Copy)]
pub struct Probing {
    /// Writers at once.
    pub writers: usize,
    /// Names that all of them try to create.
    pub rounds: usize,
    /// Entries that each appends, and times that each counts up.
    pub each: usize,
}

impl Default for Probing {
    fn default() -> Self {
        Self { writers: 16, rounds: 20, each: 2 }
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probed {
    /// Names that were created.
    pub created: usize,
    /// Writers beside the first that were told that they had created a name.
    pub double_wins: usize,
    /// Names that nobody was told to have created, or that hold what somebody else wrote.
    pub wrong: usize,
    /// Entries that were acknowledged.
    pub appended: usize,
    /// Acknowledged entries that are not in their place.
    pub appended_lost: usize,
    /// Times that were counted.
    pub counted: usize,
    /// Times that are missing in the sum, or too many.
    pub counted_lost: usize,
}

impl Probed {
    /// Whether the store kept its word.
    pub fn held(&self) -> bool {
        self.double_wins == 0 && self.wrong == 0 && self.appended_lost == 0 && self.counted_lost == 0
    }
}

/// Tries a store, below `scratch`, which nobody else uses and which ends with a slash. What it wrote is removed, also after
/// an error, as far as the store lets it.
///
/// # Errors
/// Those of the store: it could not be found out.
pub fn probe(bucket: &dyn Bucket, scratch: &str, how: Probing) -> io::Result<Probed> {
    let probed = tried(bucket, scratch, how);
    let keys = bucket.list(scratch);
    let removed = keys.and_then(|keys| keys.iter().try_for_each(|key| bucket.delete(key).map(drop)));
    let probed = probed?;
    removed?;
    Ok(probed)
}

fn tried(bucket: &dyn Bucket, scratch: &str, how: Probing) -> io::Result<Probed> {
    let mut probed = Probed::default();
    for round in 0..how.rounds {
        let key = format!("{scratch}created/{round}");
        let won = at_once(how.writers, |writer| {
            bucket.put(&key, format!("{round} {writer}").as_bytes(), &Condition::Absent)
        })?;
        let winners: Vec<usize> = (0..how.writers).filter(|&w| won.get(w) == Some(&true)).collect();
        probed.created += 1;
        probed.double_wins += winners.len().saturating_sub(1);
        let there = bucket.get(&key, 64)?.map(|(bytes, _)| bytes);
        let is_right = winners.iter().any(|w| there.as_deref() == Some(format!("{round} {w}").as_bytes()));
        // Somebody who comes later wins nothing either.
        let late = bucket.put(&key, b"late", &Condition::Absent)?;
        probed.wrong += usize::from(!is_right);
        probed.double_wins += usize::from(late);
    }
    append(bucket, scratch, how, &mut probed)?;
    count(bucket, scratch, how, &mut probed)?;
    Ok(probed)
}

/// Everybody appends to one log, each at the next place that it takes to be free.
fn append(bucket: &dyn Bucket, scratch: &str, how: Probing, probed: &mut Probed) -> io::Result<()> {
    let place = |number: usize| format!("{scratch}log/{number:06}");
    let written = at_once(how.writers, |writer| {
        let (mut next, mut own) = (0, Vec::new());
        for entry in 0..how.each {
            while !bucket.put(&place(next), format!("{writer} {entry}").as_bytes(), &Condition::Absent)? {
                next += 1;
                // A store that says no to everybody is never done.
                if next > how.writers * how.each {
                    return Ok(own);
                }
            }
            own.push((next, format!("{writer} {entry}")));
            next += 1;
        }
        Ok(own)
    })?;
    let mut places = BTreeSet::new();
    for (number, entry) in written.into_iter().flatten() {
        let there = bucket.get(&place(number), 64)?.map(|(bytes, _)| bytes);
        probed.appended += 1;
        probed.appended_lost += usize::from(there.as_deref() != Some(entry.as_bytes()) || !places.insert(number));
    }
    probed.appended_lost += (how.writers * how.each).saturating_sub(probed.appended);
    Ok(())
}

/// Everybody counts up one number, which is replaced only if it is the one that was read.
fn count(bucket: &dyn Bucket, scratch: &str, how: Probing, probed: &mut Probed) -> io::Result<()> {
    let key = format!("{scratch}count");
    let read = || -> io::Result<_> {
        let (bytes, tag) = bucket.get(&key, 64)?.ok_or(io::ErrorKind::NotFound)?;
        let number = std::str::from_utf8(&bytes).ok().and_then(|t| t.parse::<usize>().ok());
        Ok((number.ok_or(io::ErrorKind::InvalidData)?, tag))
    };
    bucket.put(&key, b"0", &Condition::Always)?;
    let stale = read()?.1;
    let counted = at_once(how.writers, |_| {
        let mut done = 0;
        // Of those that try at once one wins, so that each is done after as many tries as there are numbers.
        for _ in 0..4 * how.writers * how.each {
            let (number, tag) = read()?;
            done += usize::from(bucket.put(&key, (number + 1).to_string().as_bytes(), &Condition::Unchanged(tag))?);
            if done == how.each {
                break;
            }
        }
        Ok(done)
    })?;
    probed.counted = counted.iter().sum();
    let number = read()?.0;
    probed.counted_lost = number.abs_diff(probed.counted) + (how.writers * how.each).abs_diff(probed.counted);
    // A version that is gone replaces nothing.
    probed.counted_lost += usize::from(bucket.put(&key, b"0", &Condition::Unchanged(stale))?);
    Ok(())
}

/// Runs the writers at once, each on a thread.
fn at_once<T: Send>(writers: usize, work: impl Fn(usize) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let barrier = Barrier::new(writers);
    std::thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let running: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || {
                    barrier.wait();
                    work(writer)
                })
            })
            .collect();
        let panicked = || io::Error::other("a writer panicked");
        running.into_iter().map(|r| r.join().map_err(|_| panicked())?).collect()
    })
}
