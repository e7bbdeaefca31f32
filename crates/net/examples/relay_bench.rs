//! A bare forwarder for measuring: accept, dial, relay, and nothing of the edge. Run it as
//! `relay_bench 127.0.0.1:LISTEN 127.0.0.1:TARGET` and drive it with iperf3 or a load generator.
//!
//! Must never: grow a feature of the product; it is what the product's figures are compared with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_net::accept::{self, AcceptOptions};
use portcullis_net::listen::{ListenOptions, listen};
use portcullis_net::resolve::Resolver;
use portcullis_net::upstream::{Upstream, dial};
use portcullis_net::{Counters, RelayLimits, TcpConn, relay, task};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: relay_bench LISTEN TARGET");
    let (at, target): (SocketAddr, String) = (next()?.parse()?, next()?);
    let target: Arc<Upstream> = Arc::new(target.parse()?);
    let resolver = Arc::new(Resolver::system()?);
    let kill = CancellationToken::new();
    let options = AcceptOptions {
        permits: Arc::new(Semaphore::new(100_000)),
        shutdown: kill.clone(),
        observer: Arc::new(()),
    };
    let limits = RelayLimits {
        idle: Some(Duration::from_secs(300)),
        half_close: Some(Duration::from_secs(300)),
        ..RelayLimits::default()
    };
    let listener = listen(at, ListenOptions::default())?;
    // A task, as in the product: the main thread is no worker, and every hand-over from it is a wake-up.
    let accepting = accept::run(listener, options, move |client, _, permit| {
        let (target, resolver, kill) = (
            Arc::clone(&target),
            Arc::clone(&resolver),
            kill.child_token(),
        );
        drop(task::spawn("relay", async move {
            let deadline = Instant::now() + Duration::from_secs(10);
            if let Ok(mut upstream) = dial(&target, &resolver, deadline, None).await {
                let mut client = TcpConn::new(client);
                let counters = Counters::new();
                relay(&mut client, &mut upstream, &limits, &counters, &kill).await;
            }
            drop(permit);
        }));
    });
    task::spawn("accept", accepting).await??;
    Ok(())
}
