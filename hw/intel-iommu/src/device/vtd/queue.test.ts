/** vtd.md 1.10 and 5.1: the queue itself, with descriptors as words of the reference. */
import test from 'ava';
import { Bench, FULL, NOWHERE } from '../bench.test.helper.js';

const FSTS = 0x34;
const IQH = 0x80;
const IQT = 0x88;
const IQA = 0x90;
const IQERCD = 0xb0;
const GCMD = 0x18;
const QIE = 0x0400_0000;
const IQE = 0x10;
/** A wait with FN. */
const FENCE = 0x45n;

const IQEI = { TAIL: 1, FETCH: 2, TYPE: 3, RESERVED: 4, WIDTH: 5, MISALIGNED: 6, TTM: 7 } as const;

interface Queue {
  readonly bench: Bench;
  /** Byte address. */
  readonly base: number;
  readonly step: number;
  put(slot: number, ...quadwords: readonly bigint[]): void;
  error(): number;
}

/** An enabled queue of `4096 << qs` bytes, full of fences. The latched mode is `ttm`. */
function queueOf(wide: boolean, qs = 0, ttm = wide ? 1 : 0, options: object = FULL): Queue {
  const bench = new Bench(options);
  const step = wide ? 32 : 16;
  const pages = 2 ** qs;
  const base = bench.page(pages) * 4096;
  for (let at = 0; at < pages * 4096; at += step) bench.put(base + at, Int32Array.of(Number(FENCE), 0, 0, 0));
  bench.setRoot(bench.page(), ttm);
  bench.write64(IQA, BigInt(base + (wide ? 0x800 : 0) + qs));
  bench.command(QIE);
  return {
    bench,
    base,
    step,
    put(slot, ...quadwords) {
      for (let i = 0; i < step / 8; i++) bench.put64(base + slot * step + i * 8, quadwords[i] ?? 0n);
    },
    error: () => Number(bench.read64(IQERCD) & 0xfn),
  };
}

