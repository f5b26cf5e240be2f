//! What the scripted provider's token endpoint gives, and to whom.
//!
//! One method for each grant's outcome; nothing here listens.

use std::collections::HashMap;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coatroom::clock::Clock as _;
use serde_json::{Value, json};

use super::{Grant, Rotation, Script, Shared, Token, is_our_client, overlay};
use crate::support::dpop;

impl Script {
    pub(super) fn token(
        &mut self,
        shared: &Shared,
        headers: &HeaderMap,
        form: &HashMap<String, String>,
    ) -> (u16, Value) {
        if !self.knows(headers, form) {
            return (401, json!({"error": "invalid_client"}));
        }
        let invalid_grant = (400, json!({"error": "invalid_grant"}));
        let jkt = match self.dpop {
            false => None,
            true => {
                let Some(proof) = dpop::proof(headers) else {
                    return (400, json!({"error": "invalid_dpop_proof"}));
                };
                let htu = format!("{}/token", self.issuer);
                if proof.claims["htm"] != "POST" || proof.claims["htu"] != htu {
                    return (400, json!({"error": "invalid_dpop_proof"}));
                }
                if !self.nonces.takes(&proof) {
                    return (400, json!({"error": "use_dpop_nonce"}));
                }
                Some(proof.jkt)
            }
        };
        let empty = String::new();
        match form["grant_type"].as_str() {
            "authorization_code" => {
                let Some(grant) = self.codes.remove(form.get("code").unwrap_or(&empty)) else {
                    // a code that comes twice: whatever it gave is dead (RFC 6749 §4.1.2)
                    self.kill_all();
                    return invalid_grant;
                };
                let verifier = form.get("code_verifier").unwrap_or(&empty);
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
                let proved = URL_SAFE_NO_PAD.encode(digest) == grant.challenge;
                if !proved || form.get("redirect_uri") != Some(&grant.redirect_uri) || grant.jkt != jkt {
                    return invalid_grant;
                }
                (200, self.issue(shared, &grant, true, None, jkt))
            }
            "client_credentials" => {
                let target = form.get("resource").or_else(|| form.get("audience"));
                let target = target.map_or("client", String::as_str);
                let token = self.access_token(Some(target));
                let mut answer = json!({"access_token": token, "token_type": "Bearer"});
                if let Some(jkt) = jkt.filter(|_| !self.downgrades) {
                    answer["token_type"] = "DPoP".into();
                    self.keys.insert(token, jkt);
                }
                if let Some(seconds) = self.expires_in {
                    answer["expires_in"] = seconds.into();
                }
                overlay(&mut answer, &self.token_members);
                (200, answer)
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                let subject = form.get("subject_token").unwrap_or(&empty);
                if !self.issued.contains(subject) {
                    return (400, json!({"error": "invalid_request"}));
                }
                let audience = form.get("audience").map(String::as_str);
                let token = self.access_token(audience);
                let kind = "urn:ietf:params:oauth:token-type:access_token";
                let mut answer =
                    json!({"access_token": token, "token_type": "Bearer", "issued_token_type": kind});
                if let Some(jkt) = jkt {
                    answer["token_type"] = "DPoP".into();
                    self.keys.insert(token.clone(), jkt);
                }
                if let Some(seconds) = self.expires_in {
                    answer["expires_in"] = seconds.into();
                }
                (200, answer)
            }
            "refresh_token" => {
                let presented = form.get("refresh_token").unwrap_or(&empty).clone();
                let target = form
                    .get("resource")
                    .or_else(|| form.get("audience"))
                    .map(String::as_str);
                let with_id_token = self.refreshed_id_token && target.is_none();
                let Some((grant, token)) = self.refresh_tokens.get(&presented).cloned() else {
                    return invalid_grant;
                };
                match (token, self.refresh) {
                    (Token::Live, Rotation::Rotate | Rotation::Overlap) => {
                        self.refresh_tokens
                            .insert(presented, (grant.clone(), Token::Used));
                        (200, self.issue(shared, &grant, with_id_token, target, jkt))
                    }
                    (Token::Live, Rotation::Keep | Rotation::Never) => {
                        (200, self.issue(shared, &grant, with_id_token, target, jkt))
                    }
                    (Token::Used, Rotation::Overlap) => {
                        (200, self.issue(shared, &grant, with_id_token, target, jkt))
                    }
                    (Token::Used, _) => {
                        self.kill_all();
                        invalid_grant
                    }
                    (Token::Dead, _) => invalid_grant,
                }
            }
            _ => (400, json!({"error": "unsupported_grant_type"})),
        }
    }

    pub(super) fn knows(&mut self, headers: &HeaderMap, form: &HashMap<String, String>) -> bool {
        if let Some(credentials) = &mut self.credentials {
            return credentials(headers, form);
        }
        is_our_client(headers)
    }

    pub(super) fn kill_all(&mut self) {
        for (_, token) in self.refresh_tokens.values_mut() {
            *token = Token::Dead;
        }
    }

    /// An opaque token, which says for whom it is.
    pub(super) fn access_token(&mut self, target: Option<&str>) -> String {
        self.counter += 1;
        let target = target.map(|target| format!("{target}-")).unwrap_or_default();
        let token = format!(
            "canary-access-{target}{}-{}",
            self.counter,
            "x".repeat(self.padding)
        );
        self.issued.push(token.clone());
        token
    }

    pub(super) fn issue(
        &mut self,
        shared: &Shared,
        grant: &Grant,
        with_id_token: bool,
        target: Option<&str>,
        jkt: Option<String>,
    ) -> Value {
        let access_token = self.access_token(target);
        let mut answer = json!({"access_token": access_token, "token_type": "Bearer"});
        if let Some(jkt) = jkt.filter(|_| !self.downgrades) {
            answer["token_type"] = "DPoP".into();
            self.keys.insert(access_token.clone(), jkt);
        }
        if let Some(seconds) = self.expires_in {
            answer["expires_in"] = seconds.into();
        }
        if let Some(seconds) = self.refresh_expires_in {
            answer["refresh_expires_in"] = seconds.into();
        }
        let first = self.refresh_tokens.is_empty();
        let rotates = matches!(self.refresh, Rotation::Rotate | Rotation::Overlap);
        if grant.refreshable && (rotates || (self.refresh == Rotation::Keep && first)) {
            let refresh_token = format!("canary-refresh-{}", self.counter);
            self.refresh_tokens
                .insert(refresh_token.clone(), (grant.clone(), Token::Live));
            self.issued.push(refresh_token.clone());
            answer["refresh_token"] = refresh_token.into();
        }
        if with_id_token {
            let id_token = self.id_token(shared, grant);
            self.issued.push(id_token.clone());
            answer["id_token"] = id_token.into();
        }
        overlay(&mut answer, &self.token_members);
        answer
    }

    pub(super) fn id_token(&self, shared: &Shared, grant: &Grant) -> String {
        let now = self.clock.as_ref().expect("the rig sets the clock").now().0;
        let mut claims = json!({
            "iss": self.issuer, "sub": grant.user, "aud": "shop", "iat": now, "exp": now + 3600,
            "nonce": grant.nonce, "name": "Alice Example", "sid": "provider-session",
        });
        overlay(&mut claims, &self.claims);
        self.shapes.shaped(self.sign(shared, "JWT", &claims))
    }

    pub(super) fn sign(&self, shared: &Shared, typ: &str, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": typ, "kid": self.kid});
        let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = shared.key.sign(&shared.rng, message.as_bytes()).expect("signs");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
