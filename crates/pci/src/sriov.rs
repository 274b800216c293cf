//! Single Root I/O Virtualization: finds the virtual functions of a physical function (9.3.3).
//!
//! A virtual function looks absent: its vendor and device ID read as ones (9.3.4.1.1, 9.3.4.1.2). Only its physical function
//! tells of it.

use alloc::vec::Vec;

use bitfield_struct::bitfield;
use machine::Registers;
use machine::growth::push;

use crate::device::VENDOR_ID;
use crate::scan::MOST_FUNCTIONS;
use crate::{Ats, Device, Function};

/// The extended capability's ID, and its size in bytes.
const ID: u16 = 0x10;
const SIZE: usize = 0x40;
/// SR-IOV control (9.3.3.3): 16 bits, read-write.
const CONTROL: usize = 0x08;
/// TotalVFs (9.3.3.6): 16 bits, read-only.
const TOTAL_VFS: usize = 0x0E;
/// NumVFs (9.3.3.7): 16 bits, read-write.
const NUM_VFS: usize = 0x10;
/// First VF Offset (9.3.3.9): 16 bits, read-only.
const FIRST_VF_OFFSET: usize = 0x14;
/// VF Stride (9.3.3.10): 16 bits, read-only.
const VF_STRIDE: usize = 0x16;
/// VF Device ID (9.3.3.11): 16 bits, read-only.
const VF_DEVICE_ID: usize = 0x1A;

#[bitfield(u16)]
struct Control {
    /// The virtual functions are there.
    vf_enable: bool,
    #[bits(2)]
    migration: u8,
    /// The virtual functions answer in memory space.
    vf_memory_space: bool,
    #[bits(12)]
    others: u16,
}

/// The content of a physical function's SR-IOV capability. Only [`virtual_functions`](Self::virtual_functions) checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrIov {
    /// The physical function.
    pub physical: Function,
    /// Whether the virtual functions are enabled.
    pub enabled: bool,
    /// Most virtual functions that the function supports.
    pub total: u16,
    /// Number of virtual functions that software requested.
    pub count: u16,
    /// Distance of the first one's requester ID from the physical function's.
    pub first_offset: u16,
    /// Distance from one's requester ID to the next one's.
    pub stride: u16,
    /// Device ID of all of them; their vendor is that of the physical function.
    pub device: u16,
}

impl SrIov {
    /// Lists the enabled virtual functions: as many as software requested and the function supports, up to the last
    /// requester ID.
    ///
    /// With a distance of zero several functions would share one address, so at most one is listed (9.3.3.9, 9.3.3.10).
    pub fn virtual_functions(self) -> impl Iterator<Item = Function> {
        let own = self.physical.requester_id();
        let is_there = self.enabled && self.first_offset != 0;
        let first = own.checked_add(self.first_offset).filter(|_| is_there);
        let next = move |id: &u16| id.checked_add(self.stride).filter(|_| self.stride != 0);
        core::iter::successors(first, next)
            .take(self.count.min(self.total).into())
            .map(move |id| Function::from_requester_id(self.physical.segment, id))
    }
}

impl<R: Registers> Device<R> {
    /// Reads the function's SR-IOV capability, if it has one.
    pub fn sr_iov(&self) -> Option<SrIov> {
        let at = self.extended_capability(ID, SIZE)?;
        let read = |offset| self.config.read16(at + offset);
        Some(SrIov {
            physical: self.function,
            enabled: Control::from_bits(read(CONTROL)).vf_enable(),
            total: read(TOTAL_VFS),
            count: read(NUM_VFS),
            first_offset: read(FIRST_VF_OFFSET),
            stride: read(VF_STRIDE),
            device: read(VF_DEVICE_ID),
        })
    }
}

/// A virtual function that is there, and what drivers of remapping units must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualFunction {
    /// Its address.
    pub function: Function,
    /// Its physical function.
    pub physical: Function,
    /// The vendor of both.
    pub vendor: u16,
    /// Its device ID.
    pub device: u16,
    /// Its own ATS capability, with the physical function's queue, which all virtual functions share (10.5.1.2).
    pub ats: Option<Ats>,
}

/// Adds to `found` the virtual functions of `devices`; `open` gives access to a function's configuration space.
///
/// A function whose configuration space is nowhere, or does not answer, is left out. No more than [`MOST_FUNCTIONS`] are
/// recorded.
pub fn virtual_functions<R: Registers>(
    devices: &[Device<R>],
    open: impl Fn(Function) -> Option<R>,
    found: &mut Vec<VirtualFunction>,
) {
    let physical = devices.iter().filter_map(|device| Some((device, device.sr_iov()?)));
    let all = physical.flat_map(|(device, sr_iov)| {
        sr_iov.virtual_functions().map(move |function| (device, sr_iov.device, function))
    });
    for (physical, id, function) in all.take(MOST_FUNCTIONS) {
        let virtual_function =
            open(function).and_then(|config| describe(physical, id, &Device { function, config }));
        if virtual_function.is_some_and(|function| push(found, function).is_err()) {
            break;
        }
    }
}

