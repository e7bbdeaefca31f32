//! What excludes what, and where: unknown at the first byte behind which nothing is left.

use super::*;

/// All bytes but the last may still become something.
fn unknown_at_last(bytes: &[u8]) {
    let unknown = Looked::Found(First::default());
    assert_eq!(
        dribbled(bytes),
        (unknown.clone(), bytes.len()),
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
    for length in bytes.len()..bytes.len() + 3 {
        let more = [bytes, &[0xff; 3]].concat();
        assert_eq!(look(&more[..length], false), unknown);
        assert_eq!(look(&more[..length], true), unknown);
    }
}

#[test]
fn nothing_is_unknown_only_when_it_ended() {
    assert_eq!(look(b"", false), Looked::More);
    assert_eq!(look(b"", true), Looked::Found(First::default()));
}

#[test]
fn unknown_at_the_first_byte_that_excludes() {
    for bytes in [
        // Nothing begins so.
        &b"\x01"[..],
        b"\x05",
        b"\x00\x01",
        b"\x04",
        // TLS: an alert, a version, an empty record, too long a record, another message.
        b"\x15\x03",
        b"\x16\x04",
        b"\x16\x03\x05",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x41",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x02\x00\x02",
        // SSLv2.
        b"\x80\x2e\x01",
        // PostgreSQL: lengths and codes.
        b"\x00\x00\x28",
        b"\x00\x00\x27\x11",
        b"\x00\x00\x00\x07",
        b"\x00\x00\x00\x09\x01",
        b"\x00\x00\x00\x08\x00\x03",
        b"\x00\x00\x00\x09\x00\x02",
        b"\x00\x00\x00\x08\x04\xd3",
        b"\x00\x00\x00\x08\x04\xd2\x17",
        b"\x00\x00\x00\x09\x04\xd2\x16\x2f",
        b"\x00\x00\x00\x0f\x04\xd2\x16\x2e",
        b"\x00\x00\x00\x08\x04\xd2\x16\x31",
        // SQL Server: another status, lengths, another option first.
        b"\x12\x02",
        b"\x12\x01\x00\x13",
        b"\x12\x01\x80\x00",
        b"\x12\x01\x00\x2f\x00\x00\x01\x00\x01",
        // RDP: lengths, another message, a reference, a controller.
        b"\x03\x01",
        b"\x03\x00\x02",
        b"\x03\x00\x00\x0a",
        b"\x03\x00\x00\x13\x0f",
        b"\x03\x00\x00\x13\x0e\xf0",
        b"\x03\x00\x00\x13\x0e\xe0\x01",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x01",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x01",
        b"\x03\x00\x00\x16\x11\xe0\x00\x00\x00\x01\x00\xc1",
        // MQTT: lengths, names, levels.
        b"\x10\x0b",
        b"\x10\xff\xff\xff\xff",
        b"\x10\x10\x01",
        b"\x10\x10\x00\x05",
        b"\x10\x10\x00\x04MQTS",
        b"\x10\x10\x00\x04MQTT\x03",
        b"\x10\x10\x00\x06MQIsdp\x04",
        // Minecraft: lengths, packets, hosts that don't fit, what comes next.
        b"\x06\x01",
        b"\xff\x7f",
        b"\xff\xff",
        b"\x0f\x00\x2f\x0a",
        b"\x07\x00\x88\x80\x80\x80\x80",
        b"\x06\x00\x2f\x00\x63\xdd\x04",
        b"\xfe\x02\x01",
        b"\xfe\x01\x02",
        // Redis: no count, too many digits, no text; commands that aren't its.
        b"*0\x00",
        b"*-1\r",
        b"*12345678\r",
        b"*1\r\n:",
        b"PINGS\r",
        b"PIN\r",
        // Text that is neither HTTP nor Redis: SMTP, IRC, FTP, memcached, Telnet.
        b"EHLO mail.example.com\r",
        b"NICK someone\r",
        b"CAP LS 3",
        b"USER anonymous\r",
        b"get key\r",
        b"stats\r",
        b"\xff\xfd",
        // HTTP: no version, other versions, HTTP/0.9, no method, no target, two spaces, empty lines before.
        b"GET / F",
        b"GET / HTTP/2",
        b"GET / HTTP/1.2",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\rX",
        b"GET /\r",
        b"GET  ",
        b"\r\n",
        b"\nG",
        b" G",
        b"PRI * HTTP/2.0\r\n\r\nSX",
        b"SSH\r",
    ] {
        unknown_at_last(bytes);
    }
}
