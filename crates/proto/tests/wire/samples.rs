//! One example of every message and frame, with every field set.

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::id::ConnectionId;
use portcullis_model::{
    AccountId, AgentId, Binding, Code, EndpointId, EndpointLimits, EndpointUrl, Error, OnChange,
    PoolStrategy, PoolTerms, Secret, SessionId,
};
use portcullis_proto::message::{
    Abort, Bind, Bound, ChannelHello, Dial, Drain, Fatal, Goodbye, HealthReport, Heartbeat,
    HeartbeatAck, Hello, NeedChannels, Ready, Refused, Stop, StopEndpoint, Unbind, Unbound, Update,
    Updated, Welcome,
};
use portcullis_proto::{
    AgentMessage, DialAnswer, EdgeMessage, FirstMessage, FrameType, Header, Leg, OpenHeader,
    SessionKey, Switch, frame,
};
use portcullis_proto::{VersionRange, handshake};

pub(crate) fn endpoint() -> EndpointId {
    EndpointId::new(1_700_000_000, [1; 16])
}

pub(crate) fn session() -> SessionId {
    SessionId::new(1_700_000_000, [2; 16])
}

pub(crate) fn account() -> AccountId {
    AccountId::new(1_700_000_000, [3; 16])
}

pub(crate) fn key() -> SessionKey {
    SessionKey::new([9; 32])
}

pub(crate) fn hello() -> Hello {
    Hello {
        versions: VersionRange { min: 1, max: 1 },
        authtoken: Secret::new(
            "2YGWmD4Ut6d8ZxVtQ4bYqA1wXyz_0123456789abcdefABCDEF0123456789".to_owned(),
        ),
        agent_id: AgentId::new(1_700_000_000, [4; 16]),
        agent_secret: Secret::new("agent-secret".to_owned()),
        generation: 7,
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "db-1".to_owned(),
        metadata: "rack \"4\", Zürich".to_owned(),
        heartbeat_interval_ms: 10_000,
        heartbeat_tolerance_ms: 15_000,
        remote_management: true,
        carriers: true,
    }
}

pub(crate) fn bind() -> Bind {
    Bind {
        req: 1,
        name: "postgres".to_owned(),
        url: "tcp://edge.example.com:20001".to_owned(),
        binding: Some(Binding::Public),
        pooling_enabled: true,
        description: "the database".to_owned(),
        metadata: "team=data".to_owned(),
        traffic_policy: "on_tcp_connect:\n  - actions:\n      - type: deny\n".to_owned(),
        upstream_url: "tcp://127.0.0.1:5432".to_owned(),
        proxy_protocol: Some(ProxyVersion::V2),
        limits: EndpointLimits {
            idle_timeout_ms: Some(0),
            client_idle_timeout_ms: Some(1),
            server_idle_timeout_ms: Some(2),
            half_close_timeout_ms: Some(3),
            connect_timeout_ms: Some(4),
            max_lifetime_ms: None,
            connections_max: Some(5),
            connections_per_source_max: Some(6),
        },
        ephemeral: true,
        on_change: OnChange::Reevaluate,
        pool: PoolTerms {
            strategy: PoolStrategy::LeastConnections,
            weight: 3,
        },
    }
}

pub(crate) fn first_messages() -> Vec<FirstMessage> {
    let exporter = [5; 32];
    let link = |channel| ChannelHello {
        session_id: session(),
        channel,
        mac: handshake::channel_mac(&key(), &session(), channel, &exporter),
    };
    vec![
        hello().into(),
        link(3).into(),
        dial().into(),
        FirstMessage::Carrier(link(4)),
    ]
}

fn dial() -> Dial {
    Dial {
        versions: VersionRange { min: 1, max: 1 },
        authtoken: hello().authtoken,
        url: "tcp://db.internal:5432".to_owned(),
        check: true,
        agent_version: "0.1.0".to_owned(),
        hostname: "laptop".to_owned(),
    }
}

pub(crate) fn dial_answers() -> Vec<DialAnswer> {
    let ready = Ready {
        version: 1,
        url: EndpointUrl::new("db.internal", 5432),
        server_version: "0.1.0".to_owned(),
    };
    let absent = Error::of(Code::ForwardTargetMissing);
    vec![ready.into(), Fatal::new(&absent, false).into()]
}