for (const wide of [false, true]) {
  const width = wide ? '256-bit' : '128-bit';

  test(`1.10, 5.1 rule 1: ${width}: 4096 << QS bytes whatever the width, for every QS; the head wraps there`, t => {
    for (let qs = 0; qs <= 7; qs++) {
      const { bench, step, error } = queueOf(wide, qs);
      const bytes = 4096 * 2 ** qs;
      const entries = wide ? 2 ** (qs + 7) : 2 ** (qs + 8);
      t.is(bytes / step, entries);
      bench.memory.loads = 0;
      bench.write64(IQT, BigInt(bytes - step));
      t.is(bench.read64(IQH), BigInt(bytes - step));
      t.is(bench.memory.loads, entries - 1, 'one slot stays empty');
      bench.write32(IQT, step);
      t.is(bench.read64(IQH), BigInt(step), 'around the end');
      t.is(bench.memory.loads, entries + 1);
      bench.write64(IQT, BigInt(bytes));
      t.is(error(), IQEI.TAIL);
    }
  });

  test(`5.1 rule 1: ${width}: head equal to tail is empty`, t => {
    const { bench } = queueOf(wide);
    bench.memory.loads = 0;
    bench.write32(IQT, 0);
    t.deepEqual([bench.memory.loads, bench.read32(IQH), bench.read32(FSTS)], [0, 0, 0]);
  });

  test(`5.1: ${width}: bad tails: IQEI 1 with nothing fetched`, t => {
    for (const tail of [1n, 15n, 4096n, 1n << 19n, 1n << 32n, 1n << 63n, 0x1001n]) {
      const { bench, error } = queueOf(wide);
      bench.memory.loads = 0;
      bench.write64(IQT, tail);
      t.deepEqual(
        [bench.read32(FSTS), error(), bench.memory.loads, bench.read32(IQH)],
        [IQE, IQEI.TAIL, 0, 0],
        `${tail}`,
      );
    }
  });

  test(`5.1: ${width}: after an error IQH stays, nothing later is fetched, and only clearing IQE resumes`, t => {
    const { bench, step, put, error } = queueOf(wide);
    put(1, 0n);
    bench.memory.loads = 0;
    bench.write32(IQT, 4 * step);
    t.is(bench.memory.loads, 2);
    t.deepEqual([bench.read32(IQH), bench.read32(FSTS), error()], [step, IQE, IQEI.TYPE]);
    put(1, FENCE);
    bench.write32(IQT, 5 * step);
    t.is(bench.memory.loads, 2, 'IQT alone does not restart');
    bench.write32(FSTS, 0x6f);
    t.is(bench.memory.loads, 2, 'nor do the other status bits');
    bench.write32(FSTS, IQE);
    t.deepEqual([bench.read32(IQH), bench.read32(FSTS)], [5 * step, 0]);
  });

  test(`5.1: ${width}: software may also move the tail back to the head: IQE is cleared and the queue is empty`, t => {
    const { bench, step, put } = queueOf(wide);
    put(1, 0n);
    bench.write32(IQT, 4 * step);
    bench.write32(IQT, step);
    bench.write32(FSTS, IQE);
    t.deepEqual([bench.read32(IQH), bench.read32(FSTS)], [step, 0]);
  });

  test(`5.1: ${width}: ITE stops the queue as IQE does`, t => {
    const { bench, step } = queueOf(wide);
    bench.unit.registers.set(FSTS, 0x40);
    bench.write32(IQT, 2 * step);
    t.is(bench.read32(IQH), 0);
    bench.write32(FSTS, 0x40);
    t.is(bench.read32(IQH), 2 * step);
  });

  test(`5.1: ${width}: ICE does not stop it`, t => {
    const { bench, step } = queueOf(wide);
    bench.unit.registers.set(FSTS, 0x20);
    bench.write32(IQT, 2 * step);
    t.is(bench.read32(IQH), 2 * step);
  });

  test(`5.1 rule 7, 5.7: ${width}: waits complete in order, and a bad descriptor keeps later ones from completing`, t => {
    const { bench, step, put } = queueOf(wide);
    const status = bench.page() * 4096;
    for (const slot of [0, 1, 2]) put(slot, (BigInt(slot + 1) << 32n) | 0x25n, BigInt(status));
    put(3, 0n);
    put(4, (9n << 32n) | 0x25n, BigInt(status));
    bench.write32(IQT, 5 * step);
    t.deepEqual(
      bench.memory.stores.map(({ address, words }) => [address, ...words]),
      [
        [status, 1],
        [status, 2],
        [status, 3],
      ],
    );
  });

  test(`1.10: ${width}: IQA is latched at QIE: later writes change nothing until it is enabled again`, t => {
    const { bench, step } = queueOf(wide);
    bench.write64(IQA, BigInt(NOWHERE * 4096 + 7));
    bench.write32(IQT, 2 * step);
    t.deepEqual([bench.read32(IQH), bench.read32(FSTS)], [2 * step, 0]);
  });
}

test('5.1: 256-bit: a tail with bit 4 set: IQEI 6', t => {
  for (const tail of [0x10, 0x30, 0xff0]) {
    const { bench, error } = queueOf(true);
    bench.memory.loads = 0;
    bench.write32(IQT, tail);
    t.deepEqual([bench.read32(FSTS), error(), bench.memory.loads], [IQE, IQEI.MISALIGNED, 0]);
  }
});

test('5.1: a queue where nothing answers, at its start or in its second page: IQEI 2', t => {
  const { bench, error } = queueOf(false);
  bench.write32(GCMD, 0);
  bench.write64(IQA, BigInt(NOWHERE * 4096));
  bench.command(QIE);
  bench.write32(IQT, 0x10);
  t.deepEqual([bench.read32(IQH), error()], [0, IQEI.FETCH]);

  const last = 0x4000 - 1;
  const edge = new Bench();
  for (let at = 0; at < 4096; at += 16) edge.put64(last * 4096 + at, FENCE);
  edge.write64(IQA, BigInt(last * 4096 + 1));
  edge.command(QIE);
  edge.write32(IQT, 0x1010);
  t.deepEqual([edge.read32(IQH), Number(edge.read64(IQERCD)) & 0xf], [0x1000, IQEI.FETCH]);
});

