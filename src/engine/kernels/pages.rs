//! Requests to the system about memory: large pages for large blocks, and that it takes back what is
//! freed.

/// 2 MiB: the size of a large page on x86-64, and the usual one on ARM.
#[cfg(all(target_os = "linux", not(miri)))]
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Asks the system for large pages under `memory` that is large enough, best
/// before it is first touched.
///
/// The system zeroes fresh memory when it is touched, one page after the other:
/// in pages of 4 KiB that takes several times as long as filling it. Only a
/// hint: where the system has no large pages, or keeps them to itself, nothing
/// happens.
pub fn prefer_large<T>(memory: &mut [T]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        let bytes = size_of_val(memory);
        if bytes < LARGE_PAGE_BYTES {
            return;
        }
        // SAFETY: it only reads a constant of the system.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).expect("pages have a size");
        // The advice is given to whole pages. The first begins before the
        // memory, mostly with the allocator's note of a few bytes; left out, it
        // would cost the large page that begins with it.
        let before = memory.as_ptr().addr() % page_bytes;
        let start = memory.as_mut_ptr().cast::<u8>().wrapping_sub(before);
        // SAFETY: each of the pages holds a part of `memory`, so all of them are
        // there; and the advice changes what backs them, not what they hold.
        unsafe { libc::madvise(start.cast(), before + bytes, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = memory;
}

/// From this size on a block goes back to the system when it is freed. A
/// smaller one costs more to get (a call, and a fault for each of its pages)
/// than it could cost to keep.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const RETURNED_BYTES: i32 = 256 << 10;

/// This much free memory at the end of an arena is kept: blocks smaller than the
/// above come from there.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const KEPT_BYTES: i32 = 4 * RETURNED_BYTES;

/// Has the allocator return every large block to the system as soon as it is freed.
///
/// glibc does so for blocks of 128 KiB and more, until the first is freed:
/// from then on it keeps blocks of up to that size, 32 MiB at most, in as many
/// arenas as there are threads. A burst of large requests would stay in memory
/// for good. Other allocators (musl's) return them without being told.
pub fn return_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it sets numbers in the allocator, which may be called at any
    // time. It fails for numbers that are too large, and these are not.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::prefer_large;

    #[test]
    fn memory_keeps_its_contents_at_any_size_and_place() {
        const MEBIBYTE: usize = 1 << 20;
        for bytes in [0, 1, 4096, 2 * MEBIBYTE, 3 * MEBIBYTE + 1, 9 * MEBIBYTE] {
            let mut memory: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
            let skipped = bytes.min(3);
            prefer_large(&mut memory[skipped..]);
            let held = memory.iter().enumerate();
            assert!(
                held.into_iter()
                    .all(|(index, byte)| *byte == (index % 251) as u8)
            );
        }
        // Nothing has no place at all.
        prefer_large::<u64>(&mut []);
    }
}
