/** The same commands to a real QEMU and to `remora-system-x86_64`: the same replies, but for what is listed. */
import { spawn } from 'node:child_process';
import test from 'ava';
import { findQemu } from '../qmp/real-qemu.js';
import { MORTAL } from '../rig/processes.js';
import { PROGRAM } from './program-under-test.js';

const qemu = findQemu();
const ifPresent = 'program' in qemu ? test.serial : test.serial.skip;

/** All lines until the last command has its reply. */
async function answers(
  program: readonly string[],
  args: readonly string[],
  commands: readonly string[],
): Promise<string[]> {
  const own = ['-display', 'none', '-S', '-accel', 'tcg', '-qtest', 'stdio', '-qtest-log', 'none', ...args];
  const [file, ...before] = program;
  const child = spawn(file!, [...before, ...own], { ...MORTAL, stdio: ['pipe', 'pipe', 'ignore'] });
  const exited = new Promise(resolve => child.once('exit', resolve));
  child.stdin.write(`${commands.join('\n')}\n`);
  const lines: string[] = [];
  let rest = '';
  let replies = 0;
  try {
    for await (const chunk of child.stdout) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop()!;
      lines.push(...parts);
      replies += parts.filter(line => !line.startsWith('IRQ ')).length;
      if (replies >= commands.length) break;
    }
    return lines;
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

async function both(
  args: readonly string[],
  commands: readonly string[],
): Promise<{ theirs: string[]; ours: string[] }> {
  if ('missing' in qemu) throw new Error(qemu.missing);
  const theirs = await answers([qemu.program], args, commands);
  return { theirs, ours: await answers([process.execPath, PROGRAM], args, commands) };
}

/** Reads or writes a byte of the host bridge. */
const mch = (register: number, access: string): string[] => [
  `outl 0xcf8 0x${(0x8000_0000 + register).toString(16)}`,
  access,
];

ifPresent('memory, ports and malformed words', async t => {
  const commands = [
    ...['endianness', 'endianness ', 'bogus', 'memset 0x1000 0x10 0xa5', 'read 0x1000 8', 'readq 0x1ffc'],
    ...['write 0x1000 4 0x1', 'read 0x1000 4', 'write 0x1000 4 0x', 'write 0x1000 3 0x112233', 'write 0x1000 5 0xff'],
    ...['read 0x1000 8', 'b64write 0x1000 3 3q2+', 'b64read 0x1000 4', 'writeb 0x1000 0x1ff', 'readl 0x1000'],
    ...['writew 4097 65537', 'readb 010', 'readl 0xa0000000', 'readq 0xffffffffffffffff', 'inl 0x1234', 'inb 0x1234'],
    ...['outl 0xcf8 0x80000000', 'inl 0xcfc', 'inw 0xcfe', 'inl 0xcf8', 'writeq 0x1000 -1', 'readq 0x1000'],
  ];
  const { theirs, ours } = await both(['-M', 'q35', '-m', '128M', '-nodefaults'], commands);
  t.is(theirs.length, commands.length);
  t.deepEqual(ours, theirs);
});

ifPresent('interrupt pins', async t => {
  const commands = [
    ...['irq_intercept_in nowhere', 'irq_intercept_in ioapic', 'irq_intercept_in ioapic'],
    ...['set_irq_in ioapic unnamed-gpio-in 3 1', 'set_irq_in ioapic unnamed-gpio-in 3 1'],
    ...['set_irq_in /machine/q35/ioapic unnamed-gpio-in 3 0', 'set_irq_in nowhere unnamed-gpio-in 3 0'],
  ];
  const { theirs, ours } = await both(['-M', 'q35', '-m', '128M', '-nodefaults'], commands);
  t.is(theirs.length, commands.length + 2);
  t.deepEqual(ours, theirs);
});

for (const [first, second] of [
  ['out', 'in'],
  ['in', 'out'],
]) {
  ifPresent(`interception: ${first}, then ${second}`, async t => {
    const commands = [
      ...[`irq_intercept_${first} ioapic`, `irq_intercept_${second} /machine/q35/ioapic`],
      ...['set_irq_in ioapic unnamed-gpio-in 3 1', 'irq_intercept_in probe', 'irq_intercept_out nowhere'],
    ];
    const { theirs, ours } = await both(['-M', 'q35', '-nodefaults', '-device', 'edu,id=probe'], commands);
    t.is(theirs.length, commands.length + (first === 'in' ? 1 : 0));
    t.deepEqual(ours, theirs);
  });
}

ifPresent('SMRAM, TSEG and SMBASE', async t => {
  const writes = (register: number, values: readonly number[]): string[] =>
    values.flatMap(value => [...mch(register, `outb 0xcfc 0x${value.toString(16)}`), 'inb 0xcfc', 'readb 0x30000']);
  const commands = [
    ...mch(0x50, 'inw 0xcfc'),
    ...['outw 0xcfc 0x1234', 'inw 0xcfc', 'outw 0xcfc 0xffff', 'inw 0xcfc'],
    ...writes(0x9c, [0x02, 0x55, 0xff, 0x01, 0x04, 0xff, 0x00]),
    ...writes(0x9d, [0x00, 0xff ^ 0x10, 0x42, 0x0a]),
    ...[0x38, 0x39, 0x3b, 0x3d, 0x3f, 0x00, 0xff].flatMap(value => [
      ...writes(0x9e, [value]),
      ...[
        'readb 0x7ffffff',
        'readb 0x7f00000',
        'readb 0x7efffff',
        'readb 0x7800000',
        'readb 0x77fffff',
        'readb 0x7000000',
      ],
    ]),
    ...writes(0x9d, [0x5a, 0xff, 0x00]),
    ...writes(0x9e, [0x38]),
  ];
  const { theirs, ours } = await both(['-M', 'q35', '-m', '128M', '-nodefaults'], commands);
  t.is(theirs.length, commands.length);
  t.deepEqual(ours, theirs);
});

/** A configuration register, as configuration mechanism 1 reaches it. */
const selected = (bus: number, devfn: number, register: number): string =>
  `outl 0xcf8 0x${(0x8000_0000 + bus * 0x1_0000 + devfn * 0x100 + register).toString(16)}`;
const WIDTHS = ['b', 'w', 'l'];
/** ICH9's reset control register is there, which this board has not. */
const RESET_CONTROL_PORT = 0xcf9;
const CONFIG_PORTS = Array.from({ length: 8 }, (_, index) => 0xcf8 + index).filter(port => port !== RESET_CONTROL_PORT);

ifPresent('every width at every port of configuration mechanism 1', async t => {
  const accesses = CONFIG_PORTS.flatMap(port => WIDTHS.map(width => ({ width, port: `0x${port.toString(16)}` })));
  const reads = accesses.map(({ width, port }) => `in${width} ${port}`);
  const addresses = ['0x80002800', '0x00002800', '0x80002812', '0x8000283d', '0x80000000', '0xffffffff', '0x800128ff'];
  const writes = addresses.flatMap(address =>
    accesses.flatMap(({ width, port }) =>
      ['0xffffffff', '0x12345678', '0x0'].flatMap(value => [
        `outl 0xcf8 ${address}`,
        `out${width} ${port} ${value}`,
        ...reads,
      ]),
    ),
  );
  const ends = ['0x800028fd', '0x800028ff', '0x800000fe'].flatMap(address => [`outl 0xcf8 ${address}`, ...reads]);
  const commands = [...reads, ...writes, ...ends];
  const { theirs, ours } = await both(['-M', 'q35', '-nodefaults', '-device', 'edu,addr=05.0'], commands);
  t.is(theirs.length, commands.length);
  const different = commands.flatMap((command, i) =>
    theirs[i] === ours[i] ? [] : `${command}: ${ours[i]}, not ${theirs[i]}`,
  );
  t.deepEqual(different, []);
});

/** Commands that enable a device with one BAR, have it assert INTx, disable that, acknowledge, and assert it again. */
function interruptsOf(bus: number, slot: number, base: number): string[] {
  const at = (register: number): string => selected(bus, slot << 3, register);
  const edu = (register: number, value: number): string =>
    `writel 0x${(base + register).toString(16)} 0x${value.toString(16)}`;
  const command = (value: number): string[] => [at(4), `outw 0xcfc 0x${value.toString(16)}`];
  return [
    ...[at(0x10), `outl 0xcfc 0x${base.toString(16)}`, ...command(6), at(0x3c), 'inl 0xcfc'],
    ...[edu(0x60, 1), at(4), 'inl 0xcfc', edu(0x60, 2), ...command(0x406), at(4), 'inl 0xcfc', ...command(6)],
    ...[edu(0x64, 1), edu(0x64, 2), at(4), 'inl 0xcfc', edu(0x60, 4)],
  ];
}

const GROUPS = [
  [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  [11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
  [21, 22, 23, 24, 25, 26, 27, 28, 29, 30],
];
for (const slots of GROUPS) {
  ifPresent(`pins of devices ${slots[0]} to ${slots.at(-1)}`, async t => {
    const devices = slots.flatMap(slot => ['-device', `edu,addr=0x${slot.toString(16)}`]);
    const commands = slots.flatMap((slot, index) => interruptsOf(0, slot, 0xe000_0000 + index * 0x10_0000));
    const { theirs, ours } = await both(
      ['-M', 'q35', '-nodefaults', ...devices],
      ['irq_intercept_in ioapic', ...commands],
    );
    t.true(theirs.filter(line => line.startsWith('IRQ raise')).length >= 4);
    t.deepEqual(ours, theirs);
  });
}

ifPresent('pins behind bridges', async t => {
  const devices = [
    'pcie-root-port,id=rp,addr=0x1d',
    'pcie-pci-bridge,id=b,bus=rp',
    'edu,bus=b,addr=3',
    'edu,bus=b,addr=6',
  ];
  const numbers = [selected(0, 0xe8, 0x18), 'outl 0xcfc 0x20100', selected(1, 0, 0x18), 'outl 0xcfc 0x20201'];
  const windows = [
    [0, 0xe8],
    [1, 0],
  ].flatMap(([bus = 0, devfn = 0]) => {
    const at = (register: number): string => selected(bus, devfn, register);
    return [at(0x20), 'outl 0xcfc 0xe1f0e000', at(4), 'outw 0xcfc 6'];
  });
  const commands = [
    ...['irq_intercept_in ioapic', ...numbers, ...windows],
    ...[...interruptsOf(2, 3, 0xe000_0000), ...interruptsOf(2, 6, 0xe010_0000)],
    ...[selected(1, 0, 0x3e), 'outw 0xcfc 0x40'],
  ];
  const { theirs, ours } = await both(
    ['-M', 'q35', '-nodefaults', ...devices.flatMap(device => ['-device', device])],
    commands,
  );
  t.true(theirs.filter(line => line.startsWith('IRQ')).length >= 8);
  t.deepEqual(ours, theirs);
});

for (const args of [['-nodefaults'], ['-net', 'none'], ['-vga', 'none'], []]) {
  ifPresent(`slots of devices with "${args.join(' ')}"`, async t => {
    const commands = Array.from({ length: 32 }, (_, slot) => [
      `outl 0xcf8 0x${(0x8000_0000 + slot * 0x800).toString(16)}`,
      'inl 0xcfc',
    ]).flat();
    const devices = ['-device', 'edu', '-device', 'edu,addr=0x7', '-device', 'edu,addr=05.0', '-device', 'edu'];
    const { theirs, ours } = await both(['-M', 'q35', ...args, ...devices], commands);
    const edus = (replies: readonly string[]): number[] =>
      replies.flatMap((reply, index) => (reply === 'OK 0x11e81234' ? [(index - 1) / 2] : []));
    t.is(edus(theirs).length, 4);
    t.deepEqual(edus(ours), edus(theirs));
  });
}
