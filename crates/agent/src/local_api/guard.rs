//! Who may ask: the Host header must be one of the agent's names (a web page that resolves its own
//! name to 127.0.0.1 is none), and on TCP the token must be there.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::middleware::Next;
use axum::response::Response;
use nix::fcntl::{Flock, FlockArg};
use portcullis_model::secret::hex;
use portcullis_model::{Code, Error, Secret, TokenHash};

use super::routes::refuse;
use crate::identity;

const TOKEN_FILE: &str = "local.token";
/// Characters of the token: 32 random bytes in hexadecimal.
const TOKEN_CHARS: usize = 64;

/// What a request is checked against.
#[derive(Debug)]
pub(super) struct Guard {
    /// `None` on a Unix socket, where the file's permissions decide.
    pub(super) token: Option<TokenHash>,
    /// Accepted in the Host header beside the loopback names.
    pub(super) hosts: Vec<String>,
}

/// The token in a state directory; made when it is not there. Agents that share the directory, and may
/// start at once, have the same: whoever makes it holds the file's lock until it is written.
pub(super) fn token(state_dir: &Path) -> Result<Secret, Error> {
    let path = state_dir.join(TOKEN_FILE);
    // No lock for what is there already, which may be a file that cannot be written.
    let found = std::fs::read_to_string(&path);
    if let Some(token) = found.ok().as_deref().and_then(known) {
        return Ok(token);
    }
    identity::make_dir(state_dir)?;
    make_token(&path).map_err(|error| identity::refused(&path, &error))
}

/// The token that a file holds, if it holds one.
fn known(text: &str) -> Option<Secret> {
    let text = text.trim();
    (text.len() == TOKEN_CHARS).then(|| Secret::new(text.to_owned()))
}

/// Makes the token, unless another agent did since it was looked for.
fn make_token(path: &Path) -> io::Result<Secret> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let mut found = Vec::new();
    file.read_to_end(&mut found)?;
    if let Some(token) = std::str::from_utf8(&found).ok().and_then(known) {
        return Ok(token);
    }
    let mut bytes = [0_u8; TOKEN_CHARS / 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let token = hex(&bytes);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    Ok(Secret::new(token))
}

/// Lets a request pass, or answers it.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match guard.admits(text(HOST), text(AUTHORIZATION)) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(&error),
    }
}

impl Guard {
    fn admits(&self, host: Option<&str>, authorization: Option<&str>) -> Result<(), Error> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        if !host.is_some_and(|host| self.knows(host)) {
            let what = "the Host header is not one of this agent's names; list it under agent.web_allow_hosts";
            return Err(Error::new(Code::ApiForbidden, what));
        }
        let given = authorization.ok_or_else(|| Error::of(Code::ApiUnauthenticated))?;
        let given = given
            .strip_prefix("Bearer ")
            .ok_or_else(|| Error::of(Code::ApiKeyMalformed))?;
        if token.matches(given.trim()) {
            Ok(())
        } else {
            Err(Error::new(
                Code::ApiKeyUnknown,
                "the token is not the one in the agent's local.token",
            ))
        }
    }

    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((inside, _)) => inside,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let loopback = ["localhost", "127.0.0.1", "::1"];
        let same =
            |known: &str| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        loopback.into_iter().any(same) || self.hosts.iter().any(|known| same(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_token_are_both_needed() {
        let guard = Guard {
            token: Some(TokenHash::of("t0ken")),
            hosts: vec!["agent.lan".into()],
        };
        let code = |host, token| guard.admits(host, token).map_err(|error| error.code);
        let bearer = Some("Bearer t0ken");
        for host in [
            "localhost:4040",
            "127.0.0.1:4041",
            "[::1]:4040",
            "LOCALHOST",
            "agent.lan:4040",
        ] {
            assert_eq!(code(Some(host), bearer), Ok(()), "{host}");
        }
        for host in [
            Some("evil.example:4040"),
            Some("127.0.0.1.evil.example"),
            Some(""),
            None,
        ] {
            assert_eq!(code(host, bearer), Err(Code::ApiForbidden), "{host:?}");
        }
        assert_eq!(code(Some("localhost"), None), Err(Code::ApiUnauthenticated));
        assert_eq!(
            code(Some("localhost"), Some("Basic t0ken")),
            Err(Code::ApiKeyMalformed)
        );
        assert_eq!(
            code(Some("localhost"), Some("Bearer other")),
            Err(Code::ApiKeyUnknown)
        );
        let unix = Guard {
            token: None,
            hosts: Vec::new(),
        };
        assert_eq!(unix.admits(None, None), Ok(()));
    }

    #[test]
    fn the_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = token(dir.path()).expect("made");
        assert_eq!(first, token(dir.path()).expect("read"));
        let mode = std::fs::metadata(dir.path().join(TOKEN_FILE))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn agents_that_start_at_once_have_the_same_token() {
        for damaged in [false, true] {
            let dir = tempfile::tempdir().expect("a directory");
            let state = dir.path().join("agent").join("tls-26443");
            if damaged {
                identity::make_dir(&state).expect("made");
                std::fs::write(state.join(TOKEN_FILE), b"short\n").expect("written");
            }
            let start = std::sync::Barrier::new(8);
            let agent = || {
                start.wait();
                token(&state).expect("a token")
            };
            let tokens: Vec<Secret> = std::thread::scope(|scope| {
                let agents: Vec<_> = (0..8).map(|_| scope.spawn(agent)).collect();
                let joined = agents.into_iter().map(|agent| agent.join());
                joined.map(|token| token.expect("no panic")).collect()
            });
            let kept = std::fs::read_to_string(state.join(TOKEN_FILE)).expect("there");
            for token in tokens {
                assert_eq!(token.expose(), kept.trim());
            }
            let files = std::fs::read_dir(&state).expect("there").count();
            assert_eq!(files, 1, "nothing is left beside it");
        }
    }
}
