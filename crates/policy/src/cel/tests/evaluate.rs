//! A table of expressions and their values.

use serde_json::json;

use super::*;

/// Expressions over a connection of which everything is known, and their values.
fn table() -> Vec<(&'static str, Value)> {
    let mut all = variables();
    all.extend(texts());
    all.extend(encodings());
    all.extend(lists_and_times());
    all
}

fn variables() -> Vec<(&'static str, Value)> {
    vec![
        ("conn.client_ip", json!("198.51.100.7")),
        ("conn.client_ip == '198.51.100.7'", json!(true)),
        ("conn.client_ip.startsWith('198.')", json!(true)),
        ("conn.client_port", json!(40000)),
        ("conn.server_ip", json!("203.0.113.5")),
        ("conn.server_port == 20001", json!(true)),
        ("conn.server_region", json!("eu")),
        ("conn.ts.start", json!("2023-11-14T22:13:20.250Z")),
        ("conn.bytes_in + conn.bytes_out", json!(0)),
        ("conn.geo.city", json!("Berlin")),
        ("conn.geo.country_code == 'DE'", json!(true)),
        ("conn.geo.latitude", json!("52.52")),
        ("double(conn.geo.latitude) > 50.0", json!(true)),
        ("conn.geo.radius", json!("")),
        ("conn['geo']['country']", json!("Germany")),
        ("conn.client_ip.geo.location.city", json!("Berlin")),
        (
            "conn.client_ip.geo.registered_location.country",
            json!("Germany"),
        ),
        ("conn.client_ip['geo'].location['city']", json!("Berlin")),
        ("conn.client_ip.as.number", json!(3320)),
        ("conn.client_ip.as.organization", json!("DTAG")),
        ("conn.client_ip.categories.size()", json!(4)),
        ("'blocklist' in conn.client_ip.categories", json!(true)),
        ("conn.client_ip.is_on_blocklist", json!(true)),
        ("conn.client_ip.is_tor_node", json!(false)),
        ("conn.client_ip.geo.location.size()", json!(7)),
        ("conn.server_ip.geo.location.city", json!("")),
        ("conn.server_ip.as.number", json!(0)),
        ("conn.server_ip.categories", json!([])),
        ("has(conn.client_ip.geo)", json!(true)),
        ("has(conn.client_ip.geo.location.city)", json!(true)),
        ("has(conn.server_ip.geo.location.city)", json!(false)),
        ("has(conn.client_ip)", json!(true)),
        ("has(conn.geo.radius)", json!(false)),
        ("conn.protocol", json!("tls")),
        ("conn.sni", json!("db.example.com")),
        ("conn.alpn", json!(["h2", "http/1.1"])),
        ("'h2' in conn.alpn", json!(true)),
        ("conn.http.host", json!("web.example.com")),
        ("conn.minecraft.host", json!("mc.example.com")),
        ("conn.tls.sni", json!("db.example.com")),
        ("conn.tls.session_resumed", json!(false)),
        ("conn.tls.client.subject", json!("")),
        ("conn.tls.client.subject.common_name", json!("")),
        ("conn.tls.client.subject.organization", json!([])),
        ("conn.tls.client.extensions.size()", json!(0)),
        ("has(conn.tls.client.pem)", json!(false)),
        ("endpoint.id", json!("ep_1")),
        ("endpoint.url", json!("tcp://tcp.example.com:20001")),
        ("endpoint.addr", json!("tcp.example.com:20001")),
        (
            "endpoint.host + ':' + string(endpoint.port)",
            json!("tcp.example.com:20001"),
        ),
        ("endpoint.protocol", json!("tcp")),
        ("time.now", json!("2023-11-14T22:13:20.500Z")),
        ("time.now > conn.ts.start", json!(true)),
        ("time.now - conn.ts.start", json!("0.25s")),
        ("req.method", json!("POST")),
        ("req.url", json!("/a/b?c=1")),
        ("req.path.startsWith('/a/')", json!(true)),
        ("req.host", json!("web.example.com")),
        ("req.content_length", json!(12)),
        ("req.headers['X-Tag']", json!(["one", "two"])),
        ("req.headers['x-none']", json!([])),
        ("req.headers.host[0]", json!("web.example.com")),
        ("'x-tag' in req.headers", json!(true)),
        (
            "has(req.headers.host) && !has(req.headers.accept)",
            json!(true),
        ),
        ("vars.name", json!("Ada")),
        ("vars['name']", json!("Ada")),
        ("vars.n + 1", json!(4)),
        ("vars.pi * 2.0", json!(7.0)),
        ("vars.map.a.b", json!("deep")),
        ("vars.map['k-1']", json!(1)),
        ("vars.list[1]", json!(2)),
        ("vars.missing == null", json!(true)),
        ("vars.missing.deeper.still", json!(null)),
        ("has(vars.name)", json!(true)),
        ("has(vars.missing)", json!(false)),
        ("has(vars.missing.deeper)", json!(false)),
        ("'name' in vars", json!(true)),
        ("actions.ngrok.restrict_ips.action", json!("deny")),
        ("actions.ngrok.restrict_ips.error.code", json!("E1")),
        ("actions.ngrok.forward_internal.error", json!(null)),
        ("has(actions.ngrok.restrict_ips)", json!(true)),
        ("secrets.get('main', 'token') == 'hunter2'", json!(true)),
        ("true || secrets.get('main', 'none') == 'x'", json!(true)),
    ]
}