/// Describes a virtual function; `None` if it does not answer: behind its IDs, a function that is there reads no ones.
fn describe<R: Registers>(physical: &Device<R>, id: u16, device: &Device<R>) -> Option<VirtualFunction> {
    const COMMAND_AND_STATUS: usize = 0x04;
    let answers = device.config.read32(COMMAND_AND_STATUS) != u32::MAX;
    let shared = |own: Ats| Ats { queue_depth: physical.ats().map_or(1, |ats| ats.queue_depth), ..own };
    answers.then(|| VirtualFunction {
        function: device.function,
        physical: physical.function,
        vendor: physical.config.read16(VENDOR_ID),
        device: id,
        ats: device.ats().map(shared),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;
    use proptest::prelude::*;

    /// A physical function 03:00.0 whose capability is as Linux's `PCI_SRIOV_*` lay it out: control, the numbers of
    /// virtual functions, offset and stride, device ID.
    fn device(control: u8, total: u8, count: u8, offset: [u8; 2], stride: u8) -> Device<ConfigSpace> {
        let fields: [(usize, &[u8]); 6] = [
            (0x100, &[0x10, 0, 0x01, 0]),
            (0x108, &[control]),
            (0x10C, &[64, 0, total, 0]),
            (0x110, &[count]),
            (0x114, &[offset[0], offset[1], stride, 0]),
            (0x11A, &[0xED, 0x10]),
        ];
        Device { function: Function { segment: 1, bus: 3, devfn: 0 }, config: ConfigSpace::new(&fields) }
    }

    fn virtual_functions(device: &Device<ConfigSpace>) -> Vec<String> {
        device.sr_iov().unwrap().virtual_functions().map(|function| function.to_string()).collect()
    }

    /// An 82599, whose first virtual function is on the next half of the bus.
    #[test]
    fn virtual_functions_are_counted_from_the_physical_one() {
        let device = device(0x09, 64, 3, [0x80, 0], 2);
        let sr_iov = device.sr_iov().unwrap();
        assert_eq!((sr_iov.total, sr_iov.count, sr_iov.device), (64, 3, 0x10ED));
        assert_eq!(virtual_functions(&device), ["0001:03:10.0", "0001:03:10.2", "0001:03:10.4"]);
    }

    #[test]
    fn they_may_be_on_another_bus() {
        assert_eq!(virtual_functions(&device(1, 2, 2, [0xFF, 0], 1)), ["0001:03:1f.7", "0001:04:00.0"]);
    }

    #[test]
    fn they_are_there_only_while_they_are_enabled() {
        assert_eq!(virtual_functions(&device(0x08, 64, 3, [0x80, 0], 2)), [""; 0]);
    }

    #[test]
    fn what_cannot_be_is_not_followed() {
        assert_eq!(virtual_functions(&device(1, 2, 200, [1, 0], 1)).len(), 2, "more than there can be");
        assert_eq!(
            virtual_functions(&device(1, 9, 9, [0, 0], 1)),
            [""; 0],
            "one in the place of the physical one"
        );
        assert_eq!(virtual_functions(&device(1, 9, 9, [1, 0], 0)).len(), 1, "all in one place");
        assert_eq!(virtual_functions(&device(1, 9, 9, [0xFE, 0xFC], 1)), ["0001:ff:1f.6", "0001:ff:1f.7"]);
    }

    /// The physical function takes 8 invalidations at once. Of its virtual functions, the first has ATS enabled, the second
    /// does not answer, the third has no ATS; the fourth is beyond the buses that can be reached.
    #[test]
    fn sriov_functions_that_look_absent_are_described() {
        let physical = device(1, 4, 4, [0x80, 0], 0x28);
        physical.config.put(0, &[0x86, 0x80]);
        physical.config.put(0x102, &[0x01, 0x20]);
        physical.config.put(0x200, &[0x0F, 0, 0x01, 0, 8, 0, 0, 0x80]);
        let ones: (usize, &[u8]) = (0, &[0xFF; 4]);
        let open = |function: Function| match function.devfn {
            0x80 => Some(ConfigSpace::new(&[ones, (0x100, &[0x0F, 0, 0x01, 0, 0, 0, 0, 0x80])])),
            0xA8 => Some(ConfigSpace::new(&[(0, &[0xFF; crate::CONFIG_SIZE])])),
            0xD0 => Some(ConfigSpace::new(&[ones])),
            _ => None,
        };
        let mut found = Vec::new();
        super::virtual_functions(&[physical], open, &mut found);
        let at = |devfn, ats| VirtualFunction {
            function: Function { segment: 1, bus: 3, devfn },
            physical: Function { segment: 1, bus: 3, devfn: 0 },
            vendor: 0x8086,
            device: 0x10ED,
            ats,
        };
        assert_eq!(found, [at(0x80, Some(Ats { enabled: true, queue_depth: 8 })), at(0xD0, None)]);
    }

    proptest! {
        #[test]
        fn no_two_functions_are_in_one_place(
            total: u16, count: u16, first_offset: u16, stride: u16, id: u16,
        ) {
            let physical = Function::from_requester_id(0, id);
            let sr_iov = SrIov { physical, enabled: true, total, count, first_offset, stride, device: 0 };
            let found: Vec<_> = sr_iov.virtual_functions().collect();
            prop_assert!(found.is_sorted_by(|one, next| one < next));
            prop_assert!(found.iter().all(|function| *function > physical));
        }
    }
}
