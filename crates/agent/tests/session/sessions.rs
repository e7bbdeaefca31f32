//! How sessions begin, end, and come back.

use std::time::Duration;

use portcullis_agent::{Agent, EndpointOptions, SessionState};
use portcullis_model::join::ServerTrust;
use portcullis_model::{Code, Error};
use portcullis_proto::AgentMessage;
use portcullis_proto::message::{Drain, Fatal, Stop};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::edge::{FakeEdge, Upstream, soon};
use crate::{builder, connect, status};

fn goodbye(message: &AgentMessage) -> Option<String> {
    match message {
        AgentMessage::Goodbye(goodbye) => Some(goodbye.reason.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_session_comes_up_and_says_who_it_is() {
    let edge = FakeEdge::start().await;
    let agent = builder(&edge)
        .metadata("rack 7")
        .agent_version("9.9")
        .connect()
        .await
        .expect("connected");
    let session = edge.session(0).await;
    assert_eq!(session.hello.authtoken, FakeEdge::token());
    assert_eq!(
        (
            session.hello.metadata.as_str(),
            session.hello.agent_version.as_str()
        ),
        ("rack 7", "9.9")
    );
    assert!(session.hello.remote_management && session.hello.generation >= 1);
    let now = status(&agent, "online", |status| {
        status.state == SessionState::Online
    })
    .await;
    let info = now.session.expect("online");
    assert_eq!(
        (info.id.clone(), info.region.as_str(), info.node.as_str()),
        (session.id.clone(), "here", "n1")
    );
    assert_eq!(now.agent_id.as_ref(), Some(&session.hello.agent_id));
    session.channels(1).await;
}

#[tokio::test]
async fn shutdown_unbinds_and_says_goodbye() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let forwarder = agent
        .forward(EndpointOptions::new(), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    soon("the shutdown", agent.shutdown(Duration::from_secs(1))).await;
    session.heard("a goodbye", goodbye).await;
    session.ended().await;
    assert_eq!(agent.stopped().await.error, None);
    assert_eq!(forwarder.closed().await.code, Code::AgentStopped);
    let refused = agent
        .listen(EndpointOptions::new())
        .await
        .expect_err("it has ended");
    assert_eq!(refused.code, Code::AgentStopped);
    assert_eq!(edge.sessions(), 1);
}

#[tokio::test]
async fn the_last_handle_ends_the_agent() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let session = edge.session(0).await;
    drop(agent);
    session.heard("a goodbye", goodbye).await;
    session.ended().await;
}

#[tokio::test]
async fn a_cut_session_comes_back_with_the_same_identity_and_address() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let (url, id) = (forwarder.url(), forwarder.id());
    let first = edge.session(0).await;
    let mut client = first.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    client.stream.write_all(b"in flight").await.expect("sent");
    let mut got = [0; 9];
    served.read_exact(&mut got).await.expect("there");

    first.cut().await;
    let error = soon("the reset", served.read(&mut got))
        .await
        .expect_err("a cut stream must not look complete");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let second = edge.session(1).await;
    assert_eq!(second.hello.agent_id, first.hello.agent_id);
    assert_eq!(second.hello.agent_secret, first.hello.agent_secret);
    assert_eq!(second.hello.generation, first.hello.generation);
    let rebound = |status: &portcullis_agent::Status| {
        status.endpoints[0].id.is_some() && status.endpoints[0].id != id
    };
    status(&agent, "bound again", rebound).await;
    assert_eq!(forwarder.url(), url);
    let mut client = second.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    served.write_all(b"hello").await.expect("sent");
    client
        .stream
        .read_exact(&mut got[..5])
        .await
        .expect("there");
    assert_eq!(&got[..5], b"hello");
}

#[tokio::test]
async fn a_state_directory_keeps_the_identity_and_counts_generations() {
    let edge = FakeEdge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let first = builder(&edge)
        .state_dir(dir.path())
        .connect()
        .await
        .expect("connected");
    let second = builder(&edge)
        .state_dir(dir.path())
        .connect()
        .await
        .expect("connected");
    let (one, two) = (edge.session(0).await, edge.session(1).await);
    assert_ne!(
        one.hello.agent_id, two.hello.agent_id,
        "a second live agent gets an id of its own"
    );
    first.shutdown(Duration::ZERO).await;
    drop(first);
    let third = builder(&edge)
        .state_dir(dir.path())
        .connect()
        .await
        .expect("connected");
    let three = edge.session(2).await;
    assert_eq!(three.hello.agent_id, one.hello.agent_id);
    assert_eq!(three.hello.generation, one.hello.generation + 1);
    drop((second, third));
}

#[tokio::test]
async fn a_hopeless_refusal_fails_connect_with_its_code() {
    let edge = FakeEdge::start().await;
    let fatal = Fatal {
        code: Code::AuthtokenUnknown,
        message: "no such credential".into(),
        retry: false,
    };
    edge.script(|script| script.refuse_hello = Some(fatal));
    let error = soon("the refusal", builder(&edge).connect())
        .await
        .expect_err("refused");
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::AuthtokenUnknown, "no such credential")
    );
    let agent = builder(&edge).start().expect("started");
    let stopped = soon("the end", agent.stopped()).await;
    assert_eq!(
        stopped.error.expect("a reason").code,
        Code::AuthtokenUnknown
    );
    assert_eq!(agent.status().borrow().state, SessionState::Stopped);
}

