//! Functions of addresses.

use std::net::IpAddr;

use cel::common::types::{CelList, CelString, LIST_TYPE, STRING_TYPE};
use cel::{DeclarationError, Env, ExecutionError};
use ipnet::IpNet;

use super::super::budget;
use super::{Args, Outcome, answer_bool, failed, text_at};
use crate::cidr;

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let text = || STRING_TYPE;
    env.add_overload("inCidrRange", "s", vec![text(), text()], in_range)?;
    env.add_overload("inCidrRanges", "l", vec![text(), LIST_TYPE], in_ranges)?;
    env.add_member_overload("isPrivateIp", "p", text(), vec![], is_private)
}

/// An address; an IPv4 address within IPv6 is the IPv4 address.
pub(in super::super) fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().map(cidr::unmap)
}

/// A network. Bits behind the mask do not matter here: `66.249.66.1/24` is the network it is in.
pub(in super::super) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| address(text).map(IpNet::from))
}

fn in_range<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (ip, range) = (text_at(&args, 0)?, text_at(&args, 1)?);
    answer_bool(address(ip).is_some_and(|ip| network(range).is_some_and(|net| net.contains(&ip))))
}

fn in_ranges<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let Some(ip) = address(text_at(&args, 0)?) else {
        return answer_bool(false);
    };
    let ranges = args
        .get(1)
        .and_then(|list| list.downcast_ref::<CelList<'_>>())
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    budget::spend(u64::try_from(ranges.inner().len()).unwrap_or(u64::MAX))?;
    for range in ranges.inner() {
        let range = range
            .downcast_ref::<CelString<'_>>()
            .ok_or_else(|| failed("inCidrRanges", "a range is no text"))?;
        if network(range.inner()).is_some_and(|net| net.contains(&ip)) {
            return answer_bool(true);
        }
    }
    answer_bool(false)
}

fn is_private<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_bool(is_private_address(address(text_at(&args, 0)?)))
}

/// What `isPrivateIp` says.
pub(in super::super) fn is_private_address(ip: Option<IpAddr>) -> bool {
    match ip {
        Some(IpAddr::V4(ip)) => ip.is_private(),
        // fc00::/7
        Some(IpAddr::V6(ip)) => ip.is_unique_local(),
        None => false,
    }
}
