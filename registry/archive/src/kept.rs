//! A file of an archive that is kept, while its bytes pass.

use crate::Interest;

/// The file that is being kept, if one is; `K` says which it is.
#[derive(Debug)]
pub struct Keeping<K>(Option<(K, Vec<u8>)>);

impl<K> Default for Keeping<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K> Keeping<K> {
    /// An entry begins, which is to be kept as `kept` where it is one of those, and may have so many bytes.
    pub fn begin(&mut self, kept: Option<(K, u64)>) -> Interest {
        let interest = kept.as_ref().map_or(Interest::Skip, |(_, limit)| Interest::Read { limit: *limit });
        self.0 = kept.map(|(kept, _)| (kept, Vec::new()));
        interest
    }

    /// Takes its next bytes.
    pub fn data(&mut self, bytes: &[u8]) {
        if let Some((_, kept)) = &mut self.0 {
            kept.extend_from_slice(bytes);
        }
    }

    /// The entry is complete: which one it was, and its bytes.
    pub fn end(&mut self) -> Option<(K, Vec<u8>)> {
        self.0.take()
    }
}
