//! What a FIN means at our end of the pair, and which URLs can be dialled.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn ends() -> (TcpStream, Inner, watch::Sender<Progress>) {
    let (storys, ours) = pair().await.expect("a pair");
    let progress = watch::Sender::new(Progress::default());
    let inner = Inner::new(ours, progress.subscribe());
    (storys, inner, progress)
}

#[tokio::test]
async fn a_fin_of_a_story_that_refuses_is_not_an_end_of_bytes() {
    let (storys, mut inner, progress) = ends().await;
    drop(storys);
    let read = tokio::spawn(async move { inner.read(&mut [0; 8]).await });
    progress.send_modify(|now| now.ended = Some(CloseReason::PolicyDenied.into()));
    let error = read.await.expect("no panic").expect_err("no end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_story_that_vanishes_is_not_an_end_of_bytes() {
    let (storys, mut inner, progress) = ends().await;
    drop((storys, progress));
    let read = inner.read(&mut [0; 8]).await;
    assert_eq!(
        read.expect_err("no end").kind(),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn the_end_of_an_upstream_and_of_an_answer_is_one() {
    let (storys, mut inner, progress) = ends().await;
    progress.send_modify(|now| now.established = true);
    drop(storys);
    assert_eq!(inner.read(&mut [0; 8]).await.expect("an end"), 0);
    // A policy's own answer: bytes, and an end, long before the story is over.
    let (mut storys, mut inner, _progress) = ends().await;
    storys.write_all(b"no").await.expect("written");
    storys.shutdown().await.expect("ended");
    let mut heard = Vec::new();
    inner.read_to_end(&mut heard).await.expect("an end");
    assert_eq!(heard, b"no");
}

#[test]
fn only_an_internal_endpoint_by_its_name_can_be_dialled() {
    let code = |text| internal_url(text).map_err(|error| error.code);
    let url = EndpointUrl::new("db.internal", 5432);
    assert_eq!(code("tcp://db.internal:5432"), Ok(url.clone()));
    assert_eq!(code("DB.internal:5432"), Ok(url));
    for public in [
        "",
        "tcp://edge.example.com:20001",
        "tcp://edge.example.com",
        "tcp://*.internal:5432",
    ] {
        assert_eq!(code(public), Err(Code::DialNotInternal), "{public}");
    }
    assert_eq!(code("tcp://db.internal"), Err(Code::UrlPortMissing));
}
