#!/usr/bin/env python3
"""Drives a Portcullis server with ngrok's own API client (PyPI `ngrok-api`): every resource that exists
here, every verb of it, every field of every object.

    ngrok_api_check.py BASE_URL API_KEY

Prints `ok <resource> <verb>` for each and ends non-zero at the first that fails. With an agent connected
the sessions and tunnels are read and acted upon too; without one their lists are read and the other
verbs are called on an id that isn't there. The last lines stop the agent's session, so run it last.
"""

import subprocess
import sys
import tempfile
import time
import traceback

import ngrok

POLICY = '{"on_tcp_connect":[{"actions":[{"type":"deny"}]}]}'
KSUID = "2NfK3dZ8qv1m0hR5bT7yW9xC4eA"


def ok(resource, verb):
    print(f"ok {resource} {verb}", flush=True)


def read_every_field(item):
    """A field that a response lacks raises when it is read."""
    for name, value in vars(type(item)).items():
        if isinstance(value, property):
            getattr(item, name)


def read_ref(ref, prefix, base):
    assert ref.id.startswith(prefix), ref
    assert ref.uri.startswith(base), ref
    return ref


def refused(call, status, code=None):
    """The call is refused with an error of ngrok's form."""
    try:
        call()
    except ngrok.NotFoundError as error:
        assert status == 404, error
    except ngrok.Error as error:
        assert error.http_status_code == status, (error.http_status_code, error)
        assert code is None or error.error_code == code, (error.error_code, error)
        assert error.operation_id.startswith("op_"), error.details
        assert error.details["code"].startswith("PTC_"), error.details
    else:
        raise AssertionError(f"was not refused with {status}")


def drive(resource, client, create, change, other=None):
    """create, get, list, page, update, empty update, delete, and what is gone is not found."""
    made = create()
    read_every_field(made)
    ok(resource, "create")

    read = client.get(made.id)
    read_every_field(read)
    assert read.id == made.id and read.uri.endswith(f"/{made.id}"), read.uri
    ok(resource, "get")

    second = (other or create)()
    listed = [item.id for item in client.list()]
    assert made.id in listed and second.id in listed, listed
    for item in client.list():
        read_every_field(item)
    ok(resource, "list")

    page = client.list(limit="1")
    assert page.next_page_uri, page
    paged = [item.id for item in page]
    assert paged == listed, (paged, listed)
    after = client.list(before_id=listed[0], limit="1")
    assert [item.id for item in after][:1] == listed[1:2], after
    ok(resource, "list-pages")

    updated = client.update(made.id, **change)
    read_every_field(updated)
    for name, value in change.items():
        assert getattr(updated, name) == value, (name, getattr(updated, name))
        assert getattr(client.get(made.id), name) == value, name
    ok(resource, "update")

    refused(lambda: client.update(made.id), 400)
    ok(resource, "update-empty")

    for item in (made, second):
        item.delete()
        refused(lambda: client.get(item.id), 404)
    refused(lambda: client.delete(made.id), 404)
    ok(resource, "delete")
    return made


def check_reserved_addrs(client, base):
    def create():
        return client.reserved_addrs.create(description="check", metadata="m")

    made = drive("reserved_addrs", client.reserved_addrs, create, {"description": "changed"})
    host, port = made.addr.rsplit(":", 1)
    assert host and 1 <= int(port) <= 65535, made.addr


def check_credentials(client, base):
    def create():
        made = client.credentials.create(description="check", metadata="m", acl=["bind:*.internal"])
        assert made.token and made.acl == ["bind:*.internal"], made
        assert client.credentials.get(made.id).token is None
        return made

    drive("credentials", client.credentials, create, {"metadata": "changed", "acl": ["bind:*.internal:5432"]})
    bare = client.credentials.create()
    assert bare.acl == []
    bare.delete()
    refused(lambda: client.credentials.create(acl=["nonsense"]), 400, "ERR_NGROK_600")
    ok("credentials", "create-refused")


def check_api_keys(client, base):
    def create():
        made = client.api_keys.create(description="check", metadata="m")
        assert made.token, made
        assert client.api_keys.get(made.id).token is None
        return made

    drive("api_keys", client.api_keys, create, {"description": "changed"})
    key = client.api_keys.create()
    fresh = ngrok.Client(key.token, base)
    fresh.endpoints.list()
    key.delete()
    refused(lambda: fresh.endpoints.list(), 401, "ERR_NGROK_203")
    ok("api_keys", "use-and-revoke")