fn texts() -> Vec<(&'static str, Value)> {
    vec![
        ("'abc'.charAt(1)", json!("b")),
        ("'abc'.contains('bc')", json!(true)),
        ("'abc'.endsWith('bc')", json!(true)),
        ("'äbäb'.indexOf('b')", json!(1)),
        ("'äbäb'.indexOf('b', 2)", json!(3)),
        ("'abc'.indexOf('x')", json!(-1)),
        ("'abc'.indexOf('')", json!(0)),
        ("'äbäb'.lastIndexOf('ä')", json!(2)),
        ("'äbäb'.lastIndexOf('ä', 1)", json!(0)),
        ("'abc'.lastIndexOf('x')", json!(-1)),
        ("'abcdef'.substring(2)", json!("cdef")),
        ("'abcdef'.substring(2, 4)", json!("cd")),
        ("'aXbXc'.replace('X', '-')", json!("a-b-c")),
        ("'aXbXc'.replace('X', '-', 1)", json!("a-bXc")),
        ("'aXb'.replace('X', '-', -1)", json!("a-b")),
        ("'ab'.replace('', '.')", json!(".a.b.")),
        ("'abc'.reverse()", json!("cba")),
        ("'a,b,c'.split(',')", json!(["a", "b", "c"])),
        ("'a,b,c'.split(',', 2)", json!(["a", "b,c"])),
        ("'abc'.split('')", json!(["a", "b", "c"])),
        ("'abc'.split('', 2)", json!(["a", "bc"])),
        ("'abc'.split(',', 0)", json!([])),
        ("'  a '.trim()", json!("a")),
        ("'ÄB'.lower()", json!("äb")),
        ("'äb'.upper()", json!("ÄB")),
        ("'ÄB'.lowerAscii()", json!("Äb")),
        ("'äb'.upperAscii()", json!("äB")),
        ("'foobar'.matches('^fo+b')", json!(true)),
        ("matches('foobar', 'x')", json!(false)),
        ("'%s is %d'.format(['a', 5])", json!("a is 5")),
        ("size('äb')", json!(2)),
        ("b'hello'.size()", json!(5)),
        ("strings.quote('a\"b')", json!("\"a\\\"b\"")),
        ("'{\"a\": [1]}'.isJson()", json!(true)),
        ("'{'.isJson()", json!(false)),
        ("'https://a.b/c'.isURL()", json!(true)),
        ("'a.b/c'.isURL()", json!(false)),
        ("'a=1&b=%20'.isQueryString()", json!(true)),
        ("'a=%zz'.isQueryString()", json!(false)),
        (
            "inCidrRange(conn.client_ip, '198.51.100.0/24')",
            json!(true),
        ),
        ("inCidrRange('66.249.66.7', '66.249.66.1/24')", json!(true)),
        ("inCidrRange('10.0.0.1', '10.0.0.1')", json!(true)),
        ("inCidrRange('10.0.0.1', 'nonsense')", json!(false)),
        ("inCidrRange('nonsense', '10.0.0.0/8')", json!(false)),
        ("inCidrRange('::ffff:10.0.0.1', '10.0.0.0/8')", json!(true)),
        (
            "inCidrRanges('2001:4860::1', ['x', '2001:4860::/32'])",
            json!(true),
        ),
        ("inCidrRanges('10.0.0.1', [])", json!(false)),
        ("'10.1.2.3'.isPrivateIp()", json!(true)),
        ("'fd00::1'.isPrivateIp()", json!(true)),
        ("conn.client_ip.isPrivateIp()", json!(false)),
        ("'nonsense'.isPrivateIp()", json!(false)),
        ("type(conn.client_ip) == string", json!(true)),
        ("1 < 2 && 2 < 3 || false", json!(true)),
        ("!(1 == 2)", json!(true)),
        ("-conn.client_port", json!(-40000)),
        ("7 / 2 + 7 % 2", json!(4)),
        ("conn.client_port > 1024 ? 'high' : 'low'", json!("high")),
    ]
}

