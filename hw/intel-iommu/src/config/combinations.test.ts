/**
 * Every combination of the options that depend on each other: either a sum of what the options put into CAP and ECAP (vtd.md 2.3), or
 * refused with one sentence that says why.
 */
import { bigOf } from '@remora/bits';
import { ConfigError } from '@remora/core';
import test from 'ava';
import { capabilityRegister, extendedCapabilityRegister, vtdConfig } from './index.js';

const CHOICES = {
  'x-scalable-mode': ['off', 'on', 'modern'],
  'x-flts': [false, true],
  nesting: [false, true],
  'aw-bits': [39, 48, 57],
  intremap: [false, true],
  eim: [false, true],
  'device-iotlb': [false, true],
  svm: [false, true],
  'x-dit': [false, true],
  'pasid-bits': [0, 8, 20],
  'x-pasid-mode': [false, true],
  'dma-drain': [true, false],
} as const;
/** What each brings does not depend on the others: all off, all on. */
const INDEPENDENT = [
  { pt: false, 'caching-mode': false, 'snoop-control': false },
  { pt: true, 'caching-mode': true, 'snoop-control': true },
] as const;

type Choice = { readonly [K in keyof typeof CHOICES]: (typeof CHOICES)[K][number] };
type Combination = Choice & (typeof INDEPENDENT)[number];

function* choices(
  names = Object.keys(CHOICES) as (keyof typeof CHOICES)[],
): Generator<Record<string, string | number | boolean>> {
  const [first, ...rest] = names;
  if (first === undefined) {
    yield {};
    return;
  }
  for (const others of choices(rest)) for (const value of CHOICES[first]) yield { ...others, [first]: value };
}

const isScalable = (c: Combination): boolean => c['x-scalable-mode'] !== 'off' || c.nesting;
const isModern = (c: Combination): boolean => c['x-scalable-mode'] === 'modern';
const hasFirstStage = (c: Combination): boolean => c['x-flts'] || c.nesting || isModern(c);
const hasPasids = (c: Combination): boolean => c['pasid-bits'] > 0 || c['x-pasid-mode'] || c.nesting || isModern(c);

type Refusal = readonly [when: (c: Combination) => boolean, message: (c: Combination) => string];

const SCALABLE = 'needs scalable mode: set x-scalable-mode=on';
const DEVICE_TLBS = 'needs device TLBs: set device-iotlb=on';

/** The first that applies is what a person reads. */
const REFUSALS: readonly Refusal[] = [
  [c => isScalable(c) && !c['dma-drain'], () => 'dma-drain: scalable mode needs it: leave dma-drain=on'],
  [c => !isScalable(c) && c['x-flts'], () => `x-flts: ${SCALABLE}`],
  [c => !isScalable(c) && c['pasid-bits'] > 0, () => `pasid-bits: ${SCALABLE}`],
  [c => !isScalable(c) && c['x-pasid-mode'], () => `x-pasid-mode: ${SCALABLE}`],
  [c => c['x-flts'] && c['aw-bits'] === 39, () => 'aw-bits: 39 is not offered with x-flts=on, which takes 48 or 57'],
  [c => c.eim && !c.intremap, () => 'eim: needs interrupt remapping: set intremap=on'],
  [
    c => c['x-pasid-mode'] && isModern(c),
    () => 'x-pasid-mode: its 8 bits are not the 20 of x-scalable-mode=modern: remove it',
  ],
  [
    c => c['x-pasid-mode'] && c['pasid-bits'] === 20,
    () => 'pasid-bits: 20 is not the 8 of x-pasid-mode=on: remove one of them',
  ],
  [c => isModern(c) && c['pasid-bits'] === 8, () => 'pasid-bits: 8 is not the 20 of x-scalable-mode=modern: remove it'],
  [c => c.svm && !c['device-iotlb'], () => `svm: ${DEVICE_TLBS}`],
  [c => c['x-dit'] && !c['device-iotlb'], () => `x-dit: ${DEVICE_TLBS}`],
  [c => c.svm && !hasFirstStage(c), () => 'svm: needs a first stage: set x-scalable-mode=on and x-flts=on'],
  [c => c.svm && !hasPasids(c), () => 'svm: needs PASIDs: set pasid-bits to 1 .. 20'],
];

