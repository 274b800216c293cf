//! Functions behind Intel's volume management devices: finds them, and where their registers are.

use alloc::vec::Vec;

use machine::{PhysicalAddress, Range};
use pci::vmd::{self, VmdError};
use pci::{CONFIG_SIZE, Device, Function, Vmd};

use crate::platform::config::Config;
use crate::platform::console::say;
use crate::platform::mmio::Mmio;
use crate::platform::paging::AddressSpace;

/// Most devices that are looked behind; servers have one for each part of a processor.
const MOST: usize = 64;

/// Adds to `devices` the functions behind each volume management device among them.
pub(crate) fn find_behind(space: &mut AddressSpace, devices: &mut Vec<Device<Config>>) {
    for domain in (vmd::FIRST_DOMAIN..).take(MOST) {
        let Some(found) = of_domain(space, devices, domain) else { return };
        match found {
            Ok(vmd) => vmd.scan(|bus| open(space, bus), devices),
            Err((function, error)) => {
                say!("disks behind the volume management device {function} are out of reach: {error}");
            }
        }
    }
}

/// The configuration space of a bus, by functions' offsets in it.
fn open(
    space: &mut AddressSpace,
    bus: Range<PhysicalAddress>,
) -> Option<impl Fn(usize) -> Option<Config> + use<>> {
    let all = Mmio::map(space, bus).ok()?;
    Some(move |offset| all.part(offset, CONFIG_SIZE).map(Config::Mapped))
}

/// The device behind which the functions of a domain are, or why it cannot be used; `None` if there is none.
fn of_domain(
    space: &mut AddressSpace,
    devices: &[Device<Config>],
    domain: u32,
) -> Option<Result<Vmd, (Function, VmdError)>> {
    let (_, device) = vmd::all(devices).find(|(of, _)| *of == domain)?;
    let read = Vmd::read(device, domain, |registers| Mmio::map(space, registers).ok());
    Some(read.map_err(|error| (device.function, error)))
}

/// The physical addresses of registers that `function` has at `registers` by its own base address register.
pub(crate) fn physical(
    space: &mut AddressSpace,
    devices: &[Device<Config>],
    function: Function,
    registers: Range<PhysicalAddress>,
) -> Option<Range<PhysicalAddress>> {
    match of_domain(space, devices, function.segment) {
        None => Some(registers),
        Some(vmd) => vmd.ok()?.physical(registers),
    }
}