fn encodings() -> Vec<(&'static str, Value)> {
    vec![
        ("base64.encode(b'hello')", json!("aGVsbG8=")),
        ("base64.encode('hello')", json!("aGVsbG8=")),
        ("base64.decode('aGVsbG8=') == b'hello'", json!(true)),
        ("'hello'.encodeBase64()", json!("aGVsbG8=")),
        ("'aGVsbG8='.decodeBase64()", json!("hello")),
        (
            "json.encode({'a': [1, true, null]})",
            json!("{\"a\":[1,true,null]}"),
        ),
        ("json.decode('{\"a\": 1}').a", json!(1)),
        ("'[1, 2.5]'.decodeJson()", json!([1, 2.5])),
        ("[1, 'b'].encodeJson()", json!("[1,\"b\"]")),
        ("{'a': 1}.encodeJson()", json!("{\"a\":1}")),
        (
            "queryString.encode({'b': 'x y', 'a': ['1', '2']})",
            json!("a=1&a=2&b=x%20y"),
        ),
        ("{'a': 1}.encodeQueryString()", json!("a=1")),
        (
            "queryString.decode('a=1&a=2&b=x+y')",
            json!({"a": ["1", "2"], "b": ["x y"]}),
        ),
        ("'?a=%41'.decodeQueryString().a[0]", json!("A")),
        ("url.escape('a b/ü')", json!("a%20b%2F%C3%BC")),
        ("'a%20b'.unescapeUrl()", json!("a b")),
        ("url.unescape('a%20b') == 'a b'", json!(true)),
        ("'a b'.escapeUrl()", json!("a%20b")),
        (
            "url.parse('https://u@h.example:8443/p?q=1#f').port",
            json!("8443"),
        ),
        ("'https://[::1]:1/p'.parseUrl().host", json!("[::1]:1")),
        ("'https://[::1]:1/p'.parseUrl().hostname", json!("::1")),
        (
            "basic_auth.encode('username', 'password1')",
            json!("Basic dXNlcm5hbWU6cGFzc3dvcmQx"),
        ),
        ("hash.crc32('123456789')", json!("cbf43926")),
        ("'123456789'.crc32()", json!("cbf43926")),
        ("hash.crc64('123456789')", json!("995dc9bbdf1939fa")),
        ("'123456789'.crc64()", json!("995dc9bbdf1939fa")),
        ("hash.md5('')", json!("d41d8cd98f00b204e9800998ecf8427e")),
        ("'abc'.md5()", json!("900150983cd24fb0d6963f7d28e17f72")),
        (
            "hash.sha1('abc')",
            json!("a9993e364706816aba3e25717850c26c9cd0d89d"),
        ),
        ("'abc'.sha1().size()", json!(40)),
        (
            "'abc'.sha256()",
            json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ),
        ("hash.sha256('abc') == 'abc'.sha256()", json!(true)),
        (
            "hash.sha512('abc').startsWith('ddaf35a193617aba')",
            json!(true),
        ),
        ("'abc'.sha512().size()", json!(128)),
        ("hash.xxhash64('abc')", json!("44bc2cf5ad770999")),
        ("'abc'.xxhash64() == hash.xxhash64('abc')", json!(true)),
    ]
}

