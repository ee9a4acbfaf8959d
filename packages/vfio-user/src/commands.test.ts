/** Every message that a client may send, as it should be and as it should not. */
import test from 'ava';
import { Errno, MemTx } from '@remora/core';
import { Config } from '@remora/pci';
import { VfioDeviceFlag, VfioIrqSetFlag, VfioPciIrq, VfioPciRegion, VfioRegionFlag } from '@remora/uapi';
import { RemoteError, VfioUserClient } from './client.js';
import {
  DmaMap,
  DmaUnmapFlag,
  MAX_DATA_XFER_SIZE,
  RegionAccess,
  VfioUserCommand,
  WriteMulti,
  WriteMultiOne,
} from './protocol.js';
import {
  BUFFER,
  Doorbell,
  enable,
  FILE_BYTES,
  ID,
  pattern,
  Reg,
  Rig,
  same,
  transfer,
  VENDOR,
  word,
  errno,
} from './rig.test.helper.js';

const { CONFIG } = VfioPciRegion;
const MSI = 0x44;

test('VERSION: the answer speaks of what was proposed only, and of what this server has', async t => {
  await using rig = await Rig.start();
  const proposed = { max_msg_fds: 16, max_data_xfer_size: 4096, pgsizes: 4096, write_multiple: true, migration: {} };
  const agreed = await (await rig.connect()).version(proposed).catch((failure: unknown) => failure);
  t.true(agreed instanceof RemoteError, 'the version is agreed once');
  rig.server[Symbol.dispose]();
  const client = await VfioUserClient.connect(rig.socket, {});
  t.is(await errno(client.writeMulti([])), Errno.EINVAL, 'write_multiple was not agreed');
});

test('VERSION: capabilities of a QEMU', async t => {
  await using rig = await Rig.start();
  const { createConnection } = await import('node:net');
  const client = new VfioUserClient(createConnection(rig.socket));
  const proposed = {
    pgsizes: 4096,
    max_msg_fds: 16,
    max_dma_maps: 65535,
    max_data_xfer_size: 1048576,
    migration: { pgsize: 4096, max_bitmap_size: 268435456 },
    write_multiple: true,
  };
  t.deepEqual(await client.version(proposed), {
    max_data_xfer_size: MAX_DATA_XFER_SIZE,
    max_dma_maps: 65535,
    pgsizes: 4096,
    write_multiple: true,
  });
});

test('VERSION: without any data, and of a later minor version', async t => {
  await using rig = await Rig.start();
  const { createConnection } = await import('node:net');
  const client = new VfioUserClient(createConnection(rig.socket));
  const payload = await client.ask(VfioUserCommand.VERSION, Uint8Array.of(0, 0, 3, 0));
  t.deepEqual([...payload.subarray(0, 4)], [0, 0, 0, 0]);
  t.is(new TextDecoder().decode(payload.subarray(4)), '{"capabilities":{}}\0');
});

for (const [what, payload, expected] of [
  ['another major version', Uint8Array.of(1, 0, 0, 0), Errno.EOPNOTSUPP],
  ['nothing', new Uint8Array(0), Errno.EINVAL],
  ['half a version', Uint8Array.of(0, 0, 0), Errno.EINVAL],
  ['text without an end', text('{}'), Errno.EINVAL],
  ['text that is no JSON', text('{"capabilities":\0'), Errno.EINVAL],
  ['text that is not UTF-8', Uint8Array.of(0, 0, 0, 0, 0xff, 0), Errno.EINVAL],
  ['a list', text('[]\0'), Errno.EINVAL],
  ['capabilities that are none', text('{"capabilities":7}\0'), Errno.EINVAL],
  ['a negative size', text('{"capabilities":{"max_data_xfer_size":-1}}\0'), Errno.EINVAL],
  ['a size that is text', text('{"capabilities":{"max_data_xfer_size":"1"}}\0'), Errno.EINVAL],
  ['a flag that is none', text('{"capabilities":{"write_multiple":1}}\0'), Errno.EINVAL],
] as const) {
  test(`VERSION: ${what} is refused, and the connection ends`, async t => {
    await using rig = await Rig.start();
    const { createConnection } = await import('node:net');
    const client = new VfioUserClient(createConnection(rig.socket));
    t.is((await client.request(VfioUserCommand.VERSION, payload))?.error, expected);
    await client.closed;
    t.is((await rig.connect()).writes.length, 0, 'the next client is served');
  });
}

