//! Bytes of real clients, recorded by a listener on loopback (`testdata/`), and of those that were not at hand,
//! from the specifications.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../testdata/", $name)).as_slice()
    };
}

fn tls(sni: Option<&str>, alpn: &[&str]) -> First {
    First {
        sni: sni.map(str::to_owned),
        alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
        ..plain(Protocol::Tls)
    }
}

fn http(host: &str) -> First {
    First {
        http_host: Some(host.to_owned()),
        ..plain(Protocol::Http)
    }
}

#[test]
fn tls_clients() {
    assert_eq!(
        found(recorded!("tls_curl")),
        tls(Some("db.example.com"), &["h2", "http/1.1"])
    );
    assert_eq!(
        found(recorded!("tls_openssl_alpn")),
        tls(Some("tls.example.org"), &["h2", "http/1.1"])
    );
    assert_eq!(
        found(recorded!("tls_openssl_1_2")),
        tls(Some("tls.example.org"), &[])
    );
    assert_eq!(found(recorded!("tls_openssl_no_sni")), tls(None, &[]));
    // After its SSLRequest was answered with `S`.
    assert_eq!(found(recorded!("tls_psql")), tls(None, &[]));
}

/// `openssl s_client -max_send_frag 512` with 30 protocols: three records.
#[test]
fn a_hello_in_several_records() {
    let first = found(recorded!("tls_openssl_fragmented"));
    assert_eq!(first.sni.as_deref(), Some("tls.example.org"));
    let names: Vec<String> = (0..30)
        .map(|number| format!("proto-number-{number:03}-with-a-long-name"))
        .collect();
    assert_eq!(first.alpn, names);
}

#[test]
fn http_clients() {
    assert_eq!(found(recorded!("http_curl")), http("app.example.com"));
    assert_eq!(
        found(recorded!("http_curl_upgrade")),
        http("app.example.com")
    );
    assert_eq!(found(recorded!("http_wget")), http("localhost"));
    assert_eq!(found(recorded!("http_git")), http("127.0.0.1"));
    assert_eq!(found(recorded!("http2_curl")), plain(Protocol::Http));
}

#[test]
fn ssh_client() {
    assert_eq!(found(recorded!("ssh_openssh")), plain(Protocol::Ssh));
    assert_eq!(dribbled(recorded!("ssh_openssh")).1, 4);
}

#[test]
fn postgres_clients() {
    assert_eq!(
        found(recorded!("postgres_psql_disable")),
        plain(Protocol::Postgres)
    );
    // `sslmode=prefer`: it asks for TLS, is answered `N`, and goes on without.
    let bytes = recorded!("postgres_psql_prefer");
    let refused = Looked::Answer {
        taken: 8,
        say: b"N",
    };
    assert_eq!(dribbled(bytes), (refused.clone(), 8));
    for length in 8..=bytes.len() {
        assert_eq!(look(&bytes[..length], length % 2 == 0), refused);
    }
    assert_eq!(found(&bytes[8..]), plain(Protocol::Postgres));
    // libpq with Kerberos asks for that first.
    let gssapi = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
    assert_eq!(dribbled(&gssapi), (refused, 8));
    // To cancel, with the keys of PostgreSQL 17 and 18.
    for key in [4, 32] {
        let cancel = [&[0, 0, 0, 12 + key, 4, 0xd2, 0x16, 0x2e][..], &[9; 36]].concat();
        assert_eq!(found(&cancel), plain(Protocol::Postgres));
    }
}

/// The example of MS-TDS 4.1.
#[test]
fn sql_server_client() {
    let bytes = [
        0x12, 0x01, 0x00, 0x2f, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x1a, 0x00, 0x06, 0x01, 0x00,
        0x20, 0x00, 0x01, 0x02, 0x00, 0x21, 0x00, 0x01, 0x03, 0x00, 0x22, 0x00, 0x04, 0x04, 0x00,
        0x26, 0x00, 0x01, 0xff, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0xb8, 0x0d, 0x00,
        0x00, 0x01,
    ];
    assert_eq!(found(&bytes), plain(Protocol::Mssql));
}

#[test]
fn redis_clients() {
    for bytes in [
        recorded!("redis_cli_ping"),
        recorded!("redis_cli_auth"),
        recorded!("redis_cli_hello"),
        b"PING\r\n",
        b"ping\n",
        b"AUTH secret\r\n",
        b"HELLO 3 AUTH default secret\r\n",
        b"info\r\n",
    ] {
        assert_eq!(found(bytes), plain(Protocol::Redis));
    }
}

