//! Hashes, in lower-case hexadecimal: `hash.x(text)` and `text.x()`.

use cel::common::types::STRING_TYPE;
use cel::{DeclarationError, Env};
use crc::{CRC_32_ISO_HDLC, CRC_64_XZ, Crc};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Args, Outcome, answer_text, both, text_at};

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
static CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let text = || STRING_TYPE;
    both(env, "crc32", "hash.crc32", text, crc32)?;
    both(env, "crc64", "hash.crc64", text, crc64)?;
    both(env, "md5", "hash.md5", text, digest::<Md5>)?;
    both(env, "sha1", "hash.sha1", text, digest::<Sha1>)?;
    both(env, "sha256", "hash.sha256", text, digest::<Sha256>)?;
    both(env, "sha512", "hash.sha512", text, digest::<Sha512>)?;
    both(env, "xxhash64", "hash.xxhash64", text, xxhash64)
}

fn digest<'b, 'v, D: Digest>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let digest = D::digest(text_at(&args, 0)?.as_bytes());
    answer_text(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn crc32<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let sum = CRC32.checksum(text_at(&args, 0)?.as_bytes());
    answer_text(format!("{sum:08x}"))
}

fn crc64<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let sum = CRC64.checksum(text_at(&args, 0)?.as_bytes());
    answer_text(format!("{sum:016x}"))
}

fn xxhash64<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let sum = xxhash_rust::xxh64::xxh64(text_at(&args, 0)?.as_bytes(), 0);
    answer_text(format!("{sum:016x}"))
}
