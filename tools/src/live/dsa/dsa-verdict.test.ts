// Each check of the verdict fails on a report that is spoilt in that one respect.
import test from 'ava';
import { bootReports } from '../console.js';
import { copyProgram } from './copy-program.js';
import { type DsaAccount, dsaVerdict } from './dsa-verdict.js';

const SAID = [
  'kernel 7.2.12+deb13-amd64',
  'driver idxd',
  'group DMA',
  'pasids 1',
  'kernel_queue enabled enabled 0x0 dma0chan0',
  'kernel_copied 0 112 18155408 eadbff38 eadbff38',
  'kernel_executed 112',
  'interrupts 26: 3 PCI-MSIX-0000:00:04.0 0-edge idxd-misc',
  'interrupts 27: 31 PCI-MSIX-0000:00:04.0 1-edge idxd-portal',
  'kernel_stopped disabled disabled 0x0',
  'user_queue enabled enabled 0x0',
  'given 0123456789abcdef0123456789abcdef',
  'taken 17 0123456789abcdef0123456789abcdef',
  'user_stopped disabled disabled 0x0',
  'done',
];
const REFUSAL = '[    4.800000] idxd 0000:00:04.0: pasid allocation failed: -95';

function failing(
  said: readonly string[],
  requested = 32,
  more: Partial<DsaAccount> = {},
  extra: string[] = [],
): string[] {
  const lines = [
    '[    0.000000] Linux version 7.2.12',
    ...said.map(words => `[    4.000000] remora: ${words}`),
    ...extra,
  ];
  const descriptors = new Map([['page-group-response', requested]]);
  const account = { descriptors, faults: [], translated: 400, direct: 8600, passed: 0, after: 0, ...more };
  return dsaVerdict(bootReports(lines)[0], lines, account)
    .filter(({ ok }) => !ok)
    .map(({ name }) => name);
}

/** The line that begins with these words goes on with others. */
function spoilt(beginning: string, words: string): string[] {
  return SAID.map(line => (line.startsWith(`${beginning} `) ? `${beginning} ${words}` : line));
}

test('a report as it should be', t => {
  t.deepEqual(failing(SAID), []);
});

const SPOILT: readonly [string, string, string][] = [
  ['driver', 'pcieport', 'driver'],
  ['group', 'identity', 'domain'],
  ['pasids', '0', 'pasids'],
  ['kernel_queue', 'enabled disabled 0x80110000', 'kernel queue'],
  ['kernel_copied', '-5 112 18155408 eadbff38 eadbff38', 'kernel copies'],
  ['kernel_copied', '0 112 18155408 eadbff38 eadbff39', 'kernel copies'],
  ['kernel_executed', '111', 'kernel submits'],
  ['interrupts 26:', '1 PCI-MSIX-0000:00:04.0 0-edge idxd-misc', 'interrupts'],
  ['interrupts 27:', '0 PCI-MSIX-0000:00:04.0 1-edge idxd-portal', 'queue interrupts'],
  ['kernel_stopped', 'disabled enabled 0x0', 'kernel queue off'],
  ['user_queue', 'enabled disabled 0x80110000', 'user queue'],
  ['taken', '19 0123456789abcdef0123456789abcdef', 'shared'],
  ['taken', '17 ffffffffffffffffffffffffffffffff', 'shared'],
  ['user_stopped', 'enabled enabled 0x0', 'user queue off'],
];

for (const [keyword, words, check] of SPOILT) {
  test(`${keyword} ${words}`, t => {
    t.deepEqual(failing(spoilt(keyword, words)), [check]);
  });
}

test('a boot that ends early, pages that nobody asked for, and faults', t => {
  t.deepEqual(failing(SAID.slice(0, -1)), ['finished']);
  t.deepEqual(failing(SAID, 31), ['pages requested']);
  t.deepEqual(failing(spoilt('kernel_copied', '0 99 18155408 eadbff38 eadbff38')), ['kernel copies', 'kernel submits']);
  t.deepEqual(failing(SAID.filter(line => !line.startsWith('kernel_copied'))), [
    'kernel copies',
    'kernel submits',
    'translated',
  ]);
  // As many pages as were copied, one less, and transfers that took another way.
  t.deepEqual(failing(SAID, 32, { direct: 8465 }), []);
  t.deepEqual(failing(SAID, 32, { direct: 8464 }), ['translated']);
  t.deepEqual(failing(SAID, 32, { passed: 1 }), ['untranslated']);
  t.deepEqual(failing(SAID, 32, { after: 1 }), ['untranslated']);
  t.deepEqual(failing(SAID, 32, { faults: [{ source: '0000:00:04.0', reason: 0x71, address: 0 }] }), ['faults']);
});

test('a kernel that shares no address space says so; one that is silent about it is not believed', t => {
  const old = spoilt('kernel', '6.1.0-50-amd64').filter(line => !line.startsWith('taken'));
  t.deepEqual(failing(old, 0, {}, [REFUSAL]), []);
  t.deepEqual(failing(old, 0), ['shared']);
  t.deepEqual(failing(old, 1, {}, [REFUSAL]), ['shared']);
});

test('the program is an ELF file of one segment that holds it, and starts behind its path', t => {
  const program = copyProgram({ queue: '/dev/dsa/wq1.0' });
  const view = new DataView(program.buffer);
  t.deepEqual([...program.subarray(0, 4)], [0x7f, 0x45, 0x4c, 0x46]);
  t.is(view.getUint32(96, true), program.length);
  t.true(view.getUint32(104, true) > program.length);
  const path = new TextEncoder().encode('/dev/dsa/wq1.0\0');
  t.deepEqual(program.slice(120, 120 + path.length), path);
  t.is(view.getUint32(24, true) - view.getUint32(80, true), 144);
  t.throws(() => copyProgram({ queue: `/dev/dsa/${'w'.repeat(20)}` }), { instanceOf: RangeError });
});
