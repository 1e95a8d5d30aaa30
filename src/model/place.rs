//! Where a provider stands in law: its seat, its servers, the laws that reach it.

use std::fmt;

use super::id::Label;

/// An ISO 3166-1 alpha-2 country code, upper case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Country([u8; 2]);

/// The 27 member states of the European Union (state of 2026).
const EU_MEMBERS: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// Every ISO 3166-1 alpha-2 code in force, so that a typing error is an error and not a country.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ \
DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT \
GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY \
KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX \
MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS \
RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN \
TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

impl Country {
    /// `None` unless an assigned two-letter code in upper case.
    pub fn new(text: &str) -> Option<Self> {
        let known = COUNTRIES.split(' ').any(|code| code == text);
        match text.as_bytes() {
            [a, b] if known => Some(Self([*a, *b])),
            _ => None,
        }
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        // Checked ASCII at construction.
        std::str::from_utf8(&self.0).unwrap_or("??")
    }

    /// Whether it is one of the 27 member states.
    pub fn is_eu_member(self) -> bool {
        EU_MEMBERS.contains(&self.as_str())
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a provider's standing besides its seat.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Footing {
    /// Where the servers stand that serve us; empty: at the seat.
    pub territory: Vec<Country>,
    /// Countries whose law reaches it wherever its servers stand.
    pub subject_to: Vec<Country>,
    /// What it is certified for, as others name it.
    pub qualifications: Vec<Label>,
    /// What keeps it outside, where something does.
    pub outside: Option<Outside>,
}

/// The first of the three respects in which a provider is not in the EU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outside {
    /// Its legal entity sits there.
    Seat(Country),
    /// Some of its servers stand there.
    Territory(Country),
    /// That country's law reaches it.
    SubjectTo(Country),
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seat(country) => write!(f, "its seat is in {country}"),
            Self::Territory(country) => write!(f, "it serves from {country}"),
            Self::SubjectTo(country) => write!(f, "the law of {country} reaches it"),
        }
    }
}

/// The countries that count as the EU.
#[derive(Clone, Debug, Default)]
pub struct Area {
    also: Vec<Country>,
}

impl Area {
    /// The 27, and these.
    pub fn with(also: Vec<Country>) -> Self {
        Self { also }
    }

    /// Whether the country counts.
    pub fn holds(&self, country: Country) -> bool {
        country.is_eu_member() || self.also.contains(&country)
    }

    /// What keeps a provider outside; `None`: its seat, its servers and every law that reaches it are
    /// inside.
    pub fn outside(&self, seat: Country, footing: &Footing) -> Option<Outside> {
        let beyond = |countries: &[Country]| countries.iter().copied().find(|c| !self.holds(*c));
        (beyond(&[seat]).map(Outside::Seat))
            .or_else(|| beyond(&footing.territory).map(Outside::Territory))
            .or_else(|| beyond(&footing.subject_to).map(Outside::SubjectTo))
    }
}

/// The law that can reach what a provider carries.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Jurisdiction {
    /// The EU's alone: its legal entity sits there, its servers stand there, and no law from elsewhere
    /// reaches it.
    Eu,
    /// Anything else.
    NonEu,
}

impl Jurisdiction {
    /// Of a provider of whom nothing but the seat of its legal entity is known.
    pub fn of_seat(seat: Country) -> Self {
        if seat.is_eu_member() { Self::Eu } else { Self::NonEu }
    }

    /// Of a provider by what keeps it outside, if anything does.
    pub fn by(outside: Option<Outside>) -> Self {
        if outside.is_none() { Self::Eu } else { Self::NonEu }
    }

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eu => "eu",
            Self::NonEu => "non_eu",
        }
    }
}

/// A service's rule about jurisdictions.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Residency {
    /// Preference alone orders the upstreams.
    #[default]
    Any,
    /// Once the first choice is left, every EU upstream comes before any other.
    PreferEu,
    /// Never outside the EU, not even when all else is down.
    EuOnly,
}

impl Residency {
    /// Whether a provider of that jurisdiction may ever carry the service.
    pub const fn permits(self, jurisdiction: Jurisdiction) -> bool {
        match (self, jurisdiction) {
            (Self::Any | Self::PreferEu, _) | (Self::EuOnly, Jurisdiction::Eu) => true,
            (Self::EuOnly, Jurisdiction::NonEu) => false,
        }
    }

    /// As written in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::PreferEu => "prefer-eu",
            Self::EuOnly => "eu-only",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_decides_the_jurisdiction() {
        let of = |code| Jurisdiction::of_seat(Country::new(code).expect(code));
        assert_eq!(of("SI"), Jurisdiction::Eu);
        assert_eq!(of("US"), Jurisdiction::NonEu);
        assert_eq!(of("CH"), Jurisdiction::NonEu);
    }

    #[test]
    fn all_three_respects_have_to_be_inside() {
        let country = |code| Country::new(code).expect(code);
        let all = |codes: &[&'static str]| codes.iter().map(|code| country(code)).collect();
        let (plain, wider) = (Area::default(), Area::with(all(&["NO", "IS"])));
        #[rustfmt::skip]
        let table = [
            // seat, territory, subject to, with the 27, with Norway and Iceland besides
            ("FR", vec![],           vec![],     None, None),
            ("FR", vec!["FR", "DE"], vec!["LU"], None, None),
            ("US", vec!["FR"],       vec![],     Some(Outside::Seat(country("US"))), Some(Outside::Seat(country("US")))),
            ("FR", vec!["FR", "US"], vec![],     Some(Outside::Territory(country("US"))), Some(Outside::Territory(country("US")))),
            ("FR", vec![],           vec!["US"], Some(Outside::SubjectTo(country("US"))), Some(Outside::SubjectTo(country("US")))),
            ("NO", vec!["IS"],       vec![],     Some(Outside::Seat(country("NO"))), None),
        ];
        for (seat, territory, subject_to, narrow, wide) in table {
            let footing = Footing {
                territory: all(&territory),
                subject_to: all(&subject_to),
                ..Footing::default()
            };
            assert_eq!(plain.outside(country(seat), &footing), narrow, "{seat} {footing:?}");
            assert_eq!(wider.outside(country(seat), &footing), wide, "{seat} {footing:?}");
        }
    }

    #[test]
    fn a_typing_error_is_not_a_country() {
        for bad in ["", "U", "us", "XX", "UK", "EU", "USA", "D E"] {
            assert_eq!(Country::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_member_state_is_a_country() {
        assert!(EU_MEMBERS.iter().all(|code| Country::new(code).is_some()));
    }

    #[test]
    fn eu_only_permits_nothing_outside() {
        assert!(!Residency::EuOnly.permits(Jurisdiction::NonEu));
        assert!(Residency::EuOnly.permits(Jurisdiction::Eu));
        assert!(Residency::PreferEu.permits(Jurisdiction::NonEu));
    }
}