function text(json: string): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, ...new TextEncoder().encode(json));
}

test('nothing is done before the version is agreed', async t => {
  await using rig = await Rig.start();
  const { createConnection } = await import('node:net');
  const client = new VfioUserClient(createConnection(rig.socket));
  t.is((await client.request(VfioUserCommand.DEVICE_RESET))?.error, Errno.EINVAL);
  await client.closed;
  t.is(rig.device.resets, 0);
});

test('DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  t.like(await client.deviceInfo(), {
    flags: VfioDeviceFlag.RESET | VfioDeviceFlag.PCI,
    num_regions: 9,
    num_irqs: 5,
  });
  const both = VfioRegionFlag.READ | VfioRegionFlag.WRITE;
  const none = { flags: 0, size: 0 };
  const regions = await Promise.all(Array.from({ length: 9 }, (_, index) => client.regionInfo(index)));
  t.deepEqual(regions, [
    { flags: both, size: 0x1000 },
    none,
    none,
    none,
    none,
    none,
    none,
    { flags: both, size: 256 },
    none,
  ]);
  t.is(await errno(client.regionInfo(9)), Errno.EINVAL);
  t.is(await errno(client.regionInfo(0xffff_ffff)), Errno.EINVAL);
  const irqs = await Promise.all(Array.from({ length: 5 }, (_, index) => client.irqInfo(index)));
  t.deepEqual(
    irqs.map(({ count }) => count),
    [0, 4, 0, 0, 0],
  );
  t.is(await errno(client.irqInfo(5)), Errno.EINVAL);
  for (const command of [
    VfioUserCommand.DEVICE_GET_INFO,
    VfioUserCommand.DEVICE_GET_REGION_INFO,
    VfioUserCommand.DEVICE_GET_IRQ_INFO,
  ]) {
    t.is(await errno(client.ask(command, new Uint8Array(40))), Errno.EINVAL, 'argsz 0');
    t.is(await errno(client.ask(command, word(32))), Errno.EINVAL, 'too short');
    t.is(await errno(client.ask(command)), Errno.EINVAL, 'empty');
  }
});

test('REGION_READ and REGION_WRITE: configuration space and a BAR, in any width', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  t.is(await client.readNumber(CONFIG, Config.VENDOR, 2), VENDOR);
  t.is((await client.read(CONFIG, 0, 256)).length, 256);
  t.is(await client.readNumber(0, Reg.ID, 4), ID);
  await client.write(0, BUFFER, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  t.deepEqual([...(await client.read(0, BUFFER, 8))], [1, 2, 3, 4, 5, 6, 7, 8]);
  t.deepEqual([...(await client.read(0, BUFFER + 4, 4))], [5, 6, 7, 8]);
  t.is(await client.readNumber(0, BUFFER, 1), 0xff, 'the device has no registers of a byte');
  client.postWrite(0, BUFFER, word(0xabcd));
  t.is(await client.readNumber(0, BUFFER, 4), 0xabcd, 'a posted write came before');
});

