//! The actions at work.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use serde_json::{Value, json};

use super::{Asked, Flow, Need, Run, ips, outputs};
use crate::cel::{self, Template};
use crate::compile::is_header_value;
use crate::decide::{Action, Decision, DenyMode, Reply, RestrictIps, Rule, Tree};
use crate::defaults::{LOGGED_BYTES_MAX, LOGGED_MAX, REPLY_BYTES_MAX, VARS_BYTES_MAX};
use crate::sniff::http_reply;
use crate::trace::Ran;

impl Run {
    /// Runs one action.
    pub(super) fn act(&mut self, rule: &Rule, action: &Action, asked: Asked<'_>) -> Flow {
        match action {
            Action::ForwardInternal { url, on_error } => self.forward_to(rule, url, *on_error),
            Action::ForwardChosen(forward) => self.forward_chosen(rule, forward, asked),
            Action::Deny(mode) => self.deny(rule, *mode),
            Action::CloseConnection => {
                self.note(rule, &Ran::CloseConnection.to_string());
                Flow::Done(Decision::Close {
                    rule: Arc::clone(&rule.label),
                })
            }
            Action::RestrictIps(restrict) => self.restrict(rule, restrict, asked),
            Action::Log(metadata) => self.write_log(rule, metadata, asked),
            Action::SetVars(vars) => self.set_vars(rule, vars, asked),
            Action::RateLimit(limit) => self.rate_limit(rule, limit, asked),
            Action::LimitConnections(limit) => self.limit_connections(rule, limit, asked),
            Action::SetLimits {
                idle,
                connect,
                lifetime,
            } => {
                self.limits.idle = idle.or(self.limits.idle);
                self.limits.connect = connect.or(self.limits.connect);
                self.limits.lifetime = lifetime.or(self.limits.lifetime);
                self.note(rule, "set-limits");
                Flow::On
            }
            Action::Respond(reply) => self.respond(rule, reply, asked),
            Action::TerminateTls(terminate) => self.terminate_tls(rule, terminate, asked),
            Action::LimitBandwidth(limit) => self.limit_bandwidth(rule, limit, asked),
            Action::Sniff { wait } => match &asked.facts.given.first {
                None => Flow::Need(Need::First { wait: *wait }),
                Some(first) => {
                    let protocol = first.protocol.as_str();
                    self.outputs.set("sniff", json!({ "protocol": protocol }));
                    self.note(rule, &format!("sniff {protocol}"));
                    Flow::On
                }
            },
        }
    }

    fn deny(&mut self, rule: &Rule, mode: DenyMode) -> Flow {
        let how = match mode {
            DenyMode::Close => "",
            DenyMode::Reset => " (reset)",
            DenyMode::Tarpit(_) => " (tarpit)",
        };
        self.note(rule, &format!("{}{how}", Ran::Deny));
        Flow::Done(Decision::Deny {
            rule: Arc::clone(&rule.label),
            mode,
        })
    }

    fn restrict(&mut self, rule: &Rule, restrict: &RestrictIps, asked: Asked<'_>) -> Flow {
        let found = match ips::decide(restrict, &self.scope(asked)) {
            Ok(found) => found,
            Err((below, error)) => {
                let path = self.config_path(rule, &below);
                return self.fails(rule, path, error);
            }
        };
        let left = |action: &str, matched: String, error: Option<&Error>| json!({ "action": action, "matched_cidr": matched, "error": outputs::error(error) });
        let matched = match found {
            Ok(matched) => {
                let left = left("allow", matched.to_string(), None);
                self.outputs.set("restrict_ips", left);
                self.note(rule, &Ran::Allowed { matched }.to_string());
                return Flow::On;
            }
            Err(matched) => matched,
        };
        let text = matched.map_or_else(String::new, |network| network.to_string());
        let error = Error::of(Code::IpRestricted);
        self.outputs
            .set("restrict_ips", left("deny", text, Some(&error)));
        let enforced = restrict.enforce;
        let ran = Ran::Restricted { matched, enforced };
        self.note(rule, &ran.to_string());
        if !enforced {
            return Flow::On;
        }
        Flow::Done(Decision::Restricted {
            rule: Arc::clone(&rule.label),
            matched,
        })
    }

