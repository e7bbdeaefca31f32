//! A corpus of configurations, valid and not, and the check that the documentation names every key.

use super::*;

const FULL: &str = r#"
data_dir: /var/lib/portcullis
host: edge.example.com
region: eu
node_id: edge-1
listen:
  agents: "[::]:7443"
  public: [192.0.2.1]
api:
  listen: 0.0.0.0:7480
  tls: { cert: api.pem, key: api.key }
  rate_limit_per_minute: 600
  body_bytes_max: 1MiB
  ip_restrictions: false
metrics: true
ports: 20000-29999,31000
choose: 1-65535
hosts:
  - host: 1.tcp.example.com
    region: eu
    ports: 20000-20999
    choose: 1024-65535
    accounts: [default]
    bind: [192.0.2.2]
base_host: { name: example.com, count: 2, region: true }
ip_pools:
  - name: dedicated
    region: eu
    ips:
      - { public: 198.51.100.7, bind: 10.0.0.7 }
    host_pattern: h{n}.tcp.example.com
    accounts: []
plans:
  default: {}
  free:
    endpoints_max: 3
    addresses_max: 1
    sessions_max: 1
    connections_max: 100
    tcp: verified
    verify_hint: write to ops@example.com
limits:
  connections_max: 10000
  connections_per_endpoint_max: 1000
  connections_per_source_max: 100
  endpoints_per_session_max: 100
  idle_timeout: 5m
  client_idle_timeout: 0
  server_idle_timeout: 0
  half_close_timeout: 60s
  connect_timeout: 10s
  drain_timeout: 30s
trusted_proxies: [10.0.0.0/8, 192.0.2.9]
geo: { city: geo/city.mmdb, asn: /var/lib/asn.mmdb }
ip_categories:
  - { file: drop.txt, category: blocklist.org.example.drop }
  - file: lists
resolver: { servers: [192.0.2.53, "[2001:db8::53]:5353"] }
address_rest: 24h
endpoints:
  - name: db
    port: 20001
    host: 192.0.2.1
    upstream: 127.0.0.1:5432
    binding: public
    description: the database
    metadata: "{}"
    pooling_enabled: false
    proxy_protocol: 2
    traffic_policy:
      on_tcp_connect:
        - actions: [{ type: deny }]
    cidr_allow: [10.0.0.0/8]
    cidr_deny: [10.1.0.0/16]
    limits:
      idle_timeout: 1h
      client_idle_timeout: 0
      server_idle_timeout: 0
      half_close_timeout: 5s
      connect_timeout: 3s
      connections_max: 5
      connections_per_source_max: 2
  - ports: 7000-7002
    upstream: app:7000-7002
  - url: tcp://db.internal:5432
    upstream: unix:/run/postgresql/.s.PGSQL.5432
log:
  format: json
  level: info,portcullis_edge=debug
runtime: { data_threads: 4, control_threads: 1 }
network: { congestion_control: reno, user_timeout: 30s }
tunnel: { carriers: 3, channels: plain }
tls:
  port: 8443
  acme:
    directory: https://acme.example.com/directory
    email: ops@example.com
    challenge: http-01
    http_port: 80
    tls_port: 443
    names: [db.example.com]
    ca_file: acme-ca.pem
    terms_agreed: true
  listen: [192.0.2.9]
  any_name: true
  hosts:
    - host: apps.example.com
      accounts: [acme]
    - { host: Other.example.com }
"#;

fn parse(text: &str) -> Result<ServerConfig, Error> {
    ServerConfig::parse(text, "server.yml", Path::new("/etc/portcullis"))
}

#[test]
fn the_full_example_reads_back_as_written() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.host.as_deref(), Some("edge.example.com"));
    assert_eq!(
        config.api_tls,
        Some(ApiTls::Files {
            cert: "/etc/portcullis/api.pem".into(),
            key: "/etc/portcullis/api.key".into()
        })
    );
    assert_eq!(config.endpoints.len(), 5);
    assert_eq!(config.endpoints[1].upstream, "app:7000");
    assert_eq!(config.limits.client_idle_timeout, Some(Duration::ZERO));
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!((config.tls.port, config.tls.is_given), (8443, true));
    assert!(config.tls.any_name);
    assert_eq!(config.tls.hosts[1].host, "other.example.com");
    let places = places::files(&config.geo, &config.ip_categories);
    assert_eq!(places.city, Some("/etc/portcullis/geo/city.mmdb".into()));
    assert_eq!(places.asn, Some("/var/lib/asn.mmdb".into()));
    let lists = places.categories.iter();
    let lists: Vec<_> = lists
        .map(|it| (&*it.path, it.category.as_deref()))
        .collect();
    let drop = Path::new("/etc/portcullis/drop.txt");
    let expected = [
        (drop, Some("blocklist.org.example.drop")),
        (Path::new("/etc/portcullis/lists"), None),
    ];
    assert_eq!(lists, expected);
    assert_eq!((config.carriers, config.plain_channels), (3, true));
    assert_eq!(config.plans["free"].tcp, TcpAccess::Verified);
    config.check().unwrap();
}

#[test]
fn an_empty_document_is_the_defaults() {
    assert_eq!(parse("").unwrap(), ServerConfig::default());
    assert_eq!(
        parse("# only a comment\n").unwrap(),
        ServerConfig::default()
    );
    ServerConfig::default().check().unwrap();
}