test('REGION_READ and REGION_WRITE: whatever is not inside a region is refused', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const big = MAX_DATA_XFER_SIZE + 1;
  for (const [region, offset, count] of [
    [1, 0, 4],
    [8, 0, 4],
    [9, 0, 4],
    [0xffff_ffff, 0, 4],
    [0, 0x1000, 1],
    [0, 0xffd, 4],
    [0, 0, 0x1001],
    [0, 0, 0],
    [0, 0, big],
    [0, 0, 0xffff_ffff],
    [0, 2n ** 64n - 1n, 1],
    [0, 2n ** 64n - 4n, 8],
    [CONFIG, 0x100, 4],
  ] as const) {
    const access = RegionAccess.encode({ region, offset, count });
    t.is(await errno(client.ask(VfioUserCommand.REGION_READ, access)), Errno.EINVAL, `${region} ${offset} ${count}`);
    const few = Buffer.concat([access, new Uint8Array(Math.min(count, 0x1001))]);
    t.is(await errno(client.ask(VfioUserCommand.REGION_WRITE, few)), Errno.EINVAL, `${region} ${offset} ${count}`);
  }
  const access = RegionAccess.encode({ region: 0, offset: BUFFER, count: 4 });
  for (const size of [0, 3, 5]) {
    const payload = Buffer.concat([access, new Uint8Array(size)]);
    t.is(
      await errno(client.ask(VfioUserCommand.REGION_WRITE, payload)),
      Errno.EINVAL,
      `4 bytes announced, ${size} there`,
    );
  }
  t.is(await errno(client.ask(VfioUserCommand.REGION_READ, Buffer.concat([access, word(0)]))), Errno.EINVAL);
  t.is(await errno(client.ask(VfioUserCommand.REGION_READ, access.subarray(0, 15))), Errno.EINVAL);
  t.is(await client.readNumber(0, Reg.ID, 4), ID);
});

test('REGION_WRITE_MULTI: in order, up to the first that cannot be', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const at = (offset: number, value: number): { region: number; offset: number; data: Uint8Array } => ({
    region: 0,
    offset,
    data: word(value),
  });
  const many = Array.from({ length: 200 }, (_, index) => at(BUFFER + 4 * (index % 4), index));
  t.is(await client.writeMulti(many), 200);
  t.deepEqual([...(await client.read(0, BUFFER, 8))], [196, 0, 0, 0, 197, 0, 0, 0]);
  t.is(await client.writeMulti([at(BUFFER, 1), at(BUFFER + 4, 2), at(0x1000, 3), at(BUFFER + 8, 4)]), 2);
  t.deepEqual([...(await client.read(0, BUFFER, 12))], [1, 0, 0, 0, 2, 0, 0, 0, 198, 0, 0, 0]);
  t.is(await errno(client.writeMulti([at(0x1000, 3)])), Errno.EINVAL);
  t.is(await client.writeMulti([]), 0);
  const two = [1, 2].map(value => {
    const record = WriteMultiOne.encode({ offset: BUFFER, region: 0, count: 4 });
    record.set(word(value), WriteMultiOne.fields.data.offset);
    return record;
  });
  for (const wr_cnt of [1n, 3n, 2n ** 32n, 2n ** 61n, 2n ** 64n - 1n]) {
    const payload = Buffer.concat([WriteMulti.encode({ wr_cnt }), ...two]);
    const asked = client.ask(VfioUserCommand.REGION_WRITE_MULTI, payload);
    t.is(await errno(asked), Errno.EINVAL, `${wr_cnt} announced, 2 there`);
  }
  t.is(await client.readNumber(0, BUFFER, 4), 1, 'none of these was written');
  const wide = { region: 0, offset: BUFFER, data: new Uint8Array(8) };
  const records = client.writeMulti([wide]);
  t.is(await records, 1);
  t.is(await errno(client.ask(VfioUserCommand.REGION_WRITE_MULTI, word(1))), Errno.EINVAL);
});

