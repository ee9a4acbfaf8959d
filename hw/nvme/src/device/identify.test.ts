// NVMe 1.4, 5.15: Identify.
import test from 'ava';
import { code, rig } from '../rig.test.helper.js';
import { AdminOpcode, Cns, Status } from '../spec/index.js';

const text = (page: Uint8Array, at: number, length: number): string =>
  Buffer.from(page).toString('latin1', at, at + length);

test('5.15.2.2: the controller', t => {
  const { driver } = rig({ serial: 'teach 1', mdts: 5, aerl: 7 });
  const page = driver.identify(Cns.CONTROLLER);
  const view = new DataView(page.buffer);
  t.deepEqual([view.getUint16(0, true), view.getUint16(2, true)], [0x1b36, 0x1af4]);
  t.is(text(page, 4, 20), 'teach 1'.padEnd(20));
  t.is(text(page, 24, 40), 'Remora NVMe Ctrl'.padEnd(40));
  t.is(text(page, 64, 8), '1.0     ');
  t.is(page[77], 5, 'MDTS');
  t.is(view.getUint32(80, true), 0x1_0400, 'VER');
  t.is(view.getUint32(92, true), 0x100, 'OAES');
  t.is(page[111], 1, 'an I/O controller');
  t.is(view.getUint16(256, true), 2, 'OACS: Format NVM');
  t.deepEqual([page[258], page[259], page[262]], [3, 7, 63], 'ACL, AERL, ELPE');
  t.deepEqual([page[512], page[513]], [0x66, 0x44], 'entry sizes');
  t.is(view.getUint32(516, true), 1, 'NN');
  t.is(view.getUint16(520, true), 0xdd, 'ONCS');
  t.is(page[525], 7, 'VWC');
  t.is(view.getUint32(536, true), 0, 'no SGLs');
  t.regex(text(page, 768, 69), /^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\0$/);
  const other = rig({ serial: 'teach 2' }).driver.identify(Cns.CONTROLLER);
  t.not(text(page, 768, 69), text(other, 768, 69), 'another serial number, another name');
  const same = rig({ serial: 'teach 1' }).driver.identify(Cns.CONTROLLER);
  t.is(text(page, 768, 69), text(same, 768, 69));
  t.is(text(rig().driver.identify(Cns.CONTROLLER), 4, 20), 'nvme0'.padEnd(20), 'the id, without a serial number');
});

test('5.15.2.1: the namespace, with both block sizes and write protected', t => {
  for (const [blockBytes, format] of [
    [512, 0],
    [4096, 1],
  ] as const) {
    const { driver } = rig({ size: '4M', logical_block_size: blockBytes, readonly: format === 1 });
    const view = new DataView(driver.identify(Cns.NAMESPACE, 1).buffer);
    for (const at of [0, 8, 16]) t.is(view.getBigUint64(at, true), BigInt(0x40_0000 / blockBytes), `at ${at}`);
    t.deepEqual([view.getUint8(25), view.getUint8(26)], [1, format], 'NLBAF, FLBAS');
    t.is(view.getUint8(33), 9, 'DLFEAT');
    t.is(view.getBigUint64(48, true), 0x40_0000n, 'NVMCAP');
    t.is(view.getUint8(99), format, 'NSATTR');
    t.deepEqual([view.getUint32(128, true), view.getUint32(132, true)], [0x09_0000, 0x0c_0000]);
  }
});

test('5.15.2.3: descriptors: a UUID and the command set', t => {
  const page = rig({ serial: 'one' }).driver.identify(Cns.NAMESPACE_DESCRIPTORS, 1);
  t.deepEqual([...page.subarray(0, 4)], [3, 16, 0, 0]);
  t.deepEqual([...page.subarray(20, 25)], [4, 1, 0, 0, 0]);
  t.true(page.subarray(25).every(byte => byte === 0));
  t.deepEqual([page[10]! >> 4, page[12]! >> 6], [8, 2], 'version and variant');
  t.notDeepEqual(page, rig({ serial: 'two' }).driver.identify(Cns.NAMESPACE_DESCRIPTORS, 1));
});

