//! Vital product data pages (SPC-4 7.8, SBC-3 6.6).

use super::inquiry::push_padded;
use super::third_party_copy::third_party_copy_page;
use super::{LogicalUnit, NexusId, TargetPort};
use crate::command::Feature;

const SUPPORTED_PAGES: u8 = 0x00;
const UNIT_SERIAL_NUMBER: u8 = 0x80;
const DEVICE_IDENTIFICATION: u8 = 0x83;
const EXTENDED_INQUIRY: u8 = 0x86;
const THIRD_PARTY_COPY: u8 = 0x8f;
const BLOCK_LIMITS: u8 = 0xb0;
const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;

/// Bytes after the header in the pages of fixed size.
const LONG_PAGE: usize = 60;

impl LogicalUnit {
    /// The page with its header, or `None` if it is not supported.
    pub(super) fn vital_product_data(&self, page: u8, nexus: NexusId) -> Option<Vec<u8>> {
        let body = match page {
            SUPPORTED_PAGES => self.supported_pages(),
            UNIT_SERIAL_NUMBER => self.config.identity.serial.clone().into_bytes(),
            DEVICE_IDENTIFICATION => self.device_identification(nexus),
            EXTENDED_INQUIRY => self.extended_inquiry(),
            THIRD_PARTY_COPY if self.config.offload => third_party_copy_page(self.config.block_size),
            BLOCK_LIMITS => self.block_limits(),
            BLOCK_DEVICE_CHARACTERISTICS => self.block_device_characteristics(),
            LOGICAL_BLOCK_PROVISIONING if self.config.thin => self.logical_block_provisioning(),
            _ => return None,
        };
        let len = u16::try_from(body.len()).ok()?;
        let mut data = vec![0, page];
        data.extend_from_slice(&len.to_be_bytes());
        data.extend_from_slice(&body);
        Some(data)
    }

    /// In ascending order.
    fn supported_pages(&self) -> Vec<u8> {
        let mut pages = vec![SUPPORTED_PAGES, UNIT_SERIAL_NUMBER, DEVICE_IDENTIFICATION, EXTENDED_INQUIRY];
        if self.config.offload {
            pages.push(THIRD_PARTY_COPY);
        }
        pages.extend_from_slice(&[BLOCK_LIMITS, BLOCK_DEVICE_CHARACTERISTICS]);
        if self.config.thin {
            pages.push(LOGICAL_BLOCK_PROVISIONING);
        }
        pages
    }

    /// The unit (NAA, T10 vendor), then the port the question came through, then the target device.
    fn device_identification(&self, nexus: NexusId) -> Vec<u8> {
        let identity = &self.config.identity;
        let mut body = Vec::with_capacity(256);
        push_designator(&mut body, Designator::UNIT_NAA, &identity.naa);
        let mut t10 = Vec::with_capacity(24 + identity.serial.len());
        push_padded(&mut t10, &identity.vendor, 8);
        push_padded(&mut t10, &identity.product, 16);
        t10.extend_from_slice(identity.serial.as_bytes());
        push_designator(&mut body, Designator::UNIT_T10_VENDOR, &t10);
        if let Some(nexus) = self.nexuses.get(nexus) {
            push_port(&mut body, &nexus.info.target_port);
        }
        body
    }

    /// SPC-4 7.8.7: SIMPLE tasks; a volatile cache if writes may be acknowledged from one.
    fn extended_inquiry(&self) -> Vec<u8> {
        const SIMPSUP: u8 = 0x01;
        let v_sup = u8::from(self.config.write_cache);
        let mut body = vec![0, SIMPSUP, v_sup];
        body.resize(LONG_PAGE, 0);
        body
    }

