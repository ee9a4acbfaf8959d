// Each check fails on a report that is spoilt in that one respect.
import test from 'ava';
import { bootReports } from '../console.js';
import type { UnitCounts } from '../observed-unit.js';
import { faultsVerdict } from './faults-verdict.js';

const FAULT = { source: '0000:00:04.0', reason: 0x71, address: 0xffff_d000 };
const LINUX_7 =
  'DMAR: [DMA Read PASID 0x1] Request device [0000:00:04.0] fault addr 0xffffd000 [fault reason 0x71] SM: Present bit in first-level paging entry is clear';
const LINUX_6 = LINUX_7.replace('PASID 0x1', 'NO_PASID').replace('0000:', '');
const SAID = [
  'remora: kernel 7.2.12+deb13-amd64',
  'remora: driver idxd',
  'remora: group DMA',
  'remora: kernel_queue enabled enabled 0x0 dma0chan0',
  'remora: kernel_copied 0 112 18155408 eadbff38 eadbff38',
  'DMAR: DRHD: handling fault status reg 2',
  LINUX_7,
  'remora: kernel_faulted 2 0xffffd000 untouched',
  'remora: kernel_stopped disabled disabled 0x0',
  'remora: done',
];

interface Seen {
  readonly said: readonly string[];
  readonly faults: readonly (typeof FAULT)[];
  readonly queues: { readonly made: number; readonly refused: number };
}

function failing(seen: Partial<Seen> = {}): string[] {
  const { said, faults, queues } = { said: SAID, faults: [FAULT], queues: { made: 1, refused: 0 }, ...seen };
  const lines = ['Linux version 7.2.12', ...said].map(each => `[    1.000000] ${each}`);
  const counts = { translated: 9000, passed: 0, refused: 0, before: 0, after: 0, direct: 0, asked: 0 };
  const maps = { reads: new Map(), writes: new Map(), descriptors: new Map([['p-iotlb', 300]]) };
  const rest = { remapped: 0, blocked: 0, unremapped: 0, enabled: true, capabilities: '' };
  const unit: UnitCounts = { ...counts, ...maps, ...rest, faults: [] };
  const calls = new Map([
    ['VFIO_DEVICE_ATTACH_IOMMUFD_PT', { made: 3, refused: 0 }],
    ['IOMMU_HWPT_INVALIDATE', { made: 300, refused: 0 }],
    ['IOMMU_VIOMMU_ALLOC', { made: 1, refused: 0 }],
    ['IOMMU_VEVENTQ_ALLOC', queues],
  ]);
  const lent = { lending: 'iommufd', unit, calls, faults: 0, pasids: [] } as const;
  const guest = { descriptors: new Map(), translated: 0, direct: 0, passed: 0, after: 0, faults: [...faults] };
  return faultsVerdict(bootReports(lines)[0], lines, guest, lent)
    .filter(({ ok }) => !ok)
    .map(({ name }) => name);
}

const instead = (words: string, other: string): { said: string[] } => ({
  said: SAID.map(each => each.replace(words, other)),
});

test('as it should be, as either kernel writes it, and spoilt', t => {
  t.deepEqual(failing(), []);
  t.deepEqual(failing(instead(LINUX_7, LINUX_6)), []);
  t.deepEqual(failing(instead('remora: kernel_faulted 2', 'remora: kernel_faulted 0')), [
    'faulted',
    'decoded',
    'recorded',
  ]);
  t.deepEqual(failing(instead('untouched', 'written')), ['faulted', 'decoded', 'recorded']);
  for (const [words, other] of [
    ['DMA Read', 'DMA Write'],
    ['0000:00:04.0', '0000:00:05.0'],
    ['addr 0xffffd000', 'addr 0xffffe000'],
    ['reason 0x71', 'reason 0x72'],
    ['is clear', 'is set'],
    [LINUX_7, 'DMAR: DRHD: handling fault status reg 3'],
    ['DMAR: DRHD: handling fault status reg 2', LINUX_7],
  ] as const)
    t.deepEqual(failing(instead(words, other)), ['decoded'], words);
  t.deepEqual(failing({ faults: [] }), ['recorded']);
  t.deepEqual(failing({ faults: [FAULT, FAULT] }), ['recorded']);
  t.deepEqual(failing({ faults: [{ ...FAULT, reason: 0x72 }] }), ['recorded']);
  t.deepEqual(failing({ queues: { made: 1, refused: 1 } }), ['event queue']);
});
