import test from 'ava';
import { ConfigError } from '@remora/core';
import { Capability, Config, PciFunction } from '@remora/pci';
import { VfioPciIrq, VfioPciRegion } from '@remora/uapi';
import { Copier, Rig, word } from './rig.test.helper.js';
import { servedFunction } from './served-function.js';

const { CONFIG } = VfioPciRegion;

/** Capability ids along the chain, as a client walks it. */
function chain(config: Uint8Array): number[] {
  const ids: number[] = [];
  for (let at = config[Config.CAPABILITIES]!; at !== 0; at = config[at + 1]!) ids.push(config[at]!);
  return ids;
}

function configOf(fn: PciFunction): Uint8Array {
  const region = servedFunction('devices[0]', fn, {}).regions[CONFIG]!;
  const out = new Uint8Array(region.size);
  region.read(0, out);
  return out;
}

test('a function with MSI is served as it is', t => {
  const { fn } = new Copier();
  t.deepEqual(configOf(fn), fn.config.bytes);
  t.deepEqual(chain(configOf(fn)), [Capability.VENDOR, Capability.MSI]);
});

test('a PCI Express function has all of its configuration space', t => {
  const { fn } = new Copier({ pcie: true });
  fn.enablePasid(20);
  const config = configOf(fn);
  t.is(config.length, 4096);
  t.deepEqual([...config.subarray(0x100, 0x104)], [0x1b, 0, 1, 0]);
});

test('MSI-X beside MSI is not shown, wherever it is in the chain, and cannot be enabled', async t => {
  const first = new PciFunction('first', { vendor: 1, device: 1, classCode: 0 });
  first.enableMsix(2, 1);
  first.enableMsi(1);
  t.deepEqual(chain(configOf(first)), [Capability.MSI]);
  const last = new PciFunction('last', { vendor: 1, device: 1, classCode: 0 });
  last.enableMsi(1);
  last.enableMsix(2, 1);
  t.deepEqual(chain(configOf(last)), [Capability.MSI]);
  t.deepEqual(servedFunction('x', last, {}).interrupts, [0, 1, 0, 0, 0]);

  await using rig = await Rig.start({ device: new Copier({ msix: 4 }) });
  const client = await rig.connect();
  const config = await client.read(CONFIG, 0, 256);
  t.deepEqual(chain(config), [Capability.VENDOR, Capability.MSI]);
  const at = rig.device.fn.capabilities.find(Capability.MSIX)!;
  t.deepEqual([...config.subarray(at, at + 12)], new Array(12).fill(0));
  await client.write(CONFIG, at, word(0xffff_ffff));
  await client.write(CONFIG, at + 3, Uint8Array.of(0x80));
  t.is(rig.device.fn.config.get16(at + 2) & 0x8000, 0);
  t.is((await client.irqInfo(VfioPciIrq.MSIX)).count, 0);
});

test('a function whose interrupts cannot be carried is refused, and the message says what it would take', t => {
  const msix = new PciFunction('msix', { vendor: 1, device: 1, classCode: 0 });
  msix.enableMsix(2, 1);
  const intx = new PciFunction('intx', { vendor: 1, device: 1, classCode: 0 });
  intx.config.define(Config.INTERRUPT_PIN, 1, 1);
  for (const [fn, kind] of [
    [msix, 'MSI-X'],
    [intx, 'INTx'],
  ] as const) {
    const failure = t.throws(() => servedFunction('devices[1]', fn, {}), { instanceOf: ConfigError });
    t.regex(failure.message, new RegExp(`^devices\\[1\\]: its interrupts are ${kind}.*koffi`));
  }
});

test('the interrupt pin of a function with MSI is not shown', t => {
  const { fn } = new Copier();
  fn.config.define(Config.INTERRUPT_PIN, 1, 1);
  t.is(configOf(fn)[Config.INTERRUPT_PIN], 0);
});

test('a function without interrupts is served', t => {
  const fn = new PciFunction('quiet', { vendor: 1, device: 1, classCode: 0 });
  t.deepEqual(servedFunction('x', fn, {}).interrupts, [0, 0, 0, 0, 0]);
});

test('BARs are sized and read by the client as on a bus', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  await client.write(CONFIG, Config.BAR0, word(0xffff_ffff));
  await client.write(CONFIG, Config.BAR0 + 4, word(0xffff_ffff));
  t.is(await client.readNumber(CONFIG, Config.BAR0, 4), 0xffff_f004);
  t.is(await client.readNumber(CONFIG, Config.BAR0 + 4, 4), 0xffff_ffff);
  await client.write(CONFIG, 0x30, word(0xffff_f800));
  t.is(await client.readNumber(CONFIG, 0x30, 4), 0, 'there is no ROM');
});

test('configuration space is written in any width, at any place', async t => {
  await using rig = await Rig.start();
  const client = await rig.connect();
  await client.write(CONFIG, Config.INTERRUPT_LINE - 1, Uint8Array.of(1, 2, 3, 4, 5));
  t.is(await client.readNumber(CONFIG, Config.INTERRUPT_LINE, 1), 2);
  await client.write(CONFIG, Config.COMMAND, Uint8Array.of(6));
  t.is(await client.readNumber(CONFIG, Config.COMMAND, 2), 6);
  await client.write(CONFIG, 0, word(0));
  t.is(await client.readNumber(CONFIG, 0, 2), 0x1af4, 'what is read-only stays');
});