    /// SBC-3 6.6.3, with the fields of atomic writes of SBC-4: of any alignment and granularity, and none with
    /// boundaries. Lengths in logical blocks; 0 means "not reported" or "not supported".
    fn block_limits(&self) -> Vec<u8> {
        const WSNZ: u8 = 0x01;
        const UGAVALID: u32 = 1 << 31;
        let limits = &self.config.limits;
        let blocks = |bytes: u64| self.limit_in_blocks(bytes).to_be_bytes();
        let thin = |value: [u8; 4]| if self.config.thin { value } else { [0; 4] };
        let granularity = blocks(u64::from(self.config.unmap_granularity_bytes));
        // Allocation units start at block 0.
        let alignment = if granularity == [0; 4] { 0 } else { UGAVALID };
        let physical_block: u16 = 1 << self.config.physical_block_exponent;

        let mut body = Vec::with_capacity(LONG_PAGE);
        body.extend_from_slice(&[WSNZ, self.compare_and_write_blocks_max()]);
        body.extend_from_slice(&physical_block.to_be_bytes());
        body.extend_from_slice(&blocks(u64::from(limits.transfer_bytes_max)));
        body.extend_from_slice(&blocks(u64::from(limits.transfer_bytes_optimal)));
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&thin(blocks(limits.unmap_bytes_max)));
        body.extend_from_slice(&thin(limits.unmap_descriptors_max.to_be_bytes()));
        body.extend_from_slice(&thin(granularity));
        body.extend_from_slice(&thin(alignment.to_be_bytes()));
        body.extend_from_slice(&self.to_blocks(limits.write_same_bytes_max).to_be_bytes());
        body.extend_from_slice(&blocks(u64::from(limits.atomic_bytes_max)));
        body.resize(LONG_PAGE, 0);
        body
    }

    /// SBC-3 6.6.2: does not rotate. After BLOCK ERASE blocks can be read, and read as zeroes (WABEREQ 01b);
    /// after CRYPTOGRAPHIC ERASE, too (WACEREQ 01b).
    fn block_device_characteristics(&self) -> Vec<u8> {
        const NON_ROTATING: u16 = 1;
        const WABEREQ_READABLE: u8 = 0x40;
        const WACEREQ_READABLE: u8 = 0x10;
        let [high, low] = NON_ROTATING.to_be_bytes();
        let has = |feature, bits| if self.config.has(feature) { bits } else { 0 };
        let erase = has(Feature::Sanitize, WABEREQ_READABLE) | has(Feature::CryptoErase, WACEREQ_READABLE);
        let mut body = vec![high, low, 0, erase];
        body.resize(LONG_PAGE, 0);
        body
    }

    /// SBC-3 6.6.4: UNMAP and both WRITE SAME unmap, unmapped blocks read as zero (LBPRZ 001b), thin. Nothing can be
    /// anchored (ANC_SUP), and the pool has no designator of its own (DP).
    fn logical_block_provisioning(&self) -> Vec<u8> {
        const LBPU_LBPWS_LBPWS10: u8 = 0xe0;
        const LBPRZ_ZERO: u8 = 0x04;
        const THIN: u8 = 0x02;
        let exponent = Self::threshold_exponent(self.config.block_size);
        vec![exponent, LBPU_LBPWS_LBPWS10 | LBPRZ_ZERO, THIN, 0]
    }
}

/// The first two bytes of a designation descriptor (SPC-4 7.8.6.1).
struct Designator;

impl Designator {
    const BINARY: u8 = 0x01;
    const ASCII: u8 = 0x02;
    const UTF_8: u8 = 0x03;
    /// PROTOCOL IDENTIFIER 5 in the high half, where PIV says it is valid.
    const ISCSI: u8 = 0x50;
    const PIV_PORT: u8 = 0x80 | 0x10;
    const PIV_DEVICE: u8 = 0x80 | 0x20;

    const UNIT_NAA: [u8; 2] = [Self::BINARY, 0x03];
    const UNIT_T10_VENDOR: [u8; 2] = [Self::ASCII, 0x01];
    const PORT_RELATIVE_ID: [u8; 2] = [Self::ISCSI | Self::BINARY, Self::PIV_PORT | 0x04];
    const PORT_GROUP: [u8; 2] = [Self::ISCSI | Self::BINARY, Self::PIV_PORT | 0x05];
    const PORT_NAME: [u8; 2] = [Self::ISCSI | Self::UTF_8, Self::PIV_PORT | 0x08];
    const DEVICE_NAME: [u8; 2] = [Self::ISCSI | Self::UTF_8, Self::PIV_DEVICE | 0x08];
}

fn push_port(body: &mut Vec<u8>, port: &TargetPort) {
    let [high, low] = port.relative_id.to_be_bytes();
    push_designator(body, Designator::PORT_RELATIVE_ID, &[0, 0, high, low]);
    let [high, low] = port.portal_group_tag.to_be_bytes();
    push_designator(body, Designator::PORT_GROUP, &[0, 0, high, low]);
    let name = format!("{},t,0x{:04x}", port.target_name, port.portal_group_tag);
    push_designator(body, Designator::PORT_NAME, &terminated(&name));
    push_designator(body, Designator::DEVICE_NAME, &terminated(&port.target_name));
}

/// A SCSI name string: null-terminated, padded to a multiple of four (SPC-4 7.8.6.11).
fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// A designator longer than its length field is left out; names are at most 223 bytes (RFC 7143 4.2.7).
fn push_designator(body: &mut Vec<u8>, header: [u8; 2], designator: &[u8]) {
    let Ok(len) = u8::try_from(designator.len()) else { return };
    body.extend_from_slice(&header);
    body.extend_from_slice(&[0, len]);
    body.extend_from_slice(designator);
}
