//! What policies cost: connections through listeners of one server that differ in nothing but their policies,
//! measured in turn; the memory of many endpoints with a policy each; and whether policies that change under load
//! decide every connection.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_e2e::reload::{Load, Reloading};
use portcullis_e2e::{Api, Process, ports, stack};
use serde_json::{Value, json};

use super::memory::settled;
use crate::bench::Bench;
use crate::load::{Outcome, Work};
use crate::report::{Column, Spread, number};
use crate::target::{self, Running};

/// Connections, by policy.
pub const RATES: &str = "policies: connections, 64 at once";
/// Memory of endpoints.
pub const MEMORY: &str = "policies: memory of an endpoint";
/// Policies that change.
pub const RELOAD: &str = "policies: a change every 50 ms";

/// The two rows of listeners without a policy; the mean of both is what the others are compared with.
const NONE: [&str; 2] = ["no policy", "no policy, again"];
/// Networks of the IP policy.
const MANY: u32 = 100_000;
/// Longest that a server may take to start or end, or to take the networks.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them, where the server is a target.
pub async fn measure(bench: &mut Bench) {
    let mut targets = bench.options.targets.iter();
    if !targets.any(|(name, _)| *name == "server") {
        return;
    }
    if let Err(error) = target::caught(rates(bench)).await {
        bench.policies_fail(RATES, "server", &error);
    }
    if !bench.is_slow_round() {
        return;
    }
    if let Err(error) = target::caught(memory(bench)).await {
        bench.policies_fail(MEMORY, "server", &error);
    }
    if let Err(error) = target::caught(reload(bench)).await {
        bench.policies_fail(RELOAD, "server", &error);
    }
}

/// Ten rules that look at port and address, none of which matches; the first half of one in seven does.
fn ten_rules() -> String {
    rules_of(0)
}

/// The same for an endpoint of its own: no expression is another's.
fn rules_of(endpoint: u32) -> String {
    let mut text = String::from("on_tcp_connect:\n");
    for n in 0..10 {
        let condition = format!(
            "conn.client_port % 7 == {} && conn.client_ip.startsWith('10.{n}.{endpoint}')",
            n % 7
        );
        // Writing to a text does not fail.
        writeln!(
            text,
            "  - {{expressions: [\"{condition}\"], actions: [{{type: deny}}]}}"
        )
        .ok();
    }
    text
}

fn one_cidr() -> String {
    "on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: [127.0.0.0/8]}}]}]".to_owned()
}

/// Name and policy of every listener.
fn listeners(ip_policy: &str) -> Vec<(&'static str, Option<String>)> {
    let many = format!(
        "on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{ip_policies: [{ip_policy}]}}}}]}}]"
    );
    vec![
        (NONE[0], None),
        ("empty policy", Some("on_tcp_connect: []".to_owned())),
        ("one CIDR", Some(one_cidr())),
        ("100,000 CIDRs", Some(many)),
        ("10 rules of CEL", Some(ten_rules())),
        (NONE[1], None),
    ]
}

/// A server of its own directory, and its API.
struct Server {
    process: Process,
    api: Api,
}

/// Starts a server with these endpoints; `ports` has one for agents and one for the API at its end.
async fn start(
    dir: &Path,
    ports: &std::ops::RangeInclusive<u16>,
    endpoints: &str,
) -> anyhow::Result<Server> {
    let (agents, api) = (*ports.end() - 1, *ports.end());
    let config = format!(
        "{}api: {{listen: \"127.0.0.1:{api}\"}}\n{endpoints}",
        target::CONFIG
    );
    let path = dir.join("server.yml");
    std::fs::write(&path, config)?;
    let mut command = stack::portcullis(dir);
    command.args(["server", "--host", "localhost"]);
    command.args(["--port-range", "10000-10001"]);
    command.args(["--agents-listen", &format!("127.0.0.1:{agents}")]);
    command.arg("--data-dir").arg(dir.join("data"));
    command.arg("--config").arg(path);
    let process = Process::start("server", command);
    let url = format!("http://127.0.0.1:{api}");
    let ready = Api::new(&url, "");
    portcullis_e2e::within(PATIENCE, "the server is ready", || async {
        let answer = ready.send("GET", "/readyz", None).await;
        matches!(answer, Ok((200, _))).then_some(())
    })
    .await;
    let key = std::fs::read_to_string(dir.join("data/admin.key")).context("admin.key")?;
    Ok(Server {
        process,
        api: Api::new(&url, &key),
    })
}

