//! One provider, many issuers: the tenants of Microsoft Entra ID.
//!
//! `/common` and `/organizations` are no tenants: their metadata names the issuer
//! `https://login.microsoftonline.com/{tenantid}/v2.0`, and every token says whose it is by `tid` and
//! by an `iss` with that tenant in it. Anybody can have a tenant, so which of them are let in is
//! written down. Nothing here reads a token, and no other placeholder exists.

use url::Url;

/// The tenants of a provider whose tokens are accepted, and how their issuers look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// The issuer in front of the tenant.
    before: String,
    /// The issuer behind the tenant.
    after: String,
    /// The tenants that are let in; none: all of them.
    allowed: Option<Vec<String>>,
}

impl Tenants {
    /// The tenants behind an issuer such as `https://login.microsoftonline.com/organizations/v2.0`;
    /// none where no segment of its path stands for tenants. `allowed` is in lower case; none is all.
    pub(super) fn behind(issuer: &str, allowed: Option<Vec<String>>) -> Option<Self> {
        // a host of that name is no path
        let origin = Url::parse(issuer).ok()?.origin().ascii_serialization();
        let path = issuer.get(origin.len()..).filter(|path| path.starts_with('/'))?;
        let start = ANY_TENANT.iter().find_map(|name| {
            let (at, _) = path.match_indices(name).find(|(at, found)| {
                let end = at.saturating_add(found.len());
                let starts_a_segment = path.get(..*at).is_some_and(|before| before.ends_with('/'));
                let ends_it = path
                    .get(end..)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                starts_a_segment && ends_it
            })?;
            let start = origin.len().checked_add(at)?;
            Some((start, start.checked_add(name.len())?))
        });
        let (start, end) = start?;
        Some(Self {
            before: issuer.get(..start)?.to_owned(),
            after: issuer.get(end..)?.to_owned(),
            allowed,
        })
    }

    /// The issuer as the metadata of all tenants together has it.
    pub fn template(&self) -> String {
        self.issuer_of(PLACEHOLDER)
    }

    /// The tenants that are let in; none: whoever has one.
    pub fn allowed(&self) -> Option<&[String]> {
        self.allowed.as_deref()
    }

    /// The tenant of an issuer, if it is one of those that are let in.
    pub(crate) fn tenant_of<'i>(&self, issuer: &'i str) -> Option<&'i str> {
        let rest = issuer.strip_prefix(self.before.as_str())?;
        let tenant = rest.strip_suffix(self.after.as_str())?;
        let is_let_in = match &self.allowed {
            Some(allowed) => allowed.iter().any(|known| known == tenant),
            None => is_tenant(tenant),
        };
        (is_let_in && is_tenant(tenant)).then_some(tenant)
    }

    /// The issuers of the tenants that are named one by one.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = String> {
        let allowed = self.allowed.iter().flatten();
        allowed.map(|tenant| self.issuer_of(tenant))
    }

    /// The issuer of a tenant, let in or not.
    pub(crate) fn issuer_of(&self, tenant: &str) -> String {
        format!("{}{tenant}{}", self.before, self.after)
    }

    /// Whether a key that names its issuer may sign for this one: its own, or, with the placeholder, any.
    /// The key of one tenant never speaks for another.
    pub(crate) fn may_sign(&self, key_issuer: Option<&str>, issuer: &str) -> bool {
        key_issuer.is_none_or(|key| key == issuer || key == self.template())
    }
}