#[test]
fn mqtt_clients() {
    for bytes in [
        recorded!("mqtt_mosquitto_31"),
        recorded!("mqtt_mosquitto_311"),
        recorded!("mqtt_mosquitto_5"),
    ] {
        assert_eq!(found(bytes), plain(Protocol::Mqtt));
    }
    // A bridge of mosquitto, and a packet with a will of 300 bytes.
    assert_eq!(
        found(b"\x10\x16\0\x04MQTT\x84\x02\0\x3c"),
        plain(Protocol::Mqtt)
    );
    assert_eq!(
        found(b"\x10\xac\x02\0\x04MQTT\x05\x02\0\x3c"),
        plain(Protocol::Mqtt)
    );
}

#[test]
fn rdp_clients() {
    assert_eq!(found(recorded!("rdp_xfreerdp")), plain(Protocol::Rdp));
    // Without a cookie, and without a negotiation.
    let bare = b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x0b\0\0\0";
    assert_eq!(found(bare), plain(Protocol::Rdp));
    assert_eq!(
        found(b"\x03\0\0\x0b\x06\xe0\0\0\0\0\0"),
        plain(Protocol::Rdp)
    );
}

#[test]
fn minecraft_clients() {
    let named = |host: Option<&str>| First {
        minecraft_host: host.map(str::to_owned),
        ..plain(Protocol::Minecraft)
    };
    for (wrote, host) in [
        (&b"mc.example.com"[..], Some("mc.example.com")),
        (b"MC.Example.com.", Some("mc.example.com")),
        (b"mc.example.com\0FML\0", Some("mc.example.com")),
        (b"mc.example.com.\0FML2\0", Some("mc.example.com")),
        (b"mc.example.com\0FORGE", Some("mc.example.com")),
        (b"mc.example.com///1.2.3.4:5///6", Some("mc.example.com")),
        (
            b"mc.example.com\x0010.0.0.1\x00id\0[{}]",
            Some("mc.example.com"),
        ),
        (b"192.0.2.7", Some("192.0.2.7")),
        (b"2001:DB8::1", Some("2001:db8::1")),
        (b"", None),
        (b"not a host", None),
    ] {
        for next in 1..=3 {
            let mut bytes = minecraft(wrote, next);
            assert_eq!(found(&bytes), named(host));
            // A client sends its status request or its login at once.
            bytes.extend([1, 0]);
            assert_eq!(found(&bytes), named(host));
        }
    }
    // Of 16 and of 22 bytes: they begin as MQTT and TLS do.
    for letters in [9, 15] {
        let bytes = minecraft(&vec![b'a'; letters], 1);
        assert!(matches!(bytes[0], 0x10 | 0x16), "{}", bytes[0]);
        assert_eq!(found(&bytes).protocol, Protocol::Minecraft);
    }
    // Of 254 bytes: it begins as the ping of old.
    let bytes = minecraft(&[b'a'; 246], 1);
    assert_eq!(bytes[..3], [0xfe, 0x01, 0x00]);
    assert_eq!(found(&bytes).protocol, Protocol::Minecraft);
    // A proxy with a signed skin.
    let long = [b"mc.example.com\0".as_slice(), &[b'x'; 5000]].concat();
    assert_eq!(found(&minecraft(&long, 2)), named(Some("mc.example.com")));
}

#[test]
fn minecraft_pings_of_old() {
    let ping = |host: &str| {
        let text: Vec<u8> = host.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let rest = [
            &[74],
            &u16::try_from(host.len()).expect("short").to_be_bytes()[..],
            &text,
            &[0, 0, 0x63, 0xdd],
        ]
        .concat();
        let name = b"\xfe\x01\xfa\0\x0b\0M\0C\0|\0P\0i\0n\0g\0H\0o\0s\0t";
        [&name[..], &long(&rest)].concat()
    };
    assert_eq!(
        found(&ping("mc.example.com")).minecraft_host.as_deref(),
        Some("mc.example.com")
    );
    assert_eq!(found(&ping("no host")), plain(Protocol::Minecraft));
    assert_eq!(found(b"\xfe\x01\xfa\0\x0c"), plain(Protocol::Minecraft));
    for old in [&b"\xfe"[..], b"\xfe\x01"] {
        assert_eq!(look(old, false), Looked::More);
        assert_eq!(look(old, true), Looked::Found(plain(Protocol::Minecraft)));
    }
}