def check_ip_policies(client, base):
    def create():
        return client.ip_policies.create(description="check", metadata="m")

    drive("ip_policies", client.ip_policies, create, {"description": "changed", "metadata": "n"})

    policy = client.ip_policies.create()
    count = iter(range(1, 250))

    def rule():
        made = client.ip_policy_rules.create(
            cidr=f"10.{next(count)}.0.0/16", ip_policy_id=policy.id, action="allow", description="check", metadata="m"
        )
        read_ref(made.ip_policy, policy.id, base)
        assert made.action == "allow", made.action
        return made

    change = {"description": "changed", "cidr": "2001:db8::/32"}
    drive("ip_policy_rules", client.ip_policy_rules, rule, change)
    rule()
    create_rule = client.ip_policy_rules.create
    for cidr, code in (("10.0.0.1", "1413"), ("10.0.0.1/8", "1409"), ("office", "1406")):
        refused(lambda: create_rule(cidr=cidr, ip_policy_id=policy.id, action="deny"), 400, f"ERR_NGROK_{code}")
    refused(lambda: create_rule(cidr="10.0.0.0/8", ip_policy_id=policy.id, action="block"), 400, "ERR_NGROK_1422")
    refused(lambda: create_rule(cidr="10.3.0.0/16", ip_policy_id=policy.id, action="deny"), 409, "ERR_NGROK_1408")
    ok("ip_policy_rules", "create-refused")
    policy.delete()
    assert policy.id not in {item.ip_policy.id for item in client.ip_policy_rules.list()}
    ok("ip_policies", "delete-with-rules")


def check_endpoints(client, base):
    count = iter(range(20000, 20100))

    def internal():
        url = f"tcp://check-{next(count)}.internal:5432"
        return client.endpoints.create(
            url=url, type="cloud", traffic_policy=POLICY, description="check", metadata="m", bindings=["internal"]
        )

    drive("endpoints", client.endpoints, internal, {"description": "changed", "metadata": "n"})

    address = client.reserved_addrs.create()
    public = client.endpoints.create(url=f"tcp://{address.addr}", type="cloud", traffic_policy=POLICY)
    assert public.bindings == ["public"] and public.type == "cloud" and public.hostport == address.addr
    read_ref(public.tcp_addr, address.id, base)
    read_ref(public.principal, "ac_", base)
    assert [item.id for item in client.endpoints.list(id=[public.id])] == [public.id]
    assert [item.id for item in client.endpoints.list(url=[public.url])] == [public.id]
    ok("endpoints", "list-by-id-and-url")
    refused(lambda: client.endpoints.create(url=public.url, type="cloud", traffic_policy=POLICY), 409, "ERR_NGROK_18009")
    refused(lambda: client.reserved_addrs.delete(address.id), 409)
    refused(lambda: client.endpoints.create(url="tcp://a.internal:1", type="agent", traffic_policy=POLICY), 400, "ERR_NGROK_248")
    ok("endpoints", "create-refused")
    found = client.endpoints.list(filter=f"obj.url == '{public.url}' && obj.type == 'cloud'")
    assert [item.id for item in found] == [public.id]
    assert [item.id for item in client.endpoints.list(filter="obj.type == 'none'")] == []
    refused(lambda: client.endpoints.list(filter="obj.tpye == 'cloud'"), 400, "ERR_NGROK_250")
    ok("endpoints", "list-filtered")
    public.delete()
    client.reserved_addrs.delete(address.id)
    pooled = [
        client.endpoints.create(url="tcp://pool.internal:1", type="cloud", traffic_policy=POLICY, pooling_enabled=True)
        for _ in range(2)
    ]
    assert all(item.pooling_enabled for item in pooled)
    for item in pooled:
        item.delete()
    ok("endpoints", "pooling")


def check_vaults(client, base):
    count = iter(range(100))

    def create():
        return client.vaults.create(name=f"check/vault_{next(count)}", description="check", metadata="m")

    drive("vaults", client.vaults, create, {"description": "changed", "name": "check.renamed"})
    refused(lambda: client.vaults.create(name="no spaces"), 400, "ERR_NGROK_23000")
    refused(lambda: client.vaults.create(name=""), 400, "ERR_NGROK_23001")
    vault = create()
    refused(lambda: client.vaults.create(name=vault.name), 400, "ERR_NGROK_23004")
    client.secrets.create(name="inside", value="x", vault_id=vault.id)
    refused(lambda: client.vaults.delete(vault.id), 400, "ERR_NGROK_23003")
    ok("vaults", "refused")
    listed = list(client.vaults.get_secrets_by_vault(vault.id))
    assert [item.name for item in listed] == ["inside"], listed
    read_every_field(listed[0])
    ok("vaults", "get_secrets_by_vault")
    listed[0].delete()
    vault.delete()


