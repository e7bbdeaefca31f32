//! The configuration format, by example: every file of `valid/` is taken, every file of `invalid/` is
//! refused with what its `# expect:` lines say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_agent::config::{ConsoleUi, LogFormat, LogLevel, LogTarget};
use portcullis_agent::{AgentConfig, ConnectCas, LocalAddr, Overrides};
use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{Binding, Code, Secret};

fn corpus(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(kind);
    let entries = std::fs::read_dir(dir)
        .expect("the corpus is there")
        .map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "yml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn valid(name: &str) -> AgentConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config/valid")
        .join(name);
    AgentConfig::load(&[path], &Overrides::default()).expect("a valid file")
}

#[test]
fn valid_files_are_taken() {
    for file in corpus("valid") {
        let loaded = AgentConfig::load(std::slice::from_ref(&file), &Overrides::default());
        assert!(
            loaded.is_ok(),
            "{}: {}",
            file.display(),
            loaded.expect_err("refused")
        );
    }
}

#[test]
fn invalid_files_are_refused_with_every_problem() {
    for file in corpus("invalid") {
        let error = AgentConfig::load(std::slice::from_ref(&file), &Overrides::default())
            .expect_err("invalid");
        assert_eq!(error.code, Code::ConfigInvalid, "{}", file.display());
        let text = std::fs::read_to_string(&file).expect("readable");
        let expected: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .collect();
        assert!(!expected.is_empty(), "{} expects nothing", file.display());
        for line in expected {
            assert!(
                error.message.contains(line),
                "{} lacks `{line}`:\n{}",
                file.display(),
                error.message
            );
        }
        assert!(
            !error.message.contains("hunter2"),
            "{} quotes a secret",
            file.display()
        );
    }
}

#[test]
fn a_full_file_means_what_it_says() {
    let config = valid("full.yml");
    let agent = &config.agent;
    assert_eq!(agent.connect_url.as_deref(), Some("edge.example.com:7443"));
    assert_eq!(agent.connect_cas, ConnectCas::Host);
    assert_eq!(agent.connect_timeout, Duration::from_secs(20));
    assert_eq!(agent.heartbeat_interval, Duration::from_secs(5));
    assert_eq!(agent.heartbeat_tolerance, Duration::from_secs(90));
    assert_eq!(
        (agent.console_ui, agent.log_level, agent.log_format),
        (ConsoleUi::IfTty, LogLevel::Warn, LogFormat::Logfmt)
    );
    assert_eq!(
        (&agent.log, agent.remote_management, agent.plain_channels),
        (&LogTarget::Off, false, true)
    );
    assert_eq!(
        agent.web_addr,
        Some(LocalAddr::Tcp(
            "127.0.0.1:4050".parse().expect("an address")
        ))
    );
    assert_eq!(
        config.notes,
        ["agent.update_check has no effect: this agent never updates itself"]
    );

    let db = config.endpoint("db").expect("there");
    assert_eq!(
        (db.options.url.as_str(), db.upstream.as_str()),
        ("tcp://edge.example.com:20001", "localhost:5432")
    );
    assert_eq!(
        (db.options.binding, db.options.proxy_protocol),
        (Some(Binding::Public), Some(ProxyVersion::V2))
    );
    assert_eq!(
        (
            db.options.limits.idle_timeout_ms,
            db.options.limits.connections_max
        ),
        (Some(600_000), Some(100))
    );
    assert!(db.options.pooling_enabled && db.options.ephemeral);
    let policy = db.options.policy_document().expect("networks compile");
    assert!(
        policy.contains("10.0.0.0/8")
            && policy.contains("192.0.2.7/32")
            && policy.contains("10.1.0.0/16")
    );

    let inside = config.endpoint("inside").expect("there");
    assert_eq!(inside.upstream, "5432");
    assert!(inside.options.traffic_policy.contains("restrict-ips"));
}

