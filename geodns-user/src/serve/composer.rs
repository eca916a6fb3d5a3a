//! Messages that are built with `domain`, with names compressed as everywhere here ([`compress`]).

use std::convert::Infallible;

use domain::base::name::ToName;
use domain::base::rdata::{ComposeRecordData, RecordData};
use domain::base::wire::Composer;
use domain::base::{Name, Rtype};
use domain::dep::octseq::array::Array;
use domain::dep::octseq::{OctetsBuilder, Truncate};

use crate::compress::{self, Many, Names};
use crate::zone::Record;

/// The octets of a message, from its header on. Names in it keep their case.
pub struct Compressed {
    octets: Vec<u8>,
    names: Names<Many>,
}

impl Compressed {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            octets: Vec::new(),
            names: Names::many(),
        }
    }

    /// The octets written so far.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

impl OctetsBuilder for Compressed {
    type AppendError = Infallible;

    fn append_slice(&mut self, slice: &[u8]) -> Result<(), Infallible> {
        self.octets.extend_from_slice(slice);
        Ok(())
    }
}

impl Truncate for Compressed {
    fn truncate(&mut self, len: usize) {
        self.octets.truncate(len);
        self.names.forget(len);
    }
}

impl AsRef<[u8]> for Compressed {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl AsMut<[u8]> for Compressed {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.octets
    }
}

impl Composer for Compressed {
    fn append_compressed_name<N: ToName + ?Sized>(&mut self, name: &N) -> Result<(), Infallible> {
        let mut whole = Array::<{ Name::MAX_LEN }>::new();
        // No name is longer.
        if name.compose(&mut whole).is_ok() {
            self.names.put_name(&mut self.octets, whole.as_slice());
        }
        Ok(())
    }

    fn can_compress(&self) -> bool {
        true
    }
}

/// Data of a record, in which those names are compressed that may be (RFC 3597 section 4).
pub struct Data<'a>(pub Record<'a>);

impl RecordData for Data<'_> {
    fn rtype(&self) -> Rtype {
        self.0.rtype
    }
}

impl ComposeRecordData for Data<'_> {
    fn rdlen(&self, compress: bool) -> Option<u16> {
        match compress && compress::has_names(self.0.rtype.to_int()) {
            true => None,
            false => u16::try_from(self.0.rdata.len()).ok(),
        }
    }

    fn compose_rdata<T: Composer + ?Sized>(&self, target: &mut T) -> Result<(), T::AppendError> {
        let Record { rtype, rdata, .. } = self.0;
        let Some((head, names, rest)) = compress::parts(rtype.to_int(), rdata) else {
            return target.append_slice(rdata);
        };
        target.append_slice(head)?;
        for octets in names {
            match Name::from_slice(octets) {
                Ok(name) => target.append_compressed_name(name)?,
                Err(_) => target.append_slice(octets)?,
            }
        }
        target.append_slice(rest)
    }

    fn compose_canonical_rdata<T: Composer + ?Sized>(
        &self,
        target: &mut T,
    ) -> Result<(), T::AppendError> {
        target.append_slice(self.0.rdata)
    }
}
