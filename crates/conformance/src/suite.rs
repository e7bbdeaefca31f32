//! Runs the cases one after another and keeps what they saw.

use std::time::{Duration, Instant};

use crate::cases::{Case, all};
use crate::options::Options;
use crate::report::{CaseReport, Report};
use crate::rig::Rig;
use crate::verdict::{Outcome, Stop, Verdict};

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// `only` names a case that does not exist.
    #[error("there is no case named {0:?}")]
    UnknownCase(String),
    /// The target's address cannot be listened on.
    #[error("cannot listen on the target's address {at}")]
    Listen {
        /// The address.
        at: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing goes from the proxy's public side to the target.
    #[error("nothing goes from {listen} to {target}: {why}")]
    NotForwarding {
        /// The proxy's public side.
        listen: std::net::SocketAddr,
        /// Where the suite listens.
        target: std::net::SocketAddr,
        /// What was seen.
        why: String,
    },
}

/// Runs the cases; `progress` hears of each as it ends. Needs a multi-threaded tokio runtime, and
/// about 2,500 file descriptors (quick: 700).
///
/// # Errors
/// When the run cannot begin. Failed cases are in the report.
pub async fn run(
    options: &Options,
    mut progress: impl FnMut(&CaseReport),
) -> Result<Report, RunError> {
    let cases = chosen(&options.only)?;
    let rig = rig(options)?;
    if let Err(stop) = rig.settle().await {
        return Err(RunError::NotForwarding {
            listen: options.listen,
            target: options.target,
            why: stop.to_string(),
        });
    }
    let bare = Options {
        only: Vec::new(),
        pids: Vec::new(),
        seed: options.seed + 1,
        quick: options.quick,
        patience: options.patience,
        ..Options::direct()
    };
    let without_proxy = rig_for_control(&bare, options.is_direct())?;
    let mut report = Report {
        name: options.name.clone(),
        version: options.version.clone(),
        quick: options.quick,
        idle_limit: options.idle_limit.map(|limit| limit.as_secs_f64()),
        cases: Vec::with_capacity(cases.len()),
    };
    for case in cases {
        let begun = Instant::now();
        let outcome = run_case(case, &rig, without_proxy.as_ref()).await;
        let case = told(case, outcome, begun.elapsed());
        progress(&case);
        report.cases.push(case);
    }
    Ok(report)
}

/// One case. One that the kernel may not allow runs without a proxy first: what fails there can
/// not be asked of a proxy.
async fn run_case(case: &Case, rig: &Rig, without_proxy: Option<&Rig>) -> Outcome {
    if let Some(reason) = case.kernel
        && let Err(Stop::Fail(seen)) = attempt(case, without_proxy.unwrap_or(rig)).await
    {
        return Err(Stop::NotApplicable(format!(
            "kernel: no proxy can pass: {reason} (without a proxy: {seen})"
        )));
    }
    attempt(case, rig).await
}

async fn attempt(case: &Case, rig: &Rig) -> Outcome {
    rig.settle().await?;
    rig.step("starting");
    let limit = case.limit + rig.options.idle_limit.unwrap_or_default() * 4;
    let outcome = tokio::time::timeout(limit, (case.run)(rig)).await;
    outcome.unwrap_or_else(|_| {
        Err(Stop::Fail(format!(
            "the case should have ended within {limit:?}; it was still at: {}",
            rig.last_step()
        )))
    })
}

fn told(case: &Case, outcome: Outcome, time: Duration) -> CaseReport {
    let (verdict, detail) = match outcome {
        Ok(note) => (Verdict::Pass, note),
        Err(Stop::Fail(sentence)) => (Verdict::Fail, sentence),
        Err(Stop::NotApplicable(reason)) => (Verdict::NotApplicable, reason),
    };
    CaseReport {
        name: case.name.to_owned(),
        group: case.group.to_owned(),
        rationale: case.rationale.to_owned(),
        verdict,
        detail,
        seconds: time.as_secs_f64(),
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Case>, RunError> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !all().iter().any(|case| case.name == **name))
    {
        return Err(RunError::UnknownCase(unknown.clone()));
    }
    let is_chosen = |case: &&Case| only.is_empty() || only.iter().any(|name| name == case.name);
    Ok(all().iter().filter(is_chosen).collect())
}

fn rig(options: &Options) -> Result<Rig, RunError> {
    Rig::new(options).map_err(|source| RunError::Listen {
        at: options.target,
        source,
    })
}

/// The ends for runs without a proxy; a direct run is its own control.
fn rig_for_control(bare: &Options, direct: bool) -> Result<Option<Rig>, RunError> {
    (!direct).then(|| rig(bare)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                "{name}"
            );
        }
    }

    #[test]
    fn only_known_cases_can_be_chosen() {
        assert!(matches!(
            chosen(&["nonsense".to_owned()]),
            Err(RunError::UnknownCase(_))
        ));
        assert_eq!(chosen(&[]).map(|cases| cases.len()).ok(), Some(all().len()));
    }
}
