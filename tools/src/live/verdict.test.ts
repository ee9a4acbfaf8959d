import test from 'ava';
import { type BootReport, bootReports } from './console.js';
import { SMALL_TRANSFERS } from './live-disk.js';
import { type LiveMode, MODES } from './modes.js';
import { type Check, CHECK_NAMES, type CheckName, type ModelReport, verdict } from './verdict.js';

const AT = { disk: '0000:00:04.0', edu: '0000:00:05.0', fault: 0x234_5000 };
const EMPTY_SUM = 'd41d8cd98f00b204e9800998ecf8427e';
const DISK = { given: 'a'.repeat(32), written: 'b'.repeat(32), pieces: ['1', '2', '3'], rest: 'c'.repeat(32) };
const CAPABILITIES = 'cap 80d2008c222f0606 ecap f42';

interface Sides {
  /** The console, without times. */
  lines: string[];
  model: ModelReport | undefined;
  disk: { before: typeof DISK; after: typeof DISK };
  silent: boolean;
}

function modeOf(name: string): LiveMode {
  return MODES.find(each => each.name === name)!;
}

/** What both sides say after a boot in which all was well. */
function good(mode: LiveMode): Sides {
  const { fault, remapping } = mode;
  const identity = mode.domain === 'identity';
  return {
    lines: [
      'Linux version 6.1.0 (gcc)',
      'DMAR: IOMMU enabled',
      'DMAR: Host address width 48',
      'DMAR: DRHD base: 0x000000feb04000 flags: 0x0',
      `DMAR: dmar0: reg_base_addr feb04000 ver 1:0 ${CAPABILITIES}`,
      ...(remapping === 'off' ? [] : [`DMAR-IR: Enabled IRQ remapping in ${remapping} mode`]),
      'DMAR: No RMRR found',
      'DMAR: dmar0: Using Queued invalidation',
      'DMAR: Intel(R) Virtualization Technology for Directed I/O',
      'nvme nvme0: pci function 0000:00:04.0',
      'nvme nvme0: 1/0/0 default/read/poll queues',
      'pcieport 0000:00:04.0: AER: enabled with IRQ 25',
      'remora: kernel 6.1.0',
      `remora: processors ${mode.cpus}`,
      `remora: group ${AT.disk} 0 ${mode.domain}`,
      `remora: group ${AT.edu} 1 ${mode.domain}`,
      `remora: read ${DISK.given}`,
      `remora: written ${DISK.written}`,
      `remora: back ${DISK.written}`,
      `remora: storm ${DISK.pieces.join(' ')}`,
      `remora: interrupts 24: 8 ${remapping === 'off' ? '' : 'IR-'}PCI-MSI 65536-edge nvme0q0`,
      `remora: interrupts 25: 1000 600 ${remapping === 'off' ? '' : 'IR-'}PCI-MSI 65537-edge nvme0q1`,
      ...(fault === undefined
        ? []
        : [
            'DMAR: DRHD: handling fault status reg 2',
            `DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x2345000 [fault reason 0x${fault.reason.toString(16).padStart(2, '0')}] ${fault.message}`,
            'remora: fault provoked',
          ]),
      'remora: unbound yes',
      `remora: bound ${DISK.written}`,
      'remora: done',
    ],
    model: {
      translated: identity ? 0 : 13_000,
      passed: identity ? 13_000 : 0,
      refused: fault === undefined ? 0 : 1,
      after: 0,
      descriptors: new Map(identity ? [] : [['iotlb', mode.domain === 'DMA' ? SMALL_TRANSFERS : 100]]),
      remapped: remapping === 'off' ? 0 : 1700,
      blocked: 0,
      unremapped: 0,
      capabilities: CAPABILITIES,
      faults: fault === undefined ? [] : [{ source: AT.edu, reason: fault.reason, address: AT.fault }],
    },
    disk: { before: DISK, after: DISK },
    silent: false,
  };
}

function judged(mode: LiveMode, { lines, model, disk, silent }: Sides): Check[] {
  const report = bootReports(lines.map(line => `[    1.000000] ${line}`))[0] as BootReport | undefined;
  return verdict(mode, AT, report, model, disk, silent);
}

function failing(checks: readonly Check[]): string[] {
  return checks.filter(({ ok }) => !ok).map(({ name }) => name);
}

/** Replaces the lines that a pattern fits by others; there must be one. */
function instead(sides: Sides, pattern: RegExp, ...others: readonly string[]): void {
  if (!sides.lines.some(line => pattern.test(line))) throw new Error(`no line fits ${pattern}`);
  sides.lines = sides.lines.flatMap(line => (pattern.test(line) ? others : [line]));
}

