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
    assert_eq!(found(recorded!("tls_psql")), tls(None, &[]));
}

/// What clients offer, in their order or any other.
#[test]
fn fingerprints() {
    for (bytes, told) in [
        (recorded!("tls_curl"), "t13d"),
        (recorded!("tls_openssl_alpn"), "t13d"),
        (recorded!("tls_openssl_1_2"), "t12d"),
        (recorded!("tls_openssl_no_sni"), "t13i"),
        (recorded!("tls_psql"), "t13i"),
        (recorded!("tls_openssl_fragmented"), "t13d"),
    ] {
        let fingerprint = ja4(bytes).expect("a whole hello");
        assert!(fingerprint.starts_with(told), "{fingerprint}");
        let parts: Vec<usize> = fingerprint.split('_').map(str::len).collect();
        assert_eq!(parts, [10, 12, 12], "{fingerprint}");
        assert_eq!(ja4(&bytes[..bytes.len() - 1]), None, "it is not whole");
    }
    assert_eq!(ja4(recorded!("ssh_openssh")), None);
    assert_eq!(ja4(b""), None);
}

/// The Chrome of the specification: 15 ciphers and 16 extensions beside the noise, in another order.
#[test]
fn the_fingerprint_of_the_specification() {
    let numbers = |list: &[u16]| -> Vec<u8> {
        list.iter()
            .flat_map(|number| number.to_be_bytes())
            .collect()
    };
    let suites = [
        0x8a8a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];
    let algorithms = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
    ];
    let extension = |kind: u16| -> Vec<u8> {
        let content = match kind {
            0 => server_name(b"a.example").1,
            13 => long(&numbers(&algorithms)),
            16 => long(&[short(b"h2"), short(b"http/1.1")].concat()),
            43 => short(&numbers(&[0x1a1a, 0x0304, 0x0303])),
            _ => Vec::new(),
        };
        [kind.to_be_bytes().to_vec(), long(&content)].concat()
    };
    let kinds = [
        0x2a2a, 0x0033, 0x0000, 0x0017, 0xff01, 0x000a, 0x000b, 0x0023, 0x0010, 0x0005, 0x000d,
        0x0012, 0x002b, 0x002d, 0x001b, 0x4469, 0x0015, 0xfafa,
    ];
    let extensions: Vec<u8> = kinds.into_iter().flat_map(extension).collect();
    let body = [
        vec![3, 3],
        vec![7; 32],
        vec![0],
        long(&numbers(&suites)),
        vec![1, 0],
        long(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("a length").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    for each in [7, usize::MAX] {
        assert_eq!(
            ja4(&records(&message, each)).as_deref(),
            Some("t13d1516h2_8daaf6152771_e5627efa2ab1")
        );
    }
}

/// PostgreSQL from 17 on with `sslnegotiation=direct`, SQL Server with `Encrypt=Strict`.
#[test]
fn protocols_that_begin_with_tls_are_told_by_alpn() {
    let offers = |names: &[&str]| {
        let list: Vec<u8> = names
            .iter()
            .flat_map(|name| short(name.as_bytes()))
            .collect();
        found(&hello(&[server_name(b"db.example.com"), (16, long(&list))]))
    };
    for (names, protocol) in [
        (&["postgresql"][..], Protocol::Postgres),
        (&["tds/8.0"], Protocol::Mssql),
        (&["h2", "postgresql"], Protocol::Postgres),
        (&["h2"], Protocol::Tls),
        (&["POSTGRESQL"], Protocol::Tls),
    ] {
        let expected = First {
            protocol,
            ..tls(Some("db.example.com"), names)
        };
        assert_eq!(offers(names), expected);
    }
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
    // `sslmode=prefer`: it asks for TLS first.
    let bytes = recorded!("postgres_psql_prefer");
    let answer = |say, then| Looked::Answer {
        taken: 8,
        say,
        then,
    };
    let goes_ahead = answer(b"S", Asked::Tls);
    assert_eq!(dribbled(bytes), (goes_ahead.clone(), 8));
    for length in 8..=bytes.len() {
        assert_eq!(look(&bytes[..length], length % 2 == 0), goes_ahead);
    }
    // libpq with Kerberos asks for that first.
    let gssapi = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
    assert_eq!(dribbled(&gssapi), (answer(b"N", Asked::Gssapi), 8));
    // To cancel, with the keys of PostgreSQL 17 and 18.
    for key in [4, 32] {
        let cancel = [
            &[0, 0, 0, 12 + key, 4, 0xd2, 0x16, 0x2e, 0, 1, 0, 2][..],
            &vec![9; usize::from(key)],
        ]
        .concat();
        let asked = CancelKey {
            process: 65_538,
            key: vec![9; usize::from(key)],
        };
        let expected = First {
            cancel: Some(asked),
            ..plain(Protocol::Postgres)
        };
        assert_eq!(found(&cancel), expected);
        assert_eq!(dribbled(&cancel).1, cancel.len());
        let cut = look(&cancel[..cancel.len() - 1], true);
        assert_eq!(cut, Looked::Found(plain(Protocol::Postgres)));
        assert!(!format!("{expected:?}").contains('9'), "{expected:?}");
    }
    // Not one that no server gives out.
    for length in [15_u16, 269] {
        let [high, low] = length.to_be_bytes();
        let bytes = [0, 0, high, low, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1];
        assert_eq!(look(&bytes, false), Looked::Found(First::default()));
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

/// TLS in packets of pre-login, however it is cut.
#[test]
fn tls_in_packets_of_sql_server() {
    let packets = |content: &[u8], each: usize| -> Vec<u8> {
        let count = content.chunks(each).count();
        let packet = |(number, part): (usize, &[u8])| {
            let length = u16::try_from(part.len() + 8).expect("a length");
            let status = u8::from(number + 1 == count);
            let [high, low] = length.to_be_bytes();
            [&[0x12, status, high, low, 0, 0, 1, 0], part].concat()
        };
        content.chunks(each).enumerate().flat_map(packet).collect()
    };
    let hello = hello(&[server_name(b"sql.example.com"), (21, vec![0; 100])]);
    let expected = First {
        sni: Some("sql.example.com".to_owned()),
        ..plain(Protocol::Mssql)
    };
    for each in [12, 40, 4088] {
        let bytes = packets(&hello, each);
        if each * 16 < hello.len() {
            continue;
        }
        assert_eq!(found(&bytes), expected, "packets of {each}");
        // What stops before it is whole has no name.
        let cut = look(&bytes[..bytes.len() - 1], true);
        assert_eq!(cut, Looked::Found(plain(Protocol::Mssql)));
    }
    // Too many packets, and another behind the first.
    let many = [packets(&hello[..12], 12), packets(&hello[12..], 12)].concat();
    let too_many = packets(&[hello.clone(), vec![0; 200]].concat(), 12);
    assert!(
        matches!(look(&too_many, true), Looked::Found(first) if first.protocol == Protocol::Mssql)
    );
    let other = [&many[..20], &[4, 1, 0, 20]].concat();
    assert_eq!(found(&other), plain(Protocol::Mssql));
    // Not TLS, and not a pre-login.
    let not_tls = packets(&[&[0x16, 4][..], &[0; 30]].concat(), 100);
    assert_eq!(look(&not_tls, false), Looked::Found(First::default()));
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
