use super::fake::MemoryFiles;
use super::*;

fn id() -> InstanceId {
    InstanceId(uuid::Uuid::nil())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

async fn bytes(response: Response) -> Vec<u8> {
    axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()
}

async fn put(files: &Arc<MemoryFiles>, path: &str, given: &[(&'static str, &str)], body: &str) -> Reply {
    post(files.clone(), id(), path, &headers(given), Body::from(body.to_owned())).await
}

#[tokio::test]
async fn a_file_goes_there_and_back() {
    let files = Arc::new(MemoryFiles::default());
    let given = [("x-lxd-uid", "5"), ("x-incus-gid", "6"), ("x-lxd-mode", "0640")];
    assert_eq!(put(&files, "/a", &given, "hello").await.unwrap().status(), StatusCode::OK);
    put(&files, "/a", &[("x-lxd-write", "append")], " world").await.unwrap();
    let answer = get(files.clone(), id(), "/a", &Method::GET).await.unwrap();
    for family in ["x-lxd", "x-incus"] {
        let header = |name: &str| answer.headers()[format!("{family}-{name}")].to_str().unwrap().to_owned();
        let said = ["uid", "gid", "mode", "type", "modified"].map(header);
        assert_eq!(said, ["5", "6", "0640", "file", "2023-11-14 22:13:20 +0000 UTC"]);
    }
    assert_eq!(answer.headers()[CONTENT_LENGTH], "11");
    assert_eq!(bytes(answer).await, b"hello world");
    let head = get(files.clone(), id(), "/a", &Method::HEAD).await.unwrap();
    assert_eq!(head.headers()[CONTENT_LENGTH], "11");
    assert!(bytes(head).await.is_empty());
    // Without headers the rest stays, and the content is replaced.
    put(&files, "/a", &[], "x").await.unwrap();
    let again = get(files.clone(), id(), "/a", &Method::GET).await.unwrap();
    assert_eq!(again.headers()["x-lxd-mode"], "0640");
    assert_eq!(bytes(again).await, b"x");
}

#[tokio::test]
async fn large_files_stream_whole() {
    let files = Arc::new(MemoryFiles::default());
    let large = "0123456789abcdef".repeat(CHUNK / 8);
    put(&files, "/large", &[], &large).await.unwrap();
    let answer = get(files, id(), "/large", &Method::GET).await.unwrap();
    assert_eq!(bytes(answer).await, large.as_bytes());
}

#[tokio::test]
async fn folders_and_links() {
    let files = Arc::new(MemoryFiles::default());
    put(&files, "/d", &[("x-incus-type", "directory")], "").await.unwrap();
    put(&files, "/d", &[("x-incus-type", "directory"), ("x-incus-uid", "3")], "").await.unwrap();
    put(&files, "/d/l", &[("x-lxd-type", "symlink")], "/target").await.unwrap();
    put(&files, "/d/f", &[], "").await.unwrap();
    let dir = get(files.clone(), id(), "/d", &Method::GET).await.unwrap();
    assert_eq!(
        [&dir.headers()["x-lxd-type"], &dir.headers()["x-lxd-mode"], &dir.headers()["x-lxd-uid"]],
        ["directory", "0750", "3"]
    );
    let envelope: serde_json::Value = serde_json::from_slice(&bytes(dir).await).unwrap();
    assert_eq!((&envelope["type"], &envelope["metadata"]), (&"sync".into(), &serde_json::json!(["f", "l"])));
    let link = get(files.clone(), id(), "/d/l", &Method::GET).await.unwrap();
    assert_eq!(link.headers()["x-incus-type"], "symlink");
    assert_eq!(bytes(link).await, b"/target");
    assert_eq!(delete(files.clone(), id(), "/d").await.unwrap_err().code(), StatusCode::BAD_REQUEST);
    for path in ["/d/l", "/d/f", "/d"] {
        delete(files.clone(), id(), path).await.unwrap();
    }
    assert_eq!(delete(files, id(), "/d").await.unwrap_err().code(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let files = Arc::new(MemoryFiles::default());
    for given in [
        ("x-lxd-type", "device"),
        ("x-lxd-write", "both"),
        ("x-lxd-mode", "rwx"),
        ("x-lxd-mode", "777777"),
        ("x-lxd-uid", "-5"),
    ] {
        let code = put(&files, "/a", &[given], "").await.unwrap_err().code();
        assert_eq!(code, StatusCode::BAD_REQUEST, "{given:?}");
    }
    // All that stat gave is fine: the kind of file in it is not looked at.
    put(&files, "/whole", &[("x-lxd-mode", "0100640")], "").await.unwrap();
    let whole = get(files.clone(), id(), "/whole", &Method::GET).await.unwrap();
    assert_eq!(whole.headers()["x-lxd-mode"], "0640");
    assert_eq!(put(&files, "", &[], "").await.unwrap_err().code(), StatusCode::BAD_REQUEST);
    assert_eq!(put(&files, "/none/a", &[], "").await.unwrap_err().code(), StatusCode::NOT_FOUND);
    let link = put(&files, "/a", &[("x-lxd-type", "symlink")], &"x".repeat(5000)).await;
    assert_eq!(link.unwrap_err().code(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(files.content("/a"), None);
}

#[tokio::test]
async fn sftp_needs_the_upgrade() {
    let tasks = Tasks::new(tokio_util::sync::CancellationToken::new());
    let files = Arc::new(MemoryFiles::default());
    let refused = sftp(&tasks, files.clone(), id(), Request::new(Body::empty())).await.unwrap_err();
    assert_eq!(refused.to_string(), "Missing or invalid upgrade header");
}
