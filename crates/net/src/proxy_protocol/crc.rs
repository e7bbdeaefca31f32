//! CRC-32C (Castagnoli) over a header whose checksum field counts as zero. Bit by bit: headers are
//! short and most carry none.
//!
//! Must never: be used for anything large.

/// The polynomial 0x1EDC6F41, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Whether `value`, which stands at `value_at` in `header`, is the header's checksum.
pub(super) fn matches(header: &[u8], value_at: usize, value: &[u8]) -> bool {
    let Ok(stated) = <[u8; 4]>::try_from(value) else {
        return false;
    };
    let field = value_at..value_at + 4;
    let bytes = header.iter().enumerate().map(|(at, byte)| if field.contains(&at) { 0 } else { *byte });
    crc32c(bytes) == u32::from_be_bytes(stated)
}

pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(super::crc32c(b"123456789".iter().copied()), 0xE306_9283);
    }
}
