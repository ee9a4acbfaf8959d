import test from 'ava';
import { assemble, type Assembled } from './assemble.js';
import { parseCommandLine } from './command-line.js';
import { CommandLineError } from './mistake.js';

function build(...args: string[]): Assembled & Disposable {
  const made = assemble(parseCommandLine(args));
  return { ...made, [Symbol.dispose]: () => made.machine?.[Symbol.dispose]() };
}

/** Devices by slot. */
function slots(made: Assembled): Record<string, string> {
  const found = made.machine!.description.devices.filter(({ options }) => options['addr'] !== undefined);
  return Object.fromEntries(found.map(({ driver, options }) => [String(options['addr']), driver]));
}

test('devices take slots in the order written, behind those that QEMU has taken', t => {
  const devices = ['-device', 'iommu-testdev', '-device', 'edu', '-device', 'intel-iommu', '-device', 'dma-engine'];
  using bare = build('-nodefaults', ...devices);
  t.deepEqual(slots(bare), { '01.0': 'iommu-testdev', '02.0': 'edu', '03.0': 'dma-engine' });
  using plain = build('-net', 'none', ...devices);
  t.deepEqual(slots(plain), { '02.0': 'iommu-testdev', '03.0': 'edu', '04.0': 'dma-engine' });
});

test('a machine of a version has the behaviour of that version, unless something else is asked for', t => {
  const compat = (machine: string, ...more: string[]): unknown => {
    using made = build('-M', machine, '-device', 'edu', ...more);
    return made.machine!.description.devices.find(({ driver }) => driver === 'intel-iommu')!.options['compat'];
  };
  const iommu = ['-device', 'intel-iommu'];
  t.is(compat('q35', ...iommu), 'spec');
  t.is(compat('pc-q35-10.2', ...iommu), 'qemu-10.2');
  t.is(compat('pc-q35-10.2', ...iommu, '-global', 'intel-iommu.compat=spec'), 'spec');
  t.is(compat('pc-q35-10.2', '-device', 'intel-iommu,compat=spec'), 'spec');
  t.is(compat('q35', ...iommu, '-global', 'intel-iommu.compat=qemu-10.2'), 'qemu-10.2');
  t.is(compat('pc-q35-9.2', ...iommu), 'spec');
  using other = build('-M', 'pc-q35-9.2');
  t.deepEqual(other.warnings, ['pc-q35-9.2 is q35 here: of versions, 10.2 is known']);
  using known = build('-M', 'pc-q35-10.2');
  t.deepEqual(known.warnings, []);
});

test('a slot that is asked for is had: in every notation, and before those that do not ask', t => {
  using made = build(
    ...[
      '-nodefaults',
      '-device',
      'edu',
      '-device',
      'edu,addr=0x5',
      '-device',
      'edu,addr=01.0',
      '-device',
      'edu,addr=1f.7',
    ],
    ...['-device', '{"driver":"edu","addr":80}'],
  );
  t.deepEqual(Object.keys(slots(made)).sort(), ['01.0', '02.0', '05.0', '0a.0', '1f.7']);
});

test('what is plugged later keeps away from reserved slots, too', t => {
  using made = build('-M', 'q35');
  made.machine!.plug('edu,id=late');
  t.deepEqual(slots(made), { '03.0': 'edu' });
});

test('global options give way to those of a device, however either is written', t => {
  using made = build(
    ...['-global', 'intel-iommu.aw-bits=39', '-global', 'intel-iommu.flts=off', '-global', 'edu.dma_mask=0xff'],
    ...[
      '-device',
      'intel-iommu,aw-bits=48,x-scalable-mode=on,x-flts=on',
      '-device',
      'edu',
      '-device',
      'edu,dma_mask=0x7f',
    ],
  );
  const of = (driver: string): unknown[] =>
    made.machine!.description.devices.filter(each => each.driver === driver).map(({ options }) => options);
  t.like(of('intel-iommu')[0], { 'aw-bits': 48, 'x-flts': true, intremap: true });
  t.deepEqual(
    of('edu').map(options => (options as { dma_mask: string }).dma_mask),
    ['0xff', '0x7f'],
  );
});

test('the board: memory, mch, machine options', t => {
  using made = build('-M', 'q35,accel=tcg,usb=off', '-m', '1G', '-global', 'mch.extended-tseg-mbytes=3');
  t.like(made.machine!.description.board.options, { memory: 2 ** 30, 'extended-tseg-mbytes': 3, ecam: false });
  using usual = build();
  t.is(usual.machine!.board.ram.size, 128 * 2 ** 20);
});

test('the machine none', t => {
  t.is(build('-M', 'none').machine, undefined);
});

const MISTAKES: readonly (readonly [string, string])[] = [
  ['-device foo', "-device foo: 'foo' is not a valid device model name"],
  ['-device id=x', "-device id=x: Parameter 'driver' is missing"],
  ['-device edu,foo=1', "-device edu,foo=1: Property 'edu.foo' not found"],
  ['-device edu,addr=20', "-device edu,addr=20: '20' is not a slot: device[.function], hexadecimal"],
  ['-device edu,addr=1f -device edu,addr=1f', '-device edu,addr=1f: addr: 1f.0 on pcie.0 is taken by "edu"'],
  [
    '-device intel-iommu,aw-bits=40',
    '-device intel-iommu,aw-bits=40: aw-bits: "40" is not one of 39, 48, 57 (intel-iommu)',
  ],
  ['-M none -device edu', "-device edu: No bus found for device 'edu'"],
  ['-M q35,foo=1', "-M q35,foo=1: Property 'q35-machine.foo' not found"],
  ['-global mch.foo=1', "-global mch.foo=1: Property 'mch.foo' not found"],
  ['-global edu.foo=1', "-global edu.foo=1: Property 'edu.foo' not found"],
  ['-m 1b', '-m: "1b" is less than 1M (q35)'],
];

for (const [text, message] of MISTAKES) {
  test(`a mistake: ${text}`, t => {
    t.throws(() => build(...text.split(' ')), { instanceOf: CommandLineError, message });
  });
}

test('a global option for what is not known is warned of', t => {
  using made = build('-global', 'e1000.mac=x');
  t.deepEqual(made.warnings, ["-global e1000.mac=x: there is no device 'e1000'"]);
});
