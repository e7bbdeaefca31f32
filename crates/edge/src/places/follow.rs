//! Follows the files of places: reads what has changed, and keeps what was known where that fails.
//!
//! Must never: read a file on a thread that moves bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use portcullis_model::Error;
use portcullis_net::task;
use portcullis_telemetry::Records;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::lists::files_of;
use super::{Part, PlaceFiles, Places};
use crate::defaults::PLACE_FILES_POLL;

/// What tells one state of a file from another, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    /// Absent: it is not there.
    state: Option<(Option<SystemTime>, u64)>,
}

/// The files of one part, and how they were when they were read last.
struct Followed {
    part: Part,
    seen: Option<Vec<Seen>>,
}

/// Follows files until it is stopped.
pub(crate) struct Follower {
    files: Arc<PlaceFiles>,
    places: Arc<Places>,
    records: Records,
    followed: Vec<Followed>,
}

impl Follower {
    /// Reads all files. What cannot be read now is empty until it can.
    pub(crate) async fn start(files: PlaceFiles, records: Records) -> Self {
        let followed = Part::of(&files).into_iter();
        let mut follower = Self {
            followed: followed.map(|part| Followed { part, seen: None }).collect(),
            files: Arc::new(files),
            places: Arc::default(),
            records,
        };
        follower.look().await;
        follower
    }

    /// Where the data is.
    pub(crate) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// Looks again and again.
    pub(crate) async fn run(mut self, stopped: CancellationToken) {
        if self.followed.is_empty() {
            return;
        }
        let mut tick = tokio::time::interval(PLACE_FILES_POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased; // a node that stops reads nothing
                () = stopped.cancelled() => return,
                _ = tick.tick() => self.look().await,
            }
        }
    }

    /// Reads every part that has changed since it was read.
    pub(super) async fn look(&mut self) {
        for followed in &mut self.followed {
            let (part, before) = (followed.part, followed.seen.clone());
            let (files, places) = (Arc::clone(&self.files), Arc::clone(&self.places));
            // Bounded by the size of the files.
            let looked =
                tokio::task::spawn_blocking(move || look_at(part, &files, &places, before)).await;
            let outcome = match looked {
                Ok((seen, outcome)) => {
                    followed.seen = seen;
                    outcome
                }
                Err(error) => Some(Err(Error::internal(error))),
            };
            let Some(outcome) = outcome else { continue };
            let metrics = self.records.metrics();
            match outcome {
                Ok(()) => {
                    metrics.place_file_read(part.label(), "ok");
                    tracing::info!(part = part.label(), "places read");
                }
                Err(error) => {
                    metrics.place_file_read(part.label(), "failed");
                    tracing::warn!(part = part.label(), code = %error.code, "places cannot be read, what was known stays: {}", error.message);
                }
            }
        }
    }
}

/// How the files are, and what came of reading them if that is not how they were.
type Looked = (Option<Vec<Seen>>, Option<Result<(), Error>>);

fn look_at(part: Part, files: &PlaceFiles, places: &Places, before: Option<Vec<Seen>>) -> Looked {
    let now = states(part, files);
    if before.as_ref() == Some(&now) {
        return (before, None);
    }
    let outcome = match part.load(files) {
        // Somebody was writing while it was read: that is half of two files, and is read again.
        Ok(_) if states(part, files) != now => return (None, None),
        Ok(loaded) => {
            places.replace(loaded);
            Ok(())
        }
        Err(error) => Err(error),
    };
    // A broken one is told once, and tried again when it changes.
    (Some(now), Some(outcome))
}

fn states(part: Part, files: &PlaceFiles) -> Vec<Seen> {
    match part {
        Part::City => files.city.iter().map(|path| state(path)).collect(),
        Part::Asn => files.asn.iter().map(|path| state(path)).collect(),
        Part::Categories => {
            let mut seen = Vec::new();
            for list in &files.categories {
                seen.push(state(&list.path));
                // What cannot be listed is told by the load.
                let below = files_of(list).unwrap_or_default();
                seen.extend(below.iter().map(|(path, _)| state(path)));
            }
            seen
        }
    }
}

fn state(path: &Path) -> Seen {
    let found = std::fs::metadata(path).ok();
    Seen {
        path: path.to_owned(),
        state: found.map(|found| (found.modified().ok(), found.len())),
    }
}

/// Starts to follow, in a task of the caller's runtime.
pub(crate) fn spawn(follower: Follower, stopped: CancellationToken) {
    drop(task::spawn("places", follower.run(stopped)));
}
