//! Codes of countries and continents, and which country lies on which continent.

use std::fmt;
use std::num::NonZeroU16;

/// A two-letter code in capitals: a country (ISO 3166-1 alpha-2) or a continent (AF, AN, AS, EU, NA,
/// OC, SA). Sorts by the alphabet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(NonZeroU16);

impl Code {
    /// A country's code, whatever its case; `None` if there is no such country.
    pub fn country(text: &str) -> Option<Self> {
        let code = Self::letters(text)?;
        find(code).map(|_| code)
    }

    /// A continent's code, whatever its case; `None` if there is no such continent.
    pub fn continent(text: &str) -> Option<Self> {
        let code = Self::letters(text)?;
        CONTINENTS.contains(&&code.bytes()).then_some(code)
    }

    /// The continent of a country; `None` if this is no country's code.
    pub fn continent_of(self) -> Option<Self> {
        let [_, _, first, second] = *find(self)?;
        Self::from_bytes([first, second])
    }

    /// The two letters.
    pub fn bytes(self) -> [u8; 2] {
        self.0.get().to_be_bytes()
    }

    fn letters(text: &str) -> Option<Self> {
        let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
        Self::from_bytes(bytes.map(|byte| byte.to_ascii_uppercase()))
    }

    fn from_bytes(bytes: [u8; 2]) -> Option<Self> {
        NonZeroU16::new(u16::from_be_bytes(bytes)).map(Self)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.bytes().map(char::from);
        write!(f, "{first}{second}")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn find(country: Code) -> Option<&'static [u8; 4]> {
    let key = country.bytes();
    let at = COUNTRIES.binary_search_by(|entry| entry[..2].cmp(&key));
    at.ok().map(|at| COUNTRIES[at])
}

/// Every continent.
const CONTINENTS: [&[u8; 2]; 7] = [b"AF", b"AN", b"AS", b"EU", b"NA", b"OC", b"SA"];

/// The countries of ISO 3166-1, and XK (Kosovo, user-assigned there, but in use by every database),
/// sorted, each followed by its continent: that of the country information of GeoNames
/// (<https://download.geonames.org/export/dump/countryInfo.txt>, CC BY 4.0), which MaxMind uses too.
#[rustfmt::skip]
static COUNTRIES: [&[u8; 4]; 250] = [
    b"ADEU", b"AEAS", b"AFAS", b"AGNA", b"AINA", b"ALEU", b"AMAS", b"AOAF", b"AQAN", b"ARSA",
    b"ASOC", b"ATEU", b"AUOC", b"AWNA", b"AXEU", b"AZAS", b"BAEU", b"BBNA", b"BDAS", b"BEEU",
    b"BFAF", b"BGEU", b"BHAS", b"BIAF", b"BJAF", b"BLNA", b"BMNA", b"BNAS", b"BOSA", b"BQNA",
    b"BRSA", b"BSNA", b"BTAS", b"BVAN", b"BWAF", b"BYEU", b"BZNA", b"CANA", b"CCAS", b"CDAF",
    b"CFAF", b"CGAF", b"CHEU", b"CIAF", b"CKOC", b"CLSA", b"CMAF", b"CNAS", b"COSA", b"CRNA",
    b"CUNA", b"CVAF", b"CWNA", b"CXOC", b"CYEU", b"CZEU", b"DEEU", b"DJAF", b"DKEU", b"DMNA",
    b"DONA", b"DZAF", b"ECSA", b"EEEU", b"EGAF", b"EHAF", b"ERAF", b"ESEU", b"ETAF", b"FIEU",
    b"FJOC", b"FKSA", b"FMOC", b"FOEU", b"FREU", b"GAAF", b"GBEU", b"GDNA", b"GEAS", b"GFSA",
    b"GGEU", b"GHAF", b"GIEU", b"GLNA", b"GMAF", b"GNAF", b"GPNA", b"GQAF", b"GREU", b"GSAN",
    b"GTNA", b"GUOC", b"GWAF", b"GYSA", b"HKAS", b"HMAN", b"HNNA", b"HREU", b"HTNA", b"HUEU",
    b"IDAS", b"IEEU", b"ILAS", b"IMEU", b"INAS", b"IOAS", b"IQAS", b"IRAS", b"ISEU", b"ITEU",
    b"JEEU", b"JMNA", b"JOAS", b"JPAS", b"KEAF", b"KGAS", b"KHAS", b"KIOC", b"KMAF", b"KNNA",
    b"KPAS", b"KRAS", b"KWAS", b"KYNA", b"KZAS", b"LAAS", b"LBAS", b"LCNA", b"LIEU", b"LKAS",
    b"LRAF", b"LSAF", b"LTEU", b"LUEU", b"LVEU", b"LYAF", b"MAAF", b"MCEU", b"MDEU", b"MEEU",
    b"MFNA", b"MGAF", b"MHOC", b"MKEU", b"MLAF", b"MMAS", b"MNAS", b"MOAS", b"MPOC", b"MQNA",
    b"MRAF", b"MSNA", b"MTEU", b"MUAF", b"MVAS", b"MWAF", b"MXNA", b"MYAS", b"MZAF", b"NAAF",
    b"NCOC", b"NEAF", b"NFOC", b"NGAF", b"NINA", b"NLEU", b"NOEU", b"NPAS", b"NROC", b"NUOC",
    b"NZOC", b"OMAS", b"PANA", b"PESA", b"PFOC", b"PGOC", b"PHAS", b"PKAS", b"PLEU", b"PMNA",
    b"PNOC", b"PRNA", b"PSAS", b"PTEU", b"PWOC", b"PYSA", b"QAAS", b"REAF", b"ROEU", b"RSEU",
    b"RUEU", b"RWAF", b"SAAS", b"SBOC", b"SCAF", b"SDAF", b"SEEU", b"SGAS", b"SHAF", b"SIEU",
    b"SJEU", b"SKEU", b"SLAF", b"SMEU", b"SNAF", b"SOAF", b"SRSA", b"SSAF", b"STAF", b"SVNA",
    b"SXNA", b"SYAS", b"SZAF", b"TCNA", b"TDAF", b"TFAN", b"TGAF", b"THAS", b"TJAS", b"TKOC",
    b"TLOC", b"TMAS", b"TNAF", b"TOOC", b"TRAS", b"TTNA", b"TVOC", b"TWAS", b"TZAF", b"UAEU",
    b"UGAF", b"UMOC", b"USNA", b"UYSA", b"UZAS", b"VAEU", b"VCNA", b"VESA", b"VGNA", b"VINA",
    b"VNAS", b"VUOC", b"WFOC", b"WSOC", b"XKEU", b"YEAS", b"YTAF", b"ZAAF", b"ZMAF", b"ZWAF",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_is_there_once_and_on_a_continent() {
        assert_eq!(COUNTRIES.len(), 249 + 1);
        assert!(COUNTRIES.is_sorted_by(|a, b| a[..2] < b[..2]));
        let of = |continent: &[u8; 2]| COUNTRIES.iter().filter(|c| c[2..] == *continent).count();
        assert_eq!(CONTINENTS.map(of), [58, 5, 51, 53, 41, 28, 14]);
    }

    #[test]
    fn countries_lie_where_they_lie() {
        for (country, continent) in [
            ("de", "EU"),
            ("US", "NA"),
            ("Br", "SA"),
            ("za", "AF"),
            ("JP", "AS"),
            ("NZ", "OC"),
            ("aq", "AN"),
            ("TR", "AS"),
            ("RU", "EU"),
            ("XK", "EU"),
            ("AD", "EU"),
            ("ZW", "AF"),
        ] {
            let code = Code::country(country).unwrap();
            assert_eq!(code.to_string(), country.to_uppercase());
            assert_eq!(code.continent_of(), Code::continent(continent), "{country}");
        }
    }

    #[test]
    fn other_codes_are_none() {
        for text in [
            "", "-", "ZZ", "EU", "UK", "A1", "USA", "\0\0", "\u{df}", "D E",
        ] {
            assert_eq!(Code::country(text), None, "{text:?}");
        }
        assert_eq!(Code::continent("XX"), None);
        assert_eq!(Code::continent("eu").unwrap().to_string(), "EU");
        // Namibia and North America share their letters.
        let north_america = Code::continent("NA").unwrap();
        assert_eq!(Code::country("na"), Some(north_america));
    }
}