    fn write_log(
        &mut self,
        rule: &Rule,
        metadata: &BTreeMap<String, Tree>,
        asked: Asked<'_>,
    ) -> Flow {
        let mut noted = serde_json::Map::new();
        for (key, tree) in metadata {
            match tree.eval(&self.scope(asked)) {
                Ok(value) => noted.insert(key.clone(), value),
                Err(why) => return self.fails_at(rule, &format!("metadata.{key}"), why),
            };
        }
        let noted = Value::Object(noted);
        if noted.to_string().len() > LOGGED_BYTES_MAX {
            let why = format!("the metadata is longer than {LOGGED_BYTES_MAX} bytes");
            return self.fails_at(rule, "metadata", why);
        }
        self.outputs.set("log", json!({ "metadata": &noted }));
        if self.logged_count < LOGGED_MAX {
            self.logged_count += 1;
            self.logged.push(noted);
            self.note(rule, "log");
        } else {
            let what = format!("log (dropped: {LOGGED_MAX} notes are kept)");
            self.note(rule, &what);
        }
        Flow::On
    }

    fn set_vars(&mut self, rule: &Rule, vars: &[(String, Tree)], asked: Asked<'_>) -> Flow {
        for (place, (name, tree)) in vars.iter().enumerate() {
            let below = || format!("vars[{place}].{name}");
            let value = match tree.eval(&self.scope(asked)) {
                Ok(value) => value,
                Err(why) => return self.fails_at(rule, &below(), why),
            };
            // Each time, so that no step builds on more than the limit.
            if let Err(why) = self.set_var(name, value) {
                return self.fails_at(rule, &below(), why);
            }
        }
        self.note(rule, "set-vars");
        Flow::On
    }

    /// Sets a variable, and pays for its size. Only the new value is measured: a policy may set a hundred
    /// thousand of them, and measuring all of them each time would take seconds.
    fn set_var(&mut self, name: &str, value: Value) -> Result<(), String> {
        let bytes = name.len() + value.to_string().len();
        cel::charge(bytes)?;
        let before = self.vars_bytes.insert(name.to_owned(), bytes);
        self.vars_bytes_sum = self.vars_bytes_sum - before.unwrap_or(0) + bytes;
        if self.vars_bytes_sum > VARS_BYTES_MAX {
            return Err(format!(
                "the variables take more than {VARS_BYTES_MAX} bytes"
            ));
        }
        self.vars.insert(name.to_owned(), value);
        Ok(())
    }

    fn respond(&mut self, rule: &Rule, reply: &Reply, asked: Asked<'_>) -> Flow {
        let (bytes, status) = match reply {
            Reply::Bytes(bytes) => (Arc::clone(bytes), None),
            Reply::Text(template) => match self.text(template, asked) {
                Ok(text) => (Arc::from(text.into_bytes()), None),
                Err(why) => return self.fails_at(rule, "text", why),
            },
            Reply::Http {
                status,
                headers,
                body,
            } => {
                let request = match &asked.facts.given.request {
                    None => return Flow::Need(Need::Request),
                    Some(None) => {
                        self.note(rule, "custom-response (what came is no HTTP)");
                        return Flow::Done(Decision::NotHttp {
                            rule: Arc::clone(&rule.label),
                        });
                    }
                    Some(Some(request)) => request,
                };
                let is_head = request.method == "HEAD";
                match self.http_bytes((*status, headers, body), is_head, asked) {
                    Ok(bytes) => (Arc::from(bytes), Some(*status)),
                    Err((below, why)) => return self.fails_at(rule, &below, why),
                }
            }
        };
        match status {
            Some(status) => self.note(rule, &format!("custom-response {status}")),
            None => self.note(rule, "custom-response"),
        }
        Flow::Done(Decision::Respond {
            rule: Arc::clone(&rule.label),
            bytes: bytes.into(),
            status,
        })
    }

    fn http_bytes(
        &self,
        (status, headers, body): (u16, &[(String, Template)], &Template),
        is_head: bool,
        asked: Asked<'_>,
    ) -> Result<Vec<u8>, (String, String)> {
        let mut written = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let value = self
                .text(value, asked)
                .and_then(|value| {
                    if is_header_value(&value) {
                        Ok(value)
                    } else {
                        Err("the value has a line break or control character in it".to_owned())
                    }
                })
                .map_err(|why| (format!("headers.{name}"), why))?;
            written.push((name.clone(), value));
        }
        let body = self
            .text(body, asked)
            .map_err(|why| ("body".to_owned(), why))?;
        Ok(http_reply(status, &written, body.as_bytes(), is_head))
    }

    fn text(&self, template: &Template, asked: Asked<'_>) -> Result<String, String> {
        let text = template.eval_text(&self.scope(asked))?;
        if text.len() > REPLY_BYTES_MAX {
            return Err(format!("the text is longer than {REPLY_BYTES_MAX} bytes"));
        }
        Ok(text)
    }
}
