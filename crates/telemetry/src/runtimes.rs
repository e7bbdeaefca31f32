//! Metrics of the process's runtimes, read when somebody asks for them.
//!
//! Must never: cost anything while nobody asks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::names::{self, Name};

/// The runtimes that were named. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runtimes {
    named: Arc<Mutex<Vec<(&'static str, Handle)>>>,
}

impl Runtimes {
    pub(crate) fn watch(&self, name: &'static str, runtime: Handle) {
        self.named
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((name, runtime));
    }

    fn each(&self) -> Vec<(&'static str, RuntimeMetrics)> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named
            .iter()
            .map(|(name, runtime)| (*name, runtime.metrics()))
            .collect()
    }
}

impl Collector for Runtimes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let runtimes = self.each();
        gauge(&mut encoder, names::RUNTIME_THREADS, &runtimes, |of| {
            of.num_workers()
        })?;
        gauge(&mut encoder, names::RUNTIME_TASKS, &runtimes, |of| {
            of.num_alive_tasks()
        })?;
        gauge(&mut encoder, names::RUNTIME_QUEUE, &runtimes, |of| {
            of.global_queue_depth()
        })?;
        let (name, help) = names::RUNTIME_BUSY;
        let counter = ConstCounter::new(0.0_f64);
        let mut family = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        for (runtime, metrics) in &runtimes {
            let busy: Duration = (0..metrics.num_workers())
                .map(|worker| metrics.worker_total_busy_duration(worker))
                .sum();
            ConstCounter::new(busy.as_secs_f64())
                .encode(family.encode_family(&[("runtime", *runtime)])?)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Name,
    runtimes: &[(&'static str, RuntimeMetrics)],
    of: impl Fn(&RuntimeMetrics) -> usize,
) -> fmt::Result {
    let gauge = ConstGauge::new(0_i64);
    let mut family = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    for (runtime, metrics) in runtimes {
        let value = i64::try_from(of(metrics)).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&[("runtime", *runtime)])?)?;
    }
    Ok(())
}
