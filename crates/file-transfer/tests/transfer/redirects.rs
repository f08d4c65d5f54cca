use diagnostics::Code;
use sim::files::{Asked, Fault, Host, Served};

use crate::support::{CONTENT, Case, MIB};

#[tokio::test]
async fn the_token_is_sent_to_the_host_of_the_file_only() {
    let served = Served {
        bearer: Some("hf_secret".to_owned()),
        ..Served::on_hub(CONTENT)
    };
    let case = Case::new(served).await.with_token("hf_secret");
    case.fetch_all(CONTENT).await;
    let token = |asked: &Asked| asked.headers.get("authorization").cloned();
    let (origin, other) = (
        case.requests_to(Host::Origin),
        case.requests_to(Host::Other),
    );
    assert_eq!(origin.len(), 1, "the signed URL is used again");
    assert_eq!(token(&origin[0].asked).unwrap(), "Bearer hf_secret");
    assert!(other.len() > 1);
    assert!(other.iter().all(|r| token(&r.asked).is_none()));
}

#[tokio::test]
async fn hash_and_size_are_taken_from_the_redirect() {
    let case = Case::unknown(Served::on_hub(CONTENT)).await;
    case.fetch_all(CONTENT).await;
    let lying = Served {
        linked: Some([7; 32]),
        ..Served::on_hub(CONTENT)
    };
    let case = Case::unknown(lying).await;
    let error = case.fetch_error(Code::ChecksumMismatch).await;
    assert!(error.message.contains(&"07".repeat(32)), "{error}");
}

#[tokio::test]
async fn a_signed_url_that_expires_is_resolved_again() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    case.server.limit_signatures(2);
    case.fetch_all(CONTENT).await;
    assert!(case.requests_to(Host::Origin).len() > 2);
    // Requests with an expired URL have no body, so nothing is received twice.
    assert_eq!(case.server.served(), CONTENT.size());
}

#[tokio::test]
async fn a_signed_url_that_never_works_is_a_failure() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    case.server.limit_signatures(0);
    let error = case.fetch_error(Code::DownloadFailed).await;
    assert!(error.message.contains("status 403"), "{error}");
    assert_eq!(
        case.requests_to(Host::Other).len(),
        7,
        "first and 6 attempts"
    );
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let case = Case::new(Served::new(CONTENT)).await;
    let url = case.file.url.clone();
    case.server
        .fault(move |_| Some(Fault::Redirect(url.clone())));
    let error = case.fetch_error(Code::DownloadFailed).await;
    assert!(
        error.message.contains("redirects more than 10 times"),
        "{error}"
    );
    assert_eq!(case.server.requests().len(), 11);
}

#[tokio::test]
async fn redirects_lead_to_http_only_and_messages_are_escaped() {
    for location in ["file:///etc/passwd", "ftp://host/\u{e9}", ""] {
        let case = Case::new(Served::new(CONTENT)).await;
        case.server
            .fault(move |_| Some(Fault::Redirect(location.to_owned())));
        case.fetch_error(Code::DownloadFailed).await;
    }
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.file.url = "file:///\u{1b}[31m".to_owned();
    let error = case.fetch_error(Code::DownloadFailed).await;
    assert!(!error.message.contains('\u{1b}'), "{error}");
}

#[tokio::test]
async fn no_access_says_what_to_do() {
    let served = Served {
        bearer: Some("hf_secret".to_owned()),
        ..Served::on_hub(CONTENT)
    };
    let case = Case::new(served.clone()).await;
    let error = case.fetch_error(Code::ModelAccessDenied).await;
    assert!(error.hint.unwrap().contains("HF_TOKEN"));
    assert_eq!(case.server.requests().len(), 1, "no further attempt");
    let case = Case::new(served).await.with_token("hf_other");
    let error = case.fetch_error(Code::ModelAccessDenied).await;
    assert!(error.hint.unwrap().contains("licence"));
}

#[tokio::test]
async fn a_file_that_does_not_exist_is_not_asked_for_again() {
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.file.url = format!("{}/other?secret=1", case.server.origin());
    let error = case.fetch_error(Code::ModelNotFound).await;
    assert!(!error.message.contains("secret"), "{error}");
    assert_eq!(case.server.requests().len(), 1);
    assert!(case.files().is_empty());
}

#[tokio::test]
async fn a_signed_url_that_expires_in_the_middle_costs_nothing() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    // All ranges of the first signed URLs are cut, and the URLs are gone then.
    case.server.fault(|asked| match (asked.host, asked.number) {
        (Host::Other, 0..9) => Some(Fault::Cut(MIB / 2)),
        (Host::Other, 9..12) => Some(Fault::Status {
            status: 410,
            retry_after: None,
        }),
        _ => None,
    });
    case.fetch_all(CONTENT).await;
    assert!(case.requests_to(Host::Origin).len() > 1);
}
