/** Random programs that mean something: tables that translate, then transfers, damage, invalidations and register writes. */
import { Random } from '@remora/bits';
import { GlobalCommand, QueueAddress, Reg, RootTableAddress, Ttm } from '@hw/intel-iommu/spec';
import { contextChange, pageChange } from './changes.js';
import { CONFIGS, descriptorWords, type DiffConfig, scalable } from './configs.js';
import { descriptor, harmless } from './descriptors.js';
import { type DeviceName, DEVICES, EDUS, QUEUE, QUEUE_BYTES, ROOT } from './layout.js';
import type { Operation, Program } from './program.js';
import { type Tables, tables } from './tables.js';
import { address, type Surroundings, transfers } from './transfers.js';

const PAGE = 0x1000;
const { QIE, TE, SRTP } = GlobalCommand;
const STEPS = 8;
/** Writable registers that programs scribble on. What moves tables away, or the fault event to memory, is not among them. */
const SCRIBBLED = [
  ...[Reg.FEDATA, Reg.FEUADDR, Reg.IEDATA, Reg.IEUADDR, Reg.ICS, Reg.PMEN, Reg.FSTS, Reg.GSTS],
  ...[Reg.IRTA, Reg.CAP, Reg.ECAP, Reg.VER, Reg.FECTL, Reg.IECTL],
] as const;
/** Those of them that may be written as a whole: QEMU aborts at 8 bytes for a register of 4. */
const QUADS: readonly number[] = [Reg.IRTA, Reg.CAP, Reg.ECAP];

/** `testdev`: the peer has iommu-testdev, too. */
export function generate(config: DiffConfig, seed: number, testdev = false): Program {
  // Units of one mode see different programs.
  const random = new Random(seed * CONFIGS.length + CONFIGS.findIndex(({ name }) => name === config.name));
  const devices: readonly DeviceName[] = testdev ? (Object.keys(DEVICES) as DeviceName[]) : EDUS;
  const made = tables(config, devices, random);
  const operations = [...made.inner, ...made.leaves, ...made.above.toReversed(), ...enabling(config, made)];
  // The queue comes to its end, and goes on at its start.
  if (random.below(6) === 0) operations.push(nearlyFull(config, random));
  const steps = STEPS + random.below(STEPS);
  const surroundings = { config, tables: made, devices, random };
  for (let step = 0; step < steps; step++) operations.push(...oneStep(surroundings));
  return { config: config.name, seed, operations };
}

function oneStep(given: Surroundings): Operation[] {
  const { config, random } = given;
  const choice = random.below(100);
  if (choice < 30) return transfers(given, address(given));
  if (choice < 55) return pageChange(given);
  if (choice < 70) return contextChange(given);
  if (choice < 92) {
    const words = descriptor(config, random);
    const submitted: Operation = { kind: 'descriptor', words };
    return random.below(2) === 0 ? [submitted, { kind: 'repair' }] : [submitted];
  }
  if (choice < 97) {
    const words = [random.next(), ...(random.below(2) === 0 ? [] : [random.next()])];
    const offset = SCRIBBLED[random.below(SCRIBBLED.length)]!;
    // Events are plain vectors: other kinds of interrupt would start the halted processor.
    if (offset === Reg.FEDATA || offset === Reg.IEDATA) words[0]! &= 0xff;
    return [{ kind: 'register', offset, words: QUADS.includes(offset) ? words : words.slice(0, 1) }];
  }
  const command = [QIE, QIE | TE, QIE | TE | SRTP][random.below(3)]!;
  return [command, QIE | TE].map(word => ({ kind: 'register', offset: Reg.GCMD, words: [word >>> 0] }));
}

/** The queue, the root table, translation. */
function enabling(config: DiffConfig, { mode }: Tables): Operation[] {
  const register = (offset: number, words: Iterable<number>): Operation => ({
    kind: 'register',
    offset,
    words: Array.from(words, word => word >>> 0),
  });
  const ttm = mode === 'legacy' ? Ttm.LEGACY : Ttm.SCALABLE;
  return [
    register(Reg.IQA, QueueAddress.encode({ dw: scalable(config) ? 1 : 0, iqa: QUEUE / PAGE })),
    register(Reg.GCMD, [QIE]),
    register(Reg.RTADDR, RootTableAddress.encode({ ttm, rta: ROOT / PAGE })),
    register(Reg.GCMD, [QIE | SRTP]),
    register(Reg.GCMD, [QIE | TE]),
  ];
}

function nearlyFull(config: DiffConfig, random: Random): Operation {
  const count = QUEUE_BYTES / (descriptorWords(config) * 4);
  return { kind: 'descriptor', words: harmless(config), times: count - 1 - random.below(3) };
}
