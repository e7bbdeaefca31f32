//! `make bench`, `make bench-quick` and `make bench-instructions`. With `full` or `quick` it measures, with
//! `instructions` it counts; with `smoke` it tries whether
//! the targets carry bytes; with `backend`, `client`, `hold` or `delay` it is one of the processes that
//! a measurement takes.

use std::net::SocketAddr;

use anyhow::Context as _;
use portcullis_bench::bench::Bench;
use portcullis_bench::load::{self, Job, backend};
use portcullis_bench::options::{self, Options};
use portcullis_bench::{child, delay, instructions, output, peers, reach};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "portcullis-bench full | quick | instructions | smoke [TARGET…]";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tell = |addr: SocketAddr| println!("{addr}");
    match words.as_slice() {
        ["backend"] => {
            child::end_with_owner();
            backend::serve(tell)
        }
        ["delay", link] => {
            child::end_with_owner();
            delay::serve(serde_json::from_str(link)?, tell)
        }
        ["client", job] => {
            let job: Job = serde_json::from_str(job)?;
            println!("{}", serde_json::to_string(&load::run(&job)?)?);
            Ok(())
        }
        ["hold", to, bytes] => load::hold(to.parse()?, bytes.parse().context("bytes")?),
        ["instructions"] => on_one_thread(async {
            let folder = options::folder(false);
            instructions::run(folder.as_deref()).await
        }),
        ["full"] => on_one_thread(measure(false)),
        ["quick"] => on_one_thread(measure(true)),
        ["smoke", ..] => on_one_thread(peers::smoke::run(&arguments[1..])),
        _ => anyhow::bail!("usage: {USAGE}"),
    }
}

/// Until it is done or interrupted; either way what was started is ended.
fn on_one_thread(doing: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
            done = doing => done,
        }
    })
}

async fn measure(quick: bool) -> anyhow::Result<()> {
    let mut bench = Bench::new(Options::read(quick)?)?;
    bench.run().await?;
    let folder = bench.options.write.clone();
    match folder {
        Some(folder) => {
            output::write(&bench, &folder)?;
            let report = bench.report.borrow();
            println!("{}", reach::table(&reach::found(&report), &report));
            println!("written: path.* and policy.* in {}", folder.display());
        }
        None => println!(
            "{}\n{}",
            output::markdown(&bench),
            output::policy_markdown(&bench)
        ),
    }
    Ok(())
}
