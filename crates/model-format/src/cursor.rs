use diagnostics::Diagnostic;

use crate::invalid;

/// Reads little-endian values from the front of a file, never beyond the bytes at hand.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    /// Bytes that follow.
    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// The next `count` bytes; `what` names them in the error.
    pub(crate) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], Diagnostic> {
        if count > self.left() {
            return Err(invalid(
                self.position(),
                format!(
                    "expected {what} of {count} bytes, only {} are left",
                    self.left()
                ),
            ));
        }
        let end = self.position + count as usize;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Diagnostic> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Diagnostic> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Diagnostic> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length and that many bytes.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a [u8], Diagnostic> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// A string that names something: UTF-8, not empty, of limited length.
    pub(crate) fn name(&mut self, what: &str, max_bytes: usize) -> Result<&'a str, Diagnostic> {
        let at = self.position();
        let raw = self.string(what)?;
        if raw.is_empty() || raw.len() > max_bytes {
            return Err(invalid(
                at,
                format!(
                    "{what} has {} bytes, allowed are 1 to {max_bytes}",
                    raw.len()
                ),
            ));
        }
        std::str::from_utf8(raw).map_err(|_| invalid(at, format!("{what} is not UTF-8")))
    }

    /// Checks that `count` entries of at least `least_bytes` each can follow at all.
    pub(crate) fn check_count(
        &self,
        count: u64,
        least_bytes: u64,
        what: &str,
    ) -> Result<(), Diagnostic> {
        if count > self.left() / least_bytes {
            return Err(invalid(
                self.position(),
                format!(
                    "{count} {what} do not fit into the {} bytes left",
                    self.left()
                ),
            ));
        }
        Ok(())
    }
}