/** What QEMU 10.2 refuses besides. */
const QEMU_REFUSALS: readonly Refusal[] = [
  [c => c['aw-bits'] === 57, () => 'aw-bits: 57 is not one of 39, 48 (compat=qemu-10.2)'],
  [c => c.nesting, () => 'nesting: QEMU 10.2 does not nest: remove compat=qemu-10.2'],
  [isModern, () => 'x-scalable-mode: "modern" is not one of off, on, legacy (compat=qemu-10.2)'],
  [c => c['pasid-bits'] > 0, () => 'pasid-bits: QEMU 10.2 has x-pasid-mode=on in its place, for 8 bits'],
  [c => c.svm, () => 'svm: QEMU 10.2 does not offer it: remove compat=qemu-10.2'],
  [c => c['x-dit'], () => 'x-dit: QEMU 10.2 does not offer it: remove compat=qemu-10.2'],
  [
    c => c['x-pasid-mode'] && c['device-iotlb'],
    () => 'x-pasid-mode: QEMU 10.2 does not combine it with device-iotlb=on: remove one of them',
  ],
];

const WIDTHS = { 39: 0x8012008c22260206n, 48: 0x8012008c222f0606n, 57: 0x8012008c22380e06n } as const;

function capOf(c: Combination): bigint {
  return (
    WIDTHS[c['aw-bits']] +
    (c['caching-mode'] ? 0x80n : 0n) +
    (c['dma-drain'] ? 0xc0_0000_0000_0000n : 0n) +
    (c['x-flts'] || c.nesting ? 0x100_0000_0000_0000n : 0n) +
    (hasFirstStage(c) && c['aw-bits'] === 57 ? 0x1000_0000_0000_0000n : 0n)
  );
}

/** SMTS and what each mode adds to it, without PASIDs. */
function modeOf(c: Combination): bigint {
  if (!isScalable(c)) return 0n;
  const virtualCommands = isModern(c) ? 0x1000_0000_0000n : 0n;
  if (c.nesting) return 0xc800_8400_0000n + virtualCommands;
  if (isModern(c)) return 0x8800_8000_0000n + virtualCommands;
  return c['x-flts'] ? 0x8800_0000_0000n : 0x4800_8000_0000n;
}

/** PASID, and PSS for 8 or 20 bits. */
function pasidsOf(c: Combination): bigint {
  if (!hasPasids(c)) return 0n;
  const narrow = c['pasid-bits'] === 8 || c['x-pasid-mode'];
  return narrow ? 0x138_0000_0000n : 0x198_0000_0000n;
}

function ecapOf(c: Combination): bigint {
  return (
    0xf02n +
    (c.pt ? 0x40n : 0n) +
    (c['snoop-control'] ? 0x80n : 0n) +
    (c['device-iotlb'] ? 4n : 0n) +
    (c.intremap ? 0xf0_0008n : 0n) +
    (c.eim ? 0x10n : 0n) +
    modeOf(c) +
    pasidsOf(c) +
    // PRS, PDS and NWFS
    (c.svm ? 0x2000_0000n + 0x400_0000_0000n + 0x2_0000_0000n : 0n) +
    (c['x-dit'] ? 0x200_0000_0000n : 0n)
  );
}

function registersOf(options: Combination & { readonly compat: string }): string {
  try {
    const config = vtdConfig(options, 'vtd');
    const [cap, ecap] = [capabilityRegister(config), extendedCapabilityRegister(config)];
    return `${bigOf(cap[1]!, cap[0]!).toString(16)} ${bigOf(ecap[1]!, ecap[0]!).toString(16)}`;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.replace(/^vtd\./, '');
  }
}

