//! The hash of what a model was loaded from.

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

/// Buffers on their way between the reader and the hashing thread: so many that neither waits for
/// the other's every step, so few that they stay in the cache.
const BUFFERS: usize = 4;

/// SHA-256 over bytes as they are read, on a thread of its own: hashing takes about as long as all
/// else of a load together.
pub(super) struct Fingerprint {
    hasher: Hasher,
    used: Receiver<Vec<u8>>,
    /// Buffers that were never used yet.
    fresh: usize,
}

enum Hasher {
    Beside(SyncSender<Vec<u8>>, JoinHandle<Sha256>),
    /// Where the system gave no thread, and during a drop.
    Here(Sha256, SyncSender<Vec<u8>>),
}

impl Fingerprint {
    pub(super) fn new() -> Self {
        let (full, filled) = sync_channel::<Vec<u8>>(BUFFERS);
        let (done, used) = sync_channel(BUFFERS);
        let returned = done.clone();
        let thread = thread::Builder::new()
            .name("fingerprint".to_owned())
            .spawn(move || {
                let mut hash = Sha256::new();
                for bytes in filled {
                    hash.update(&bytes);
                    // Nobody wants buffers back from the end of a load on.
                    let _ = returned.send(bytes);
                }
                hash
            });
        Self {
            hasher: match thread {
                Ok(thread) => Hasher::Beside(full, thread),
                Err(_) => Hasher::Here(Sha256::new(), done),
            },
            used,
            fresh: BUFFERS,
        }
    }

    /// Adds bytes that stay the caller's.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut buffer = self.buffer();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.take(buffer);
    }

    /// A buffer to be filled and [taken](Self::take), with whatever it held before.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        if self.fresh > 0 {
            self.fresh -= 1;
            return Vec::new();
        }
        self.used.recv().unwrap_or_default()
    }

    /// Adds what a [buffer](Self::buffer) holds.
    pub(super) fn take(&mut self, buffer: Vec<u8>) {
        match &mut self.hasher {
            // It ends only when this end is dropped.
            Hasher::Beside(full, _) => full.send(buffer).expect("the thread takes all"),
            Hasher::Here(hash, done) => {
                hash.update(&buffer);
                let _ = done.try_send(buffer);
            }
        }
    }

    /// The hash in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let hash = match self.hasher {
            Hasher::Here(hash, _) => hash,
            Hasher::Beside(full, thread) => {
                mem::drop(full);
                // The thread may be about to give a buffer back.
                mem::drop(self.used);
                thread.join().expect("hashing does not panic")
            }
        };
        let digits = hash.finalize();
        digits.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn the_pieces_are_hashed_in_their_order() {
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(b"a");
        let mut buffer = fingerprint.buffer();
        buffer.extend_from_slice(b"bc");
        fingerprint.take(buffer);
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.finish(), abc);
    }

    #[test]
    fn more_pieces_than_buffers_pass() {
        let mut fingerprint = Fingerprint::new();
        (0..1000).for_each(|_| fingerprint.update(&[b'a'; 1000]));
        // FIPS 180-2, appendix B.3: a million times the letter a.
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(fingerprint.finish(), million);
    }

    #[test]
    fn a_load_that_fails_leaves_no_thread_waiting() {
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(b"half a model");
        drop(fingerprint);
    }
}
