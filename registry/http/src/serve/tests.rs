#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Drained, ServeSettings, serve};
use crate::listen::{ListenAddress, Listener, Peer};
use crate::{Body, BodyLimits, RequestBody, RequestBodyError, respond};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Drained>,
    release: Arc<Notify>,
    dropped: Arc<AtomicUsize>,
}

fn quick() -> ServeSettings {
    ServeSettings {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(600),
        write_timeout: Duration::from_millis(600),
        drain_timeout: Duration::from_secs(5),
        max_header_bytes: 8192,
        ..ServeSettings::default()
    }
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    release: Arc<Notify>,
    dropped: Arc<AtomicUsize>,
) -> Response<Body> {
    let (head, incoming) = request.into_parts();
    match head.uri.path() {
        "/hello" => respond::text(StatusCode::OK, "hello"),
        "/peer" => respond::text(StatusCode::OK, format!("{peer:?}")),
        "/empty" => respond::empty(StatusCode::NO_CONTENT),
        "/large" => Response::new(Body::bytes(vec![b'x'; 135_000])),
        "/huge" => Response::new(Body::bytes(vec![b'x'; 64 << 20])),
        "/chunks" => Response::new(Body::from(vec![Bytes::from_static(b"0123456789"); 1000])),
        "/unsized" => Response::new(Body::unsized_stream(stream::iter(
            [Ok::<_, std::io::Error>("a"), Ok("b")].map(|r| r.map(Bytes::from)),
        ))),
        "/short" => {
            Response::new(Body::stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from("abc"))]), 10))
        }
        "/panic" => panic!("on purpose"),
        "/panic-later" => {
            tokio::task::yield_now().await;
            panic!("on purpose, later")
        }
        "/panic-body" => Response::new(Body::unsized_stream(stream::poll_fn(
            |_| -> std::task::Poll<Option<Result<Bytes, std::io::Error>>> { panic!("in the body") },
        ))),
        "/wait" => {
            let guard = CountDrop(dropped);
            release.notified().await;
            std::mem::forget(guard);
            respond::text(StatusCode::OK, "waited")
        }
        "/upload" => {
            let limits =
                BodyLimits { max_bytes: 1000, idle: Duration::from_millis(300), ..BodyLimits::default() };
            let mut body = RequestBody::new(incoming, &head.headers, limits);
            while let Some(chunk) = body.next().await {
                match chunk {
                    Ok(_) => {}
                    Err(RequestBodyError::TooLarge { .. }) => {
                        return respond::text(StatusCode::PAYLOAD_TOO_LARGE, "too large");
                    }
                    Err(RequestBodyError::Stalled { .. }) => {
                        return respond::text(StatusCode::REQUEST_TIMEOUT, "stalled");
                    }
                    Err(RequestBodyError::Incomplete(_)) => {
                        dropped.fetch_add(100, Ordering::SeqCst);
                        return respond::text(StatusCode::BAD_REQUEST, "incomplete");
                    }
                }
            }
            respond::text(StatusCode::OK, format!("{} bytes", body.received()))
        }
        _ => respond::text(StatusCode::NOT_FOUND, "no"),
    }
}

