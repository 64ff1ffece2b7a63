//! CRC-32 (IEEE). The only file that names `crc32fast`. A checksum is always seeded with something that is not
//! zero, so that a run of zero bytes never looks like a valid structure.

/// A checksum being computed.
#[derive(Debug, Clone)]
pub struct Crc(crc32fast::Hasher);

impl Crc {
    /// Starts a checksum over `seed` (what the bytes belong to) before the bytes themselves.
    #[must_use]
    pub fn seeded(seed: &[u8]) -> Crc {
        let mut hasher = crc32fast::Hasher::new_with_initial(0x5354_4f52);
        hasher.update(seed);
        Crc(hasher)
    }

    /// Continues from a state taken with [`Crc::value`].
    #[must_use]
    pub fn resume(value: u32) -> Crc {
        Crc(crc32fast::Hasher::new_with_initial(value))
    }

    /// Adds bytes.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "bytes are added to a checksum; nobody looks for `+` here")]
    pub fn add(mut self, bytes: &[u8]) -> Crc {
        self.0.update(bytes);
        self
    }

    /// The checksum of everything added.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0.finalize()
    }
}
