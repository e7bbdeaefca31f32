//! An exact amount of work, one thing after another, for what is counted and not timed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use super::ECHO;

/// Longest wait for an answer; under valgrind everything takes fifty times as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens `connections` one after another; on each of them `trips` times `bytes` go and come back.
///
/// # Errors
/// When one of them fails.
pub fn exact(to: SocketAddr, connections: u32, trips: u32, bytes: usize) -> anyhow::Result<()> {
    let message = vec![ECHO; bytes];
    let mut answer = vec![0; bytes];
    for number in 0..connections {
        let mut stream = TcpStream::connect(to).context("connects")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        for _ in 0..trips {
            stream.write_all(&message)?;
            stream
                .read_exact(&mut answer)
                .with_context(|| format!("the answer on connection {number}"))?;
        }
    }
    Ok(())
}
