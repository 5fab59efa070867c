//! Spliced documents: an index that costs what changed, in one valid compressed stream.
//!
//! The index of a big channel is one document that every client downloads whole. Here it is a list of
//! [`Part`]s, each rendered and compressed alone and kept until one of its records changes. A
//! [`Document`] lays them end to end behind a short header: no rendering, no compressing, no copying.
//! Publishing one package costs one part.
//!
//! Clients exist that stop at the first zstd frame or gzip member, so the result is always **one** frame
//! or **one** member, and it is the same text in every [`Encoding`]:
//!
//! | encoding | head | for each part | tail |
//! |---|---|---|---|
//! | identity | | [`SEPARATOR`], the text | |
//! | gzip | member header | both, deflated alone, ended by a full flush | empty final block, CRC-32, length |
//! | zstd | frame header with length | two blocks for [`SEPARATOR`], the text's blocks | empty last block |
//!
//! The separator is 17 spaces. A zstd frame carries three repeated offsets from block to block, and every
//! part was compressed in the belief that it comes first. The two blocks in front of each part set them to
//! what they are at the start of a frame; spaces are what these blocks decode to. So a part has to begin
//! where the document's format allows white space: between two tokens of JSON, between two elements of HTML.
//!
//! [`cut`] decides where one part ends and the next begins, from the names alone.
//!
//! Nothing here does I/O. Compressing happens on the first use of an encoding and takes milliseconds for
//! a part of half a megabyte: async callers ask [`Document::is_encoded`] and go to a thread that may block.
//!
//! ```
//! use std::sync::Arc;
//! use granary_splice::{Document, Encoding, Level, Part};
//!
//! let texts = ["{\"packages\":[\"a\"", ",\"b\",\"c\"", "]}"];
//! let parts = texts.map(|text| Arc::new(Part::render(text, Level::QUICK)));
//! let document = Document::new(parts.clone());
//! let body: Vec<u8> = document.chunks(Encoding::Zstd).flatten().collect();
//! assert_eq!(body.len() as u64, document.len(Encoding::Zstd));
//!
//! // A record of the second part has changed: the others are neither rendered nor compressed again.
//! let changed = Arc::new(Part::render(",\"b\",\"c\",\"d\"", Level::QUICK));
//! let next = Document::new([parts[0].clone(), changed, parts[2].clone()]);
//! assert_ne!(next.etag(Encoding::Zstd), document.etag(Encoding::Zstd));
//! ```
//!
//! What is too large to be held has only its [`outline`] in memory.

pub mod cut;
mod document;
mod encoding;
mod gzip_member;
pub mod outline;
mod part;
mod zstd_frame;

pub use document::{Chunks, Document};
pub use encoding::{Encoding, Level, LevelError};
pub use part::Part;

/// What stands in front of every part in the plain document: 17 spaces.
pub const SEPARATOR: &[u8; 17] = b"                 ";
