//! `forward-internal` at work: which target, which next when one fails, and when none is left.

use std::sync::Arc;

use portcullis_model::{Code, EndpointUrl, Error};
use serde_json::json;

use super::{Asked, Flow, Run, outputs};
use crate::cidr::unmap;
use crate::compile::internal_url;
use crate::decide::{Decision, DenyMode, Forward, OnError, Rule, Target};
use crate::trace::Ran;
use crate::world::Choice;

/// What is wrong with a text that comes to something else.
const NO_URL: &str = "it comes to a text that is no URL of one internal endpoint, such as `tcp://name.internal:5432`";

/// How far the action that runs has come with its targets.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Those that were tried and failed.
    tried: Vec<usize>,
    /// The one that was decided on last.
    chosen: Option<usize>,
    /// Why that one failed.
    failure: Option<Error>,
}

impl Progress {
    /// The target that was decided on cannot be reached.
    pub(super) fn fail(&mut self, why: &Error) {
        self.tried.extend(self.chosen.take());
        self.failure = Some(why.clone());
    }
}

impl Run {
    pub(super) fn forward_to(
        &mut self,
        rule: &Rule,
        url: &Arc<EndpointUrl>,
        on_error: OnError,
    ) -> Flow {
        if self.target.failure.is_some() {
            return self.none_left(rule, on_error, "url", Some(url));
        }
        self.note(rule, &Ran::ForwardInternal.to_string());
        self.to(url, on_error)
    }

    pub(super) fn forward_chosen(
        &mut self,
        rule: &Rule,
        forward: &Forward,
        asked: Asked<'_>,
    ) -> Flow {
        let urls = match self.urls(forward, asked) {
            Ok(urls) => urls,
            Err((below, why)) => return self.fails_at(rule, &below, why),
        };
        if self.target.failure.is_some() {
            // A client whose target failed is helped by another target, not by being turned away.
            let rejects = (0..urls.len()).filter(|at| matches!(urls.get(*at), Some(None)));
            let new: Vec<usize> = rejects
                .filter(|at| !self.target.tried.contains(at))
                .collect();
            self.target.tried.extend(new);
        }
        let Some(chosen) = self.pick(forward, &urls, asked) else {
            let below = if forward.targets.len() == 1 {
                "url"
            } else {
                "targets"
            };
            let last = self.target.tried.last().and_then(|at| urls.get(*at));
            let last = last.and_then(Option::as_ref).cloned();
            return self.none_left(rule, forward.on_error, below, last.as_ref());
        };
        let Some(url) = urls.get(chosen).and_then(Option::as_ref) else {
            self.note(rule, "forward-internal reject");
            return Flow::Done(Decision::Deny {
                rule: Arc::clone(&rule.label),
                mode: DenyMode::Close,
            });
        };
        self.note(
            rule,
            &format!("{} {}", Ran::ForwardInternal, url.hostport()),
        );
        self.target.chosen = Some(chosen);
        let others = (0..urls.len()).any(|at| {
            at != chosen && matches!(urls.get(at), Some(Some(_))) && self.is_open(forward, at)
        });
        let on_error = if others {
            OnError::Continue
        } else {
            forward.on_error
        };
        self.to(url, on_error)
    }

    fn to(&self, url: &Arc<EndpointUrl>, on_error: OnError) -> Flow {
        Flow::Done(Decision::Forward {
            url: Arc::clone(url),
            on_error,
            step: self.step(),
        })
    }

    /// Whether a target may still be chosen.
    fn is_open(&self, forward: &Forward, at: usize) -> bool {
        forward.weights.get(at).is_some_and(|weight| *weight > 0)
            && !self.target.tried.contains(&at)
    }

    fn pick(
        &self,
        forward: &Forward,
        urls: &[Option<Arc<EndpointUrl>>],
        asked: Asked<'_>,
    ) -> Option<usize> {
        let mut open = (0..urls.len()).filter(|at| self.is_open(forward, *at));
        let first = open.next()?;
        if open.next().is_none() && forward.targets.len() == 1 {
            return Some(first);
        }
        let choice = Choice {
            endpoint: asked.facts.endpoint.id,
            action: &forward.name,
            strategy: forward.strategy,
            weights: &forward.weights,
            urls,
            tried: &self.target.tried,
            client: unmap(asked.facts.conn.client.ip()),
        };
        // An answer that is none of them is no answer.
        asked
            .world
            .pick(&choice)
            .filter(|at| self.is_open(forward, *at))
    }

    /// The URL of every target; `None` is a rejection. The error says where below the config.
    fn urls(
        &self,
        forward: &Forward,
        asked: Asked<'_>,
    ) -> Result<Vec<Option<Arc<EndpointUrl>>>, (String, String)> {
        let url = |target: &Target| match target {
            Target::Fixed(url) => Ok(Some(Arc::clone(url))),
            Target::Reject => Ok(None),
            Target::Text(below, template) => template
                .eval_text(&self.scope(asked))
                // The text is not told: it is written to the record.
                .and_then(|text| internal_url(&text).map_err(|_| NO_URL.to_owned()))
                .map(|url| Some(Arc::new(url)))
                .map_err(|why| (below.clone(), why)),
        };
        forward.targets.iter().map(url).collect()
    }

    fn none_left(
        &mut self,
        rule: &Rule,
        on_error: OnError,
        below: &str,
        url: Option<&Arc<EndpointUrl>>,
    ) -> Flow {
        let error = std::mem::take(&mut self.target).failure;
        let error = error.unwrap_or_else(|| {
            Error::new(Code::ForwardTargetMissing, "no target can be chosen now")
        });
        if on_error == OnError::Halt {
            let path = self.config_path(rule, below);
            return self.fails(rule, path, error);
        }
        let url = url.map_or_else(String::new, ToString::to_string);
        let left = json!({ "url": url, "error": outputs::error(Some(&error)) });
        self.outputs.set("forward_internal", left);
        Flow::On
    }
}
