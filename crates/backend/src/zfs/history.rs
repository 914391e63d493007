//! What ZFS tells of a pool's last transaction groups, in `/proc/spl/kstat/zfs/POOL/txgs`: in the columns are number, birth
//! (nanoseconds of the raw clock), state, dirty bytes, bytes read, bytes written, reads, writes, and how long the group was open,
//! quiescing, waiting and syncing, in nanoseconds.

use std::time::Duration;

/// Clocks that are set do not count for more than this.
const SLACK: Duration = Duration::from_secs(30);

/// The raw clock, with which births are told.
pub(super) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// True if nothing was written to the pool in the last time `since`, as far as the history goes.
pub fn is_quiet(history: &str, now: Duration, since: Duration) -> bool {
    let Some(from) = now.checked_sub(since).and_then(|from| from.checked_sub(SLACK)) else { return false };
    let mut is_covered = false;
    for row in history.lines().skip(2) {
        let fields: Vec<_> = row.split_whitespace().collect();
        let [_, birth, state, dirty, _, written, _, _, times @ ..] = fields.as_slice() else { return false };
        let Ok(birth) = birth.parse().map(Duration::from_nanos) else { return false };
        is_covered |= birth < from;
        match *state {
            // Of an open group nothing is on the disk yet.
            "O" => {}
            "C" => {
                let times: Option<Vec<u64>> = times.iter().map(|time| time.parse().ok()).collect();
                let Some(times) = times else { return false };
                let took = times.iter().fold(0u64, |sum, time| sum.saturating_add(*time));
                let is_over = birth.saturating_add(Duration::from_nanos(took)) < from;
                if !is_over && (*dirty, *written) != ("0", "0") {
                    return false;
                }
            }
            _ => return false,
        }
    }
    is_covered
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "22 0 0x01 5 560 123 456\ntxg birth state ndirty nread nwritten reads writes otime qtime wtime stime\n";

    fn row(birth: u64, state: &str, written: u64) -> String {
        format!("1 {}000000000 {state} {written} 0 {written} 0 0 5000000000 1 1 1\n", birth)
    }

    fn quiet(rows: &[String], since: u64) -> bool {
        is_quiet(&format!("{HEAD}{}", rows.concat()), Duration::from_secs(1000), Duration::from_secs(since))
    }

    #[test]
    fn what_was_written_before_does_not_count() {
        let rows = [row(900, "C", 4096), row(920, "C", 0), row(990, "C", 0), row(995, "O", 0)];
        assert!(quiet(&rows, 10));
        // The first group was not over by then.
        assert!(!quiet(&rows, 66));
        // Nor does the history go back so far.
        assert!(!quiet(&rows, 200));
    }

    #[test]
    fn what_was_written_or_is_being_written_counts() {
        assert!(!quiet(&[row(900, "C", 0), row(990, "C", 4096)], 10));
        assert!(!quiet(&[row(900, "C", 0), row(990, "S", 0)], 10));
        assert!(quiet(&[row(900, "C", 0), row(990, "O", 0)], 10));
        assert!(!quiet(&["nonsense\n".to_owned()], 10));
        assert!(!is_quiet("", Duration::from_secs(1000), Duration::ZERO));
    }
}