fn lists_and_times() -> Vec<(&'static str, Value)> {
    vec![
        ("[1, 2, 3].all(x, x > 0)", json!(true)),
        ("[1, 2, 3].exists(x, x == 2)", json!(true)),
        ("[1, 2, 3].exists_one(x, x > 2)", json!(true)),
        ("[1, 2, 3].filter(x, x > 1)", json!([2, 3])),
        ("[1, 2, 3].map(x, x * 2)", json!([2, 4, 6])),
        ("[1, 2, 3].map(x, x > 1, x * 2)", json!([4, 6])),
        ("[1, 0].exists(x, 1 / x == 1)", json!(true)),
        ("{'a': 1}.all(k, k == 'a')", json!(true)),
        (
            "[[1, 2], [3]].map(l, l.map(x, x + 1))",
            json!([[2, 3], [4]]),
        ),
        ("['a'].map(conn, conn)", json!(["a"])),
        ("vars.list.distinct()", json!([1, 2])),
        ("[1, [2, [3]]].flatten()", json!([1, 2, [3]])),
        ("[1, [2, [3]]].flatten(2)", json!([1, 2, 3])),
        ("['a', 'b'].join('-')", json!("a-b")),
        ("['a', 'b'].join()", json!("ab")),
        ("[1, 2, 3, 4].slice(1, 3)", json!([2, 3])),
        ("[3, 1, 2].sort()", json!([1, 2, 3])),
        ("[1, 2].reverse()", json!([2, 1])),
        (
            "[{'n': 2}, {'n': 1}].sortBy(x, x.n).map(x, x.n)",
            json!([1, 2]),
        ),
        ("['bb', 'a'].sortBy(x, x.size())", json!(["a", "bb"])),
        ("lists.range(4)", json!([0, 1, 2, 3])),
        ("size([1, 2]) + size({'a': 1})", json!(3)),
        ("[1] + [2]", json!([1, 2])),
        ("{'a': 1}['a']", json!(1)),
        ("time.now.getFullYear()", json!(2023)),
        ("time.now.getMonth()", json!(10)),
        ("time.now.getDate()", json!(14)),
        ("time.now.getDayOfMonth()", json!(13)),
        ("time.now.getDayOfWeek()", json!(2)),
        ("time.now.getDayOfYear()", json!(317)),
        ("time.now.getHours()", json!(22)),
        ("time.now.getHours('Europe/Berlin')", json!(23)),
        ("time.now.getHours('+05:30')", json!(3)),
        ("time.now.getMinutes()", json!(13)),
        ("time.now.getSeconds()", json!(20)),
        ("time.now.getMilliseconds()", json!(500)),
        ("timestamp('2023-01-01T00:00:00Z') < time.now", json!(true)),
        ("timestamp(time.now) == time.now", json!(true)),
        ("time.now.subtract('7d')", json!("2023-11-07T22:13:20.500Z")),
        (
            "time.now.add('1h30m') - time.now == duration('90m')",
            json!(true),
        ),
        ("duration('90m').getHours()", json!(1)),
        ("rand.int(3, 3)", json!(3)),
        ("rand.int() in [0, 1]", json!(true)),
        ("rand.double() >= 0.0 && rand.double() < 1.0", json!(true)),
        (
            "lists.range(100).map(x, rand.int(1, 6)).all(x, x >= 1 && x <= 6)",
            json!(true),
        ),
        (
            "lists.range(200).map(x, rand.int(1, 6)).distinct().size()",
            json!(6),
        ),
    ]
}

