//! A TCP service without a port of its own: it greets every client that comes through a Portcullis
//! server, and echoes what they say.
//!
//! ```text
//! portcullis server                                  # on one terminal
//! cargo run -p portcullis-agent --example hello "$(cat ~/.local/share/portcullis/join)"
//! nc EDGE PORT                                        # what it prints
//! ```

use futures_util::StreamExt as _;
use portcullis_agent::{Agent, Conn, EndpointOptions};
use portcullis_model::{Code, Error, Secret};
use tokio::io::{AsyncWriteExt as _, copy, split};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let token = std::env::args()
        .nth(1)
        .ok_or_else(|| Error::of(Code::AuthtokenMissing))?;

    // The session is up when this returns; from here on it reconnects by itself.
    let agent = Agent::builder()
        .authtoken(Secret::new(token))
        .connect()
        .await?;

    // No URL: a random public address. Dropping the listener closes the endpoint.
    let mut listener = agent.listen(EndpointOptions::new().name("hello")).await?;
    println!("greeting at {}", listener.url());

    while let Some(conn) = listener.next().await {
        tokio::spawn(async move {
            if let Err(error) = greet(conn).await {
                eprintln!("a client left: {error}");
            }
        });
    }
    Err(listener.closed().await)
}

async fn greet(mut conn: Conn) -> std::io::Result<()> {
    let hello = format!("hello {}, I will repeat what you say\n", conn.peer_addr());
    conn.write_all(hello.as_bytes()).await?;
    // Until the client ends its direction; then ours ends too.
    let (mut from, mut to) = split(&mut conn);
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}