/// Whether this is a tenant's id: a GUID in lower case, as tokens have it.
pub(crate) fn is_tenant(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// Whether an issuer stands for the tenants of Microsoft's own service, not for one of them.
pub(super) fn stands_for_tenants(issuer: &str) -> bool {
    let host = Url::parse(issuer).ok();
    let host = host.as_ref().and_then(Url::host_str);
    host.is_some_and(|host| MICROSOFT.contains(&host)) && Tenants::behind(issuer, None).is_some()
}

/// What stands for the tenant in metadata and keys.
const PLACEHOLDER: &str = "{tenantid}";

/// The names that stand for tenants in a path: `common` has personal accounts, too.
const ANY_TENANT: [&str; 2] = ["organizations", "common"];

/// Microsoft's sign-in hosts: worldwide, US government, China.
const MICROSOFT: [&str; 3] = [
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
];

#[cfg(test)]
impl Tenants {
    /// All tenants behind this issuer.
    pub(crate) fn any(issuer: &str) -> Self {
        Self::behind(issuer, None).expect("an issuer of tenants")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
    const OTHER: &str = "82229342-1101-4ab6-817b-70c0747630f3";

    fn tenants(allowed: Option<&[&str]>) -> Tenants {
        let allowed = allowed.map(|allowed| allowed.iter().map(|&tenant| tenant.to_owned()).collect());
        Tenants::behind("https://login.microsoftonline.com/organizations/v2.0", allowed)
            .expect("an issuer of tenants")
    }

    #[test]
    fn the_segment_that_stands_for_tenants_is_found_in_the_path_alone() {
        for (issuer, template) in [
            (
                "https://login.microsoftonline.com/organizations/v2.0",
                Some("https://login.microsoftonline.com/{tenantid}/v2.0"),
            ),
            (
                "https://login.microsoftonline.com/common/v2.0",
                Some("https://login.microsoftonline.com/{tenantid}/v2.0"),
            ),
            ("https://a.example/common", Some("https://a.example/{tenantid}")),
            (
                "https://a.example/commons/common/",
                Some("https://a.example/commons/{tenantid}/"),
            ),
            ("https://common/v2.0", None),
            ("https://organizations.example/v2.0", None),
            ("https://a.example/commons/v2.0", None),
            ("https://a.example/uncommon/v2.0", None),
            ("https://a.example", None),
            ("nonsense/common", None),
        ] {
            let found = Tenants::behind(issuer, None).map(|tenants| tenants.template());
            assert_eq!(found.as_deref(), template, "{issuer}");
        }
    }

    #[test]
    fn a_tenant_is_let_in_by_name_or_all_are() {
        let listed = tenants(Some(&[ONE]));
        let any = tenants(None);
        for (issuer, by_name, by_all) in [
            (
                format!("https://login.microsoftonline.com/{ONE}/v2.0"),
                true,
                true,
            ),
            (
                format!("https://login.microsoftonline.com/{OTHER}/v2.0"),
                false,
                true,
            ),
            // not in lower case, not a guid, not this host, something in front or behind
            (
                format!("https://login.microsoftonline.com/{}/v2.0", ONE.to_uppercase()),
                false,
                false,
            ),
            (
                "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
                false,
                false,
            ),
            (
                "https://login.microsoftonline.com/organizations/v2.0".to_owned(),
                false,
                false,
            ),
            ("https://login.microsoftonline.com//v2.0".to_owned(), false, false),
            (
                format!("https://login.microsoftonline.com/x/../{ONE}/v2.0"),
                false,
                false,
            ),
            (
                format!("https://login.microsoftonline.com/{ONE}/v2.0/"),
                false,
                false,
            ),
            (format!("https://login.microsoftonline.com/{ONE}"), false, false),
            (format!("https://sts.windows.net/{ONE}/"), false, false),
            (
                format!("https://login.microsoftonline.com.evil.example/{ONE}/v2.0"),
                false,
                false,
            ),
            (String::new(), false, false),
        ] {
            assert_eq!(listed.tenant_of(&issuer).is_some(), by_name, "{issuer}");
            assert_eq!(any.tenant_of(&issuer).is_some(), by_all, "{issuer}");
        }
        assert_eq!(
            listed.issuers().collect::<Vec<_>>(),
            [format!("https://login.microsoftonline.com/{ONE}/v2.0")]
        );
        assert_eq!(any.issuers().count(), 0);
    }

    #[test]
    fn a_key_signs_for_its_own_tenant_or_for_all() {
        let tenants = tenants(None);
        let (one, other) = (tenants.issuer_of(ONE), tenants.issuer_of(OTHER));
        assert!(tenants.may_sign(None, &one));
        assert!(tenants.may_sign(Some(&tenants.template()), &one));
        assert!(tenants.may_sign(Some(&one), &one));
        assert!(!tenants.may_sign(Some(&other), &one));
    }

    #[test]
    fn a_tenant_is_a_guid_in_lower_case() {
        for (text, good) in [
            (ONE, true),
            ("8eaef0232b344da19baa8bc8c9d6a490", false),
            ("8eaef023-2b34-4da1-9baa-8bc8c9d6a49g", false),
            ("8EAEF023-2b34-4da1-9baa-8bc8c9d6a490", false),
            ("contoso.onmicrosoft.com", false),
            ("", false),
        ] {
            assert_eq!(is_tenant(text), good, "{text}");
        }
    }

    #[test]
    fn microsofts_own_hosts_are_known() {
        assert!(stands_for_tenants(
            "https://login.microsoftonline.com/common/v2.0"
        ));
        assert!(stands_for_tenants(
            "https://login.microsoftonline.us/organizations/v2.0"
        ));
        assert!(!stands_for_tenants("https://sso.example.com/realms/common"));
        assert!(!stands_for_tenants(&format!(
            "https://login.microsoftonline.com/{ONE}/v2.0"
        )));
    }
}
