//! Tasks that meet in an object store that speaks S3: moto's server from PyPI, where `ESSAIM_PYTHON` has it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{corpus, snapshot, succeed, text, write_parquet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server, and makes a bucket `corpus` in it.
fn start(python: &str) -> (Server, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(python);
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream
                .write_all(b"PUT /corpus HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            return (server, port);
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the server did not come up");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn task(texts: &Path, out: &Path, port: u16, i: u32) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_essaim-corpus"));
    command.args(["build", text(texts), "--out", text(out), "--vocab-size", "640", "--minimum", "none"]);
    command.args(["--work", "s3://corpus/some/folder", "--task", &format!("{i}/2"), "--wait", "120"]);
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y").env("AWS_REGION", "us-east-1");
    command.env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")).env("AWS_ALLOW_HTTP", "true");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn tasks_that_meet_in_a_bucket_give_the_bytes_of_one() {
    let python = std::env::var("ESSAIM_PYTHON").unwrap_or_default();
    let has = |python: &str| Command::new(python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
    if python.is_empty() || !has(&python).is_ok_and(|status| status.success()) {
        println!("skipped: ESSAIM_PYTHON names no Python with moto[server]");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (texts, alone, out) = (root.join("texts"), root.join("alone"), root.join("out"));
    write_parquet(&texts.join("a.parquet"), &corpus()[..130]);
    write_parquet(&texts.join("b.parquet"), &corpus()[130..]);
    succeed(&["build", text(&texts), "--out", text(&alone), "--vocab-size", "640", "--minimum", "none"]);
    let (_server, port) = start(&python);
    let tasks: Vec<Child> = (0..2).map(|i| task(&texts, &out, port, i)).collect();
    for mut task in tasks {
        assert!(task.wait().unwrap().success());
    }
    assert!(snapshot(&out) == snapshot(&alone), "two tasks and a bucket gave other bytes");
}