test('DMA_MAP, DMA_UNMAP: the device reaches exactly what is mapped, at its place in the file', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  await enable(client);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x1000, 16), MemTx.DECODE_ERROR, 'nothing is mapped');
  await client.dmaMap({ address: 0x10_0000_0000, size: 0x2000, offset: 0x5000 });
  await client.dmaMap({ address: 0x4000, size: 0x1000, offset: 0x8000, flags: 1 });
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x10_0000_0ffc, 64), MemTx.OK);
  t.deepEqual(await client.read(0, BUFFER, 64), pattern().subarray(0x5ffc, 0x603c));
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x4000, 64), MemTx.OK);
  t.deepEqual(await client.read(0, BUFFER, 64), pattern().subarray(0x8000, 0x8040));
  t.is(await transfer(client, Doorbell.TO_MEMORY, 0x4000, 64), MemTx.DECODE_ERROR, 'it is read-only');
  t.is(await transfer(client, Doorbell.TO_MEMORY, 0x10_0000_1fc0, 65), MemTx.DECODE_ERROR, 'one byte too far');
  t.is(await transfer(client, Doorbell.TO_MEMORY, 0x10_0000_1fc0, 64), MemTx.OK);
  const expected = pattern();
  expected.set(pattern().subarray(0x8000, 0x8040), 0x6fc0);
  t.true(same(rig.bytes(0, FILE_BYTES), expected), 'nothing else changed');
  await client.dmaUnmap(0x10_0000_0000, 0x2000);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x10_0000_0000, 16), MemTx.DECODE_ERROR);
  t.is(await errno(client.dmaUnmap(0x10_0000_0000, 0x2000)), Errno.ENOENT);
  t.is(await errno(client.dmaUnmap(0x4000, 0x1000, DmaUnmapFlag.GET_DIRTY_BITMAP)), Errno.EOPNOTSUPP);
  t.is(await errno(client.dmaUnmap(0x4000, 0x1000, DmaUnmapFlag.ALL)), Errno.EINVAL);
  t.is(await errno(client.dmaUnmap(0x4000, 0x1000, 0x80)), Errno.EINVAL);
  t.is(await errno(client.dmaUnmap(0x4000, 0)), Errno.EINVAL);
  await client.dmaUnmap(0, 0, DmaUnmapFlag.ALL);
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x4000, 16), MemTx.DECODE_ERROR);
});

test('DMA_MAP: maps side by side are one piece of memory', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  await enable(client);
  await client.dmaMap({ address: 0x1000, size: 0x1000, offset: 0x9000 });
  await client.dmaMap({ address: 0x2000, size: 0x1000, offset: 0x3000 });
  await client.dmaMap({ address: 0x3000, size: 0x1000, offset: 0x1000, flags: 1 });
  t.is(await transfer(client, Doorbell.FROM_MEMORY, 0x1fe0, 64), MemTx.OK);
  t.is(await transfer(client, Doorbell.TO_MEMORY, 0x1ff0, 32), MemTx.OK);
  t.deepEqual(rig.bytes(0x9ff0, 16), pattern().subarray(0x9fe0, 0x9ff0));
  t.deepEqual(rig.bytes(0x3000, 16), pattern().subarray(0x9ff0, 0xa000));
  const before = rig.bytes(0, FILE_BYTES);
  t.is(await transfer(client, Doorbell.TO_MEMORY, 0x2ff0, 32), MemTx.DECODE_ERROR, 'its second half is read-only');
  t.true(same(rig.bytes(0, FILE_BYTES), before), 'nothing of it was written');
});

test('DMA_MAP: what cannot be is refused', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const size = 0x1000;
  t.is(await errno(client.dmaMap({ address: 0, size: 0 })), Errno.EINVAL);
  t.is(await errno(client.dmaMap({ address: 2n ** 64n - 4096n, size: 8192, offset: 0 })), Errno.EINVAL);
  t.is(await errno(client.dmaMap({ address: 2n ** 60n, size, offset: 0 })), Errno.ERANGE);
  t.is(await errno(client.dmaMap({ address: 0, size: FILE_BYTES + 4096 })), Errno.EINVAL, 'the file is smaller');
  t.regex(rig.reports.at(-1)!, /memory: .* has 262144 bytes, and the client maps up to 266240/);
  await client.dmaMap({ address: 0, size: FILE_BYTES });
  t.is(await errno(client.dmaMap({ address: 0x1000, size, offset: 0x1000 })), Errno.EEXIST);
  t.is(
    await errno(client.ask(VfioUserCommand.DMA_MAP, DmaMap.encode({ argsz: 31, flags: 3, size: 4096 }))),
    Errno.EINVAL,
  );
  t.is(await errno(client.ask(VfioUserCommand.DMA_MAP, word(32))), Errno.EINVAL);
});