fn endpoint(config: &mut String, place: &str, upstream: SocketAddr, policy: Option<&str>) {
    // Writing to a text does not fail.
    write!(config, "  - {place}\n    upstream: \"{upstream}\"\n").ok();
    if let Some(policy) = policy {
        config.push_str("    traffic_policy: |\n");
        for line in policy.lines() {
            writeln!(config, "      {line}").ok();
        }
    }
}

/// An IP policy of many networks, none but the last of which holds the client.
async fn many_networks(api: &Api) -> anyhow::Result<String> {
    let rule = |cidr: String| json!({"cidr": cidr, "action": "allow"});
    let first = u32::from(Ipv4Addr::new(11, 0, 0, 0));
    let mut rules: Vec<Value> = (0..MANY - 1)
        .map(|n| rule(format!("{}/24", Ipv4Addr::from(first + n * 256))))
        .collect();
    rules.push(rule("127.0.0.0/8".to_owned()));
    let made = api.post("/ip_policies", json!({"rules": rules})).await;
    let id = made["id"].as_str().context("an id")?;
    Ok(id.to_owned())
}

/// Short connections through each listener in turn.
async fn rates(bench: &Bench) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("ptc-").tempdir()?;
    let count = u16::try_from(listeners("").len())?;
    let block = ports::block(count + 2);
    let mut server = start(dir.path(), &block, "").await?;
    let many = many_networks(&server.api).await?;
    server.process.terminate(PATIENCE);
    let mut config = String::from("endpoints:\n");
    let mut targets = Vec::new();
    for (port, (name, policy)) in block.clone().zip(listeners(&many)) {
        let place = format!("port: {port}");
        endpoint(&mut config, &place, bench.backend, policy.as_deref());
        targets.push((name, SocketAddr::from(([127, 0, 0, 1], port)), Vec::new()));
    }
    let server = start(dir.path(), &block, &config).await?;
    let mut running = Running {
        addr: targets.first().context("a listener")?.1,
        pids: vec![server.process.pid()],
        guards: vec![],
    };
    for (_, addr, _) in &targets {
        target::carries(*addr).await?;
    }
    settled(&running.pids).await;
    // Rates of seconds that follow each other differ by more than a policy costs: many short turns.
    let turns = if bench.options.quick { 3 } else { 7 };
    for turn in 0..turns {
        for (_, addr, outcomes) in &mut targets {
            running.addr = *addr;
            let job = bench.job(Work::Connections { at_once: 64 }, &running);
            outcomes.push(bench.measure(&job).await?);
        }
        // The next turn begins elsewhere, and goes the other way.
        targets.rotate_left(turn % 3);
        targets.reverse();
    }
    note(bench, &targets);
    Ok(())
}