pub(crate) fn agent_messages() -> Vec<AgentMessage> {
    let update = Update {
        req: 2,
        endpoint_id: endpoint(),
        description: Some("new".to_owned()),
        metadata: Some(String::new()),
        traffic_policy: Some(String::new()),
        pooling_enabled: Some(false),
        upstream_url: Some("tcp://127.0.0.1:5433".to_owned()),
        on_change: Some(OnChange::Drain),
        pool: Some(PoolTerms::default()),
    };
    vec![
        bind().into(),
        update.into(),
        Unbind {
            req: 3,
            endpoint_id: endpoint(),
        }
        .into(),
        Heartbeat { nonce: 1 }.into(),
        HeartbeatAck { nonce: u64::MAX }.into(),
        Abort {
            channel: 3,
            open: 12,
        }
        .into(),
        HealthReport {
            endpoint_id: endpoint(),
            healthy: false,
            failures: 3,
            age_ms: 1_500,
            code: Some(Code::UpstreamUnhealthy),
            reason: "postgres: it did not answer in time".to_owned(),
        }
        .into(),
        Goodbye {
            reason: "PTC_AGENT_STOPPED: interrupted".to_owned(),
        }
        .into(),
    ]
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: 1,
        session_id: session(),
        session_key: key(),
        node: "node-1".to_owned(),
        region: "eu".to_owned(),
        account: account(),
        server_version: "0.1.0".to_owned(),
        heartbeat_interval_ms: 10_000,
        heartbeat_tolerance_ms: 15_000,
        channels_idle_min: 4,
        carriers: 2,
        plain_links: true,
        health: true,
        public_host: "edge.example.com".to_owned(),
    }
}

pub(crate) fn bound(req: u64) -> Bound {
    Bound {
        req,
        endpoint_id: endpoint(),
        url: EndpointUrl::new("edge.example.com", 20001),
        binding: Binding::Public,
        region: "eu".to_owned(),
    }
}

pub(crate) fn edge_messages() -> Vec<EdgeMessage> {
    let taken = Error::new(
        Code::AddressTaken,
        "tcp://edge.example.com:20001 is taken; choose another port",
    );
    let draining = Error::of(Code::ServerDraining);
    vec![
        welcome().into(),
        Fatal::new(&Error::of(Code::AuthtokenUnknown), false).into(),
        bound(1).into(),
        Updated { req: 2 }.into(),
        Unbound { req: 3 }.into(),
        Refused::new(4, &taken).into(),
        Heartbeat { nonce: 1 }.into(),
        HeartbeatAck { nonce: 2 }.into(),
        NeedChannels { count: 8 }.into(),
        Stop {
            code: Code::AgentStopped,
            message: "stopped through the API".to_owned(),
            restart: true,
        }
        .into(),
        StopEndpoint {
            endpoint_id: endpoint(),
            code: Code::AddressInUse,
            message: "deleted".to_owned(),
        }
        .into(),
        Drain {
            code: draining.code,
            message: draining.message,
        }
        .into(),
        Abort {
            channel: 3,
            open: 12,
        }
        .into(),
    ]
}

pub(crate) fn open_header() -> OpenHeader {
    OpenHeader {
        endpoint_id: endpoint(),
        connection_id: ConnectionId::new(1_700_000_000, [6; 16]),
        client: "198.51.100.7:49152".parse().unwrap(),
        server: "[2001:db8::1]:20001".parse().unwrap(),
    }
}

pub(crate) fn switch() -> Switch {
    Switch {
        to: Leg {
            link: 0x0506_0708_090a_0b0c,
            open: 0x0d0e_0f10,
        },
        offset: 0x1112_1314_1516_1718,
    }
}

/// Name, header and payload of an example of every frame.
pub(crate) fn frames() -> Vec<(&'static str, Header, Vec<u8>)> {
    let refused = Error::new(
        Code::UpstreamRefused,
        "127.0.0.1:5432 refused the connection",
    );
    let open = frame::encode_open(&open_header(), b"\x00\x00\x00\x08\x04\xd2\x16\x2f").unwrap();
    let reason = frame::encode_reason(&refused).unwrap();
    let all = [
        ("open", FrameType::Open, open),
        ("opened", FrameType::Opened, Vec::new()),
        ("refused", FrameType::Refused, reason.clone()),
        ("data", FrameType::Data, b"select 1;\n".to_vec()),
        ("end", FrameType::End, Vec::new()),
        ("reset", FrameType::Reset, reason),
        ("reset_bare", FrameType::Reset, Vec::new()),
        ("released", FrameType::Released, Vec::new()),
        (
            "credit",
            FrameType::Credit,
            frame::encode_credit(32_768).to_vec(),
        ),
        ("switch", FrameType::Switch, switch().encode().to_vec()),
        ("resume", FrameType::Resume, switch().to.encode().to_vec()),
        ("move", FrameType::Move, Vec::new()),
    ];
    let numbered = all.into_iter().map(|(name, kind, payload)| {
        let header = Header::new(kind, 0x0102_0304, payload.len()).unwrap();
        (name, header, payload)
    });
    numbered.collect()
}
