//! How a store keeps the objects of tenants apart: the tenant is a part of the object's id.
//!
//! The object `CAPD-1` of the tenant `acme` is stored as `@acme/CAPD-1`. An id without a tenant is stored as it is, or,
//! if it begins with `@`, as that of the tenant with the empty name. No two pairs of tenant and id are stored alike.

use std::borrow::Cow;

/// Returns the stored form of an id. An empty name means no tenant.
pub(crate) fn qualify<'i>(tenant: Option<&str>, id: &'i str) -> Cow<'i, str> {
    match tenant.unwrap_or_default() {
        "" if !id.starts_with('@') => Cow::Borrowed(id),
        // A tenant can contain the slash that ends it.
        tenant => Cow::Owned(format!("@{}/{id}", tenant.replace('%', "%25").replace('/', "%2F"))),
    }
}

/// Splits the stored form into the tenant and the id.
pub(crate) fn split(object: &str) -> (Option<String>, &str) {
    let Some((tenant, id)) = object.strip_prefix('@').and_then(|rest| rest.split_once('/')) else {
        return (None, object);
    };
    let tenant = tenant.replace("%2F", "/").replace("%25", "%");
    ((!tenant.is_empty()).then_some(tenant), id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stores_ids_without_a_tenant_as_they_are() {
        assert_eq!(qualify(None, "CAPD-1"), "CAPD-1");
        assert_eq!(qualify(Some("acme"), "CAPD-1"), "@acme/CAPD-1");
        assert_eq!(qualify(None, "@acme/CAPD-1"), "@/@acme/CAPD-1");
        assert_eq!(qualify(Some("a/b%2F"), "1"), "@a%2Fb%252F/1");
    }

    proptest! {
        #[test]
        fn splits_into_what_was_joined(tenant in "[@/%2F5a-c]{0,5}", id in "[@/%2F5a-c]{0,5}") {
            let tenant = (!tenant.is_empty()).then_some(tenant);
            let object = qualify(tenant.as_deref(), &id);
            prop_assert_eq!(split(&object), (tenant, &*id));
        }
    }
}
