//! The description of the API, against the API.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use super::server::{TestServer, request};

async fn document(server: &TestServer) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Every operation as method, path and what is said of it.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(|(method, what)| {
            let method = method.to_uppercase().parse().unwrap();
            (method, path.clone(), what.clone())
        })
    });
    operations.collect()
}

#[tokio::test]
async fn every_path_that_is_described_is_there() {
    let server = TestServer::start();
    let document = document(&server).await;
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    assert!(operations.len() > 30, "{}", operations.len());
    let mut identifiers = BTreeSet::new();
    for (method, path, what) in operations {
        assert!(
            identifiers.insert(what["operationId"].to_string()),
            "{path}"
        );
        let path = path
            .replace("{model_name}", "echo")
            .replace("{model_version}", "2");
        let answer = server.send(request(method.clone(), &path, &[], "{}")).await;
        // What is there refuses an empty object for what is missing in it.
        let expected = if method == Method::POST {
            [200, 400]
        } else {
            [200, 200]
        };
        assert!(
            expected.contains(&answer.status),
            "{method} {path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn what_is_referred_to_is_there() {
    let server = TestServer::start();
    let document = document(&server).await;
    let text = document.to_string();
    let names = text.split("\"#/components/schemas/").skip(1);
    let names: BTreeSet<&str> = names.map(|rest| rest.split('"').next().unwrap()).collect();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let there: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(names, there);
}

#[tokio::test]
async fn the_calls_of_each_model_take_its_rows_and_no_other_model_is_named() {
    let server = TestServer::start();
    let document = document(&server).await;
    let names = &document["paths"]["/v2/models/{model_name}"]["get"]["parameters"][0]["schema"];
    let names: Vec<&str> = names["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"echo") && !names.contains(&"broken"),
        "{names:?}"
    );
    let body = |path: &str| {
        document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            .clone()
    };
    let instances = &body("/v1/models/matrix:predict")["oneOf"][0]["properties"]["instances"];
    let row = &instances["anyOf"][0]["items"];
    assert_eq!(
        (&row["minItems"], &row["items"]["maxItems"]),
        (&2.into(), &3.into())
    );
    let input = &body("/v2/models/pair/infer")["properties"]["inputs"]["items"]["anyOf"][1];
    assert_eq!(input["properties"]["name"]["const"], "b");
    assert_eq!(input["properties"]["shape"]["prefixItems"][1]["const"], 2);
    assert!(
        document["paths"]["/v1/models/echo:classify"].is_null(),
        "it has no classes"
    );
    assert!(!document["paths"]["/v1/models/fruit:classify"].is_null());
}

#[cfg(feature = "swagger-ui")]
#[tokio::test]
async fn people_have_a_page_of_it() {
    let server = TestServer::start();
    let redirect = server.get("/docs").await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (308, Some("/docs/"))
    );
    let page = server.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    for file in [
        "swagger-initializer.js",
        "swagger-ui.css",
        "swagger-ui-bundle.js",
    ] {
        assert_eq!(
            server.get(&format!("/docs/{file}")).await.status,
            200,
            "{file}"
        );
    }
    let settings = server.get("/docs/swagger-initializer.js").await;
    assert!(settings.body.contains("/openapi.json"), "{settings:?}");
    assert_eq!(server.get("/docs/nothing").await.status, 404);
    assert_eq!(server.post("/docs/", "").await.status, 405);
}
