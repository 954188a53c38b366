//! Who is trusted: certificates, and the tokens with which a client makes its own trusted.

use http::Method;

use basalt_api::dto::certificate::{AddToken, Certificate, Post};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::path::Path;
use crate::token::{self, Token};

fn certificates() -> Path {
    Path::of("certificates")
}

impl Client {
    /// Trusted certificates.
    pub async fn certificates(&self) -> Result<Vec<Certificate>> {
        self.get(certificates().with("recursion", "1")).await
    }

    /// A token with which one client can make its certificate trusted; restricted to `projects` if there are any.
    pub async fn trust_token(&self, name: &str, projects: &[String]) -> Result<AddToken> {
        let wanted = Post {
            name: name.to_owned(),
            kind: "client".to_owned(),
            token: true,
            restricted: !projects.is_empty(),
            projects: projects.to_vec(),
            ..Post::default()
        };
        token::trust_token(&self.start(Method::POST, certificates(), Some(&wanted)).await?)
    }

    /// Makes the certificate of this connection trusted.
    pub async fn redeem_trust_token(&self, text: &str) -> Result<()> {
        let wanted = Post { kind: "client".to_owned(), trust_token: text.to_owned(), ..Post::default() };
        self.apply(Method::POST, certificates(), Some(&wanted)).await
    }

    /// Trusts a certificate.
    pub async fn add_certificate(&self, wanted: &Post) -> Result<()> {
        self.apply(Method::POST, certificates(), Some(wanted)).await
    }

    /// Trusts a certificate no longer.
    pub async fn remove_certificate(&self, fingerprint: &str) -> Result<()> {
        self.apply(Method::DELETE, certificates().segment(fingerprint), None::<&()>).await
    }
}

/// A member that was reached with a token: the client, the address that worked, and the pinned fingerprint.
#[derive(Debug)]
pub struct Redeemed {
    pub client: Client,
    pub address: String,
    pub fingerprint: String,
}

/// Makes `identity` trusted by the cluster of `text`, a trust token, at the first of its addresses that answers.
pub async fn redeem(text: &str, identity: &Identity) -> Result<Redeemed> {
    let token = AddToken::decode(text)?;
    let done = |client, address: &String| Redeemed {
        client,
        address: address.clone(),
        fingerprint: token.fingerprint.clone(),
    };
    let mut last = Error::Invalid("the token has no address".to_owned());
    for address in &token.addresses {
        let client = Client::https(address, &token.fingerprint, Some(identity))?;
        match client.redeem_trust_token(&token.encode()).await {
            // The cluster may know this client under another name already; then the token stays unused.
            Err(Error::Api { code: 400, text }) if text.contains("already trusted") => {
                return Ok(done(client, address));
            }
            Ok(()) => return Ok(done(client, address)),
            // Only a failed connection is a reason to try elsewhere: the token can be used once.
            Err(error @ Error::Connect { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
