//! Texts that are hard on the splice, and decoders to prove it with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

use std::io::Read;
use std::sync::Arc;

use granary_splice::{Chunks, Document, Encoding, Level, Part, SEPARATOR};
use proptest::prelude::*;

/// Pseudo-random numbers (xorshift64*), the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// How a stretch of text is made. Small enough to be printed when a test fails.
#[derive(Debug, Clone)]
pub enum Stretch {
    /// One byte again and again.
    Run { byte: u8, length: usize },
    /// A short pattern again and again, now and then with a wrong byte: repeated offsets.
    Period { period: usize, length: usize, seed: u64 },
    /// Copies from a few distances back, in turn, with few literals: all three repeated offsets.
    Echo { length: usize, seed: u64 },
    /// What can't be compressed.
    Noise { length: usize, seed: u64 },
    /// Records as indexes have them.
    Records { count: usize, seed: u64 },
}

impl Stretch {
    pub fn append(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Run { byte, length } => out.resize(out.len() + length, byte),
            Self::Period { period, length, seed } => {
                let mut random = Random::new(seed);
                let pattern: Vec<u8> = (0..period).map(|_| b'a' + random.below(26) as u8).collect();
                for i in 0..length {
                    let wrong = random.below(50) == 0;
                    out.push(if wrong { b'0' + random.below(10) as u8 } else { pattern[i % period] });
                }
            }
            Self::Echo { length, seed } => {
                let mut random = Random::new(seed);
                let end = out.len() + length;
                out.extend((0..40).map(|_| b'A' + random.below(26) as u8));
                let mut distances = [1, 4, 8];
                while out.len() < end {
                    if random.below(4) == 0 {
                        distances[random.below(3)] = 1 + random.below(40);
                    }
                    let distance = distances[random.below(3)];
                    for _ in 0..3 + random.below(20) {
                        out.push(out[out.len() - distance]);
                    }
                    out.extend((0..random.below(3)).map(|_| b'a' + random.below(26) as u8));
                }
            }
            Self::Noise { length, seed } => {
                let mut random = Random::new(seed);
                out.extend((0..length).map(|_| random.below(256) as u8));
            }
            Self::Records { count, seed } => {
                let mut random = Random::new(seed);
                for _ in 0..count {
                    let (name, build, size) = (random.below(500), random.below(4), random.below(1 << 20));
                    let record = format!(
                        "\"package-{name}-1.{build}.0-py31{build}_{build}.conda\":{{\
                         \"build\":\"py31{build}_{build}\",\
                         \"depends\":[\"python >=3.1{build},<3.1{}.0a0\"],\
                         \"size\":{size},\"sha256\":\"{:08x}\"}},",
                        build + 1,
                        random.below(1 << 31)
                    );
                    out.extend_from_slice(record.as_bytes());
                }
            }
        }
    }
}

pub fn stretch() -> impl Strategy<Value = Stretch> {
    let length = || prop_oneof![8 => 0..2_000_usize, 1 => 100_000..200_000_usize];
    prop_oneof![
        (any::<u8>(), length()).prop_map(|(byte, length)| Stretch::Run { byte, length }),
        (1..10_usize, length(), any::<u64>()).prop_map(|(period, length, seed)| Stretch::Period {
            period,
            length,
            seed
        }),
        (length(), any::<u64>()).prop_map(|(length, seed)| Stretch::Echo { length, seed }),
        (length(), any::<u64>()).prop_map(|(length, seed)| Stretch::Noise { length, seed }),
        (0..60_usize, any::<u64>()).prop_map(|(count, seed)| Stretch::Records { count, seed }),
    ]
}

pub fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(stretch(), 0..4).prop_map(|stretches| {
        let mut out = Vec::new();
        for stretch in &stretches {
            stretch.append(&mut out);
        }
        out
    })
}

pub fn level() -> impl Strategy<Value = Level> {
    let zstd = prop::sample::select(vec![-5, -1, 1, 2, 3, 5, 7, 9, 12, 13, 16, 19]);
    (zstd, 1..=9_u32).prop_map(|(zstd, deflate)| Level::new(zstd, deflate).unwrap())
}

/// A document of parts of any kind and level.
pub fn document() -> impl Strategy<Value = Document> {
    prop::collection::vec(
        (text(), level()).prop_map(|(text, level)| Arc::new(Part::render(text, level))),
        0..8,
    )
    .prop_map(Document::new)
}

/// The plain document, put together in the obvious way.
pub fn plain(document: &Document) -> Vec<u8> {
    document.parts().iter().flat_map(|part| [SEPARATOR.to_vec(), part.plain().to_vec()].concat()).collect()
}

pub fn collect(chunks: Chunks) -> Vec<u8> {
    let expected = chunks.remaining();
    let bytes: Vec<u8> = chunks.flat_map(Vec::from).collect();
    assert_eq!(bytes.len() as u64, expected);
    bytes
}

pub fn encoded(document: &Document, encoding: Encoding) -> Vec<u8> {
    let bytes = collect(document.chunks(encoding));
    assert_eq!(bytes.len() as u64, document.len(encoding));
    bytes
}

/// libzstd, piecemeal: one frame, and nothing behind it.
pub fn libzstd(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frame)?.single_frame();
    decoder.window_log_max(23)?;
    let mut out = Vec::new();
    decoder.read_to_end(&mut out)?;
    assert!(decoder.finish().is_empty(), "bytes behind the frame");
    Ok(out)
}

/// A decoder that shares no code with libzstd.
pub fn ruzstd(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut rest = frame;
    let mut out = Vec::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(std::io::Error::other)?;
    decoder.read_to_end(&mut out)?;
    assert!(rest.is_empty(), "bytes behind the frame");
    Ok(out)
}

/// One gzip member, whose CRC and length are checked, and nothing behind it.
pub fn gunzip(member: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = flate2::bufread::GzDecoder::new(member);
    let mut out = Vec::new();
    decoder.read_to_end(&mut out)?;
    assert!(decoder.into_inner().is_empty(), "bytes behind the member");
    Ok(out)
}
