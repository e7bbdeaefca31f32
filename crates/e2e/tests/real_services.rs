//! SSH, MQTT, HTTP, NATS, VNC and RDP through a public address, an agent and their real clients.

use portcullis_e2e::Stack;
use portcullis_e2e::servers::{Mosquitto, Nats, Nginx, Sshd, Vnc, Xrdp};
use portcullis_e2e::shell::sh_async;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_runs_commands_and_scp_moves_200_mb_both_ways_intact() {
    let (stack, sshd) = tokio::join!(Stack::start(), Sshd::start());
    let agent = stack.tcp(&sshd.port.to_string()).await;
    let options = sshd.options();
    let out = sh_async(format!(
        "ssh {options} -p {} root@127.0.0.1 'echo gate $((6*7))'",
        agent.port()
    ))
    .await;
    assert_eq!(out.trim(), "gate 42");
    let dir = sshd.dir.path().display().to_string();
    sh_async(format!("head -c 200000000 /dev/urandom > {dir}/a")).await;
    let scp = format!("scp -q {options} -P {}", agent.port());
    sh_async(format!(
        "{scp} {dir}/a root@127.0.0.1:{dir}/b && {scp} root@127.0.0.1:{dir}/b {dir}/c"
    ))
    .await;
    let sums = sh_async(format!(
        "sha256sum < {dir}/a; sha256sum < {dir}/b; sha256sum < {dir}/c"
    ))
    .await;
    let sums: Vec<&str> = sums.lines().collect();
    assert!(
        sums.len() == 3 && sums.iter().all(|sum| *sum == sums[0]),
        "{sums:?}"
    );
    // The remote end of a pipe sees the end of its input and answers after it: half-close, by ssh.
    let out = sh_async(format!(
        "seq 1 100000 | ssh {options} -p {} root@127.0.0.1 'wc -l; echo done'",
        agent.port()
    ))
    .await;
    assert_eq!(
        out.split_whitespace().collect::<Vec<_>>(),
        ["100000", "done"]
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_publishes_and_subscribes() {
    let (stack, broker) = tokio::join!(Stack::start(), Mosquitto::start());
    let agent = stack.tcp(&broker.port.to_string()).await;
    let port = agent.port();
    // The retained message reaches the subscriber whichever of the two connects first.
    let publish = sh_async(format!(
        "mosquitto_pub -h 127.0.0.1 -p {port} -q 1 -r -t gate/state -m open"
    ));
    let subscribe = sh_async(format!(
        "mosquitto_sub -h 127.0.0.1 -p {port} -t 'gate/#' -C 1 -W 30"
    ));
    let (_, message) = tokio::join!(publish, subscribe);
    assert_eq!(message.trim(), "open");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_wrk_talk_to_an_http_server() {
    let (stack, nginx) = tokio::join!(Stack::start(), Nginx::start(false));
    let agent = stack.tcp(&nginx.port.to_string()).await;
    let out = sh_async(format!(
        "curl -sS --noproxy '*' http://127.0.0.1:{}/",
        agent.port()
    ))
    .await;
    assert_eq!(out.trim(), "127.0.0.1");
    let out = sh_async(format!(
        "wrk -t1 -c32 -d2s http://127.0.0.1:{}/",
        agent.port()
    ))
    .await;
    assert!(
        out.contains("Requests/sec") && !out.contains("Socket errors"),
        "{out}"
    );
    stack.balanced().await;
}

/// Reads until the buffer holds `needle`.
async fn read_until(stream: &mut TcpStream, needle: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(needle) {
        let n = stream.read_buf(&mut text).await.expect("the stream holds");
        assert!(
            n > 0,
            "the stream ended after {:?}",
            String::from_utf8_lossy(&text)
        );
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_subscription_gets_what_another_connection_publishes() {
    let (stack, nats) = tokio::join!(Stack::start(), Nats::start());
    let agent = stack.tcp(&nats.port.to_string()).await;
    let mut subscriber = TcpStream::connect(agent.addr()).await.expect("connects");
    read_until(&mut subscriber, "\r\n").await;
    subscriber
        .write_all(b"CONNECT {\"verbose\":false}\r\nSUB gate.* 1\r\nPING\r\n")
        .await
        .expect("writes");
    read_until(&mut subscriber, "PONG").await;
    let mut publisher = TcpStream::connect(agent.addr()).await.expect("connects");
    read_until(&mut publisher, "\r\n").await;
    publisher
        .write_all(b"CONNECT {\"verbose\":false}\r\nPUB gate.a 4\r\nopen\r\nPING\r\n")
        .await
        .expect("writes");
    read_until(&mut publisher, "PONG").await;
    let message = read_until(&mut subscriber, "open\r\n").await;
    assert!(message.contains("MSG gate.a 1 4"), "{message}");
    drop((subscriber, publisher));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vnc_session_shows_its_screen() {
    let (stack, vnc) = tokio::join!(Stack::start(), Vnc::start());
    let agent = stack.tcp(&vnc.port.to_string()).await;
    // RFC 6143: version, security type None, ClientInit, then one raw update of the whole screen.
    let mut stream = TcpStream::connect(agent.addr()).await.expect("connects");
    let mut version = [0; 12];
    stream
        .read_exact(&mut version)
        .await
        .expect("the server speaks first");
    assert!(version.starts_with(b"RFB 003."), "{version:?}");
    stream.write_all(b"RFB 003.008\n").await.expect("writes");
    let types = stream.read_u8().await.expect("count");
    let mut offered = vec![0; types.into()];
    stream.read_exact(&mut offered).await.expect("types");
    assert!(offered.contains(&1), "{offered:?}");
    stream.write_all(&[1]).await.expect("writes");
    assert_eq!(stream.read_u32().await.expect("result"), 0);
    stream.write_all(&[1]).await.expect("writes");
    let (width, height) = (
        stream.read_u16().await.expect("width"),
        stream.read_u16().await.expect("height"),
    );
    assert_eq!((width, height), (320, 200));
    let mut rest = [0; 16];
    stream.read_exact(&mut rest).await.expect("pixel format");
    let name = stream.read_u32().await.expect("name length");
    let mut name = vec![0; name as usize];
    stream.read_exact(&mut name).await.expect("name");
    stream
        .write_all(&[2, 0, 0, 1, 0, 0, 0, 0])
        .await
        .expect("raw encoding only");
    stream
        .write_all(&[3, 0, 0, 0, 0, 0, 1, 64, 0, 200])
        .await
        .expect("update request");
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.expect("update");
    assert_eq!(header[0], 0, "a framebuffer update");
    let mut pixels = 0_u32;
    for _ in 0..u16::from_be_bytes([header[2], header[3]]) {
        let mut rectangle = [0; 12];
        stream.read_exact(&mut rectangle).await.expect("rectangle");
        let area = u32::from(u16::from_be_bytes([rectangle[4], rectangle[5]]))
            * u32::from(u16::from_be_bytes([rectangle[6], rectangle[7]]));
        let mut bytes = vec![0; area as usize * 4];
        stream.read_exact(&mut bytes).await.expect("pixels");
        pixels += area;
    }
    assert_eq!(pixels, 320 * 200);
    drop(stream);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rdp_client_negotiates_and_finishes_tls() {
    let (stack, xrdp) = tokio::join!(Stack::start(), Xrdp::start());
    let agent = stack.tcp(&xrdp.port.to_string()).await;
    // openssl speaks no RDP, freerdp needs a login: `+auth-only` goes through negotiation, TLS and credentials.
    let out = sh_async(format!(
        "xvfb-run -a timeout 40 xfreerdp /v:127.0.0.1:{} /u:nobody /p:nothing /cert:ignore /sec:tls +auth-only /log-level:INFO 2>&1 || true",
        agent.port()
    ))
    .await;
    // Zero: it came through the negotiation and TLS to where xrdp would ask for a login.
    assert!(out.contains("Authentication only, exit status 0"), "{out}");
    drop(agent);
    stack.balanced().await;
}
