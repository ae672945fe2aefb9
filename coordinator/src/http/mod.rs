//! The HTTP service: the live page, a JSON API, metrics, and `public/` as plain files.
//!
//! | path | what |
//! |---|---|
//! | `/` | the page |
//! | `/api/status` | where the run is |
//! | `/api/rounds?from=N&limit=M` | recorded rounds, rows of the table; at most 10,000 at once |
//! | `/api/rounds/{n}` | one round with its contributions and refusals |
//! | `/api/members` | members of the open round |
//! | `/metrics` | Prometheus, text format |
//! | `/public/…` | every public file; byte ranges are served |
//!
//! Only GET; readable from any origin. Requests, connections and answers are bounded in number and time.

mod api;
mod limit;
mod metrics;

use crate::view::SharedView;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::{Router, extract::Request, middleware, routing::get};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::services::ServeDir;
use tower_http::timeout::{ResponseBodyTimeoutLayer, TimeoutLayer};

/// Connections at once; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 512;
/// How long an answer may take to begin.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a reader may take nothing before its download ends.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What the handlers share.
#[derive(Debug, Clone)]
struct Site {
    view: SharedView,
    public: PathBuf,
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not an address.
    #[error("network.http is '{address}': give ADDRESS:PORT, such as 127.0.0.1:8080")]
    Address {
        /// What was given.
        address: String,
    },
    /// The port is taken.
    #[error(
        "port {port} is in use on this machine: stop the program that has it, or give another in [network] http of {run_toml} or with --http"
    )]
    InUse {
        /// Which port.
        port: u16,
        /// Where to change it.
        run_toml: String,
    },
    /// It cannot listen for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Binds the service's address; `run_toml` is named in the message of a taken port.
///
/// # Errors
/// [`HttpError`].
pub async fn bind(address: &str, run_toml: &std::path::Path) -> Result<TcpListener, HttpError> {
    let resolved: Option<SocketAddr> = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(resolved) = resolved else {
        return Err(HttpError::Address { address: address.to_owned() });
    };
    TcpListener::bind(resolved).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            HttpError::InUse { port: resolved.port(), run_toml: run_toml.display().to_string() }
        }
        _ => HttpError::Listen { address: address.to_owned(), source },
    })
}

/// The routes, over a view and a public folder.
pub fn router(view: SharedView, public: PathBuf) -> Router {
    let files = ServeDir::new(&public).append_index_html_on_directories(false);
    let site = Site { view, public };
    Router::new()
        .route("/", get(page))
        .route("/api/status", get(api::status))
        .route("/api/rounds", get(api::rounds))
        .route("/api/rounds/{round}", get(api::round))
        .route("/api/members", get(api::members))
        .route("/metrics", get(metrics::metrics))
        .nest_service("/public", files)
        .fallback(not_found)
        .with_state(site)
        .layer(RequestBodyLimitLayer::new(4096))
        .layer(ResponseBodyTimeoutLayer::new(IDLE_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_MAX))
        .layer(middleware::map_response(open_to_all))
        .layer(middleware::from_fn(only_get))
}

/// Serves until `stop` resolves, then ends connections that are idle.
///
/// # Errors
/// The listener's error.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = limit::Limited::new(listener, CONNECTIONS_MAX);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

/// Any page may read what is public.
async fn open_to_all(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

async fn only_get(request: Request, next: middleware::Next) -> Response {
    match request.method().as_str() {
        "GET" | "HEAD" => next.run(request).await,
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "not here; see /, /api/status, /api/rounds, /api/members, /metrics, /public/run.manifest\n")
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

#[cfg(test)]
mod tests;