test('interrupts: MSI, by its capability, as messages to the address in it', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  await client.setIrqs(VfioIrqSetFlag.DATA_EVENTFD | VfioIrqSetFlag.ACTION_TRIGGER, VfioPciIrq.MSI, 0, 4);
  await client.write(CONFIG, MSI + 4, word(0xfee0_1000));
  await client.write(CONFIG, MSI + 0xc, Uint8Array.of(0x40, 0x12));
  await client.write(CONFIG, MSI + 2, Uint8Array.of(0x21, 0));
  await client.write(0, Reg.DOORBELL, word(Doorbell.INTERRUPT));
  t.is(await client.readNumber(0, Reg.ID, 4), ID);
  t.deepEqual(client.writes, [], 'bus mastering is off');
  await enable(client);
  await client.write(0, Reg.DOORBELL, word(Doorbell.INTERRUPT + 0x200));
  await client.written(1);
  t.deepEqual(client.writes, [{ address: 0xfee0_1000n, data: word(0x1242) }]);
  await client.setIrqs(VfioIrqSetFlag.DATA_NONE | VfioIrqSetFlag.ACTION_TRIGGER, VfioPciIrq.MSI, 1, 1);
  await client.written(2);
  const raised = Uint8Array.of(1, 0, 1);
  await client.setIrqs(VfioIrqSetFlag.DATA_BOOL | VfioIrqSetFlag.ACTION_TRIGGER, VfioPciIrq.MSI, 1, 3, raised);
  await client.written(4);
  t.deepEqual(
    client.writes.map(({ data }) => data[0]),
    [0x42, 0x41, 0x41, 0x43],
  );
});

test('SET_IRQS: what makes no sense is refused', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_TRIGGER } = VfioIrqSetFlag;
  const { INTX, MSI: msi, MSIX } = VfioPciIrq;
  await client.setIrqs(DATA_NONE | ACTION_TRIGGER, msi, 0, 0);
  await client.setIrqs(DATA_NONE | ACTION_TRIGGER, INTX, 0, 0);
  for (const [flags, index, start, count] of [
    [0, msi, 0, 1],
    [ACTION_TRIGGER, msi, 0, 1],
    [DATA_NONE, msi, 0, 1],
    [DATA_NONE | DATA_BOOL | ACTION_TRIGGER, msi, 0, 1],
    [DATA_NONE | ACTION_MASK | ACTION_TRIGGER, msi, 0, 1],
    [DATA_NONE | ACTION_TRIGGER | 0x40, msi, 0, 1],
    [0xffff_ffff, msi, 0, 1],
    [DATA_EVENTFD | ACTION_TRIGGER, msi, 0, 5],
    [DATA_EVENTFD | ACTION_TRIGGER, msi, 4, 1],
    [DATA_EVENTFD | ACTION_TRIGGER, msi, 0xffff_ffff, 2],
    [DATA_EVENTFD | ACTION_TRIGGER, msi, 0, 0xffff_ffff],
    [DATA_EVENTFD | ACTION_TRIGGER, msi, 0, 0],
    [DATA_NONE | ACTION_TRIGGER, msi, 1, 0],
    [DATA_EVENTFD | ACTION_TRIGGER, INTX, 0, 1],
    [DATA_EVENTFD | ACTION_TRIGGER, MSIX, 0, 1],
    [DATA_NONE | ACTION_TRIGGER, 5, 0, 0],
    [DATA_BOOL | ACTION_TRIGGER, msi, 0, 2],
  ] as const) {
    t.is(await errno(client.setIrqs(flags, index, start, count)), Errno.EINVAL, `${flags} ${index} ${start} ${count}`);
  }
  t.is(await errno(client.setIrqs(DATA_NONE | ACTION_MASK, msi, 0, 1)), Errno.EOPNOTSUPP);
  t.is(await errno(client.ask(VfioUserCommand.DEVICE_SET_IRQS, new Uint8Array(19))), Errno.EINVAL);
});

