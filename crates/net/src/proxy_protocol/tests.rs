//! Headers: round trips, vectors from the specification, cuts at every byte, and nothing taken of
//! the stream behind them.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::parse::crc32c;
use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("a test's address")
}

#[test]
fn version_1_is_the_line_of_the_specification() {
    let bytes = encode(
        Version::V1,
        addr("192.168.0.1:56324"),
        addr("192.168.0.11:443"),
        &[],
    );
    assert_eq!(bytes, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    let six = encode(
        Version::V1,
        addr("[2001:db8::1]:1"),
        addr("10.0.0.1:2"),
        &[],
    );
    assert_eq!(six, b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 2\r\n");
}

#[test]
fn version_2_is_laid_out_as_the_specification_has_it() {
    let tlv = Tlv {
        kind: 0xE1,
        value: vec![1, 2],
    };
    let bytes = encode(
        Version::V2,
        addr("127.0.0.1:1"),
        addr("127.0.0.2:258"),
        &[tlv],
    );
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".to_vec();
    expected.extend([127, 0, 0, 1, 127, 0, 0, 2, 0, 1, 1, 2, 0xE1, 0, 2, 1, 2]);
    assert_eq!(bytes, expected);
}

#[test]
fn unknown_and_local_leave_the_sockets_addresses() {
    let (header, taken) = parse(b"PROXY UNKNOWN\r\nrest")
        .expect("valid")
        .expect("complete");
    assert_eq!((header.addresses, taken), (None, 15));
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert_eq!(
        parse(local).expect("valid").expect("complete").0.addresses,
        None
    );
}

#[test]
fn garbage_is_refused_at_its_first_wrong_byte() {
    for bad in [
        &b"G"[..],
        b"PROXX",
        b"\r\n\r\nx",
        b"PROXY TCP4 1 2 3 4\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 70000 1\r\n",
    ] {
        assert_eq!(
            parse(bad).expect_err("not valid").code,
            Code::ProxyHeaderInvalid,
            "{bad:?}"
        );
    }
    assert!(
        parse(&[b"PROXY ".as_slice(), &[b'1'; 200]].concat()).is_err(),
        "longer than a line may be"
    );
}

#[test]
fn a_wrong_checksum_is_refused_and_a_right_one_is_not() {
    assert_eq!(
        crc32c(b"123456789"),
        0xE306_9283,
        "the check value of CRC-32C"
    );
    let zero = Tlv {
        kind: 3,
        value: vec![0; 4],
    };
    let mut bytes = encode(
        Version::V2,
        addr("127.0.0.1:1"),
        addr("127.0.0.2:2"),
        &[zero],
    );
    let at = bytes.len() - 4;
    let sum = crc32c(&bytes).to_be_bytes();
    assert!(parse(&bytes).is_err());
    bytes[at..].copy_from_slice(&sum);
    assert!(parse(&bytes).is_ok());
}

#[tokio::test]
async fn not_a_byte_behind_the_header_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    for version in [Version::V1, Version::V2] {
        let bytes = encode(
            version,
            addr("[2001:db8::7]:7"),
            addr("[2001:db8::8]:8"),
            &[],
        );
        let to = listener.local_addr().expect("bound");
        let send = async {
            let mut stream = TcpStream::connect(to).await.expect("connects");
            // In two pieces, so that the reader has to wait inside the header.
            stream.write_all(&bytes[..9]).await.expect("writes");
            tokio::task::yield_now().await;
            stream
                .write_all(&[&bytes[9..], b"PROXY rest\n"].concat())
                .await
                .expect("writes");
            stream
        };
        let (client, accepted) = tokio::join!(send, listener.accept());
        let (mut stream, _) = accepted.expect("accepts");
        let deadline = Instant::now() + Duration::from_secs(20);
        let header = read_header(&stream, deadline).await.expect("valid");
        assert_eq!(
            header.addresses,
            Some((addr("[2001:db8::7]:7"), addr("[2001:db8::8]:8")))
        );
        drop(client);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.expect("reads");
        assert_eq!(rest, "PROXY rest\n");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_let_go_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let _client = TcpStream::connect(listener.local_addr().expect("bound"))
        .await
        .expect("connects");
    let (stream, _) = listener.accept().await.expect("accepts");
    let error = read_header(&stream, Instant::now() + Duration::from_secs(5))
        .await
        .expect_err("silent");
    assert_eq!(error.code, Code::ProxyHeaderInvalid);
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn headers_round_trip_and_are_incomplete_when_cut(
        client in any_addr(), server in any_addr(), two in any::<bool>(), value in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let version = if two { Version::V2 } else { Version::V1 };
        let tlvs = if two { vec![Tlv { kind: 0xE0, value }] } else { Vec::new() };
        let bytes = encode(version, client, server, &tlvs);
        let expected = Header { version, addresses: Some(same_family(client, server)), tlvs };
        prop_assert_eq!(parse(&bytes), Ok(Some((expected, bytes.len()))));
        for cut in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {}", cut);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = V2.to_vec();
        framed.extend(&bytes);
        drop((parse(&bytes), parse(&framed)));
    }
}

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