#[test]
fn expressions_have_these_values() {
    let case = Case::full();
    let table = table();
    assert!(table.len() >= 120, "{}", table.len());
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, wanted)| {
            let got = case.eval(text);
            (got.as_ref() != Ok(wanted)).then(|| format!("{text}\n  {got:?}\n  wanted {wanted}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn absent_data_are_empty_and_never_an_error() {
    let case = Case::bare();
    for path in paths::all() {
        let value = case
            .eval(path)
            .unwrap_or_else(|why| panic!("{path}: {why}"));
        let is_empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Number(n) => n.as_i64() == Some(0),
            Value::Bool(is) => !is,
            Value::Null => true,
        };
        let is_known = [
            "conn.client_",
            "conn.server_",
            "conn.ts",
            "endpoint.",
            "time.",
        ]
        .iter()
        .any(|known| path.starts_with(known));
        assert!(is_empty || is_known, "{path}: {value}");
        let rest = path.split_once('.').map_or("", |(_, rest)| rest);
        let is_below = rest.starts_with("client_ip.") || rest.starts_with("server_ip.");
        assert!(!is_below || is_empty, "{path}: {value}");
    }
    assert_eq!(case.eval("conn.protocol"), Ok(json!("")));
    assert_eq!(case.eval("req.headers"), Ok(json!({})));
    assert_eq!(case.eval("has(req.headers.host)"), Ok(json!(false)));
    assert_eq!(case.eval("conn.geo.size() == 7"), Ok(json!(true)));
    assert_eq!(case.eval("conn.tls.client.san.size()"), Ok(json!(4)));
}

#[test]
fn what_goes_wrong_names_types_and_never_values() {
    let case = Case::full();
    for (text, wanted) in [
        (
            "secrets.get('main', 'token') < 1",
            "`<` is not possible with (string, int)",
        ),
        (
            "secrets.get('main', 'token') + 1 == 'x'",
            "add is not possible with (string, int)",
        ),
        (
            "secrets.get('main', 'none') == 'x'",
            "there is no secret `none` in a vault `main`",
        ),
        ("1 / vars.list[0] - 1 / 0 == 1", "division by zero"),
        ("vars.list[9]", "there is no element at this index"),
        ("{'a': 1}.b", "there is no such key"),
        (
            "base64.decode('aGVsbG8')",
            "base64.decode: the text is no Base64",
        ),
        ("json.decode('{')", "json.decode: the text is no JSON"),
        (
            "rand.int(5, 1)",
            "rand.int: the two are not a range from 0 up",
        ),
        (
            "rand.int(-1, 1)",
            "rand.int: the two are not a range from 0 up",
        ),
        (
            "time.now.subtract('7x')",
            "subtract: a length of time is written like 7d, 12h or 1h30m",
        ),
        (
            "'a'.matches(vars.name + '(')",
            "matches: the text is no regular expression that can be used",
        ),
        (
            "vars.missing.startsWith('a')",
            "`startsWith` is not possible with (null_type)",
        ),
    ] {
        match case.eval(text) {
            Err(why) => {
                assert!(
                    why.contains(wanted) || wanted.contains("null_type"),
                    "{text}: {why}"
                );
                assert!(!why.contains("hunter2"), "{text}: {why}");
            }
            Ok(value) => panic!("{text}: {value}"),
        }
    }
}

#[test]
fn a_condition_is_true_or_false_and_nothing_else() {
    let case = Case::full();
    let of = |text: &str| {
        let expr = Expr::compile(text).expect("an expression");
        case.with(|scope| expr.eval_bool(scope))
    };
    assert_eq!(of("conn.client_port == 40000"), Ok(true));
    assert_eq!(of("conn.client_port == 1"), Ok(false));
    assert_eq!(
        of("conn.client_port"),
        Err("its value is of type int, not bool".to_owned())
    );
}

#[test]
fn expressions_say_what_they_read() {
    let reads = |text: &str| Expr::compile(text).expect(text).reads().clone();
    assert_eq!(reads("conn.client_ip == 'x'"), Reads::default());
    assert!(reads("req.headers['x'] == []").request);
    assert!(reads("has(req.path)").request);
    assert!(reads("'x'.startsWith(req.method)").request);
    for text in [
        "conn.protocol",
        "conn['sni']",
        "conn.alpn[0]",
        "conn.http.host",
        "conn.minecraft",
        "has(conn.sni)",
        "conn.alpn.exists(a, a == 'h2')",
    ] {
        assert!(reads(text).first, "{text}");
        assert!(!reads(text).request, "{text}");
    }
    let reads = reads("vars.a.b == vars['c'] && secrets.get('v', 'n') == secrets.get('v', 'n')");
    assert_eq!(reads.vars, ["a", "c"]);
    assert_eq!(reads.secrets, [("v".to_owned(), "n".to_owned())]);
}

#[test]
fn connections_do_not_see_each_other() {
    let expr = Expr::compile("[rand.int(0, 1000000), vars.n, conn.client_port]").expect("a list");
    let mut one = Case::full();
    let mut two = Case::full();
    two.random = 8;
    two.vars.insert("n".to_owned(), json!("other"));
    two.client = "198.51.100.7:5";
    let first = one.with(|scope| expr.eval(scope)).expect("a value");
    let second = two.with(|scope| expr.eval(scope)).expect("a value");
    assert_ne!(
        first[0], second[0],
        "the connection's own random number decides"
    );
    assert_eq!((&first[1], &first[2]), (&json!(3), &json!(40000)));
    assert_eq!((&second[1], &second[2]), (&json!("other"), &json!(5)));
    // An evaluation that ran out leaves nothing behind.
    let dear = Expr::compile("lists.range(900).map(x, lists.range(900).map(y, x * y)).size()");
    let dear = dear.expect("within the static bounds");
    assert_eq!(one.with(|scope| dear.eval(scope)), Err(TOO_MUCH.to_owned()));
    one.random = 7;
    assert_eq!(one.with(|scope| expr.eval(scope)), Ok(first));
    assert_eq!(expr, expr.clone());
    assert_ne!(expr, dear);
}

#[test]
fn random_numbers_are_even_over_connections() {
    let expr = Expr::compile("rand.int(1, 4)").expect("an expression");
    let mut case = Case::bare();
    let mut counts = [0_u32; 5];
    for n in 0..4000 {
        case.random = n;
        let value = case.with(|scope| expr.eval(scope)).expect("a number");
        counts[usize::try_from(value.as_u64().expect("a number")).expect("small")] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(
        counts[1..].iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
}