#[tokio::test]
async fn a_passing_refusal_is_tried_again() {
    let edge = FakeEdge::start().await;
    let fatal = Fatal {
        code: Code::ServerDraining,
        message: "restarting".into(),
        retry: true,
    };
    edge.script(|script| script.refuse_hello = Some(fatal));
    let agent = builder(&edge).start().expect("started");
    let waiting = status(&agent, "reconnecting", |status| status.attempts > 2).await;
    assert_eq!(waiting.state, SessionState::Reconnecting);
    assert_eq!(waiting.error.expect("why").code, Code::ServerDraining);
    edge.script(|script| script.refuse_hello = None);
    let online = status(&agent, "online", |status| {
        status.state == SessionState::Online
    })
    .await;
    assert_eq!((online.error, online.attempts), (None, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_fails_connect_and_start_keeps_trying() {
    let nowhere = crate::edge::closed_port().await;
    let lost = || {
        Agent::builder()
            .authtoken(FakeEdge::token())
            .server(nowhere.as_str())
    };
    let error = soon("the failure", lost().connect())
        .await
        .expect_err("nobody there");
    assert_eq!(error.code, Code::ServerUnreachable);
    let agent = lost().start().expect("started");
    let waiting = status(&agent, "reconnecting", |status| {
        status.state == SessionState::Reconnecting
    })
    .await;
    assert!(waiting.retry_at.is_some());
}

#[tokio::test]
async fn a_server_with_another_key_is_not_trusted() {
    let edge = FakeEdge::start().await;
    let join = edge.join_with(ServerTrust::Pin([1; 32]));
    let error = soon("the refusal", Agent::builder().authtoken(join).connect())
        .await
        .expect_err("another key");
    assert_eq!(error.code, Code::ServerUntrusted);
    assert_eq!(edge.sessions(), 0);
}

#[tokio::test]
async fn a_bare_token_trusts_the_ca_of_the_server_on_this_machine() {
    let edge = FakeEdge::start().await;
    let local = Agent::builder()
        .authtoken(FakeEdge::token())
        .server(edge.addr.to_string())
        .data_dirs(vec![edge.data_dir().to_owned()]);
    soon("the session", local.connect())
        .await
        .expect("the CA was found");
    std::fs::write(edge.data_dir().join("join"), edge.join().expose()).expect("written");
    let by_file = Agent::builder().data_dirs(vec!["/nowhere".into(), edge.data_dir().to_owned()]);
    soon("the session", by_file.connect())
        .await
        .expect("the join file was found");
    let missing = Agent::builder().connect().await.expect_err("no token");
    assert_eq!(missing.code, Code::AuthtokenMissing);
}

#[tokio::test]
async fn stop_ends_the_agent_and_restart_brings_a_new_session() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let stop = |restart| Stop {
        code: Code::AgentStopped,
        message: "by the operator".into(),
        restart,
    };
    edge.session(0).await.say(stop(true)).await;
    edge.session(0).await.heard("a goodbye", goodbye).await;
    let second = edge.session(1).await;
    status(&agent, "online again", |status| {
        status
            .session
            .as_ref()
            .is_some_and(|info| info.id == second.id)
    })
    .await;
    second.say(stop(false)).await;
    let stopped = soon("the end", agent.stopped()).await;
    assert_eq!(stopped.error.expect("a reason").code, Code::AgentStopped);
    assert_eq!(edge.sessions(), 2);
}

#[tokio::test]
async fn a_revoked_credential_ends_the_agent_with_its_code() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let revoked = Fatal {
        code: Code::CredentialRevoked,
        message: "revoked".into(),
        retry: false,
    };
    edge.session(0).await.say(revoked).await;
    let stopped = soon("the end", agent.stopped()).await;
    assert_eq!(
        stopped.error.expect("a reason").code,
        Code::CredentialRevoked
    );
    assert_eq!(edge.sessions(), 1);
}

#[tokio::test]
async fn a_draining_session_finishes_its_connections_beside_its_successor() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let url = forwarder.url();
    let old = edge.session(0).await;
    let mut client = old.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;

    old.say(Drain {
        code: Code::ServerDraining,
        message: "restarting".into(),
    })
    .await;
    let new = edge.session(1).await;
    new.heard("the bind", |message| {
        matches!(message, AgentMessage::Bind(_)).then_some(())
    })
    .await;
    assert!(!old.is_ended(), "a connection is open");
    served.write_all(b"still there").await.expect("sent");
    let mut got = [0; 11];
    client
        .stream
        .read_exact(&mut got)
        .await
        .expect("the old session carries on");

    client.stream.shutdown().await.expect("ended");
    drop(served);
    assert_eq!(client.stream.read(&mut got).await.expect("a clean end"), 0);
    assert!(client.finish().await);
    old.heard("a goodbye", goodbye).await;
    old.ended().await;
    let _stays = new.open("db", b"").await.expect("the new session serves");
    assert_eq!(forwarder.url(), url);
    assert_eq!(agent.status().borrow().state, SessionState::Online);
}

