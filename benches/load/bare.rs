//! Axum handlers that compute nothing: the best that a server on this stack could do.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde::Deserialize;

/// Serves one kind of handler until the process is killed.
pub(crate) fn serve(kind: &str) {
    let bytes = std::env::var("SAFESERVE_BENCH_BYTES").expect("set by this program");
    let answer: Arc<[u8]> = vec![b' '; bytes.parse().expect("a number")].into();
    let constant = answer.clone();
    let handler = match kind {
        "constant" => post(move |_: Bytes| async move { constant_answer(&constant) }),
        "parsing" => post(move |body: Bytes| async move { parsing_answer(&body, &answer) }),
        other => panic!("no handler is named {other}"),
    };
    let router = Router::new().route("/v2/models/{model}/infer", handler);
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        println!("http://{}", listener.local_addr().expect("it is bound"));
        axum::serve(tcp_nodelay(listener), router)
            .await
            .expect("it serves");
    });
}

fn tcp_nodelay(
    listener: tokio::net::TcpListener,
) -> impl axum::serve::Listener<Addr = std::net::SocketAddr> {
    use axum::serve::ListenerExt as _;
    listener.tap_io(|stream| {
        stream
            .set_nodelay(true)
            .expect("a TCP socket has the option")
    })
}

fn constant_answer(answer: &Arc<[u8]>) -> impl IntoResponse + use<> {
    let body = Bytes::from_owner(answer.clone());
    ([(CONTENT_TYPE, "application/json")], body)
}

#[derive(Deserialize)]
struct Request {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    data: Vec<f32>,
}

fn parsing_answer(body: &[u8], answer: &Arc<[u8]>) -> impl IntoResponse + use<> {
    let fits = serde_json::from_slice::<Request>(body).is_ok_and(|request| {
        request
            .inputs
            .iter()
            .all(|input| input.shape.iter().product::<usize>() == input.data.len())
    });
    if fits {
        Ok(constant_answer(answer))
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}
