//! Finding things in a configuration: an organization by its name, and whose an address is.

use super::{Config, MxRoute, Organization, Route};
use crate::mail::Address;
use std::path::PathBuf;

impl Config {
    /// The organization of this name.
    pub fn organization(&self, name: &str) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.name == name)
    }

    /// Whose the address is: the organization with the most specific of the domains that match, an exact one before
    /// `*.` ones, of those the longest.
    pub fn organization_of(&self, address: &Address) -> Option<&Organization> {
        let domain = address.domain()?;
        let specificity = |organization: &Organization| {
            let matching = organization.domains.iter().filter(|pattern| pattern.matches(domain));
            matching.map(|pattern| pattern.as_text()).map(|text| (!text.starts_with('*'), text.len())).max()
        };
        let candidates =
            self.organizations.iter().filter_map(|organization| Some((specificity(organization)?, organization)));
        candidates.max_by_key(|(specificity, _)| *specificity).map(|(_, organization)| organization)
    }

    /// The files that it was made of, beside its own: certificates, keys, authorities, the token.
    pub fn files(&self) -> Vec<PathBuf> {
        let identities =
            self.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.identities);
        let routes = self.listeners.iter().map(|listener| &listener.next_hop).chain(
            self.organizations.iter().flat_map(|of| of.archives().map(|(_, route)| route).chain([&of.report_route])),
        );
        let authorities = routes.filter_map(|route| match route {
            Route::Smtp(server) | Route::Mx(MxRoute { server, .. }) => server.ca_file.clone(),
            Route::Maildir(_) => None,
        });
        identities
            .flat_map(|identity| [identity.certificate.clone(), identity.key.clone()])
            .chain(authorities)
            .chain(self.admin.iter().filter_map(|admin| admin.token_file.clone()))
            .collect()
    }

    /// The same as a list of one or none, for those who gather the organizations of many addresses.
    pub fn organizations_of(&self, address: &Address) -> impl Iterator<Item = &Organization> {
        self.organization_of(address).into_iter()
    }
}

impl Organization {
    /// Its archives: journaling addresses and routes, the first one before those of `also`.
    pub fn archives(&self) -> impl Iterator<Item = (&Address, &Route)> {
        let also = self.also.iter().map(|also| (&also.journaling_address, &also.journaling_route));
        std::iter::once((&self.journaling_address, &self.journaling_route)).chain(also)
    }

    /// Their keys in storage, in the same order.
    pub fn archive_keys(&self) -> impl Iterator<Item = String> {
        self.archives().map(|(address, _)| address.mailbox_key())
    }

    /// The archive of this key; the first one for the key of none.
    pub fn archive_or_first(&self, key: &str) -> Option<(&Address, &Route)> {
        if key.is_empty() { self.archives().next() } else { self.archive(key) }
    }

    /// The archive of this key.
    pub fn archive(&self, key: &str) -> Option<(&Address, &Route)> {
        self.archives().find(|(address, _)| address.mailbox_key() == key)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Machine};
    use crate::mail::Address;
    use std::path::Path;

    fn config() -> Config {
        let mut text = "[[listener]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\nnext_hop = \"maildir:x\"\n".to_owned();
        for (name, domains) in [
            ("wide", r#"["*.example.org", "例え.example"]"#),
            ("deep", r#"["*.a.example.org"]"#),
            ("exact", r#"["a.example.org", "example.org"]"#),
        ] {
            text += &format!(
                "[[organization]]\nname = \"{name}\"\ndomains = {domains}\n\
                 journaling_address = \"a@archive.example\"\nreport_address = \"p@example.org\"\n"
            );
        }
        let machine = Machine { hostname: "relay.example.org".into(), stderr_is_terminal: false };
        Config::parse(&text, Path::new("config.toml"), &machine).unwrap()
    }

    fn owner(address: &str) -> Option<String> {
        let address = Address::parse(address).unwrap();
        let config = config();
        let found = config.organizations_of(&address).map(|organization| organization.name.clone()).collect::<Vec<_>>();
        assert!(found.len() < 2, "{found:?}");
        found.into_iter().next()
    }

    #[test]
    fn the_most_specific_domain_says_whose_an_address_is() {
        for (address, name) in [
            ("u@example.org", Some("exact")),
            ("u@A.Example.ORG", Some("exact")),
            ("u@b.example.org", Some("wide")),
            ("u@b.a.example.org", Some("deep")),
            ("u@c.b.a.example.org", Some("deep")),
            ("u@xn--r8jz45g.example", Some("wide")),
            ("u@example.com", None),
            ("u@[192.0.2.1]", None),
            ("postmaster", None),
        ] {
            assert_eq!(owner(address).as_deref(), name, "{address}");
        }
    }

    #[test]
    fn an_organization_is_found_by_its_exact_name() {
        assert_eq!(config().organization("deep").map(|organization| organization.name.as_str()), Some("deep"));
        assert!(config().organization("Deep").is_none());
    }
}