#[test]
fn what_is_wrong_is_named_by_its_path() {
    for (text, parts) in [
        (
            "tls: {port: 70000, hosts: [{host: 192.0.2.1}, {accounts: [x]}], x: 1}",
            &["tls.port", "tls.hosts[0].host", "tls.hosts[1]", "tls.x"][..],
        ),
        ("hots: x", &["hots: unknown key; did you mean `hosts`?"][..]),
        ("host: https://x", &["host: `https://x` is a URL"]),
        (
            "listen: {agents: nowhere}",
            &["listen.agents: `nowhere`: not an address to listen on"],
        ),
        (
            "tunnel: {channels: clear}",
            &["tunnel.channels: `clear` is not one of tls, plain"],
        ),
        (
            "limits: {idle_timeout: 300}",
            &["limits.idle_timeout: `300` has no unit"],
        ),
        (
            "limits: {connect_timeout: 0}",
            &["limits.connect_timeout: 0 would refuse"],
        ),
        ("api: {tls: {cert: x}}", &["api.tls: `key` with the path"]),
        (
            "api: {body_bytes_max: much}",
            &["api.body_bytes_max: `much`"],
        ),
        (
            "hosts: [{ports: 9-1}]",
            &["hosts[0].ports", "hosts[0]: `host` is required"],
        ),
        (
            "hosts: [{host: a}, {host: A}]",
            &["hosts[1].host: `a` stands twice"],
        ),
        ("ip_pools: [{name: x}]", &["ip_pools[0]: at least one IP"]),
        (
            "plans: {free: {endpoints_max: many}}",
            &["plans.free.endpoints_max: expected a whole number"],
        ),
        (
            "plans: {free: {tcp: perhaps}}",
            &["plans.free.tcp: `perhaps`"],
        ),
        ("trusted_proxies: [10.0.0.0/40]", &["trusted_proxies"]),
        ("geo: {town: x}", &["geo.town: unknown key"]),
        (
            "ip_categories: [{category: Com.X}, {file: x}]",
            &["ip_categories[0]: `file`", "ip_categories[0].category: "],
        ),
        (
            "endpoints: [{upstream: x:1}]",
            &["endpoints[0]: one of `url`, `port` and `ports`"],
        ),
        (
            "endpoints: [{port: 1, url: 'tcp://', upstream: x:1}]",
            &["endpoints[0]: only one of"],
        ),
        (
            "endpoints: [{port: 1, upstream: 'http://x:1'}]",
            &["endpoints[0].upstream: "],
        ),
        (
            "endpoints: [{url: 'tcp://x:99999', upstream: 'x:1'}]",
            &["endpoints[0].url: "],
        ),
        (
            "endpoints: [{port: 1, upstream: 'x:1', cidr_allow: [nowhere]}]",
            &["endpoints[0].traffic_policy: "],
        ),
        (
            "endpoints: [{port: 1, upstream: 'x:1', traffic_policy: {on_x: []}}]",
            &["endpoints[0].traffic_policy: "],
        ),
        (
            "resolver: {servers: [dns.example.com]}",
            &["resolver.servers"],
        ),
        (
            "endpoints: [{port: 1}]",
            &["endpoints[0]: `upstream` is required"],
        ),
        (
            "endpoints: [{ports: 1-3, upstream: x:1-2}]",
            &["endpoints[0].upstream: 1-3 has 3 ports"],
        ),
        (
            "endpoints: [{port: 1, upstream: x:1, proxy_protocol: 3}]",
            &["endpoints[0].proxy_protocol: `3` is not 1 or 2"],
        ),
        (
            "endpoints: [{port: 1, upstream: x:1, limits: {foo: 1}}]",
            &["endpoints[0].limits.foo: unknown key"],
        ),
        (
            "log: {format: xml, level: '=,='}",
            &["log.format: `xml`", "log.level"],
        ),
        ("port_range: 1-2", &["port_range: this key is now `ports`"]),
        (
            "metrics: maybe\nregion: [a]\nfoo: 1",
            &["3 errors", "metrics:", "region:", "foo:"],
        ),
        ("- a\n- b", &["expected keys and values, found a list"]),
        ("a: [", &["not valid YAML"]),
        ("host: a\nhost: b", &["not valid YAML"]),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.code, Code::ConfigInvalid, "{text}");
        for part in parts {
            assert!(
                error.message.contains(part),
                "{text}: expected `{part}` in `{}`",
                error.message
            );
        }
    }
}

#[test]
fn an_api_beyond_loopback_needs_tls() {
    let config = parse("api: {listen: 0.0.0.0:7480}").unwrap();
    assert_eq!(config.check().unwrap_err().code, Code::ApiNeedsTls);
    parse("api: {listen: '0.0.0.0:7480', tls: own_ca}")
        .unwrap()
        .check()
        .unwrap();
    parse("api: {listen: '[::1]:0'}").unwrap().check().unwrap();
}

#[test]
fn the_documentation_names_every_key() {
    let findings = Findings::default();
    read(document(FULL, "full", &findings).unwrap(), Path::new("."));
    let docs = include_str!("../../../../../docs/configuration.md");
    let missing: Vec<String> = findings
        .keys()
        .into_iter()
        .filter(|key| !docs.contains(&format!("`{key}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/configuration.md does not mention {missing:?}"
    );
}

#[test]
fn addresses_to_listen_on_have_short_forms() {
    for (text, addr) in [
        ("7443", "[::]:7443"),
        (":7443", "[::]:7443"),
        ("0", "[::]:0"),
        ("localhost:1", "127.0.0.1:1"),
        ("0.0.0.0:5", "0.0.0.0:5"),
    ] {
        assert_eq!(
            text.parse::<Listen>()
                .map(|listen| listen.0.to_string())
                .as_deref(),
            Ok(addr)
        );
    }
}
