//! The SCSI host: what the driver and the device tell each other of a command.

use super::World;
use crate::fake::scsi::{Done, Parts};

impl World {
    /// The queue that takes requests.
    pub(super) fn request_queue(&self) -> u16 {
        if self.model.host.is_some() { 2 } else { 0 }
    }

    pub(super) fn last_target(&self) -> u16 {
        self.model.host.as_ref().map_or(0, |host| host.last_target)
    }

    pub(super) fn host_configuration(&self, offset: usize) -> u32 {
        let host = self.model.host.as_ref().unwrap();
        match offset {
            8 => host.max_sectors,
            20 => host.sense_size,
            24 => 32,
            _ => panic!("configuration of a host at {offset}"),
        }
    }

    pub(super) fn complete_command(&mut self, head: u16, chain: &[(u64, usize, bool)]) {
        let (header, data, response) = match *chain {
            [(header, 51, false), (response, 108, true)] => (header, None, response),
            [(header, 51, false), (data, len, false), (response, 108, true)] => {
                (header, Some((data, len, false)), response)
            }
            [(header, 51, false), (response, 108, true), (data, len, true)] => {
                (header, Some((data, len, true)), response)
            }
            _ => {
                assert!(self.lies(), "no command, data and response: {chain:?}");
                return self.answer(head, 0);
            }
        };
        let header = self.machine.device_read(header, 51);
        assert_eq!((header[0], header[2] >> 6, &header[4..8]), (1, 1, &[0; 4][..]));
        let (target, number) = (header[1], u16::from_be_bytes([header[2] & 0x3f, header[3]]));
        let cdb = &header[19..35];
        let lies = self.lies();
        let Self { model, machine, disk, durable, done, .. } = self;
        let parts = Parts { host: model.host.as_mut().unwrap(), machine, disk, durable, done, lies };
        let Some(answer) = parts.execute((target, number), cdb, data) else { return };
        let Done { response: code, status, sense, moved } = answer;
        let mut bytes = [0; 108];
        bytes[..4].copy_from_slice(&(sense.len() as u32).to_le_bytes());
        let asked = data.map_or(0, |(_, len, _)| len);
        bytes[4..8].copy_from_slice(&((asked - moved) as u32).to_le_bytes());
        (bytes[10], bytes[11]) = (status, code);
        bytes[12..12 + sense.len()].copy_from_slice(&sense);
        self.machine.device_write(response, &bytes);
        // QEMU counts data that the device read, too.
        self.answer(head, 108 + moved as u32);
    }
}