const PROFILES = [
  { compat: 'spec', refusals: REFUSALS, accepted: 2754 },
  { compat: 'qemu-10.2', refusals: [...REFUSALS, ...QEMU_REFUSALS], accepted: 102 },
] as const;

for (const { compat, refusals, accepted } of PROFILES) {
  test(`${compat}: each combination is offered exactly, or refused with its reason`, t => {
    const used = new Set<Refusal>();
    let offered = 0;
    for (const choice of choices()) {
      for (const independent of INDEPENDENT) {
        const combination = { ...(choice as unknown as Choice), ...independent };
        const refusal = refusals.find(([when]) => when(combination));
        const got = registersOf({ ...combination, compat });
        if (refusal === undefined) offered++;
        else used.add(refusal);
        const expected =
          refusal?.[1](combination) ?? `${capOf(combination).toString(16)} ${ecapOf(combination).toString(16)}`;
        if (got !== expected) t.is(got, expected, JSON.stringify(combination));
      }
    }
    t.is(used.size, refusals.length, 'each refusal is met');
    t.is(offered, accepted);
  });
}

/** Numbers of bits, and what only takes from another option. */
const FIRST = { 'x-scalable-mode': 'on', 'x-flts': true, 'device-iotlb': true, pt: false };

test('every width of PASIDs', t => {
  for (let bits = 1; bits <= 20; bits++) {
    const ecap = extendedCapabilityRegister(vtdConfig({ 'x-scalable-mode': 'on', pt: false, 'pasid-bits': bits }));
    t.is(bigOf(ecap[1]!, ecap[0]!), 0x4900_8000_0f02n + (BigInt(bits - 1) << 35n));
  }
  const refused = t.throws(() => vtdConfig({ 'x-scalable-mode': 'on', 'pasid-bits': 21 }), { instanceOf: ConfigError });
  t.regex(refused?.message ?? '', /pasid-bits: .*21.*0 .*20/);
});

test('accessed and dirty bits need the stage that they are in', t => {
  const outcome = (options: object): bigint | string => {
    try {
      const words = extendedCapabilityRegister(vtdConfig({ 'x-scalable-mode': 'on', pt: false, ...options }, 'vtd'));
      return bigOf(words[1]!, words[0]!);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return error.message;
    }
  };
  t.is(outcome({ 'x-ssads': true }), 0x6800_8000_0f02n);
  t.is(outcome({ 'x-flts': true, 'x-eafs': true }), 0x8804_0000_0f02n);
  t.is(outcome({ nesting: true, 'x-ssads': true, 'x-eafs': true }), 0xe99c_8400_0f02n);
  const second = 'vtd.x-ssads: needs a second stage in scalable mode: set x-flts=off or nesting=on';
  t.is(outcome({ 'x-flts': true, 'x-ssads': true }), second);
  t.is(outcome({ 'x-scalable-mode': 'modern', 'x-ssads': true }), second);
  t.is(outcome({ 'x-eafs': true }), 'vtd.x-eafs: needs a first stage: set x-flts=on or nesting=on');
});

test('x-pds and x-nwfs take from svm', t => {
  const ecap = (options: object): bigint => {
    const words = extendedCapabilityRegister(vtdConfig({ ...FIRST, 'pasid-bits': 8, ...options }));
    return bigOf(words[1]!, words[0]!);
  };
  t.is(ecap({}), 0x8938_0000_0f06n);
  t.is(ecap({ svm: true }), 0x8d3a_2000_0f06n);
  t.is(ecap({ svm: true, 'x-pds': false }), 0x893a_2000_0f06n);
  t.is(ecap({ svm: true, 'x-nwfs': false }), 0x8d38_2000_0f06n);
  t.is(ecap({ 'x-pds': true, 'x-nwfs': true }), 0x8938_0000_0f06n, 'nothing without svm');
});