const says =
  (pattern: RegExp, ...others: readonly string[]) =>
  (sides: Sides): void =>
    instead(sides, pattern, ...others);
const adds =
  (line: string) =>
  (sides: Sides): void =>
    void sides.lines.push(line);
const counts =
  (more: Partial<ModelReport>) =>
  (sides: Sides): void => {
    sides.model = { ...sides.model!, ...more };
  };
const leaves =
  (more: Partial<typeof DISK>) =>
  (sides: Sides): void => {
    sides.disk = { ...sides.disk, after: { ...DISK, ...more } };
  };

interface Spoilt {
  readonly what: string;
  readonly mode?: string;
  readonly spoil: (sides: Sides) => void;
}

/** Each in one respect: this check must fail, and no other. */
const SPOILT: Readonly<Record<CheckName, readonly Spoilt[]>> = {
  awake: [{ what: 'the guest falls silent', spoil: sides => (sides.silent = true) }],
  finished: [
    { what: 'the script does not end', spoil: says(/: done$/) },
    { what: 'the disk does not come up in time', spoil: adds('remora: no disk') },
  ],
  kernel: [
    'WARNING: CPU: 0 PID: 1 at drivers/iommu/intel/dmar.c:1 f+0x1/0x2',
    'BUG: kernel NULL pointer dereference, address: 0000000000000008',
    'Call Trace:',
    'nvme nvme0: I/O 12 QID 1 timeout, completion polled',
    'nvme nvme0: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 1 timeout, aborting req_op:READ(0) size:4096',
    'nvme nvme0: Removing after probe failure status: -4',
    'nvme0n1: I/O Cmd(0x2) @ LBA 0, 8 blocks, I/O Error (sct 0x0 / sc 0x4)',
    'blk_update_request: I/O error, dev nvme0n1, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2',
    'Buffer I/O error on dev nvme0n1, logical block 0, async page read',
    'Kernel panic - not syncing: Attempted to kill init!',
    'rcu: INFO: rcu_preempt self-detected stall on CPU',
    'watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [swapper/0:1]',
    'pcieport 0000:00:04.0: AER: Corrected error received: 0000:01:00.0',
    'irq 24: nobody cared (try booting with the "irqpoll" option)',
  ].map(line => ({ what: `Linux says "${line.slice(0, 40)}"`, spoil: adds(line) })),
  processors: [
    { what: 'the second processor is not there', mode: 'smp', spoil: says(/: processors/, 'remora: processors 1') },
    { what: 'there is one too many', spoil: says(/: processors/, 'remora: processors 2') },
    { what: 'they are not counted', spoil: says(/: processors/) },
  ],
  capabilities: [
    { what: 'Linux read others', spoil: says(/reg_base/, `DMAR: dmar0: reg_base_addr 1 ver 1:0 cap 1 ecap f42`) },
    { what: 'Linux does not say which', spoil: says(/reg_base/) },
  ],
  domain: [
    { what: 'the disk is in a domain of another type', spoil: says(/04\.0 0/, `remora: group ${AT.disk} 0 identity`) },
    { what: 'edu is in none', spoil: says(/group 0000:00:05/) },
    { what: 'both are in one group', spoil: says(/group 0000:00:05/, `remora: group ${AT.edu} 0 DMA-FQ`) },
    { what: 'devices do not pass', mode: 'pt', spoil: says(/05\.0 1/, `remora: group ${AT.edu} 1 DMA`) },
  ],
  read: [
    { what: 'nothing is read', spoil: says(/: read/, `remora: read ${EMPTY_SUM}`) },
    { what: 'the sum is not said', spoil: says(/: read/) },
  ],
  written: [
    { what: 'the host has something else', spoil: says(/: (written|back)/, 'remora: written x', 'remora: back x') },
    { what: 'something else is read back', spoil: says(/: back/, `remora: back ${EMPTY_SUM}`) },
    { what: 'nothing is read back', spoil: says(/: back/) },
  ],
  storm: [
    { what: 'a reader gets something else', spoil: says(/: storm/, `remora: storm 1 ${EMPTY_SUM} 3`) },
    { what: 'the host has something else', spoil: leaves({ pieces: ['1', '2', '4'] }) },
    { what: 'it does not happen', spoil: says(/: storm/) },
  ],
  bound: [
    { what: 'the driver keeps the disk', spoil: says(/: unbound/, 'remora: unbound no') },
    { what: 'the disk has changed', spoil: says(/: bound/, `remora: bound ${EMPTY_SUM}`) },
    { what: 'the disk does not come back', spoil: says(/: bound/) },
  ],
  untouched: [{ what: 'something else was written', spoil: leaves({ rest: 'd' }) }],
  flushed: [
    { what: 'nothing is invalidated', spoil: counts({ descriptors: new Map([['wait', 9000]]) }) },
    {
      what: 'not each transfer is followed by an invalidation',
      mode: 'strict',
      spoil: counts({ descriptors: new Map([['iotlb', SMALL_TRANSFERS - 1]]) }),
    },
    {
      what: 'nothing is done in batches',
      spoil: counts({ descriptors: new Map([['p-iotlb', SMALL_TRANSFERS]]) }),
    },
    { what: 'something was mapped', mode: 'pt', spoil: counts({ descriptors: new Map([['iotlb', 1]]) }) },
  ],
  messages: [
    { what: 'an unusual message', spoil: adds('DMAR: VT-d detected Invalidation Queue Error: Reason 1') },
    { what: 'translation is not announced', spoil: says(/Directed I\/O$/) },
    { what: 'queued invalidation is not used', spoil: says(/Using Queued/) },
    {
      what: 'remapping is another mode',
      mode: 'eim',
      spoil: says(/-IR: En/, 'DMAR-IR: Enabled IRQ remapping in xapic mode'),
    },
    { what: 'remapping is not announced', mode: 'ir', spoil: says(/-IR: En/) },
    { what: 'remapping where there is none', spoil: adds('DMAR-IR: Enabled IRQ remapping in xapic mode') },
  ],
  decoded: [
    { what: 'the fault is not decoded', spoil: says(/fault addr/) },
    {
      what: 'the fault is decoded twice',
      spoil: sides => void sides.lines.push(...sides.lines.filter(line => line.includes('fault addr'))),
    },
    { what: 'the fault was never provoked', spoil: says(/fault provoked/) },
  ],
  recorded: [
    { what: 'no fault', spoil: counts({ faults: [] }) },
    { what: 'another reason', spoil: counts({ faults: [{ source: AT.edu, reason: 5, address: AT.fault }] }) },
    { what: 'of another function', spoil: counts({ faults: [{ source: AT.disk, reason: 6, address: AT.fault }] }) },
    { what: 'a refusal that was not recorded', spoil: counts({ refused: 2 }) },
    { what: 'a refusal where all pass', mode: 'pt', spoil: counts({ refused: 1 }) },
  ],
  translated: [
    { what: 'too few', spoil: counts({ translated: 999 }) },
    { what: 'too few pass', mode: 'pt', spoil: counts({ passed: 999 }) },
  ],
  untranslated: [
    { what: 'one passes', spoil: counts({ passed: 1 }) },
    { what: 'one comes when translation is off again', spoil: counts({ after: 1 }) },
    { what: 'one is translated where all should pass', mode: 'pt', spoil: counts({ translated: 1 }) },
  ],
  interrupts: [
    { what: 'not counted', spoil: says(/: interrupts/) },
    { what: 'too few', spoil: says(/: interrupts/, 'remora: interrupts 24: 200 49 PCI-MSI 65536-edge nvme0q0') },
    { what: 'remapped where nothing should be', spoil: counts({ remapped: 1 }) },
    { what: 'blocked', mode: 'ir', spoil: counts({ blocked: 1 }) },
    { what: 'past the table', mode: 'ir', spoil: counts({ unremapped: 1 }) },
    { what: 'fewer remapped than taken', mode: 'ir', spoil: counts({ remapped: 1607 }) },
    {
      what: 'one of a queue without remapping',
      mode: 'eim',
      spoil: says(/interrupts 24/, 'remora: interrupts 24: 8 PCI-MSI 1-edge q'),
    },
  ],
};

for (const mode of MODES) {
  test(`${mode.name}: a good boot fails no check`, t => {
    t.deepEqual(
      judged(mode, good(mode)).filter(({ ok }) => !ok),
      [],
    );
  });
}

for (const name of CHECK_NAMES) {
  for (const { what, mode: of = 'legacy', spoil } of SPOILT[name]) {
    test(`${name} fails, and nothing else: ${what} (${of})`, t => {
      const mode = modeOf(of);
      const sides = good(mode);
      spoil(sides);
      t.deepEqual(failing(judged(mode, sides)), [name]);
    });
  }
}

test('without one of the sides nothing holds', t => {
  const mode = modeOf('legacy');
  t.deepEqual(failing(judged(mode, { ...good(mode), lines: ['SeaBIOS'] })), CHECK_NAMES);
  t.deepEqual(failing(judged(mode, { ...good(mode), model: undefined })), CHECK_NAMES);
});
