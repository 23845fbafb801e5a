//! The hash of what a model was loaded from.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::engine::Constant;
use crate::engine::kernels::Weights;

/// Buffers between the reader and the hashing thread: enough that neither waits for each step of the
/// other, few enough to stay in the cache.
const BUFFERS: usize = 4;
/// The bytes that are copied or hashed at once: small enough to stay in the cache, and hashed in a
/// fraction of a millisecond, after which a failed load is noticed.
const PART_BYTES: usize = 256 << 10;
/// Smaller tensors stay until they are hashed, and no one waits for it.
const AWAITED_BYTES: usize = 1 << 20;

/// SHA-256 over bytes as they are read, on a thread of its own: hashing takes longer than everything
/// else in a load, so nothing should keep it waiting.
pub(super) struct Fingerprint {
    hasher: Hasher,
    used: Receiver<Vec<u8>>,
    /// Buffers that were never used yet.
    fresh: usize,
    /// One message for each tensor that was hashed and released.
    hashed: Receiver<()>,
    /// The tensors whose message has not come yet.
    unhashed: usize,
    /// Dropped with the fingerprint: no one needs the hash of a load that failed.
    load: Arc<()>,
}

enum Hasher {
    Thread(Sender<Piece>, JoinHandle<Sha256>),
    /// Where the system gave no thread.
    Here(Sha256, Done),
}

/// What the reader learns of pieces that were hashed.
#[derive(Clone)]
struct Done {
    used: SyncSender<Vec<u8>>,
    hashed: Sender<()>,
}

impl Done {
    /// No one listens any more at the end of a load.
    fn tell(&self, piece: Piece) {
        match piece {
            Piece::Bytes(_) => {}
            // There is room for all buffers.
            Piece::Buffer(buffer) => drop(self.used.try_send(buffer)),
            Piece::Tensor(tensor, _) => {
                drop(tensor);
                let _ = self.hashed.send(());
            }
        }
    }
}

/// What is hashed next.
enum Piece {
    Bytes(Vec<u8>),
    /// A buffer, which the reader wants back.
    Buffer(Vec<u8>),
    /// The bytes of a tensor's numbers, from this one on.
    Tensor(Constant, usize),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) | Self::Buffer(bytes) => bytes,
            Self::Tensor(tensor, start) => {
                let bytes = match tensor.stored() {
                    Weights::F32(numbers) => numbers.as_bytes(),
                    Weights::Bf16(numbers) => numbers.as_bytes(),
                    Weights::F16(numbers) => numbers.as_bytes(),
                };
                &bytes[*start..]
            }
        }
    }
}

impl Fingerprint {
    pub(super) fn new() -> Self {
        let (sender, pieces) = channel();
        let (used_sender, used) = sync_channel(BUFFERS);
        let (hashed_sender, hashed) = channel();
        let done = Done {
            used: used_sender,
            hashed: hashed_sender,
        };
        let load = Arc::new(());
        let (told, wanted) = (done.clone(), Arc::downgrade(&load));
        let thread = thread::Builder::new()
            .name("fingerprint".to_owned())
            .spawn(move || hash(&pieces, &told, &wanted));
        Self {
            hasher: match thread {
                Ok(thread) => Hasher::Thread(sender, thread),
                Err(_) => Hasher::Here(Sha256::new(), done),
            },
            used,
            fresh: BUFFERS,
            hashed,
            unhashed: 0,
            load,
        }
    }

