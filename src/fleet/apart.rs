//! Doing the same to each of many things on all cores: the list is cut into as many parts, in their order.

use std::thread;

/// A list with fewer things is not worth a thread.
const THINGS_MIN: usize = 64;
/// As many threads as look ahead in a replay.
const THREADS_MAX: usize = 4;

/// What `work` makes of the parts of `list`, each of which begins with the given place in it.
pub(super) fn each<T: Sync, R: Send>(list: &[T], work: impl Fn(usize, &[T]) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    if cores < 2 || list.len() < THINGS_MIN {
        return vec![work(0, list)];
    }
    let length = list.len().div_ceil(cores);
    let parts = || list.chunks(length).enumerate().map(|(part, things)| (part * length, things));
    thread::scope(|scope| {
        let work = &work;
        let start = |(first, things)| thread::Builder::new().spawn_scoped(scope, move || work(first, things)).ok();
        let under_way: Vec<_> = parts().map(start).collect();
        let done = under_way.into_iter().zip(parts()).map(|(thread, (first, things))| match thread.map(|t| t.join()) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            // Without a thread more it is done here.
            None => work(first, things),
        });
        done.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thing_is_in_one_part_in_its_place() {
        for count in [0, 1, THINGS_MIN - 1, THINGS_MIN, THINGS_MIN + 1, 1000] {
            let list: Vec<usize> = (0..count).collect();
            let parts = each(&list, |first, things| {
                assert!(things.iter().copied().eq(first..first + things.len()));
                things.to_vec()
            });
            assert_eq!(parts.concat(), list);
            assert!(parts.len() <= THREADS_MAX);
        }
    }
}
