//! Decides whether hardware accepts an entry, and which domain the entry puts its device into (9.3, 9.6).

use machine::Registers;
use paging::{Architecture, Format};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::context::{ContextEntry, TranslationType};
use vtd::paging::AddressWidth;
use vtd::pasid::{PasidEntry, PasidTranslationType};

use crate::entry;
use crate::found::{Demand, Layout, OldDomain, Translation};
use crate::hazard::Danger;
use crate::vtd::entry::Entry;
use crate::vtd::mode::Mode;
use crate::vtd::unit::Unit;

/// The capabilities of a unit that matter for entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) mode: Mode,
    pub(crate) capability: Capability,
    pub(crate) extended: ExtendedCapability,
}

impl Abilities {
    pub(crate) fn of<R: Registers, C>(unit: &Unit<'_, R, C>, mode: Mode) -> Self {
        Self { mode, capability: unit.capability(), extended: unit.extended_capability() }
    }

    /// What the unit's tables may look like.
    pub(crate) const fn architecture(self) -> Architecture {
        Architecture::Vtd(self.capability)
    }

    /// The domain that a present entry puts its device into, if hardware accepts the entry.
    pub(crate) fn judge(self, entry: entry::Entry, host_address_bits: u32) -> Result<OldDomain, Danger> {
        let entry::Entry::Vtd(entry) = entry else { return Err(Danger::ReservedBits) };
        if entry.has_reserved_bits(host_address_bits) {
            return Err(Danger::ReservedBits);
        }
        let id = entry.domain();
        if u32::from(id) >= self.capability.domains() {
            return Err(Danger::DomainIdTooLarge(id));
        }
        let (translation, format, width) = match entry {
            Entry::Context(entry) => {
                (self.context_translation(entry)?, Format::SecondStage, entry.high.width())
            }
            Entry::Pasid(entry) => self.pasid_translation(entry)?,
        };
        let top = width.top().filter(|_| self.supports(format, width));
        let top = top.ok_or(Danger::UnsupportedWidth(width))?;
        let layout = Layout { format, top };
        let demand = Demand::default();
        Ok(OldDomain { id, translation, layout, demand, empty: false, tables: 0, upper_tables: 0 })
    }

    /// The format of new tables: second-stage, unless the unit has only the first stage.
    fn own_stage(self) -> Format {
        match self.mode {
            Mode::Scalable if !self.extended.ssts() && self.extended.fsts() => Format::FirstStage,
            _ => Format::SecondStage,
        }
    }

    /// The tables of a new domain: the fewest levels that the unit supports.
    pub(crate) fn own_layout(self) -> Option<Layout> {
        let format = self.own_stage();
        let width = self.widths(format).next()?;
        Some(Layout { format, top: width.top()? })
    }

    /// The widths of such tables that the unit supports, ascending.
    fn widths(self, format: Format) -> impl DoubleEndedIterator<Item = AddressWidth> {
        let widths = [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57];
        widths.into_iter().filter(move |width| self.supports(format, *width))
    }

    fn supports(self, format: Format, width: AddressWidth) -> bool {
        match (format, width) {
            (Format::SecondStage, width) => self.capability.supports(width),
            (Format::FirstStage, AddressWidth::BITS_48) => true,
            (Format::FirstStage, width) => width == AddressWidth::BITS_57 && self.capability.fs5lp(),
            (Format::AmdV1 | Format::AmdV2, _) => false,
        }
    }

    fn context_translation(self, entry: ContextEntry) -> Result<Translation, Danger> {
        match entry.low.translation() {
            TranslationType::TRANSLATED => Ok(Translation::Tables(entry.table())),
            TranslationType::DEVICE_TLB if self.extended.dt() => Ok(Translation::Tables(entry.table())),
            TranslationType::PASS_THROUGH if self.extended.pt() => Ok(Translation::Identity),
            other => Err(Danger::UnsupportedType(other)),
        }
    }

    fn pasid_translation(self, entry: PasidEntry) -> Result<(Translation, Format, AddressWidth), Danger> {
        let (first, second) = (self.extended.fsts(), self.extended.ssts());
        let second_stage =
            (Translation::Tables(entry.second_stage_table()), Format::SecondStage, entry.second.width());
        match entry.second.translation() {
            PasidTranslationType::FIRST_STAGE if first => Ok((
                Translation::Tables(entry.first_stage_table()),
                Format::FirstStage,
                entry.first.mode().width(),
            )),
            PasidTranslationType::SECOND_STAGE if second => Ok(second_stage),
            PasidTranslationType::NESTED if first && second && self.extended.nest() => Ok(second_stage),
            PasidTranslationType::PASS_THROUGH if self.extended.pt() => {
                // Its entry need not give a width: its addresses are as wide as the unit's widest tables.
                let format = self.own_stage();
                let widest = self.widths(format).next_back().unwrap_or_default();
                Ok((Translation::Identity, format, widest))
            }
            other => Err(Danger::UnsupportedPasidType(other)),
        }
    }
}