    /// Adds bytes that stay the caller's.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.add(Piece::Bytes(bytes.to_vec()));
    }

    /// A buffer to be filled and [taken](Self::take), with whatever it held before.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        match self.free_buffer() {
            Some(buffer) => buffer,
            None => self.used.recv().unwrap_or_default(),
        }
    }

    fn free_buffer(&mut self) -> Option<Vec<u8>> {
        if self.fresh > 0 {
            self.fresh -= 1;
            return Some(Vec::new());
        }
        self.used.try_recv().ok()
    }

    /// Adds what a [buffer](Self::buffer) holds.
    pub(super) fn take(&mut self, buffer: Vec<u8>) {
        self.add(Piece::Buffer(buffer));
    }

    /// Adds what was read of a tensor so far, from byte `start` on, if the hashing thread is idle: hashing
    /// begins before all is read. Returns where it ended.
    pub(super) fn follow(&mut self, read: &[u8], mut start: usize) -> usize {
        while start < read.len()
            && let Some(mut buffer) = self.free_buffer()
        {
            let part = &read[start..read.len().min(start + PART_BYTES)];
            buffer.clear();
            buffer.extend_from_slice(part);
            self.take(buffer);
            start += part.len();
        }
        start
    }

    /// Adds a tensor whose numbers have the same layout in memory as in the file, from byte `start` on. It
    /// is kept until it is hashed.
    pub(super) fn share(&mut self, tensor: Constant, start: usize) {
        self.unhashed += 1;
        self.add(Piece::Tensor(tensor, start));
    }

    /// Drops a tensor that no one else needs any more; waits until it is hashed if it is large, so
    /// that later steps do not need memory in addition to it.
    pub(super) fn let_go(&mut self, tensor: Constant) {
        let is_large = tensor.stored().bytes() >= AWAITED_BYTES;
        // Someone else may have it for good; the hashing thread has none once all are hashed.
        while is_large && self.unhashed > 0 && tensor.owners() > 1 {
            self.unhashed = match self.hashed.recv() {
                Ok(()) => self.unhashed - 1,
                Err(_) => 0,
            };
        }
    }

    fn add(&mut self, piece: Piece) {
        match &mut self.hasher {
            // It ends only when this end is dropped.
            Hasher::Thread(sender, _) => sender.send(piece).expect("the thread takes all"),
            Hasher::Here(hash, done) => {
                hash.update(piece.bytes());
                done.tell(piece);
            }
        }
    }

    /// The hash in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let hash = match self.hasher {
            Hasher::Here(hash, _) => hash,
            Hasher::Thread(sender, thread) => {
                drop(sender);
                thread.join().expect("hashing does not panic")
            }
        };
        drop(self.load);
        hexadecimal(&hash.finalize())
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes pieces until no more can come, or the load does not want the hash any more.
fn hash(pieces: &Receiver<Piece>, done: &Done, load: &Weak<()>) -> Sha256 {
    let mut hash = Sha256::new();
    for piece in pieces {
        for part in piece.bytes().chunks(PART_BYTES) {
            if load.strong_count() == 0 {
                return hash;
            }
            hash.update(part);
        }
        done.tell(piece);
    }
    hash
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use ndarray::ArrayD;

    use super::*;

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

    /// Numbers whose bytes are these.
    fn tensor(bytes: &[u8]) -> Constant {
        let (numbers, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        let numbers: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
        ArrayD::from_shape_vec(vec![numbers.len()], numbers)
            .unwrap()
            .into()
    }

    /// Numbers of 16 bits whose bytes are these.
    fn half_tensor(bytes: &[u8]) -> Constant {
        let (numbers, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        let numbers: Vec<bf16> = numbers.iter().map(|b| bf16::from_le_bytes(*b)).collect();
        Constant::from_bf16(ArrayD::from_shape_vec(vec![numbers.len()], numbers).unwrap())
    }

    #[test]
    fn tensors_are_hashed_in_place() {
        let bytes: Vec<u8> = (0..3_000_000_u32)
            .map(|index| (index % 251) as u8)
            .collect();
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(b"a");
        let mut followed = 0;
        for end in [0, 4, 100_000, 2_000_000, 2_999_996] {
            let start = followed;
            followed = fingerprint.follow(&bytes[..end], start);
            assert!(followed >= start && followed <= end);
        }
        fingerprint.share(tensor(&bytes), followed);
        fingerprint.share(tensor(&bytes[..8]), 0);
        fingerprint.share(tensor(&bytes[..8]), 8);
        fingerprint.share(half_tensor(&bytes[..6]), 2);
        let mut buffer = fingerprint.buffer();
        buffer.clear();
        buffer.push(b'z');
        fingerprint.take(buffer);
        let hash = Sha256::digest([b"a", &bytes[..], &bytes[..8], &bytes[2..6], b"z"].concat());
        assert_eq!(fingerprint.finish(), hexadecimal(&hash));
    }

    #[test]
    fn a_large_tensor_that_is_let_go_has_no_other_owner() {
        let mut fingerprint = Fingerprint::new();
        let arrays: Vec<_> = (0..3)
            .map(|_| tensor(&[1; AWAITED_BYTES]).to_f32())
            .collect();
        let mut watched: Vec<_> = arrays.iter().map(Arc::downgrade).collect();
        let tensors: Vec<_> = arrays.into_iter().map(Constant::from).collect();
        for tensor in &tensors {
            fingerprint.share(tensor.clone(), 0);
        }
        // In any order.
        watched.reverse();
        for (tensor, watched) in tensors.into_iter().rev().zip(watched) {
            fingerprint.let_go(tensor);
            assert_eq!(watched.strong_count(), 0);
        }
        let hash = Sha256::digest(vec![1; 3 * AWAITED_BYTES]);
        assert_eq!(fingerprint.finish(), hexadecimal(&hash));
    }

    #[test]
    fn tensors_that_are_not_hashed_or_stay_in_use_are_not_waited_for() {
        let mut fingerprint = Fingerprint::new();
        let (never, kept) = (tensor(&[1; AWAITED_BYTES]), tensor(&[2; AWAITED_BYTES]));
        fingerprint.let_go(never.clone());
        fingerprint.share(kept.clone(), 0);
        fingerprint.let_go(kept.clone());
        fingerprint.let_go(never.clone());
        assert_eq!([never.owners(), kept.owners()], [1, 1]);
    }

    #[test]
    fn nothing_more_is_hashed_for_a_load_that_failed() {
        let (sender, pieces) = channel();
        let (used_sender, used) = sync_channel(BUFFERS);
        let done = Done {
            used: used_sender,
            hashed: channel().0,
        };
        for _ in 0..2 {
            sender
                .send(Piece::Buffer(b"half a model".to_vec()))
                .unwrap();
        }
        drop(sender);
        let hash = super::hash(&pieces, &done, &Weak::new());
        assert_eq!(hash.finalize(), Sha256::new().finalize());
        assert!(used.try_recv().is_err());
    }

    #[test]
    fn a_load_that_fails_leaves_no_thread_waiting() {
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(b"half a model");
        drop(fingerprint);
    }
}
