//! Bindings: the domain and the route that a context or PASID entry gives to a requester.

use machine::PhysicalAddress;
use vtd::context::{ContextEntry, ScalableContextEntry, TranslationType};
use vtd::paging::AddressWidth;
use vtd::pasid::{PasidEntry, PasidTranslationType};

use super::Unit;
use crate::stage::Root;
use crate::{Binding, FirstStage, Obstacle, Privilege, Route, Stages};

/// Reads a present context entry of legacy mode (9.3).
pub(super) fn of_context<M>(entry: ContextEntry, unit: &Unit<'_, M>) -> Result<Binding, Obstacle> {
    if entry.reserved_bits(unit.host_address_bits()) != (0, 0) {
        return Err(Obstacle::ReservedBits);
    }
    let tables = || second_stage(entry.table(), entry.high.width(), unit).map(Stages::Second);
    let (device_tlb, stages) = match entry.low.translation() {
        TranslationType::TRANSLATED => (false, tables()?),
        TranslationType::DEVICE_TLB if unit.registers.extended.dt() => (true, tables()?),
        TranslationType::PASS_THROUGH if unit.registers.extended.pt() => (false, Stages::PassThrough),
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding { domain: entry.high.domain(), device_tlb, route: Route::unrestricted(stages) })
}

/// Reads a present PASID entry (9.6) below this context entry; `privilege` counts only for the first stage.
pub(super) fn of_pasid<M>(
    entry: PasidEntry,
    context: &ScalableContextEntry,
    privilege: Result<Privilege, Obstacle>,
    unit: &Unit<'_, M>,
) -> Result<Binding, Obstacle> {
    if entry.has_reserved_bits(unit.host_address_bits()) {
        return Err(Obstacle::ReservedBits);
    }
    let second = || second_stage(entry.second_stage_table(), entry.second.width(), unit);
    let first = || Ok(FirstStage { root: first_stage(entry, unit)?, privilege: privilege? });
    let extended = unit.registers.extended;
    let stages = match entry.second.translation() {
        PasidTranslationType::FIRST_STAGE if extended.fsts() => Stages::First(first()?),
        PasidTranslationType::SECOND_STAGE if extended.ssts() => Stages::Second(second()?),
        PasidTranslationType::NESTED if extended.nest() => {
            Stages::Nested { first: first()?, second: second()? }
        }
        PasidTranslationType::PASS_THROUGH if extended.pt() => Stages::PassThrough,
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding {
        domain: entry.domain.domain(),
        device_tlb: context.low.device_tlb(),
        route: Route::unrestricted(stages),
    })
}

fn second_stage<M>(
    address: PhysicalAddress,
    width: AddressWidth,
    unit: &Unit<'_, M>,
) -> Result<Root, Obstacle> {
    let top = width.top().filter(|_| unit.registers.capability.supports(width));
    Ok(Root { address, top: top.ok_or(Obstacle::Width(width.0))? })
}

fn first_stage<M>(entry: PasidEntry, unit: &Unit<'_, M>) -> Result<Root, Obstacle> {
    let mode = entry.first.mode();
    let top = mode.width().top().filter(|top| top.number() < 5 || unit.registers.capability.fs5lp());
    Ok(Root { address: entry.first_stage_table(), top: top.ok_or(Obstacle::Width(mode.0))? })
}
