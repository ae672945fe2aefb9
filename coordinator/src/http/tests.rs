use super::*;
use crate::view::{MemberView, Phase, RoundSummary, RunInfo, RunView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn view(rounds: u64) -> RunView {
    let info = RunInfo {
        run_id: "ab".repeat(32),
        name: "Essaim, première".into(),
        parameters: 1_836_160,
        rounds: 40,
        members_min: 3,
        keyframe_every_rounds: 10,
        link: format!(
            "essaim:{}?peer=/ip4/192.0.2.7/udp/4101/quic-v1/p2p/12D3KooWExample&http=http://192.0.2.7:8080/",
            "ab".repeat(32)
        ),
        version: "0".into(),
    };
    let row = |round: u64| {
        let gain = 1.0 / (1.0 + round as f64 / 4.0);
        let of = |base: f64| base + 2.4 * gain + 0.01 * ((round * 7919) % 11) as f64 / 11.0;
        RoundSummary {
            round,
            members: if round == 0 { 0 } else { 4 },
            included: if round == 0 { 0 } else { 3 + round % 2 },
            refused: u64::from(round == 5),
            tokens: if round == 0 { 0 } else { 147_456 },
            train_loss: (round > 0).then_some(4.1 + 4.2 * gain),
            heldout_bits_per_byte: [("fr", 1.6), ("en", 1.75), ("de", 1.9), ("es", 1.7), ("it", 1.8)]
                .map(|(language, base)| (language.to_owned(), of(base)))
                .into(),
            upload_bytes_per_parameter: if round == 0 { 0.0 } else { 0.5342 },
            download_bytes_per_parameter: if round == 0 { 0.0 } else { 1.6026 },
            seconds: (round > 0).then_some(31.4 + round as f64),
            tokens_total: round * 147_456,
            admitted: 0,
            checkpoint: format!("{:064x}", 0x9e37_79b9_7f4a_7c15_u128 * u128::from(round + 1)),
            record: format!("{:064x}", round + 1),
        }
    };
    let member = |index: u8| MemberView {
        member: format!("{index:02x}").repeat(32),
        joined_round: u64::from(index),
        accepted_rounds: 17 - u64::from(index),
        assigned_steps: 24,
        absent_rounds: 0,
        claimed: index.is_multiple_of(2),
        connected: index != 3,
    };
    RunView {
        phase: Phase::Training,
        round: rounds,
        opened: Some(Instant::now()),
        deadline: Some(Instant::now() + Duration::from_secs(95)),
        joins_waiting: 1,
        members: (1..5).map(member).collect(),
        peers: 3,
        rounds: (0..rounds).map(row).collect(),
        refusals: BTreeMap::from([("stale".to_owned(), 7)]),
        network: vec![("sent_bytes", 12)],
        ..RunView::new(info)
    }
}

struct Service {
    address: SocketAddr,
    public: tempfile::TempDir,
}

async fn service(view: RunView) -> Service {
    let public = tempfile::tempdir().unwrap();
    std::fs::write(public.path().join("run.manifest"), b"0123456789").unwrap();
    std::fs::create_dir(public.path().join("rounds")).unwrap();
    let address = std::env::var("ESSAIM_TEST_PAGE").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = bind(&address, std::path::Path::new("run.toml")).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(SharedView::new(view), public.path().to_owned());
    tokio::spawn(serve(listener, router, std::future::pending()));
    Service { address, public }
}

/// Sends a raw request; gives status, headers and body.
async fn raw(service: &Service, request: &str) -> (u16, String, String) {
    let mut stream = tokio::net::TcpStream::connect(service.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(service: &Service, path: &str) -> (u16, String, String) {
    raw(service, &format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n")).await
}

async fn json(service: &Service, path: &str) -> Value {
    let (status, head, body) = get(service, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn the_api_says_what_the_view_holds() {
    let service = service(view(12)).await;
    let status = json(&service, "/api/status").await;
    for (key, want) in [("round", 12), ("rounds", 40), ("rounds_done", 11), ("members", 4), ("claims", 2), ("peers", 3)]
    {
        assert_eq!(status.get(key), Some(&Value::from(want)), "{key}");
    }
    assert_eq!(status["phase"], "training");
    assert_eq!(status["finished"], false);
    assert_eq!(status["tokens_total"], 11 * 147_456);
    assert!(status["remaining_ms"].as_u64().unwrap() > 90_000);
    assert!(status["link"].as_str().unwrap().starts_with("essaim:abab"));
    let rounds = json(&service, "/api/rounds").await;
    assert_eq!(rounds.as_array().unwrap().len(), 12);
    assert_eq!(rounds[0]["train_loss"], Value::Null);
    assert!(rounds[3]["heldout_bits_per_byte"]["fr"].as_f64().unwrap() > 1.0);
    let rounds = json(&service, "/api/rounds?from=10&limit=1").await;
    assert_eq!((rounds.as_array().unwrap().len(), &rounds[0]["round"]), (1, &Value::from(10)));
    assert_eq!(json(&service, "/api/members").await.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn bad_requests_get_a_refusal() {
    let service = service(view(3)).await;
    for (path, want) in [
        ("/api/rounds/99", 404),
        ("/api/rounds/x", 400),
        ("/api/rounds?from=-1", 400),
        ("/api/rounds?colour=red", 400),
        ("/nothing", 404),
        ("/public/nothing", 404),
        ("/public/../state.sqlite", 404),
        ("/public/..%2fstate.sqlite", 404),
        ("/public/", 404),
    ] {
        assert_eq!(get(&service, path).await.0, want, "{path}");
    }
    let post = "POST /api/status HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(raw(&service, post).await.0, 405);
    assert_eq!(raw(&service, "hello\r\n\r\n").await.0, 400);
    let (status, _, body) = get(&service, "/api/rounds/2").await;
    assert_eq!(status, 500, "its record is missing");
    assert!(body.contains("record of round 2"), "{body}");
}

#[tokio::test]
async fn public_files_come_whole_and_in_ranges() {
    let service = service(view(1)).await;
    std::fs::write(service.public.path().join("rounds/x"), b"y").unwrap();
    assert_eq!(get(&service, "/public/run.manifest").await.2, "0123456789");
    assert_eq!(get(&service, "/public/rounds/x").await.2, "y");
    let range = "GET /public/run.manifest HTTP/1.1\r\nhost: x\r\nrange: bytes=2-4\r\nconnection: close\r\n\r\n";
    let (status, head, body) = raw(&service, range).await;
    assert_eq!((status, body.as_str()), (206, "234"));
    assert!(head.contains("content-range: bytes 2-4/10"), "{head}");
}

#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let service = service(view(12)).await;
    let (status, _, text) = get(&service, "/metrics").await;
    assert_eq!(status, 200);
    let run = "ab".repeat(32);
    for line in [
        format!("essaim_round{{run=\"{run}\"}} 12"),
        format!("essaim_members{{run=\"{run}\"}} 4"),
        format!("essaim_tokens_total{{run=\"{run}\"}} {}", 11 * 147_456),
        format!("essaim_refusals_total{{run=\"{run}\",reason=\"stale\"}} 7"),
        format!("essaim_network_sent_bytes_total{{run=\"{run}\"}} 12"),
        "# EOF".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(text.contains("language=\"fr\""), "{text}");
}

#[tokio::test]
async fn the_page_is_whole_in_itself() {
    let service = service(view(24)).await;
    let (status, head, body) = get(&service, "/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    let assets = ["<script src", "<link rel=\"stylesheet", "url(", "@import", "innerHTML"];
    assert!(assets.iter().all(|asset| !body.contains(asset)), "the page loads nothing and trusts no text");
    // To look at it: ESSAIM_TEST_PAGE=127.0.0.1:8090 ESSAIM_TEST_PAGE_S=600 cargo test -p essaim-coordinator whole_in_itself
    if let Ok(seconds) = std::env::var("ESSAIM_TEST_PAGE_S") {
        tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap())).await;
    }
}

#[tokio::test]
async fn a_taken_port_says_how_to_mend() {
    let first = bind("127.0.0.1:0", std::path::Path::new("D/run.toml")).await.unwrap();
    let address = first.local_addr().unwrap().to_string();
    let error = bind(&address, std::path::Path::new("D/run.toml")).await.unwrap_err().to_string();
    assert!(error.contains("is in use") && error.contains("D/run.toml") && error.lines().count() == 1, "{error}");
    let error = bind("nonsense", std::path::Path::new("run.toml")).await.unwrap_err().to_string();
    assert!(error.contains("ADDRESS:PORT"), "{error}");
}