def check_secrets(client, base):
    count = iter(range(100))
    vault = client.vaults.create(name="check.secrets")

    def create():
        made = client.secrets.create(name=f"secret/{next(count)}", value="correct horse", vault_id=vault.id, metadata="m")
        assert "correct horse" not in repr(vars(made)), made
        read_ref(made.vault, vault.id, base)
        assert made.vault_name == vault.name, made
        read_ref(made.created_by, "ak_", base)
        return made

    drive("secrets", client.secrets, create, {"description": "changed", "name": "renamed"})
    named = client.secrets.create(name="by.name", value="x", vault_name=vault.name)
    assert named.vault.id == vault.id
    changed = client.secrets.update(named.id, value="another horse")
    assert "another horse" not in repr(vars(changed)), changed
    ok("secrets", "update-value")
    for number, fields in (
        (24000, {"name": "no spaces", "value": "x", "vault_id": vault.id}),
        (24001, {"name": "", "value": "x", "vault_id": vault.id}),
        (24003, {"name": "a", "value": "", "vault_id": vault.id}),
        (24005, {"name": "by.name", "value": "x", "vault_id": vault.id}),
        (24008, {"name": "a", "value": "x"}),
    ):
        refused(lambda: client.secrets.create(**fields), 400, f"ERR_NGROK_{number}")
    refused(lambda: client.secrets.create(name="a", value="x", vault_name="none"), 404)
    ok("secrets", "create-refused")
    named.delete()
    vault.delete()


def pem(kind):
    """A key and a certificate made by openssl: of an authority, or of a server that it has issued."""
    with tempfile.TemporaryDirectory() as place:
        new = "openssl req -newkey rsa:2048 -nodes -days 30 -batch"
        ca = f"{new} -x509 -subj /CN=check-ca -keyout ca.key -out ca.pem"
        leaf = f"{new} -x509 -CA ca.pem -CAkey ca.key -subj /CN=check/O=Example/L=Berlin/C=DE -keyout leaf.key -out leaf.pem"
        leaf += " -addext subjectAltName=DNS:check.example.com,DNS:*.check.example.com,IP:192.0.2.7"
        leaf += " -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth"
        for command in (ca, leaf):
            subprocess.run(command.split(), cwd=place, check=True, capture_output=True)

        def text(name):
            with open(f"{place}/{name}") as file:
                return file.read()

        if kind == "ca":
            return text("ca.pem"), text("ca.key")
        return text("leaf.pem") + text("ca.pem"), text("leaf.key")


def check_certificate_authorities(client, base):
    ca, key = pem("ca")

    def create():
        made = client.certificate_authorities.create(ca_pem=ca, description="check", metadata="m")
        assert made.ca_pem == ca and made.subject_common_name == "check-ca", made
        assert made.not_before < made.not_after, made
        return made

    drive("certificate_authorities", client.certificate_authorities, create, {"description": "changed", "metadata": "n"})
    leaf, _ = pem("leaf")
    for wrong in ("nonsense", leaf, ca + key):
        refused(lambda: client.certificate_authorities.create(ca_pem=wrong), 400)
    ok("certificate_authorities", "create-refused")


def check_tls_certificates(client, base):
    chain, key = pem("leaf")
    _, another = pem("leaf")

    def create():
        made = client.tls_certificates.create(certificate_pem=chain, private_key_pem=key, description="check", metadata="m")
        assert "PRIVATE KEY" not in repr(vars(made)), made
        assert made.subject_common_name == "check" and made.issuer_common_name == "check-ca", made
        assert made.subject_organization == "Example" and made.subject_country == "DE", made
        names = made.subject_alternative_names
        assert names.dns_names == ["check.example.com", "*.check.example.com"] and names.ips == ["192.0.2.7"], vars(names)
        assert made.private_key_type == "rsa" and made.extended_key_usages == ["server_auth"], made
        assert made.serial_number and made.issued_at is None, made
        return made

    drive("tls_certificates", client.tls_certificates, create, {"description": "changed", "metadata": "n"})
    create_certificate = client.tls_certificates.create
    refused(lambda: create_certificate(certificate_pem=chain, private_key_pem=another), 400)
    refused(lambda: create_certificate(certificate_pem="x", private_key_pem=key), 400)
    refused(lambda: create_certificate(certificate_pem=chain, private_key_pem=""), 400)
    ok("tls_certificates", "create-refused")


