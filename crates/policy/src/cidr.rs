//! CIDRs: reading one strictly, and sets of them with longest-prefix matching.
//!
//! CIDRs are nested or apart, never half across each other. A set is therefore a sorted array in
//! which each entry knows the next wider one around it: a lookup is one binary search and then, at
//! most, the climb from the nearest entry outwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Reads a CIDR: a network's base address and mask. The error is a sentence about the text that
/// proposes the right form.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let shown = crate::document::quoted(text);
    let Some((address, mask)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => format!(
                "{shown} has no mask; write `{}` for this one address",
                IpNet::from(unmap(ip))
            ),
            Err(_) => format!(
                "{shown} is not a CIDR; write a network's base address and mask, such as `10.0.0.0/8`"
            ),
        });
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!(
            "{shown} is not a CIDR: what stands before `/` is not an IP address"
        ));
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let digits = !mask.is_empty() && mask.bytes().all(|b| b.is_ascii_digit());
    let Some(mask) = mask
        .parse::<u8>()
        .ok()
        .filter(|mask| digits && *mask <= bits)
    else {
        return Err(format!(
            "{shown} has a mask that is not a number from 0 to {bits}"
        ));
    };
    let net = IpNet::new(address, mask).map_err(|error| format!("{shown}: {error}"))?;
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && mask >= 96
    {
        let proposal = Ipv4Net::new(v4, mask - 96)
            .map_or_else(|_| v4.to_string(), |net| net.trunc().to_string());
        return Err(format!(
            "{shown} is an IPv4 network written as IPv6, and such clients are matched as IPv4; write `{proposal}`"
        ));
    }
    if net.trunc() != net {
        return Err(format!(
            "{shown} is not the base address of its network; write `{}`, or `{}` for the one address",
            net.trunc(),
            IpNet::from(address)
        ));
    }
    Ok(net)
}

/// Reads a CIDR as [`parse`] does, or a single address as the network of just itself, as a person
/// at a command line writes it.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn parse_or_address(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpAddr>()
        .map_or_else(|_| parse(text), |ip| Ok(IpNet::from(unmap(ip))))
}

/// `::ffff:a.b.c.d` as the IPv4 address it is.
pub fn unmap(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A set of networks, fixed once built.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CidrSet {
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
}

impl CidrSet {
    /// The longest network of the set that holds `ip`. An IPv4-mapped IPv6 address is looked up as IPv4.
    pub fn find(&self, ip: IpAddr) -> Option<IpNet> {
        match unmap(ip) {
            IpAddr::V4(ip) => {
                let (base, length) = self.v4.find(ip.to_bits())?;
                Ipv4Net::new(Ipv4Addr::from_bits(base), length)
                    .ok()
                    .map(IpNet::V4)
            }
            IpAddr::V6(ip) => {
                let (base, length) = self.v6.find(ip.to_bits())?;
                Ipv6Net::new(Ipv6Addr::from_bits(base), length)
                    .ok()
                    .map(IpNet::V6)
            }
        }
    }

    /// Whether some network of the set holds `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.find(ip).is_some()
    }

    /// How many different networks it has.
    pub fn len(&self) -> usize {
        self.v4.entries.len() + self.v6.entries.len()
    }

    /// Whether it has no network, and so holds no address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<IpNet> for CidrSet {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.prefix_len())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.prefix_len())),
            }
        }
        Self {
            v4: Prefixes::build(v4),
            v6: Prefixes::build(v6),
        }
    }
}

/// An address as a number.
trait Bits: Copy + Ord {
    /// Whether the network `base/length` holds the address.
    fn is_within(self, base: Self, length: u8) -> bool;
}

impl Bits for u32 {
    fn is_within(self, base: Self, length: u8) -> bool {
        (self ^ base).leading_zeros() >= Self::from(length)
    }
}

impl Bits for u128 {
    fn is_within(self, base: Self, length: u8) -> bool {
        (self ^ base).leading_zeros() >= u32::from(length)
    }
}

/// Networks of one family, sorted by base and then from wide to narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Prefixes<A> {
    bases: Vec<A>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    length: u8,
    /// Place of the narrowest network around this one; [`NO_PARENT`] where there is none.
    parent: u32,
}

const NO_PARENT: u32 = u32::MAX;

impl<A: Bits> Prefixes<A> {
    fn build(mut networks: Vec<(A, u8)>) -> Self {
        networks.sort_unstable();
        networks.dedup();
        let mut built = Self {
            bases: Vec::with_capacity(networks.len()),
            entries: Vec::with_capacity(networks.len()),
        };
        for (base, length) in networks {
            // Everything wider that holds this network was built before, and the nearest of it is
            // the network before this one or stands around that.
            let before = built.entries.len().checked_sub(1);
            let parent = before.and_then(|before| built.climb(base, before));
            let parent = parent
                .and_then(|place| u32::try_from(place).ok())
                .unwrap_or(NO_PARENT);
            built.bases.push(base);
            built.entries.push(Entry { length, parent });
        }
        built
    }

    /// From an entry outwards, the first that holds `address`.
    fn climb(&self, address: A, from: usize) -> Option<usize> {
        let mut place = from;
        loop {
            let entry = self.entries.get(place)?;
            if address.is_within(*self.bases.get(place)?, entry.length) {
                return Some(place);
            }
            place = usize::try_from(entry.parent).ok()?;
        }
    }

    fn find(&self, address: A) -> Option<(A, u8)> {
        let before = self
            .bases
            .partition_point(|base| *base <= address)
            .checked_sub(1)?;
        let place = self.climb(address, before)?;
        Some((*self.bases.get(place)?, self.entries.get(place)?.length))
    }
}

#[cfg(test)]
mod tests;
