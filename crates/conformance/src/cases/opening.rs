//! How connections begin, and those that end before they really began.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::pattern::Pattern;
use crate::rig::Rig;
use crate::verdict::{Outcome, Stop, fail};
use crate::wire::{self, End, failed};

/// The target greets; the client has said nothing.
pub(super) async fn server_speaks_first(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    for greeting in [1, 50, 100_000] {
        let (client, target) = rig.pair().await?;
        let (down, up) = (rig.pattern(), rig.pattern());
        let (sent, received) = tokio::join!(
            wire::send(&target, down, 0, greeting, patience),
            wire::receive_part(&client, down, 0, greeting, patience)
        );
        received.exactly(greeting, End::Open, "the client", "the greeting")?;
        sent.map_err(failed("sending the greeting"))?;
        wire::send(&client, up, 0, 50, patience)
            .await
            .map_err(failed("answering the greeting"))?;
        wire::receive_part(&target, up, 0, 50, patience)
            .await
            .exactly(50, End::Open, "the target", "the answer")?;
    }
    Ok(String::new())
}

/// Clients connect and close. Each is one connection at the target, without a byte, ended cleanly.
pub(super) async fn zero_length(rig: &Rig) -> Outcome {
    let count = rig.scale(500, 100);
    let mut seen = 0;
    for _ in 0..count {
        drop(rig.connect().await?);
        // Those of a while ago should be there by now; the target stays at most ten behind.
        if let Some(target) = rig.accept_within(Duration::from_millis(20)).await {
            seen += 1;
            ended_empty(rig, &target).await?;
        }
    }
    while seen < count {
        let Some(target) = rig.accept_within(rig.patience()).await else {
            return fail(format!(
                "the target expected {count} connections; it saw {seen}"
            ));
        };
        seen += 1;
        ended_empty(rig, &target).await?;
    }
    if rig
        .accept_within(Duration::from_millis(200))
        .await
        .is_some()
    {
        return fail(format!(
            "the target expected {count} connections; it saw more"
        ));
    }
    Ok(format!("{count} sessions"))
}

async fn ended_empty(rig: &Rig, target: &TcpStream) -> Result<(), Stop> {
    let received = wire::drain(target, rig.patience()).await;
    received.whole(0, "the target", "an empty session")
}

/// Nobody listens at the target: the client sees a refusal, a reset or an end, not silence.
pub(super) async fn refused(rig: &Rig) -> Outcome {
    rig.close_target();
    let seen = refused_client(rig).await;
    rig.open_target().map_err(failed("listening again"))?;
    seen
}

async fn refused_client(rig: &Rig) -> Outcome {
    let client = match rig.try_connect().await {
        Ok(client) => client,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            return fail(format!(
                "the client expected a refusal, a reset or an end; it could not connect for {:?}",
                rig.patience()
            ));
        }
        Err(_) => return Ok("refused".to_owned()),
    };
    // A proxy may dial late and want to see a byte first; one that has closed already refuses it.
    drop(wire::send(&client, rig.pattern(), 0, 10, rig.patience()).await);
    let received = wire::drain(&client, rig.patience() * 3).await;
    match (received.bytes, received.end) {
        (0, End::Clean | End::Reset) => Ok(received.end.to_string()),
        _ => fail(format!(
            "the client expected a refusal, a reset or an end; it saw {received}"
        )),
    }
}

/// The target is slow to accept.
pub(super) async fn accepted_late(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    let (up, down) = (rig.pattern(), rig.pattern());
    let bytes = 20_000;
    let client = rig.connect().await?;
    wire::send(&client, up, 0, bytes, patience)
        .await
        .map_err(failed("sending before the target accepts"))?;
    tokio::time::sleep(rig.scale(Duration::from_secs(3), rig.a_while())).await;
    let target = rig.accept().await?;
    wire::receive_part(&target, up, 0, bytes, patience)
        .await
        .exactly(bytes, End::Open, "the target", "sent before it accepted")?;
    wire::send(&target, down, 0, bytes, patience)
        .await
        .map_err(failed("answering"))?;
    drop(target);
    let received = wire::receive(&client, down, patience).await;
    received.whole(bytes, "the client", "the answer")?;
    Ok(String::new())
}

/// The client sends and closes while the target has not accepted.
pub(super) async fn ends_before_accept(rig: &Rig) -> Outcome {
    for bytes in [1, 1000, 60_000] {
        let client = rig.connect().await?;
        let pattern = rig.pattern();
        wire::send(&client, pattern, 0, bytes, rig.patience())
            .await
            .map_err(failed("sending before the target accepts"))?;
        drop(client);
        tokio::time::sleep(rig.a_while()).await;
        let target = rig.accept().await?;
        let received = wire::receive(&target, pattern, rig.patience()).await;
        received.whole(bytes, "the target", "sent before it accepted")?;
    }
    Ok(String::new())
}

/// The client sends and resets: while the target has not accepted, and then again and again while the
/// proxy is about to connect. The target may see none of them, but none that looks complete or stays open.
pub(super) async fn resets_before_accept(rig: &Rig) -> Outcome {
    for stays in [Duration::ZERO, rig.a_while()] {
        let client = rig.connect().await?;
        let pattern = rig.pattern();
        send_and_reset(rig, client, pattern, stays).await?;
        tokio::time::sleep(rig.a_while()).await;
        if let Some(target) = rig.accept_within(rig.a_while()).await {
            let received = wire::receive(&target, pattern, rig.patience()).await;
            received.cut(1000, "the target")?;
        }
    }
    let mut seen = 0;
    let times = rig.scale(100, 30);
    for time in 0..times {
        rig.step(format!("the {time}th time"));
        let client = rig.connect().await?;
        let stays = Duration::from_micros(time % 10 * 200);
        send_and_reset(rig, client, rig.pattern(), stays).await?;
        seen += broken_ones(rig, Duration::from_millis(20)).await?;
    }
    seen += broken_ones(rig, rig.a_while()).await?;
    Ok(format!("{seen} of {times} were seen by the target"))
}

async fn send_and_reset(
    rig: &Rig,
    client: TcpStream,
    pattern: Pattern,
    stays: Duration,
) -> Result<(), Stop> {
    wire::send(&client, pattern, 0, 1000, rig.patience())
        .await
        .map_err(failed("sending before the target accepts"))?;
    tokio::time::sleep(stays).await;
    wire::reset(client).map_err(failed("resetting"))
}

/// Connections that reach the target within `patience`; each must be broken.
async fn broken_ones(rig: &Rig, patience: Duration) -> Result<u64, Stop> {
    let mut count = 0;
    while let Some(target) = rig.accept_within(patience).await {
        let received = wire::drain(&target, rig.patience()).await;
        received.cut(1000, "the target")?;
        count += 1;
    }
    Ok(count)
}