#[tokio::test]
async fn settings_out_of_range_are_refused_before_anything_else() {
    let edge = FakeEdge::start().await;
    let hour = Duration::from_secs(3600);
    let code = |result: Result<Agent, Error>| result.expect_err("refused").code;
    assert_eq!(
        code(builder(&edge).heartbeat(hour, hour).start()),
        Code::HeartbeatInvalid
    );
    assert_eq!(
        code(builder(&edge).metadata("m".repeat(5000)).start()),
        Code::SessionMetadataTooLong
    );
    assert_eq!(
        code(builder(&edge).authtoken("pc1.nonsense".to_owned()).start()),
        Code::AuthtokenMalformed
    );
    assert_eq!(
        code(builder(&edge).authtoken("nonsense".to_owned()).start()),
        Code::AuthtokenMalformed
    );
    assert_eq!(edge.sessions(), 0);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let edge = FakeEdge::start().await;
    let second = Duration::from_secs(1);
    let agent = builder(&edge)
        .heartbeat(second, second)
        .connect()
        .await
        .expect("connected");
    let first = edge.session(0).await;
    edge.script(|script| script.mute = true);
    let lost = status(&agent, "the loss", |status| {
        status.state == SessionState::Reconnecting
    });
    assert_eq!(lost.await.error.expect("why").code, Code::ServerUnreachable);
    edge.script(|script| script.mute = false);
    edge.session(1).await;
    first.ended().await;
}

/// A proxy that takes one CONNECT after another and remembers what was asked for.
async fn http_proxy() -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("bound");
    let (asked, requests) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.expect("a request"));
                }
                let head = String::from_utf8(head).expect("text");
                let target = head.split(' ').nth(1).expect("a target").to_owned();
                let mut far = tokio::net::TcpStream::connect(&target)
                    .await
                    .expect("connected");
                asked.send(head).await.expect("the test listens");
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                    .await
                    .expect("sent");
                // It ends with either side.
                tokio::io::copy_bidirectional(&mut near, &mut far)
                    .await
                    .ok();
            });
        }
    });
    (addr, requests)
}

#[tokio::test]
async fn both_control_and_channels_go_through_the_proxy() {
    let edge = FakeEdge::start().await;
    let (proxy, mut requests) = http_proxy().await;
    let agent = builder(&edge)
        .proxy_url(format!("http://user:pass@{proxy}"))
        .connect();
    let agent = soon("the session", agent).await.expect("connected");
    let head = requests.recv().await.expect("a CONNECT");
    assert!(
        head.starts_with(&format!("CONNECT {} HTTP/1.1", edge.addr)),
        "{head}"
    );
    assert!(
        head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz"),
        "{head}"
    );
    edge.session(0).await.channels(1).await;
    soon("the channel's CONNECT", requests.recv())
        .await
        .expect("a CONNECT");
    drop(agent);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_without_its_password() {
    let edge = FakeEdge::start().await;
    let nowhere = crate::edge::closed_port().await;
    let agent = builder(&edge).proxy_url(format!("socks5://user:hunter2@{nowhere}"));
    let error = soon("the failure", agent.connect())
        .await
        .expect_err("no proxy");
    assert_eq!(error.code, Code::ProxyConnectFailed);
    assert!(!format!("{error:?}").contains("hunter2"));
}