test('DEVICE_RESET: the device and its configuration space are as after power-on', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const fresh = await client.read(CONFIG, 0, 256);
  await enable(client);
  await client.write(CONFIG, Config.BAR0, word(0xfebf_c000));
  await client.write(0, BUFFER, word(1));
  t.notDeepEqual(await client.read(CONFIG, 0, 256), fresh);
  await client.reset();
  t.deepEqual(await client.read(CONFIG, 0, 256), fresh);
  t.is(await client.readNumber(0, BUFFER, 4), 0);
});

test('what this server does not do, and what is no command, is answered with an error', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const { DEVICE_GET_REGION_IO_FDS, DIRTY_PAGES, DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE } = VfioUserCommand;
  for (const command of [DEVICE_GET_REGION_IO_FDS, DIRTY_PAGES, DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE]) {
    t.is(await errno(client.ask(command, new Uint8Array(16))), Errno.EOPNOTSUPP, `command ${command}`);
  }
  for (const command of [0, VfioUserCommand.DMA_READ, VfioUserCommand.DMA_WRITE, 19, 0xffff]) {
    t.is(await errno(client.ask(command, new Uint8Array(16))), Errno.EINVAL, `command ${command}`);
  }
  const reserved = await client.request(VfioUserCommand.DEVICE_GET_INFO, new Uint8Array(16), 2);
  t.is(reserved?.error, Errno.EINVAL, 'a type of message that there is not');
});

test('a device that fails ends the access, not the server', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  t.is(await errno(client.read(0, Reg.FAIL, 4)), Errno.EIO);
  t.regex(rig.reports.at(-1)!, /copier: command 9 failed: Error: the device is broken/);
  t.is(await client.readNumber(0, Reg.ID, 4), ID);
});

test('replies come in the order of the commands, however many are under way', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  const asked = Array.from({ length: 500 }, async (_, index) => {
    await client.write(0, BUFFER, word(index));
    return client.readNumber(0, BUFFER, 4);
  });
  const order: number[] = [];
  await Promise.all(asked.map(async (each, index) => each.then(() => order.push(index))));
  t.deepEqual(
    order,
    order.toSorted((a, b) => a - b),
  );
});

test('when the client is gone, so is what it mapped; the device stays as it is', async t => {
  await using rig = await Rig.start();
  const first = await rig.connect();
  await enable(first);
  await first.dmaMap({ address: 0, size: FILE_BYTES });
  await first.write(0, BUFFER, word(0x1234));
  first[Symbol.dispose]();
  const second = await rig.connect();
  t.is(await second.readNumber(0, BUFFER, 4), 0x1234);
  t.is(await transfer(second, Doorbell.FROM_MEMORY, 0, 4), MemTx.DECODE_ERROR);
  await second.dmaMap({ address: 0, size: FILE_BYTES });
  t.is(await transfer(second, Doorbell.FROM_MEMORY, 0, 4), MemTx.OK);
});

test('a second client is turned away while the first is there', async t => {
  await using rig = await Rig.start();
  const first = await rig.connect();
  await t.throwsAsync(VfioUserClient.connect(rig.socket));
  t.is(await first.readNumber(0, Reg.ID, 4), ID);
  t.deepEqual(rig.reports, ['copier: a second client is turned away']);
});

test('one who connects and says nothing makes room for the next', async t => {
  await using rig = await Rig.start();
  const { createConnection } = await import('node:net');
  const silent = new VfioUserClient(createConnection(rig.socket));
  while (!rig.server.busy) await new Promise(resolve => setImmediate(resolve));
  const client = await VfioUserClient.connect(rig.socket);
  await silent.closed;
  t.is(await client.readNumber(0, Reg.ID, 4), ID);
});

test('without a file nothing is reached; one that cannot be opened is told', async t => {
  await using rig = await Rig.start();
  const { rmSync } = await import('node:fs');
  rmSync(rig.file);
  const client = await rig.connect();
  t.is(await errno(client.dmaMap({ address: 0, size: 4096 })), Errno.ENOENT);
  t.regex(rig.reports.at(-1)!, /^memory: .*ram cannot be opened/);
});
