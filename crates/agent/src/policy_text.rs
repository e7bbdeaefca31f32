//! The policy document that goes to the server: the user's, with `--cidr-allow` and `--cidr-deny`
//! as a `restrict-ips` rule in front.
//!
//! Must never: decide anything; the server compiles and runs the policy.

use ipnet::IpNet;
use portcullis_model::{Code, EndpointType, Error};
use portcullis_policy::{Policy, cidr};

/// Reads a network, or a single address as the network of just itself.
///
/// # Errors
/// `PTC_POLICY_CIDR`, with the right form where it can be guessed.
pub(crate) fn network(text: &str) -> Result<IpNet, Error> {
    cidr::parse_or_address(text).map_err(|fault| Error::new(Code::PolicyCidr, fault))
}

/// Compiles a document to see whether it can be used; an empty one can.
///
/// # Errors
/// `PTC_POLICY_…` with every problem.
pub(crate) fn check(document: &str) -> Result<(), Error> {
    Policy::compile(document, EndpointType::Agent).map(drop)
}

/// What is worth knowing of a document that can be used, as `PATH: MESSAGE`; an empty one has nothing.
pub(crate) fn notices(document: &str) -> Vec<String> {
    if document.trim().is_empty() {
        return Vec::new();
    }
    let Ok(policy) = Policy::compile(document, EndpointType::Agent) else {
        return Vec::new();
    };
    let notices = policy.notices().iter();
    notices
        .map(|notice| format!("{}: {}", notice.path, notice.message))
        .collect()
}

/// The document with a `restrict-ips` rule in front, when there are networks.
///
/// # Errors
/// `PTC_POLICY_…` when the document or a network cannot be read.
pub(crate) fn with_cidrs(
    document: &str,
    allow: &[String],
    deny: &[String],
) -> Result<String, Error> {
    check(document)?;
    portcullis_policy::with_cidrs(allow, deny, Some(document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_stand_in_front_of_the_users_rules() {
        let own = "inbound:\n  - actions:\n      - type: deny\n";
        assert_eq!(with_cidrs(own, &[], &[]).as_deref(), Ok(own));
        let text = with_cidrs(own, &[], &["10.1.2.3".into()]).expect("a policy");
        check(&text).expect("what is rendered can be used");
        assert!(text.find("10.1.2.3/32") < text.find("\"deny\"}"), "{text}");
    }

    #[test]
    fn notices_name_their_place_in_the_users_document() {
        let told = |document: &str| notices(document).join("\n");
        let nobody =
            "on_tcp_connect: [{actions: [{type: restrict-ips, config: {deny: [10.0.0.0/8]}}]}]";
        assert!(
            told(nobody).starts_with("on_tcp_connect[0]"),
            "{}",
            told(nobody)
        );
        let waits =
            "on_http_request: [{expressions: [\"req.method == 'GET'\"], actions: [{type: deny}]}]";
        assert!(
            told(waits).contains("on_http_request[0]: the rule names `req`, so it waits"),
            "{}",
            told(waits)
        );
        for quiet in [
            "",
            " \n",
            "on_tcp_connect: [{actions: [{type: deny}]}]",
            "on_tcp_connect: 3",
        ] {
            assert_eq!(told(quiet), "", "{quiet}");
        }
    }

    #[test]
    fn a_network_with_host_bits_is_answered_with_the_right_form() {
        let error = network("10.1.2.3/8").expect_err("host bits");
        assert_eq!(error.code, Code::PolicyCidr);
        assert!(error.message.contains("10.0.0.0/8"));
        assert!(network("nonsense").is_err());
        assert!(network("2001:db8::/32").is_ok());
    }
}