test('active namespaces are those above NSID; also those of the NVM command set', t => {
  const { driver } = rig();
  for (const cns of [Cns.ACTIVE_NAMESPACES, Cns.SET_ACTIVE_NAMESPACES]) {
    t.deepEqual([...driver.identify(cns, 0).subarray(0, 8)], [1, 0, 0, 0, 0, 0, 0, 0]);
    t.deepEqual([...driver.identify(cns, 1).subarray(0, 4)], [0, 0, 0, 0]);
    const { status } = driver.run(0, { opcode: AdminOpcode.IDENTIFY, nsid: 0xffff_fffe, prp1: 0x8000, cdw10: cns });
    t.is(status & 0x47ff, 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT);
  }
});

test('command sets: NVM, and no other', t => {
  const { driver } = rig();
  t.deepEqual([...driver.identify(Cns.COMMAND_SETS).subarray(0, 9)], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
  t.deepEqual([...driver.identify(Cns.SET_CONTROLLER).subarray(0, 4)], [7, 7, 0, 0], 'VSL and WZSL');
  t.true(driver.identify(Cns.SET_NAMESPACE, 1).every(byte => byte === 0));
  const status = (cdw10: number, nsid: number, cdw11: number): number =>
    code(driver.run(0, { opcode: AdminOpcode.IDENTIFY, nsid, prp1: 0x8000, cdw10, cdw11 }));
  for (const cns of [Cns.SET_NAMESPACE, Cns.SET_CONTROLLER, Cns.SET_ACTIVE_NAMESPACES])
    t.is(status(cns, 1, 2 << 24), Status.INVALID_FIELD, 'zoned namespaces');
});

test('what cannot be identified', t => {
  const { driver } = rig();
  const status = (cdw10: number, nsid: number, prp1: number = 0x8000): number =>
    driver.run(0, { opcode: AdminOpcode.IDENTIFY, nsid, prp1, cdw10 }).status & 0x47ff;
  for (const cns of [Cns.NAMESPACE, Cns.NAMESPACE_DESCRIPTORS, Cns.SET_NAMESPACE])
    for (const nsid of [0, 2, 0xffff_ffff])
      t.is(status(cns, nsid), 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT, `CNS ${cns} of ${nsid}`);
  for (const cns of [0x04, 0x10, 0x14, 0xff]) t.is(status(cns, 1), 0x4000 | Status.INVALID_FIELD, `CNS ${cns}`);
  t.is(status(Cns.CONTROLLER, 0, 0x8002), 0x4000 | Status.PRP_OFFSET_INVALID);
  t.is(status(Cns.CONTROLLER, 0, 0x1000_0000), 0x4000 | Status.DATA_TRANSFER_ERROR);
});

test('a controller without a namespace: namespace 1 could be there, and is not', t => {
  const { driver } = rig({ size: 0 });
  t.true(driver.identify(Cns.ACTIVE_NAMESPACES, 0).every(byte => byte === 0));
  t.true(driver.identify(Cns.NAMESPACE, 1).every(byte => byte === 0));
  const identify = { opcode: AdminOpcode.IDENTIFY, nsid: 1, prp1: 0x8000, cdw10: Cns.NAMESPACE_DESCRIPTORS };
  t.is(code(driver.run(0, identify)), Status.INVALID_NAMESPACE_OR_FORMAT);
  t.is(code(driver.run(1, { opcode: 2, nsid: 1, prp1: 0x8000 })), Status.INVALID_FIELD);
  t.is(code(driver.run(1, { opcode: 2, nsid: 2, prp1: 0x8000 })), Status.INVALID_NAMESPACE_OR_FORMAT);
});