def check_ip_restrictions(client, base):
    policy = client.ip_policies.create(description="check restrictions")
    client.ip_policy_rules.create(cidr="192.0.2.0/24", ip_policy_id=policy.id, action="allow")
    create_restriction = client.ip_restrictions.create

    def create():
        made = create_restriction(type="dashboard", ip_policy_ids=[policy.id], description="check", metadata="m")
        assert made.type == "dashboard" and made.enforced is False, made
        read_ref(made.ip_policies[0], policy.id, base)
        return made

    drive("ip_restrictions", client.ip_restrictions, create, {"description": "changed", "enforced": True})
    refused(lambda: create_restriction(type="nonsense", ip_policy_ids=[policy.id]), 400)
    refused(lambda: create_restriction(type="agent", ip_policy_ids=[]), 400)
    refused(lambda: create_restriction(type="agent", ip_policy_ids=[f"ipp_{KSUID}"]), 404)
    ok("ip_restrictions", "create-refused")
    made = create()
    refused(lambda: client.ip_policies.delete(policy.id), 409, "ERR_NGROK_1420")
    made.delete()
    policy.delete()
    ok("ip_restrictions", "keeps-its-policies")


def check_tunnels(client, base):
    tunnels = list(client.tunnels.list())
    ok("tunnels", "list")
    for tunnel in tunnels:
        read_every_field(tunnel)
        endpoint = client.endpoints.get(read_ref(tunnel.endpoint, "ep_", base).id)
        read_every_field(endpoint)
        assert endpoint.type == "ephemeral" and endpoint.tunnel.id == tunnel.id
        read_every_field(client.tunnels.get(tunnel.id))
    refused(lambda: client.tunnels.get(f"tn_{KSUID}"), 404)
    ok("tunnels", "get")


def check_tunnel_sessions(client, base):
    sessions = list(client.tunnel_sessions.list())
    ok("tunnel_sessions", "list")
    for session in sessions:
        read_every_field(session)
        client.credentials.get(read_ref(session.credential, "cr_", base).id)
        read_every_field(client.tunnel_sessions.get(session.id))
    refused(lambda: client.tunnel_sessions.get(f"ts_{KSUID}"), 404)
    ok("tunnel_sessions", "get")

    missing = f"ts_{KSUID}"
    for verb in ("update", "restart", "stop"):
        refused(lambda: getattr(client.tunnel_sessions, verb)(missing), 404)
    if sessions:
        refused(lambda: client.tunnel_sessions.update(sessions[0].id), 409)
    ok("tunnel_sessions", "update")
    if sessions:
        client.tunnel_sessions.restart(sessions[0].id)
        back = wait(lambda: [s for s in client.tunnel_sessions.list() if s.id not in {one.id for one in sessions}])
        sessions = list(client.tunnel_sessions.list())
        assert back, "the agent comes back after a restart"
    ok("tunnel_sessions", "restart")
    if sessions:
        client.tunnel_sessions.stop(sessions[0].id)
        wait(lambda: sessions[0].id not in {one.id for one in client.tunnel_sessions.list()})
    ok("tunnel_sessions", "stop")


def wait(until, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = until()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("not within the deadline")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    base, key = sys.argv[1].rstrip("/"), sys.argv[2]
    client = ngrok.Client(key, base)
    checks = [
        check_reserved_addrs,
        check_credentials,
        check_api_keys,
        check_ip_policies,
        check_endpoints,
        check_vaults,
        check_secrets,
        check_certificate_authorities,
        check_tls_certificates,
        check_ip_restrictions,
        check_tunnels,
        check_tunnel_sessions,
    ]
    for check in checks:
        try:
            check(client, base)
        except Exception:
            traceback.print_exc()
            print(f"FAILED {check.__name__}", flush=True)
            sys.exit(1)
    refused(lambda: ngrok.Client("nonsense", base).endpoints.list(), 401, "ERR_NGROK_202")
    ok("authentication", "refused")


if __name__ == "__main__":
    main()
