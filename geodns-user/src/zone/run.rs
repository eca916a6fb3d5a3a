//! Records one after the other, with their owners: as zones are compared and sent.

use domain::base::{Name as DomainName, Rtype};

/// A record of some owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type.
    pub rtype: Rtype,
    /// RDATA, names uncompressed.
    pub rdata: &'a [u8],
    /// TTL, seconds.
    pub ttl: u32,
}

/// Records of any owners, one after the other:
///
/// ```text
/// owner  type (u16)  TTL (u32)  RDLENGTH (u16)  RDATA
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run(Vec<u8>);

impl Run {
    /// Records from their octets. `None`: they are none.
    pub fn from_octets(octets: Vec<u8>) -> Option<Self> {
        let run = Self(octets);
        let mut at = 0;
        while run.read(&mut at).is_some() {}
        (at == run.0.len()).then_some(run)
    }

    /// All of it.
    pub fn as_octets(&self) -> &[u8] {
        &self.0
    }

    /// Appends a record; RDATA is bounded to 65,535 octets by every source of it.
    pub fn push(&mut self, owner: &DomainName<[u8]>, record: Record<'_>) {
        let len = record.rdata.len().min(u16::MAX.into()) as u16;
        self.0.extend_from_slice(owner.as_slice());
        self.0
            .extend_from_slice(&record.rtype.to_int().to_be_bytes());
        self.0.extend_from_slice(&record.ttl.to_be_bytes());
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(&record.rdata[..len.into()]);
    }

    /// The record at a place, which is moved to the next one's; the first place is 0.
    pub fn read(&self, at: &mut usize) -> Option<(&DomainName<[u8]>, Record<'_>)> {
        let rest = self.0.get(*at..)?;
        let (owner, rest) = rest.split_at_checked(name_len(rest))?;
        let owner = DomainName::from_slice(owner).ok()?;
        let (&[high, low, a, b, c, d, long, len], rest) = rest.split_first_chunk()?;
        let rdata = rest.get(..u16::from_be_bytes([long, len]).into())?;
        *at += owner.len() + 8 + rdata.len();
        let record = Record {
            rtype: Rtype::from_int(u16::from_be_bytes([high, low])),
            ttl: u32::from_be_bytes([a, b, c, d]),
            rdata,
        };
        Some((owner, record))
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = (&DomainName<[u8]>, Record<'_>)> {
        let mut at = 0;
        std::iter::from_fn(move || self.read(&mut at))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets of all records.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// Octets of the name that something begins with.
pub fn name_len(octets: &[u8]) -> usize {
    let mut len = 0;
    while let Some(&label) = octets.get(len) {
        len += 1 + usize::from(label);
        if label == 0 {
            break;
        }
    }
    len
}
