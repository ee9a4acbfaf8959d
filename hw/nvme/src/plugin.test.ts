import test from 'ava';
import { ConfigError, Inspector, MemTx } from '@remora/core';
import { type AnyDeviceKind, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { nvme, nvmeProperties } from './config.js';
import plugin from './plugin.js';
import { BAR, RID, rig } from './rig.test.helper.js';

test('the plug-in brings one kind, which the typed helper names', t => {
  const container = new Container();
  container.load(plugin.module);
  const [kind, ...more] = container.getAll<AnyDeviceKind>(DeviceKinds);
  t.deepEqual(more, []);
  t.deepEqual([kind!.id, kind!.bus], ['nvme', 'pci']);
  t.deepEqual(nvme({ addr: '03.0', size: '1G' }), { driver: 'nvme', options: { addr: '03.0', size: '1G' } });
});

test('options that cannot be', t => {
  const parse = (options: Record<string, unknown>) => nvmeProperties.parse('nvme', options);
  for (const [options, message] of [
    [{ serial: 'a serial number that is too long' }, /^nvme.serial: ".*" is not a serial number: 1 to 20/],
    [{ serial: '' }, /^nvme.serial/],
    [{ logical_block_size: 1024 }, /^nvme.logical_block_size: "1024" is not one of 512, 4096/],
    [{ max_ioqpairs: 0 }, /^nvme.max_ioqpairs/],
    [{ mdts: 14 }, /^nvme.mdts/],
    [{ msix_qsize: 2049 }, /^nvme.msix_qsize/],
    [{ drive: 'd0' }, /^nvme.drive: unknown property/],
  ] as const)
    t.throws(() => parse(options), { instanceOf: ConfigError, message });
  t.is(parse({ logicalBlockSize: '4096' }).logical_block_size, 4096);
});

test('as many queues as QEMU allows have their doorbells', t => {
  const { driver, config } = rig({ max_ioqpairs: 0xffff });
  config.write(0x10, 0xffff_ffff, 4);
  t.is(config.get32(0x10), 0xfff0_0004);
  config.write(0x10, 0xe000_0000, 4);
  driver.createQueues(0xffff);
  t.is(driver.run(0xffff, { opcode: 0, nsid: 1 }).status, 0);
});

test('unplugged: off the bus, with its registers; to be disposed of as often as one likes', t => {
  const { device, root, driver, addressSpace } = rig();
  driver.write(0, new Uint8Array(512).fill(1));
  device.unplug();
  t.is(root.functions[RID], undefined);
  t.not(addressSpace.read(0, BAR, new Uint8Array(4)), MemTx.OK);
  device[Symbol.dispose]();
  device[Symbol.dispose]();
});

test('inspection shows registers, queues and the namespace', t => {
  const { device, driver } = rig();
  driver.write(0, new Uint8Array(512).fill(1));
  const into = new Inspector();
  device.inspect(into);
  const text = into.toString();
  t.regex(text, /csts: rdy=1/);
  t.regex(text, /sq1:\n {2}base: 0x[0-9a-f]+\n {2}size: 64\n {2}head: 1\n {2}tail: 1\n {2}completions: 1/);
  t.regex(text, /cq1:[^]*phase: 1/);
  t.regex(text, /namespace:\n {2}place: memory\n {2}blocks: 8192\n {2}blockBytes: 512\n {2}allocated: 65536/);
});
