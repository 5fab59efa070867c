//! What is needed of `MessagePack` to read what others wrote: values one after the other, and passing over the rest.

use rmp::Marker;
use rmp::decode::{self, Bytes, RmpRead as _};

/// Why `MessagePack` cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// Something else stands there than what should.
    #[error("the MessagePack holds no {0} where one should be")]
    Expected(&'static str),
    /// It ends too early.
    #[error("the MessagePack ends too early")]
    Truncated,
    /// Lists in lists in lists.
    #[error("the MessagePack is nested too deeply")]
    Depth,
}

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// Reads values, the first one first.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn read<T, E>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Bytes<'a>) -> Result<T, E>,
    ) -> Result<T, MsgpackError> {
        let mut bytes = Bytes::new(self.rest);
        let value = read(&mut bytes).map_err(|_| MsgpackError::Expected(what))?;
        self.rest = bytes.remaining_slice();
        Ok(value)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MsgpackError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MsgpackError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_long(&mut self, length: u32) -> Result<&'a [u8], MsgpackError> {
        self.take(usize::try_from(length).map_err(|_| MsgpackError::Truncated)?)
    }

    /// How many entries a map has, which follow: a key and a value each.
    pub(super) fn map(&mut self) -> Result<u32, MsgpackError> {
        self.read("map", decode::read_map_len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, MsgpackError> {
        let length = self.read("text", decode::read_str_len)?;
        std::str::from_utf8(self.take_long(length)?).map_err(|_| MsgpackError::Expected("text"))
    }

    /// Bytes; where a text stands instead, none.
    pub(super) fn bytes(&mut self) -> Result<Option<&'a [u8]>, MsgpackError> {
        let mut after = self.clone();
        if let Ok(length) = after.read("bytes", decode::read_bin_len) {
            let taken = after.take_long(length)?;
            *self = after;
            return Ok(Some(taken));
        }
        self.skip()?;
        Ok(None)
    }

    /// A text; where something else stands, none.
    pub(super) fn text_if(&mut self) -> Result<Option<&'a str>, MsgpackError> {
        let mut after = self.clone();
        if let Ok(text) = after.text() {
            *self = after;
            return Ok(Some(text));
        }
        self.skip()?;
        Ok(None)
    }

    /// A whole number; where something else stands, none.
    pub(super) fn number_if(&mut self) -> Result<Option<u64>, MsgpackError> {
        let mut after = self.clone();
        if let Ok(number) = after.read("number", decode::read_int::<u64, _>) {
            *self = after;
            return Ok(Some(number));
        }
        self.skip()?;
        Ok(None)
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self) -> Result<(), MsgpackError> {
        // How many values are still to come at each depth.
        let mut open: Vec<u64> = vec![1];
        while let Some(left) = open.last_mut() {
            if *left == 0 {
                open.pop();
                continue;
            }
            *left -= 1;
            let inside = self.skip_head()?;
            if inside > 0 {
                if open.len() >= MAX_DEPTH {
                    return Err(MsgpackError::Depth);
                }
                open.push(inside);
            }
        }
        Ok(())
    }

    /// Passes over one value, or the head of one that holds others: how many of them follow.
    fn skip_head(&mut self) -> Result<u64, MsgpackError> {
        let marker = self.read("value", Bytes::read_u8)?;
        let length = |reader: &mut Self, bytes: usize| {
            let taken = reader.take(bytes)?;
            Ok(taken.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
        };
        let passed = match Marker::from_u8(marker) {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::Reserved => return Err(MsgpackError::Expected("value")),
            Marker::FixMap(entries) => return Ok(2 * u64::from(entries)),
            Marker::FixArray(values) => return Ok(u64::from(values)),
            Marker::Array16 => return length(self, 2),
            Marker::Array32 => return length(self, 4),
            Marker::Map16 => return Ok(2 * length(self, 2)?),
            Marker::Map32 => return Ok(2 * length(self, 4)?),
            Marker::FixStr(bytes) => u64::from(bytes),
            Marker::Str8 | Marker::Bin8 => length(self, 1)?,
            Marker::Str16 | Marker::Bin16 => length(self, 2)?,
            Marker::Str32 | Marker::Bin32 => length(self, 4)?,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => length(self, 1)? + 1,
            Marker::Ext16 => length(self, 2)? + 1,
            Marker::Ext32 => length(self, 4)? + 1,
        };
        self.take(usize::try_from(passed).map_err(|_| MsgpackError::Truncated)?)?;
        Ok(0)
    }
}
