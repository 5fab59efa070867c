//! An HTTP server that says what it is told to, one answer a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Default)]
struct Site {
    answers: HashMap<String, String>,
    asked: HashMap<String, usize>,
    is_down: bool,
}

pub(super) struct Server {
    url: String,
    site: Arc<Mutex<Site>>,
    gate: watch::Sender<bool>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let site = Arc::<Mutex<Site>>::default();
        let (gate, opened) = watch::channel(true);
        let served = Arc::clone(&site);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&served), opened.clone()));
            }
        });
        Self { url, site, gate, task: task.abort_handle() }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What it says from now on when it is asked for this path.
    pub(super) fn answer(&self, path: &str, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        self.site.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// How often it was asked for this path.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.site.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }

    /// Waits until it was asked so often for this path.
    pub(super) async fn is_asked(&self, path: &str, times: usize) {
        while self.asked(path) < times {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Forgets that it was asked.
    pub(super) fn forget(&self) {
        self.site.lock().unwrap().asked.clear();
    }

    /// Whether it hangs up on everybody.
    pub(super) fn set_down(&self, is_down: bool) {
        self.site.lock().unwrap().is_down = is_down;
    }

    /// Whether it answers; if not, it lets everybody wait.
    pub(super) fn set_open(&self, is_open: bool) {
        self.gate.send_replace(is_open);
    }
}

async fn serve(mut connection: TcpStream, site: Arc<Mutex<Site>>, mut gate: watch::Receiver<bool>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut site = site.lock().unwrap();
        *site.asked.entry(path.clone()).or_default() += 1;
        if site.is_down {
            return;
        }
        let unknown = "HTTP/1.1 404 Status\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned();
        site.answers.get(&path).cloned().unwrap_or(unknown)
    };
    let _ = gate.wait_for(|is_open| *is_open).await;
    let _ = connection.write_all(answer.as_bytes()).await;
    let _ = connection.shutdown().await;
}
