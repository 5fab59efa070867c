//! Deflate, pushed.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::ArchiveError;

/// Inflates bytes as they come and hands the output on in pieces.
#[derive(Debug)]
pub(crate) struct Inflater {
    raw: Decompress,
    output: Box<[u8]>,
}

/// How far an [`Inflater`] came.
pub(crate) struct Progress {
    /// How many bytes of the input were used: all of them unless the stream ended.
    pub(crate) used: usize,
    /// Whether the compressed stream has ended.
    pub(crate) ended: bool,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { raw: Decompress::new(false), output: vec![0; 32 << 10].into_boxed_slice() }
    }

    /// Inflates `input`, giving each piece of output to `sink`, with the count of all input used so far.
    pub(crate) fn push<E: From<ArchiveError>>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<Progress, E> {
        let mut used = 0;
        loop {
            let (consumed_before, produced_before) = (self.raw.total_in(), self.raw.total_out());
            let result = self.raw.decompress(&input[used..], &mut self.output, FlushDecompress::None);
            let consumed = to_usize(self.raw.total_in() - consumed_before)?;
            let produced = to_usize(self.raw.total_out() - produced_before)?;
            used += consumed;
            sink(&self.output[..produced], self.raw.total_in())?;
            // What came before broken data counts, so that the pieces of the input make no difference.
            if result.map_err(|_| ArchiveError::Deflate)? == Status::StreamEnd {
                return Ok(Progress { used, ended: true });
            }
            // A full output buffer may hide more output; a part-filled one means that all input was used.
            if used == input.len() && produced < self.output.len() {
                return Ok(Progress { used, ended: false });
            }
            if consumed == 0 && produced == 0 {
                return Err(ArchiveError::Deflate.into());
            }
        }
    }
}

fn to_usize(count: u64) -> Result<usize, ArchiveError> {
    usize::try_from(count).map_err(|_| ArchiveError::Deflate)
}