/** A descriptor of each type that is in order, in its first two quadwords. */
const TYPES: readonly (readonly bigint[])[] = [
  [0n],
  [0x11n],
  [0x12n],
  [0x3n | (0x100n << 32n), 0x1000n],
  [0x4n],
  [FENCE],
  [0x26n],
  [0x37n],
  [0x8n | (0x100n << 16n), 0x1000n],
  [0x9n, 0n],
  [0xan],
  [0xbn],
  [0xcn],
  [0xdn],
  [0xen],
  [0xfn],
];

test('5.1 rules 3 and 4: every type, width and latched mode, with and without device TLBs and interrupt remapping', t => {
  for (const [dt, ir] of [
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ]) {
    const options = { ...FULL, 'device-iotlb': dt, intremap: ir };
    for (const wide of [false, true]) {
      for (const ttm of [0, 1, 2, 3]) {
        for (const [type, words] of TYPES.entries()) {
          const { bench, step, put, error } = queueOf(wide, 0, ttm, options);
          put(0, ...words);
          bench.write32(IQT, step);
          const available =
            type >= 1 &&
            type <= (ttm === 0 ? 5 : 8) &&
            !((type === 3 || type === 8) && dt === false) &&
            !(type === 4 && ir === false);
          const expected = ttm === 2 ? IQEI.TTM : ttm !== 0 && !wide ? IQEI.WIDTH : available ? 0 : IQEI.TYPE;
          t.is(error(), expected, `type ${type}, ${step * 8} bits, TTM ${ttm}, DT ${dt}, IR ${ir}`);
          t.is(bench.read32(IQH), expected === 0 ? step : 0);
        }
      }
    }
  }
});

test('5.1 rule 3: the latched TTM counts, not what RTADDR says', t => {
  const { bench, step } = queueOf(false, 0, 0);
  bench.write64(0x20, 0x400n);
  bench.write32(IQT, step);
  t.is(bench.read32(FSTS), 0);
  bench.command(0x4000_0000);
  bench.write32(IQT, 2 * step);
  t.deepEqual([bench.read32(IQH), Number(bench.read64(IQERCD)) & 0xf], [step, IQEI.WIDTH]);
});

test('5.1 rule 2: bits 11:9 extend the type: each of the seven upper values is no type', t => {
  for (const wide of [false, true]) {
    for (let upper = 1n; upper < 8n; upper++) {
      for (const low of [0x11n, 0x12n, FENCE]) {
        const { bench, step, put, error } = queueOf(wide);
        put(0, low | (upper << 9n));
        bench.write32(IQT, step);
        t.is(error(), IQEI.TYPE);
      }
    }
  }
});

test('5.1 rule 6: width before type, type before reserved fields', t => {
  const outcome = (wide: boolean, ttm: number, ...words: readonly bigint[]): number => {
    const { bench, step, put, error } = queueOf(wide, 0, ttm);
    put(0, ...words);
    bench.write32(IQT, step);
    return error();
  };
  const everything = 0xffff_ffff_ffff_fff0n;
  t.is(outcome(false, 2, everything | 0xfn), IQEI.TTM);
  t.is(outcome(false, 1, everything | 0xfn), IQEI.WIDTH);
  t.is(outcome(true, 1, everything | 0xfn), IQEI.TYPE);
  t.is(outcome(true, 1, (everything & ~0xe00n) | 0x5n), IQEI.RESERVED);
});

test('5.1: an error raises the fault event; IQERCD keeps the last code', t => {
  const { bench, step, put, error } = queueOf(false);
  bench.write32(0x3c, 0x31);
  bench.write32(0x40, 0xfee0_1000);
  bench.write32(0x38, 0);
  put(0, 0n);
  bench.write32(IQT, step);
  t.deepEqual(bench.messages, [{ address: 0xfee0_1000, data: 0x31 }]);
  put(0, FENCE);
  bench.write32(FSTS, IQE);
  t.is(error(), IQEI.TYPE, 'valid while IQE only');
  bench.write64(IQT, 1n);
  t.is(error(), IQEI.TAIL);
  t.is(bench.messages.length, 2);
});