fn start_on(listener: Listener, settings: ServeSettings) -> Running {
    let address = match listener.local_address().unwrap() {
        ListenAddress::Tcp(address) => address,
        ListenAddress::Unix { .. } => SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    let (stop, release, dropped) =
        (CancellationToken::new(), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (notify, count) = (Arc::clone(&release), Arc::clone(&dropped));
    let service = move |request, peer| answer(request, peer, Arc::clone(&notify), Arc::clone(&count));
    let ended = tokio::spawn(serve(vec![listener], settings, service, stop.clone()));
    Running { address, stop, ended, release, dropped }
}

fn start(settings: ServeSettings) -> Running {
    start_on(Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap(), settings)
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// One request on a connection of its own, and all that comes back.
    async fn ask(&self, method: Method, path: &str) -> String {
        let mut stream = self.connect().await;
        send(&mut stream, &format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        read_all(&mut stream).await
    }

    async fn end(self) -> Drained {
        self.stop.cancel();
        self.ended.await.unwrap()
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end, too.
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await.expect("no end");
    String::from_utf8(bytes).unwrap()
}

/// Reads one answer of known length off a connection.
async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(|n| n.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        let count =
            tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(count, 0, "the connection ended after {text:?}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("-")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("-", |(_, body)| body)
}

#[tokio::test]
async fn answers_have_the_right_length() {
    let server = start(quick());
    let hello = server.ask(Method::GET, "/hello").await;
    assert!(
        hello.to_ascii_lowercase().contains("content-length: 6\r\n")
            && hello.to_ascii_lowercase().contains("\r\ndate: "),
        "{hello}"
    );
    assert_eq!(body(&hello), "hello\n");
    assert_eq!(body(&server.ask(Method::GET, "/large").await).len(), 135_000);
    assert_eq!(body(&server.ask(Method::GET, "/chunks").await), "0123456789".repeat(1000));
    assert_eq!(status(&server.ask(Method::GET, "/empty").await), "204");
    assert!(
        server.ask(Method::GET, "/unsized").await.to_ascii_lowercase().contains("transfer-encoding: chunked")
    );
    // A body that turns out too short is cut off, never filled up.
    assert!(body(&server.ask(Method::GET, "/short").await).len() < 10);
    assert!(body(&server.ask(Method::GET, "/peer").await).starts_with("Tcp(127.0.0.1:"));
    assert_eq!(server.end().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = start(quick());
    for (path, length) in [
        ("/hello", Some(6)),
        ("/large", Some(135_000)),
        ("/chunks", Some(10_000)),
        ("/unsized", None),
        ("/empty", None),
    ] {
        let answer = server.ask(Method::HEAD, path).await.to_ascii_lowercase();
        assert_eq!(body(&answer), "", "{path}");
        let declared =
            answer.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|n| n.parse().unwrap());
        assert_eq!(declared, length, "{answer}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_pipelined_ones() {
    let server = start(quick());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        send(&mut stream, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(body(&read_one(&mut stream).await), "hello\n");
    }
    send(&mut stream, &"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3)).await;
    send(&mut stream, "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(read_all(&mut stream).await.matches("hello\n").count(), 4);
    server.end().await;
}

#[tokio::test]
async fn a_head_that_stalls_or_is_too_large_ends_the_connection() {
    let server = start(ServeSettings { idle_timeout: Duration::from_mins(1), ..quick() });
    for beginning in ["", "G", "PRI * HT", "GET /hello HTTP/1.1\r\nHost: h\r\n"] {
        let begun = Instant::now();
        let mut stream = server.connect().await;
        send(&mut stream, beginning).await;
        assert_eq!(read_all(&mut stream).await, "");
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(150) && took < Duration::from_secs(2),
            "{beginning:?} {took:?}"
        );
    }
    // One byte now and then does not help.
    let mut stream = server.connect().await;
    let begun = Instant::now();
    for byte in "GET /hello HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read_all(&mut stream).await, "");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Nor does it for the second request of a connection.
    let mut stream = server.connect().await;
    send(&mut stream, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_one(&mut stream).await;
    send(&mut stream, "GET /hel").await;
    let begun = Instant::now();
    assert_eq!(read_all(&mut stream).await, "");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let mut stream = server.connect().await;
    send(&mut stream, &format!("GET /hello HTTP/1.1\r\nX-Large: {}\r\n\r\n", "a".repeat(9000))).await;
    assert_eq!(status(&read_all(&mut stream).await), "431");
    let mut stream = server.connect().await;
    send(&mut stream, "GET /hello\u{0} HTTP/1.1\r\n\r\n").await;
    assert_eq!(status(&read_all(&mut stream).await), "400");
    server.end().await;
}

#[tokio::test]
async fn a_connection_that_does_nothing_is_closed() {
    let server = start(ServeSettings { idle_timeout: Duration::from_millis(1500), ..quick() });
    let mut stream = server.connect().await;
    send(&mut stream, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_one(&mut stream).await;
    let begun = Instant::now();
    // Past the limit for heads, short of that for idling: still there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    send(&mut stream, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_one(&mut stream).await;
    assert_eq!(read_all(&mut stream).await, "");
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    server.end().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let server = start(quick());
    let mut stream = server.connect().await;
    send(&mut stream, "GET /huge HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let received = read_all_bytes(&mut stream).await;
    assert!(received < 64 << 20, "{received}");
    // One that takes it slowly, but takes it, gets everything.
    let mut stream = server.connect().await;
    send(&mut stream, "GET /huge HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let mut buffer = vec![0; 4 << 20];
    let mut received = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(30)).await;
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            count => received += count,
        }
    }
    assert!(received > 64 << 20, "{received}");
    assert_eq!(server.end().await, Drained { aborted: 0 });
}

async fn read_all_bytes(stream: &mut TcpStream) -> usize {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes.len()
}

#[tokio::test]
async fn a_panic_is_500_and_the_server_goes_on() {
    let server = start(quick());
    let mut stream = server.connect().await;
    for path in ["/panic", "/panic-later", "/hello"] {
        send(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let answer = read_one(&mut stream).await;
        assert_eq!(status(&answer), if path == "/hello" { "200" } else { "500" });
        assert!(!answer.contains("purpose"));
    }
    // In a body it is too late for a status: the connection breaks, without a last chunk.
    assert!(!server.ask(Method::GET, "/panic-body").await.contains("0\r\n\r\n"));
    assert_eq!(status(&server.ask(Method::GET, "/hello").await), "200");
    assert_eq!(server.end().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn a_drain_lets_running_requests_finish() {
    let minute = Duration::from_mins(1);
    let server = start(ServeSettings { header_timeout: minute, idle_timeout: minute, ..quick() });
    let mut running = server.connect().await;
    send(&mut running, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut idle = server.connect().await;
    send(&mut idle, "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_one(&mut idle).await;
    let mut silent = server.connect().await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let begun = Instant::now();
    server.stop.cancel();
    assert_eq!(read_all(&mut idle).await, "");
    assert_eq!(read_all(&mut silent).await, "");
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(TcpStream::connect(server.address).await.is_err(), "it must not accept any more");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!server.ended.is_finished());
    server.release.notify_one();
    let answer = read_all(&mut running).await;
    assert_eq!((status(&answer), body(&answer)), ("200", "waited\n"));
    assert_eq!(server.end().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn a_drain_ends_at_its_time() {
    let server = start(ServeSettings { drain_timeout: Duration::from_millis(200), ..quick() });
    let mut running = server.connect().await;
    send(&mut running, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let dropped = Arc::clone(&server.dropped);
    assert_eq!(server.end().await, Drained { aborted: 1 });
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(read_all(&mut running).await, "");
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_handler() {
    let server = start(quick());
    let mut waiting = server.connect().await;
    send(&mut waiting, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(waiting);
    let mut uploading = server.connect().await;
    send(&mut uploading, "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(uploading);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The one was dropped where it waited; the other was dropped, or told that its body is incomplete.
    assert!(matches!(server.dropped.load(Ordering::SeqCst), 1 | 101));
    server.end().await;
}

#[tokio::test]
async fn uploads_within_and_beyond_the_limits() {
    let server = start(quick());
    let mut stream = server.connect().await;
    send(&mut stream, "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(body(&read_one(&mut stream).await), "3 bytes\n");
    send(
        &mut stream,
        "POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(body(&read_one(&mut stream).await), "3 bytes\n");
    // Who waits for leave to send gets the refusal instead.
    send(
        &mut stream,
        "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n",
    )
    .await;
    let answer = read_all(&mut stream).await;
    assert_eq!(status(&answer), "413");
    let mut stream = server.connect().await;
    send(
        &mut stream,
        "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    )
    .await;
    assert!(read_one(&mut stream).await.starts_with("HTTP/1.1 100 Continue\r\n\r\n"));
    send(&mut stream, "12345").await;
    assert_eq!(body(&read_one(&mut stream).await), "5 bytes\n");
    // A body that stalls.
    send(&mut stream, "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12").await;
    assert_eq!(status(&read_one(&mut stream).await), "408");
    server.end().await;
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_first_still_reads_why_it_was_refused() {
    let server = start(quick());
    for head in ["Content-Length: 8000000", "Transfer-Encoding: chunked"] {
        let mut stream = server.connect().await;
        send(&mut stream, &format!("POST /upload HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n")).await;
        if head.starts_with('T') {
            send(&mut stream, "7a1200\r\n").await;
        }
        let part = vec![b'x'; 100_000];
        for _ in 0..80 {
            stream.write_all(&part).await.expect("the server must take what comes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let answer = read_all(&mut stream).await;
        assert_eq!(status(&answer), "413", "{answer}");
    }
    assert_eq!(server.end().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn a_unix_socket_serves_with_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("granary.sock");
    let address = ListenAddress::Unix { path: path.clone(), mode: 0o600 };
    let server = start_on(Listener::bind(&address).unwrap(), quick());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    send(&mut stream, "GET /peer HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(body(&read_all(&mut stream).await), "Unix\n");
    server.end().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let server = start(ServeSettings { max_connections: 1, ..quick() });
    let mut first = server.connect().await;
    send(&mut first, "GET /wait HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = server.connect().await;
    send(&mut second, "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let early = tokio::time::timeout(Duration::from_millis(400), second.read_u8()).await;
    assert!(early.is_err(), "{early:?}");
    server.release.notify_one();
    assert_eq!(body(&read_all(&mut first).await), "waited\n");
    assert!(read_all(&mut second).await.ends_with("hello\n"));
    server.end().await;
}

#[tokio::test]
async fn http2_by_prior_knowledge() {
    let server = start(quick());
    let ask = async |path: &str| {
        let io = hyper_util::rt::TokioIo::new(server.connect().await);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        let driver = tokio::spawn(connection);
        let uri = format!("http://{}{path}", server.address);
        let mut statuses = Vec::new();
        for method in [Method::GET, Method::HEAD] {
            let request = Request::builder().method(method).uri(&uri).body(Body::empty()).unwrap();
            let mut response = sender.send_request(request).await.unwrap();
            let mut length = 0;
            while let Some(frame) = http_body_util::BodyExt::frame(response.body_mut()).await {
                length += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            let declared =
                response.headers().get("content-length").map(|value| value.to_str().unwrap().to_owned());
            statuses.push((response.status().as_u16(), declared, length));
        }
        drop(sender);
        driver.await.unwrap().unwrap();
        statuses
    };
    let declared = |length: &str| Some(length.to_owned());
    assert_eq!(ask("/large").await, [(200, declared("135000"), 135_000), (200, declared("135000"), 0)]);
    assert_eq!(ask("/panic").await, [(500, declared("15"), 15), (500, declared("15"), 0)]);
    assert_eq!(server.end().await, Drained { aborted: 0 });
}
