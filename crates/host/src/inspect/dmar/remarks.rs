//! Finds values in a DMAR table that cannot be right. Structures are counted from 1, as they are shown.

use std::collections::BTreeSet;

use machine::PAGE_SIZE;
use vtd::dmar::{DeviceScope, DeviceScopes, Dmar, Drhd, Rmrr, Structure};

/// Widths of physical addresses that machines have.
const ADDRESS_BITS: std::ops::RangeInclusive<u32> = 32..=57;
/// Types of structures that are known: one that could not be decoded is too short.
const KNOWN_TYPES: std::ops::RangeInclusive<u16> = 0..=6;

/// What is wrong with the values in a table.
pub(super) fn on(dmar: &Dmar<'_>) -> Vec<String> {
    let mut remarks = Remarks { address_bits: dmar.host_address_bits(), ..Remarks::default() };
    if !ADDRESS_BITS.contains(&remarks.address_bits) {
        remarks.found.push(format!("physical addresses of {} bits", remarks.address_bits));
    }
    for (index, structure) in dmar.structures().flatten().enumerate() {
        remarks.look_at(index + 1, &structure);
    }
    remarks.found
}

#[derive(Default)]
struct Remarks {
    address_bits: u32,
    found: Vec<String>,
    /// Where units are.
    units: BTreeSet<u64>,
    /// Segments of which a unit takes all functions that no other names.
    taken: BTreeSet<u16>,
}

impl Remarks {
    fn look_at(&mut self, which: usize, structure: &Structure<'_>) {
        let mut remark = |remark: String| self.found.push(format!("structure {which}: {remark}"));
        if let Structure::Unknown { kind, .. } = structure
            && KNOWN_TYPES.contains(kind)
        {
            remark(format!("too short for its type {kind}"));
        }
        if let Some(scopes) = scopes_of(structure) {
            scope_remarks(scopes).for_each(remark);
        }
        match structure {
            Structure::Drhd(drhd) => self.look_at_unit(which, drhd),
            Structure::Rmrr(rmrr) => self.look_at_region(which, rmrr),
            Structure::Rhsa(rhsa) if !self.units.contains(&rhsa.base) => {
                self.found.push(format!("structure {which}: no unit before it is at {:#x}", rhsa.base));
            }
            _ => {}
        }
    }

    fn look_at_unit(&mut self, which: usize, drhd: &Drhd<'_>) {
        let base = drhd.base;
        let is_new = self.units.insert(base);
        let wrong = [
            (base == 0, "a unit at address 0"),
            (!base.is_multiple_of(PAGE_SIZE), "a unit whose registers begin within a page"),
            (self.is_beyond(base), "a unit beyond the machine's physical addresses"),
            (!is_new, "a second unit at one address"),
            (
                drhd.includes_all() && !self.taken.insert(drhd.segment),
                "a second unit that takes all functions of the segment that no other names",
            ),
        ];
        self.add(which, &wrong);
    }

    fn look_at_region(&mut self, which: usize, rmrr: &Rmrr<'_>) {
        let is_whole =
            rmrr.base.is_multiple_of(PAGE_SIZE) && rmrr.limit.wrapping_add(1).is_multiple_of(PAGE_SIZE);
        let wrong = [
            (rmrr.limit < rmrr.base, "a region that ends before it begins"),
            (!is_whole, "a region that is no whole pages"),
            (self.is_beyond(rmrr.limit.max(rmrr.base)), "a region beyond the machine's physical addresses"),
        ];
        self.add(which, &wrong);
    }

    fn add(&mut self, which: usize, wrong: &[(bool, &str)]) {
        let wrong = wrong.iter().filter(|(is_so, _)| *is_so);
        self.found.extend(wrong.map(|(_, what)| format!("structure {which}: {what}")));
    }

    fn is_beyond(&self, address: u64) -> bool {
        address.checked_shr(self.address_bits).is_some_and(|beyond| beyond != 0)
    }
}

