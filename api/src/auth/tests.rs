use super::*;

fn who(access: Access) -> Identity {
    Identity { seen: seen(access, "tls", String::new(), String::new()), from_member: false, certificate: None }
}

#[test]
fn what_each_kind_of_caller_may_reach() {
    let project = ProjectName::new("p").unwrap();
    let callers =
        [who(Access::Untrusted), who(Access::Metrics), who(Access::Projects([project].into())), who(Access::Full)];
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    for (method, path, allowed) in [
        (&get, "/", [true, true, true, true]),
        (&get, "/1.0", [true, true, true, true]),
        (&put, "/1.0", [false, false, false, true]),
        (&post, "/1.0/certificates", [true, true, false, true]),
        (&get, "/1.0/certificates", [false, false, false, true]),
        (&get, "/1.0/metrics", [false, true, true, true]),
        (&get, "/1.0/images", [true, true, true, true]),
        (&get, "/1.0/images/ab/export", [true, true, true, true]),
        (&post, "/1.0/images", [true, true, true, true]),
        (&post, "/1.0/images/ab/secret", [false, false, true, true]),
        (&delete, "/1.0/images/ab", [false, false, true, true]),
        (&get, "/1.0/instances", [false, false, true, true]),
        (&delete, "/1.0/instances/c1", [false, false, true, true]),
        (&get, "/1.0/operations/x/wait", [true, true, true, true]),
        (&get, "/1.0/operations/x/websocket", [true, true, true, true]),
        (&get, "/1.0/operations/x", [false, false, true, true]),
        (&delete, "/1.0/operations/x/wait", [false, false, true, true]),
        (&get, "/1.0/projects", [false, false, true, true]),
        (&post, "/1.0/projects", [false, false, false, true]),
        (&get, "/1.0/networks", [false, false, true, true]),
        (&put, "/1.0/networks/br0", [false, false, true, true]),
        (&delete, "/1.0/network-zones/example.net", [false, false, false, true]),
        (&get, "/1.0/cluster/members", [false, false, false, true]),
        (&get, "/1.0/warnings", [false, false, false, true]),
        (&get, "/1.0/imagesque", [false, false, false, true]),
        (&get, "/internal/join", [false, false, false, true]),
    ] {
        let found = callers.each_ref().map(|w| permits(w, method, path, false).is_ok());
        assert_eq!(found, allowed, "{method} {path}: untrusted, metrics, restricted, full");
    }
    assert!(permits(&callers[0], &get, "/1.0/metrics", true).is_ok());
}

#[test]
fn a_forwarded_identity_is_believed_from_members_only() {
    let forged = who(Access::Full).encode();
    let mut headers = HeaderMap::new();
    headers.insert(FORWARDED, forged.parse().unwrap());
    let view = StateView::default();
    let remote = "127.0.0.1:1".parse().unwrap();
    let outside = Origin::Tls { certificate: None, remote };
    assert!(!Identity::of(Some(&outside), &headers, &view).unwrap().trusted());
    let stranger = Origin::Cluster { certificate: Arc::new(PeerCertificate::new(b"x")), remote };
    assert!(Identity::of(Some(&stranger), &headers, &view).is_err());
    assert!(Identity::of(None, &headers, &view).is_err());
}

#[test]
fn short_keys_and_rubbish_are_not_certificates() {
    assert!(check_certificate(b"rubbish").is_err());
    let good = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    assert!(check_certificate(good.cert.der()).is_ok());
    let mut old = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    old.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let old = old.self_signed(&key).unwrap();
    assert!(check_certificate(old.der()).unwrap_err().contains("expired"));
}