type Measured = (&'static str, SocketAddr, Vec<Outcome>);

/// Medians, and ratios formed within each turn.
fn note(bench: &Bench, targets: &[Measured]) {
    let cpu = |outcome: &Outcome| outcome.cpu.target / outcome.operations as f64;
    let bases: Vec<&Vec<Outcome>> = targets
        .iter()
        .filter(|(name, ..)| NONE.contains(name))
        .map(|(.., outcomes)| outcomes)
        .collect();
    let base = |turn: usize, of: &dyn Fn(&Outcome) -> f64| {
        let all = bases.iter().filter_map(|outcomes| outcomes.get(turn));
        let (sum, count) = all.fold((0.0, 0.0), |(sum, count), one| (sum + of(one), count + 1.0));
        sum / count
    };
    for (name, _, outcomes) in targets {
        let median = |of: &dyn Fn(usize, &Outcome) -> f64| {
            let each: Vec<f64> = outcomes
                .iter()
                .enumerate()
                .map(|(turn, outcome)| of(turn, outcome))
                .collect();
            Spread::of(&each).map_or(f64::NAN, |spread| spread.median)
        };
        let ratio = median(&|turn, one| one.rate() / base(turn, &Outcome::rate));
        let mut report = bench.policies.borrow_mut();
        for (column, value) in [
            (Column::higher("to no policy", "×"), ratio),
            (Column::higher("rate", "1/s"), median(&|_, one| one.rate())),
            (Column::lower("p99", "ms"), median(&|_, one| one.p99 / 1e3)),
            (Column::lower("CPU", "µs"), median(&|_, one| cpu(one) * 1e6)),
            (
                Column::lower("CPU to no policy", "×"),
                median(&|turn, one| cpu(one) / base(turn, &cpu)),
            ),
            (
                Column::lower("failed or stuck", ""),
                outcomes
                    .iter()
                    .map(|one| (one.errors + one.stuck) as f64)
                    .sum(),
            ),
        ] {
            report.add(RATES, column, name, bench.round, value);
        }
        drop(report);
        bench.say(format_args!("{RATES}: {name} × {}", number(ratio)));
    }
}

/// Resident memory of a server with many internal endpoints, by what policy each has.
async fn memory(bench: &Bench) -> anyhow::Result<()> {
    let count = if bench.options.quick { 2_000 } else { 10_000 };
    // More do not fit into a configuration file of 4 MiB.
    let long = count.min(3_000);
    let kinds: [(&str, u32, PolicyOf); 4] = [
        ("no policy", count, |_| None),
        ("one CIDR", count, |_| Some(one_cidr())),
        ("10 rules of CEL", long, |_| Some(ten_rules())),
        ("10 rules of CEL, each its own", long, |n| {
            Some(rules_of(n + 1))
        }),
    ];
    let mut before = resident(bench, 0, |_| None).await?;
    let (first, most) = (before, count);
    for (name, count, policy) in kinds {
        let now = resident(bench, count, policy).await?;
        let each = |bytes: f64| bytes / 1024.0 / f64::from(count);
        if name == NONE[0] {
            before = now - first;
        }
        // Of fewer endpoints, their part of what endpoints take without a policy.
        let own = each(now - first - before * f64::from(count) / f64::from(most));
        let row = format!("{name}, {} endpoints", number(f64::from(count)));
        let mut report = bench.policies.borrow_mut();
        for (column, value) in [
            (Column::lower("of the policy", "KiB"), own),
            (
                Column::lower("of the endpoint in all", "KiB"),
                each(now - first),
            ),
            (Column::lower("server", "MiB"), now / 1_048_576.0),
        ] {
            report.add(MEMORY, column, &row, bench.round, value);
        }
        drop(report);
        bench.say(format_args!("{MEMORY}: {row} {} KiB", number(own)));
    }
    Ok(())
}

/// The policy of an endpoint, by its number.
type PolicyOf = fn(u32) -> Option<String>;

async fn resident(bench: &Bench, count: u32, policy: PolicyOf) -> anyhow::Result<f64> {
    let dir = tempfile::Builder::new().prefix("ptc-").tempdir()?;
    let block = ports::block(2);
    let mut config = String::from(if count > 0 { "endpoints:\n" } else { "" });
    for n in 0..count {
        let place = format!("url: tcp://e{n}.internal:1");
        endpoint(&mut config, &place, bench.backend, policy(n).as_deref());
    }
    let server = start(dir.path(), &block, &config).await?;
    Ok(settled(&[server.process.pid()]).await.resident)
}

/// The load of the end-to-end test at the rate.
async fn reload(bench: &Bench) -> anyhow::Result<()> {
    let reloading = Reloading::start(target::CONFIG).await;
    let found = reloading
        .under(Load {
            rate: 5_000,
            at_once: 128,
            time: Duration::from_secs(if bench.options.quick { 3 } else { 10 }),
            every: Duration::from_millis(50),
        })
        .await;
    for told in &found.told {
        bench.say(format_args!("{RELOAD}: {told}"));
    }
    let mut report = bench.policies.borrow_mut();
    for (column, value) in [
        (Column::higher("connections", "1/s"), found.rate()),
        (Column::higher("versions", ""), found.versions as f64),
        (Column::lower("decided wrongly", ""), found.wrong as f64),
        (Column::lower("lost", ""), found.lost as f64),
    ] {
        report.add(RELOAD, column, "server", bench.round, value);
    }
    drop(report);
    bench.say(format_args!(
        "{RELOAD}: {}/s, {} wrong, {} lost",
        number(found.rate()),
        found.wrong,
        found.lost
    ));
    Ok(())
}
