//! Bindings: the domain and the route that a context or PASID entry gives to a requester.

use machine::PhysicalAddress;
use vtd::context::{ContextEntry, ScalableContextEntry, TranslationType};
use vtd::paging::AddressWidth;
use vtd::pasid::{PasidEntry, PasidTranslationType};

use crate::piece::Rights;
use crate::stage::Root;
use crate::{FirstStage, Obstacle, Privilege, Route, VtdSetup};

/// What an entry says of a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Domain-id.
    pub domain: u16,
    /// The device may have a device-TLB; hardware does not check the requests that it makes with translated addresses
    /// (4.1).
    pub device_tlb: bool,
    /// How its requests are translated.
    pub route: Route,
}

/// Reads a present context entry of legacy mode (9.3).
pub(crate) fn of_context(entry: ContextEntry, unit: VtdSetup) -> Result<Binding, Obstacle> {
    if entry.reserved_bits(unit.host_address_bits) != (0, 0) {
        return Err(Obstacle::ReservedBits);
    }
    let tables = || second_stage(entry.table(), entry.high.width(), unit).map(Route::SecondStage);
    let (device_tlb, route) = match entry.low.translation() {
        TranslationType::TRANSLATED => (false, tables()?),
        TranslationType::DEVICE_TLB if unit.extended.dt() => (true, tables()?),
        TranslationType::PASS_THROUGH if unit.extended.pt() => (false, Route::PassThrough(Rights::ALL)),
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding { domain: entry.high.domain(), device_tlb, route })
}

/// Reads a present PASID entry (9.6) below this context entry; `privilege` counts only for the first stage.
pub(crate) fn of_pasid(
    entry: PasidEntry,
    context: &ScalableContextEntry,
    privilege: Result<Privilege, Obstacle>,
    unit: VtdSetup,
) -> Result<Binding, Obstacle> {
    if entry.has_reserved_bits(unit.host_address_bits) {
        return Err(Obstacle::ReservedBits);
    }
    let second = || second_stage(entry.second_stage_table(), entry.second.width(), unit);
    let first = || Ok(FirstStage { root: first_stage(entry, unit)?, privilege: privilege? });
    let extended = unit.extended;
    let route = match entry.second.translation() {
        PasidTranslationType::FIRST_STAGE if extended.fsts() => Route::FirstStage(first()?),
        PasidTranslationType::SECOND_STAGE if extended.ssts() => Route::SecondStage(second()?),
        PasidTranslationType::NESTED if extended.nest() => {
            Route::Nested { first: first()?, second: second()? }
        }
        PasidTranslationType::PASS_THROUGH if extended.pt() => Route::PassThrough(Rights::ALL),
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding { domain: entry.domain.domain(), device_tlb: context.low.device_tlb(), route })
}

fn second_stage(address: PhysicalAddress, width: AddressWidth, unit: VtdSetup) -> Result<Root, Obstacle> {
    let top = width.top().filter(|_| unit.capability.supports(width));
    Ok(Root { address, top: top.ok_or(Obstacle::Width(width.0))? })
}

fn first_stage(entry: PasidEntry, unit: VtdSetup) -> Result<Root, Obstacle> {
    let mode = entry.first.mode();
    let top = mode.width().top().filter(|top| top.number() < 5 || unit.capability.fs5lp());
    Ok(Root { address: entry.first_stage_table(), top: top.ok_or(Obstacle::Width(mode.0))? })
}