#[test]
fn version_2_tunnels_become_endpoints() {
    let config = valid("tunnels.yml");
    let ssh = config.endpoint("ssh").expect("there");
    assert_eq!(
        (ssh.options.url.as_str(), ssh.upstream.as_str()),
        ("tcp://1.tcp.example.com:20022", "22")
    );
    assert_eq!(ssh.options.proxy_protocol, Some(ProxyVersion::V1));
    assert_eq!(
        (
            ssh.options.cidr_allow.as_slice(),
            ssh.options.cidr_deny.as_slice()
        ),
        (
            &["10.0.0.0/8".to_owned()][..],
            &["10.1.0.0/16".to_owned()][..]
        )
    );
    assert!(ssh.options.traffic_policy.contains("on_tcp_connect"));
    let url = |name: &str| &config.endpoint(name).expect("there").options.url;
    assert_eq!(url("web"), "tls://web.example.com");
    assert_eq!(url("any"), "tls://");
    assert!(config.notes.iter().any(|note| note.contains("deprecated")));
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = valid("empty.yml");
    assert_eq!(config.agent, AgentConfig::default().agent);
    assert_eq!(
        config.agent.web_addr,
        Some(LocalAddr::Tcp(
            "127.0.0.1:4040".parse().expect("an address")
        ))
    );
    assert!(config.agent.remote_management && config.endpoints.is_empty());
    assert_eq!(
        valid("upstreams.yml").agent.web_addr,
        None,
        "web_addr: false turns it off"
    );
}

#[test]
fn later_files_win_and_overrides_win_over_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let base = write(
        "base.yml",
        "agent: {authtoken: one, metadata: kept, connect_url: a}\nendpoints: [{name: a, upstream: {url: 1}}]\n",
    );
    let more = write(
        "more.yml",
        "agent: {authtoken: two}\nendpoints: [{name: b, upstream: {url: 2}}]\n",
    );
    let merged =
        AgentConfig::load(&[base.clone(), more.clone()], &Overrides::default()).expect("valid");
    assert_eq!(merged.agent.authtoken, Some(Secret::new("two".to_owned())));
    assert_eq!(merged.agent.metadata, "kept");
    assert_eq!(
        (
            merged.endpoints.len(),
            merged.endpoints[0].options.name.as_str()
        ),
        (1, "b")
    );
    let overrides = Overrides {
        authtoken: Some(Secret::new("three".to_owned())),
        connect_url: Some("c:1".to_owned()),
        ..Overrides::default()
    };
    let overridden = AgentConfig::load(&[base, more], &overrides).expect("valid");
    assert_eq!(
        overridden.agent.authtoken,
        Some(Secret::new("three".to_owned()))
    );
    assert_eq!(overridden.agent.connect_url.as_deref(), Some("c:1"));
}

#[test]
fn a_file_that_is_not_there_is_unreadable() {
    let error = AgentConfig::load(
        &[PathBuf::from("/nowhere/portcullis.yml")],
        &Overrides::default(),
    )
    .expect_err("missing");
    assert_eq!(error.code, Code::ConfigUnreadable);
    assert!(error.message.contains("/nowhere/portcullis.yml"));
}

#[test]
fn secrets_never_print() {
    let config = valid("full.yml");
    let printed = format!("{config:?}");
    assert!(!printed.contains("AAECAwQF") && !printed.contains("user:pass"));
}

#[test]
fn a_file_cut_anywhere_is_answered_and_never_panics() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/full.yml");
    let text = std::fs::read_to_string(path).expect("readable");
    for end in 0..text.len() {
        let Some(cut) = text.get(..end) else { continue };
        if let Err(error) = AgentConfig::parse(cut, Path::new("/"), &Overrides::default()) {
            assert_eq!(error.code, Code::ConfigInvalid);
        }
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("large.yml");
    let size = usize::try_from(portcullis_agent::defaults::CONFIG_BYTES_MAX).expect("small") + 1;
    std::fs::write(&path, vec![b'#'; size]).expect("written");
    let error = AgentConfig::load(&[path], &Overrides::default()).expect_err("too large");
    assert_eq!(error.code, Code::ConfigUnreadable);
}

#[test]
fn nested_beyond_reason_is_refused() {
    let text = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    let error =
        AgentConfig::parse(&text, Path::new("/"), &Overrides::default()).expect_err("too deep");
    assert_eq!(error.code, Code::ConfigInvalid);
}

#[test]
fn pools_and_checks_are_read() {
    let config = valid("health.yml");
    let [db, web] = config.endpoints.as_slice() else {
        panic!("two endpoints")
    };
    let check = db.options.health.as_ref().expect("a check");
    assert_eq!(check.probe, portcullis_model::health::Probe::Postgres);
    assert_eq!((db.options.pool.weight, check.fall), (3, 3));
    assert_eq!(
        db.options.pool.strategy,
        portcullis_model::PoolStrategy::LeastConnections
    );
    assert_eq!(db.options.on_change, portcullis_model::OnChange::Reevaluate);
    let check = web.options.health.as_ref().expect("a check");
    assert_eq!(
        (check.interval, check.fall),
        (Duration::from_millis(500), 2)
    );
    assert!(web.options.pool.is_default());
}
