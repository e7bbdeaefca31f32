//! A run: rounds, in each of them every figure, in each of those every target, in another order each
//! time. What fails is told in the report and does not end the run.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use portcullis_e2e::servers::{Postgres, Redis};

use crate::child::{self, Helper};
use crate::delay::Link;
use crate::figures::{listeners, long, memory, path, policies, tools};
use crate::load::{Job, Outcome, Work};
use crate::options::Options;
use crate::report::Report;
use crate::target::{self, Running, Shape};

/// CPU of others, in cores, from which on a measurement is made again.
const FOREIGN: f64 = 0.5;
/// Repeating ends after this many of them (2 in the quick form, 25 in the full one): a machine that is
/// never quiet must not make a run endless.
const MINUTE: Duration = Duration::from_secs(60);
/// Longest warm-up of a measurement; shorter where the measurement itself is.
const WARM: Duration = Duration::from_millis(250);

/// A run and what it has so far.
pub struct Bench {
    /// What is measured.
    pub options: Options,
    /// The load generator's backend.
    pub backend: SocketAddr,
    helper: Helper,
    began: Instant,
    /// What was found.
    pub report: RefCell<Report>,
    /// What was found of policies, which is told in a file of its own.
    pub policies: RefCell<Report>,
    /// The round, from 1.
    pub round: u32,
    shuffle: u64,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

impl Bench {
    /// Starts the backend.
    ///
    /// # Errors
    /// When that fails.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let (helper, backend) = Helper::backend()?;
        Ok(Self {
            options,
            backend,
            helper,
            began: Instant::now(),
            report: RefCell::default(),
            policies: RefCell::default(),
            round: 0,
            shuffle: u64::from(std::process::id()),
            postgres: None,
            redis: None,
        })
    }

    /// All rounds.
    ///
    /// # Errors
    /// When nothing can be measured at all.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        if self.options.has("postgres") {
            self.postgres = tools::postgres().await;
        }
        if self.options.has("redis") {
            self.redis = tools::redis().await;
        }
        for round in 1..=self.options.rounds {
            self.round = round;
            path::measure(self).await;
            if self.options.has("long-link") {
                long::measure_stream(self).await;
            }
            if self.options.has("burst") {
                long::measure_bursts(self).await;
            }
            if self.options.has("listeners") {
                listeners::measure(self).await;
            }
            if self.options.has("policies") {
                policies::measure(self).await;
            }
            if self.is_slow_round() {
                self.slow().await;
            }
            // It is the same kernel path as bulk with another generator: once is enough to compare.
            if self.options.has("iperf3") && round == 1 {
                tools::measure_iperf(self).await;
            }
        }
        Ok(())
    }

    /// What takes long, and scatters little or is no gate: in every second round.
    async fn slow(&mut self) {
        if self.options.has("memory") {
            memory::measure(self).await;
        }
        if let Some(port) = self.postgres.as_ref().map(|server| server.port) {
            tools::measure_postgres(self, port).await;
        }
        if let Some(port) = self.redis.as_ref().map(|server| server.port) {
            tools::measure_redis(self, port).await;
        }
    }

    /// Whether what takes long is measured in this round.
    pub fn is_slow_round(&self) -> bool {
        self.options.every_round || self.round % 2 == 1
    }

    /// A line of progress.
    pub fn say(&self, text: impl Display) {
        let at = self.began.elapsed().as_secs_f64();
        let rounds = self.options.rounds;
        eprintln!("[{at:7.1} s] round {}/{rounds} {text}", self.round);
    }

    /// The targets in an order drawn anew, those of `shapes` only.
    pub fn shuffled(&mut self, shapes: &[Shape]) -> Vec<(&'static str, Shape)> {
        let mut targets = self.options.targets.clone();
        targets.retain(|(_, shape)| shapes.contains(shape));
        for at in (1..targets.len()).rev() {
            // A step of splitmix64.
            self.shuffle = self.shuffle.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed =
                (self.shuffle ^ (self.shuffle >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed ^= mixed >> 27;
            targets.swap(at, (mixed % (at as u64 + 1)) as usize);
        }
        targets
    }

    /// Starts a target, and waits until bytes go through it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self, name: &str) -> anyhow::Result<Running> {
        let running = target::start(name, self.backend, &|at| at).await?;
        target::carries(running.addr).await?;
        Ok(running)
    }

    /// Starts a target with a link between its two ends; the relays end with the second part.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_over(
        &self,
        name: &str,
        round_trip: Duration,
        rate: Option<u64>,
    ) -> anyhow::Result<(Running, Vec<Helper>)> {
        let relays = RefCell::new(Vec::new());
        let failure = RefCell::new(None);
        let map = |to: SocketAddr| {
            // Another address of loopback with the same port, which some peers cannot choose.
            let [high, low] = to.port().to_be_bytes();
            let listen = SocketAddr::from((Ipv4Addr::new(127, 9, high, low), to.port()));
            let link = Link {
                listen: Some(listen),
                to,
                round_trip,
                rate,
            };
            match Helper::delay(&link) {
                Ok((helper, addr)) => {
                    relays.borrow_mut().push(helper);
                    addr
                }
                Err(error) => {
                    *failure.borrow_mut() = Some(error);
                    to
                }
            }
        };
        let running = target::start(name, self.backend, &map).await?;
        if let Some(error) = failure.take() {
            return Err(error.context("the relay"));
        }
        target::carries(running.addr).await?;
        Ok((running, relays.into_inner()))
    }

    /// A job of the usual length.
    pub fn job(&self, work: Work, running: &Running) -> Job {
        let time = self.options.time;
        Job {
            work,
            to: running.addr,
            backend: self.backend,
            warm: WARM.min(time / 2),
            time,
            pids: running.pids.clone(),
            known: vec![std::process::id(), self.helper.pid()],
        }
    }

    /// Does a job, again if others used the machine meanwhile; the quietest outcome.
    ///
    /// # Errors
    /// When the client measures nothing.
    pub async fn measure(&self, job: &Job) -> anyhow::Result<Outcome> {
        let mut best: Option<Outcome> = None;
        for _ in 0..self.options.repeats.max(1) {
            let outcome = child::client(job).await?;
            let foreign = outcome.cpu.foreign / outcome.seconds;
            let quieter = best
                .as_ref()
                .is_none_or(|best| foreign < best.cpu.foreign / best.seconds);
            if quieter {
                best = Some(outcome);
            }
            let patience = if self.options.quick { 2 } else { 25 } * MINUTE;
            if foreign <= FOREIGN || self.began.elapsed() > patience {
                break;
            }
        }
        best.ok_or_else(|| anyhow::anyhow!("nothing was measured"))
    }

    /// Notes that a figure of policies could not be measured.
    pub fn policies_fail(&self, section: &str, target: &str, error: &anyhow::Error) {
        let why = format!("{error:#}");
        self.say(format_args!("{section}: {target} failed: {why}"));
        self.policies.borrow_mut().fail(section, target, &why);
    }

    /// Notes that a target could not be measured.
    pub fn fail(&self, section: &str, target: &str, error: &anyhow::Error) {
        let why = format!("{error:#}");
        self.say(format_args!("{section}: {target} failed: {why}"));
        self.report.borrow_mut().fail(section, target, &why);
    }
}