fn scopes_of<'a>(structure: &Structure<'a>) -> Option<DeviceScopes<'a>> {
    match structure {
        Structure::Drhd(drhd) => Some(drhd.scopes),
        Structure::Rmrr(rmrr) => Some(rmrr.scopes),
        Structure::Atsr(scoped) | Structure::Satc(scoped) | Structure::Sidp(scoped) => Some(scoped.scopes),
        Structure::Rhsa(_) | Structure::Andd(_) | Structure::Unknown { .. } => None,
    }
}

fn scope_remarks(scopes: DeviceScopes<'_>) -> impl Iterator<Item = String> {
    let unsound = (!scopes.is_sound()).then(|| "a device scope of an impossible length".to_owned());
    let nowhere = scopes.iter().any(|scope| !leads_to_a_function(&scope));
    let nowhere = nowhere.then(|| "a device scope that names no possible function".to_owned());
    unsound.into_iter().chain(nowhere)
}

/// Whether the path has a hop, and each of them is a device and a function that there can be.
fn leads_to_a_function(scope: &DeviceScope<'_>) -> bool {
    scope.path().next().is_some() && scope.path().all(|(device, function)| device < 32 && function < 8)
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use super::*;

    fn remarks(address_bits: u8, structures: &[&[u8]]) -> Vec<String> {
        on(&Dmar::parse(&table(address_bits, structures)).unwrap())
    }

    fn drhd(flags: u8, base: u64) -> Vec<u8> {
        [&[0, 0, 16, 0, flags, 0, 0, 0][..], &base.to_le_bytes()].concat()
    }

    fn rmrr(base: u64, limit: u64) -> Vec<u8> {
        [&[1, 0, 24, 0, 0, 0, 0, 0][..], &base.to_le_bytes(), &limit.to_le_bytes()].concat()
    }

    #[test]
    fn a_table_that_can_be_right_is_not_remarked_on() {
        let structures = [drhd(0, 0xFED9_0000), drhd(1, 0xFED9_1000), rmrr(0x7C00_0000, 0x7C0F_FFFF)];
        let rhsa = [&[3, 0, 20, 0, 0, 0, 0, 0][..], &0xFED9_1000_u64.to_le_bytes(), &[0; 4]].concat();
        assert_eq!(remarks(46, &[&structures[0], &structures[1], &structures[2], &rhsa]), [""; 0]);
    }

    #[test]
    fn a_unit_where_none_can_be_is_remarked_on() {
        for (base, words) in
            [(0, "at address 0"), (0xFED9_0004, "within a page"), (!0xFFF, "beyond"), (1 << 46, "beyond")]
        {
            let remarks = remarks(46, &[&drhd(0, base)]);
            assert!(remarks.len() == 1 && remarks[0].contains(words), "{base:#x}: {remarks:?}");
        }
        assert_eq!(remarks(46, &[&drhd(0, u64::MAX)]).len(), 2);
    }

    #[test]
    fn units_that_contradict_each_other_are_remarked_on() {
        let (one, other) = (drhd(1, 0xFED9_0000), drhd(1, 0xFED9_1000));
        assert!(remarks(46, &[&one, &other])[0].starts_with("structure 2: a second unit that takes all"));
        assert!(remarks(46, &[&drhd(0, 0xFED9_0000), &one])[0].contains("at one address"));
    }

    #[test]
    fn a_region_that_cannot_be_is_remarked_on() {
        assert!(remarks(46, &[&rmrr(0x2000, 0xFFF)])[0].contains("ends before it begins"));
        assert!(remarks(46, &[&rmrr(0x2000, 0x2FF0)])[0].contains("whole pages"));
        assert!(remarks(39, &[&rmrr(0x2000, (1 << 40) - 1)])[0].contains("beyond"));
    }

    #[test]
    fn what_was_clipped_is_remarked_on() {
        assert!(remarks(46, &[&[1, 0, 8, 0, 0, 0, 0, 0]])[0].contains("too short"));
        let scope = |hop: [u8; 2]| {
            [&[0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0][..], &hop].concat()
        };
        assert_eq!(remarks(46, &[&scope([31, 7])]), [""; 0]);
        assert!(remarks(46, &[&scope([32, 0])])[0].contains("no possible function"));
        assert_eq!(remarks(200, &[]), ["physical addresses of 200 bits"]);
    }
}
