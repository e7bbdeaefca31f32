//! Bytes arrive as they were sent.

use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::echo::Server;
use crate::pattern::Numbers;
use crate::rig::Rig;
use crate::verdict::{Outcome, Stop, size};
use crate::wire::{self, End, failed};

/// Connections of [`concurrent`] in a full run.
const CONNECTIONS: usize = 500;

/// Bulk in both directions at once.
pub(super) async fn both_ways(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    let bytes = rig.scale(64 << 20, 16 << 20);
    let (client, target) = rig.pair().await?;
    let (up, down) = (rig.pattern(), rig.pattern());
    let (one, other, at_target, at_client) = tokio::join!(
        wire::send(&client, up, 0, bytes, patience),
        wire::send(&target, down, 0, bytes, patience),
        wire::receive_part(&target, up, 0, bytes, patience),
        wire::receive_part(&client, down, 0, bytes, patience)
    );
    at_target.exactly(bytes, End::Open, "the target", "the whole stream")?;
    at_client.exactly(bytes, End::Open, "the client", "the whole stream")?;
    one.and(other).map_err(failed("sending in bulk"))?;
    drop(client);
    let rest = wire::drain(&target, patience).await;
    rest.whole(0, "the target", "nothing behind the stream")?;
    Ok(format!("{} each way", size(bytes)))
}

/// Requests and replies of many sizes in turns.
pub(super) async fn request_response(rig: &Rig) -> Outcome {
    let (client, target) = rig.pair().await?;
    for bytes in [1, 100, 70_000, (1 << 20) + 3, 8 << 20, 2] {
        rig.step(size(bytes));
        pass(rig, &client, &target, bytes, "the target", "the request").await?;
        pass(rig, &target, &client, bytes, "the client", "the reply").await?;
    }
    Ok(String::new())
}

async fn pass(
    rig: &Rig,
    from: &TcpStream,
    to: &TcpStream,
    bytes: u64,
    who: &str,
    what: &str,
) -> Result<(), Stop> {
    let pattern = rig.pattern();
    let (sent, received) = tokio::join!(
        wire::send(from, pattern, 0, bytes, rig.patience()),
        wire::receive_part(to, pattern, 0, bytes, rig.patience())
    );
    received.exactly(bytes, End::Open, who, what)?;
    sent.map_err(failed("sending in turns"))
}

/// Many connections at a time, each of which gets its own bytes back.
pub(super) async fn concurrent(rig: &Rig) -> Outcome {
    let listener = rig
        .listener()
        .ok_or_else(|| Stop::Fail("the target does not listen".to_owned()))?;
    let _target = Server::echo(listener);
    let count = rig.scale(CONNECTIONS, CONNECTIONS / 5);
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(rig.connect().await?);
    }
    rig.step("all are connected");
    let mut numbers = Numbers::new(rig.seed());
    let exchanges = clients.iter().map(|client| {
        let bytes = 1 + numbers.below(128 << 10);
        own_bytes_back(rig, client, bytes)
    });
    try_join_all(exchanges).await?;
    Ok(format!("{count} connections"))
}

async fn own_bytes_back(rig: &Rig, client: &TcpStream, bytes: u64) -> Result<(), Stop> {
    // All of them share the machine: what should come at once comes in turns.
    let patience = rig.patience() * 4;
    let pattern = rig.pattern();
    let (sent, received) = tokio::join!(
        wire::send(client, pattern, 0, bytes, patience),
        wire::receive_part(client, pattern, 0, bytes, patience)
    );
    received.exactly(bytes, End::Open, "a client", "its own bytes")?;
    sent.map_err(failed("sending beside others"))
}
