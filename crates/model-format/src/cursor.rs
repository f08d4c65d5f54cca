use diagnostics::Diagnostic;

use crate::errors;

/// Reads little-endian values from the beginning of a file, with bounds checks.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Size of the file.
    file_length: u64,
    /// Number of bytes from the start of the file that the last failed read needed.
    needed: Option<u64>,
}

impl<'a> Cursor<'a> {
    /// Reads from a complete file.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::of_prefix(bytes, bytes.len() as u64)
    }

    /// Reads from the beginning of a file of `file_length` bytes.
    pub(crate) fn of_prefix(bytes: &'a [u8], file_length: u64) -> Self {
        Self {
            bytes,
            position: 0,
            file_length,
            needed: None,
        }
    }

    /// Returns how many bytes from the start of the file a failed read needed at least, if it
    /// failed only because `bytes` ends before the file does.
    pub(crate) fn needed(&self) -> Option<u64> {
        self.needed
    }

    /// Records that `count` more bytes are needed, if the file can have them.
    fn need(&mut self, count: u64) {
        let end = self.position().checked_add(count);
        self.needed = end.filter(|end| *end <= self.file_length);
    }

    /// Number of bytes read.
    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    /// Number of bytes that remain.
    pub(crate) fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// Takes the next `count` bytes; `what` names them in the error.
    pub(crate) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], Diagnostic> {
        if count > self.left() {
            self.need(count);
            return Err(errors::truncated(self.position(), what, count, self.left()));
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

    /// Reads a length and that many bytes.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a [u8], Diagnostic> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// Reads a name: UTF-8, not empty, at most `max_bytes` long.
    pub(crate) fn name(&mut self, what: &str, max_bytes: usize) -> Result<&'a str, Diagnostic> {
        let at = self.position();
        let raw = self.string(what)?;
        if raw.is_empty() || raw.len() > max_bytes {
            return Err(errors::name_length(at, what, raw.len(), max_bytes));
        }
        std::str::from_utf8(raw).map_err(|_| errors::name_not_utf8(at, what))
    }

    /// Checks that `count` entries of at least `min_bytes` each fit in the remaining bytes.
    pub(crate) fn check_count(
        &mut self,
        count: u64,
        min_bytes: u64,
        what: &str,
    ) -> Result<(), Diagnostic> {
        if count > self.left() / min_bytes {
            self.need(count.saturating_mul(min_bytes));
            return Err(errors::count_too_large(
                self.position(),
                count,
                what,
                self.left(),
            ));
        }
        Ok(())
    }
}
