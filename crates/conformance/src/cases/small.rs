//! Byte by byte.

use tokio::net::TcpStream;

use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, End, failed};

/// One end writes single bytes, then the other as many.
pub(super) async fn tiny_writes(rig: &Rig, side: Side) -> Outcome {
    let count = rig.scale(10_000, 2000);
    let (acting, watching) = rig.pair_by(side).await?;
    rig.step("the acting end writes");
    one_by_one(rig, &acting, &watching, count, side.other_name()).await?;
    rig.step("the other end answers");
    one_by_one(rig, &watching, &acting, count, side.name()).await?;
    Ok(format!("{count} writes"))
}

async fn one_by_one(
    rig: &Rig,
    from: &TcpStream,
    to: &TcpStream,
    count: u64,
    who: &str,
) -> Result<(), Stop> {
    from.set_nodelay(true)
        .map_err(failed("switching off Nagle's algorithm"))?;
    let pattern = rig.pattern();
    let write = async {
        for byte in pattern.bytes(0, usize::try_from(count).unwrap_or(usize::MAX)) {
            wire::write(from, &[byte], rig.patience()).await?;
        }
        Ok(())
    };
    let receive = wire::receive_part(to, pattern, 0, count, rig.patience());
    let (sent, received) = tokio::join!(write, receive);
    received.exactly(count, End::Open, who, "written one by one")?;
    sent.map_err(failed("writing single bytes"))
}
