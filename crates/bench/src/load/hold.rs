//! Connections that are busy once and then idle, for the memory figures.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use super::ECHO;

/// Connections that are busy at the same time.
const BATCH: usize = 32;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads counts from standard input, a line each; opens connections until as many are held, each of
/// which sends `bytes` and gets them back; and says `held COUNT`. Standard input's end ends it.
///
/// # Errors
/// When a connection fails.
pub fn hold(to: SocketAddr, bytes: usize) -> anyhow::Result<()> {
    let mut held: Vec<TcpStream> = Vec::new();
    let message = vec![ECHO; bytes];
    let mut answer = vec![0; bytes];
    for line in std::io::stdin().lock().lines() {
        let wanted: usize = line?.trim().parse().context("a count")?;
        while held.len() < wanted {
            let first = held.len();
            for number in first..wanted.min(first + BATCH) {
                let stream =
                    TcpStream::connect(to).with_context(|| format!("connection {number}"))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                held.push(stream);
            }
            for mut stream in &held[first..] {
                stream.write_all(&message)?;
            }
            for (number, mut stream) in held[first..].iter().enumerate() {
                stream
                    .read_exact(&mut answer)
                    .with_context(|| format!("the answer on connection {}", first + number))?;
            }
        }
        println!("held {}", held.len());
    }
    Ok(())
}
