/** Behaviours 1 to 12 of vsva.md 7 as far as the unit goes; what the host sees is tested above. */
import test from 'ava';
import { virtualCommandLayout } from '../spec/index.js';
import { Bench } from './bench.test.helper.js';

const MODERN = { 'x-scalable-mode': 'modern' } as const;
type Answer = { status: 'ok' | 'undefined' | 'no-pasid'; result: number };

interface Interface {
  readonly bench: Bench;
  /** Opcode and PASID of each command that executed. */
  readonly seen: [number, number][];
  readonly vcmd: number;
  readonly vcrsp: number;
  readonly vccap: number;
}

function open(version: '3.0' | '3.3', answer: Answer | undefined, options: object = {}): Interface {
  const seen: [number, number][] = [];
  const propagation =
    answer === undefined
      ? undefined
      : {
          virtualCommand: (opcode: number, pasid: number): Answer => {
            seen.push([opcode, pasid]);
            return answer;
          },
        };
  const bench = new Bench({ ...MODERN, 'vcmd-layout': version, ...options }, propagation);
  const layout = virtualCommandLayout(version);
  return { bench, seen, vcmd: layout.VCMD, vcrsp: layout.VCRSP, vccap: layout.VCCAP };
}

/** Literal numbers of vsva.md in the old layout, and the same by offset, shift and status in the new one. */
const NUMBERS = {
  '3.0': {
    vcmd: 0xe10,
    vcrsp: 0xe20,
    vccap: 0xe00,
    free5: 0x502n,
    pasid5: 0x500n,
    none: 0x4n,
    undefined: 0x2n,
    last: 0xfffff00n,
  },
  '3.3': {
    ...{ vcmd: 0xe00, vcrsp: 0xe10, vccap: 0xe30, free5: 0x50002n, pasid5: 0x50000n },
    ...{ none: 0x20n, undefined: 0x2n, last: 0xf_ffff_0000n },
  },
} as const;

for (const version of ['3.0', '3.3'] as const) {
  const n = NUMBERS[version];
  const ok = (result = 0): Answer => ({ status: 'ok', result });

  test(`${version}: offsets, and VCCAP says that PASIDs can be had`, t => {
    const { bench, vcmd, vcrsp, vccap } = open(version, ok());
    t.deepEqual([vcmd, vcrsp, vccap], [n.vcmd, n.vcrsp, n.vccap]);
    t.deepEqual([bench.read64(vccap), bench.read64(vcmd), bench.read64(vcrsp)], [1n, 0n, 0n]);
  });

  test(`${version}: behaviour 1: allocation`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok(5));
    bench.write64(vcmd, 1n);
    t.is(bench.read64(vcrsp), n.pasid5);
    t.is(bench.read64(vcmd), 1n);
    t.deepEqual(seen, [[1, 0]]);
    const last = open(version, ok(0xfffff));
    last.bench.write64(vcmd, 1n);
    t.is(last.bench.read64(vcrsp), n.last);
  });

  test(`${version}: behaviours 2 and 4: the host refuses`, t => {
    const { bench, vcmd, vcrsp } = open(version, { status: 'no-pasid', result: 7 });
    for (const command of [1n, n.free5]) {
      bench.write64(vcmd, command);
      t.is(bench.read64(vcrsp), n.none);
    }
  });

  test(`${version}: behaviour 3: free`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok());
    bench.write64(vcmd, n.free5);
    t.is(bench.read64(vcrsp), 0n);
    bench.write64(vcmd, n.last | 2n);
    t.deepEqual(seen, [
      [2, 5],
      [2, 0xfffff],
    ]);
  });

  test(`${version}: behaviour 5: anything else is undefined and goes nowhere`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok());
    for (const command of [0n, 3n, 0xffn]) {
      bench.write64(vcmd, command);
      t.is(bench.read64(vcrsp), n.undefined);
      t.is(bench.read64(vcmd), command);
    }
    t.deepEqual(seen, []);
    bench.write64(vcmd, 1n);
    t.is(seen.length, 1);
  });

  test(`${version}: behaviour 7: while a command is in progress writes are dropped`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok(5));
    bench.write64(vcmd, n.free5);
    bench.unit.registers.set(vcrsp, 1);
    bench.write64(vcmd, 1n);
    bench.write32(vcmd, 1);
    bench.write32(vcmd + 4, 9);
    t.is(bench.read64(vcmd), n.free5);
    t.is(bench.read64(vcrsp), 1n);
    t.is(seen.length, 1);
    bench.unit.registers.set(vcrsp, 0);
    bench.write64(vcmd, 1n);
    t.is(seen.length, 2);
  });

  test(`${version}: behaviour 8: nobody to ask`, t => {
    const { bench, vcmd, vcrsp } = open(version, undefined);
    bench.write64(vcmd, 1n);
    t.is(bench.read64(vcrsp), n.none);
  });

  test(`${version}: behaviour 11: VCCAP and VCRSP are read-only`, t => {
    const { bench, vcmd, vcrsp, vccap } = open(version, ok(5));
    bench.write64(vcmd, 1n);
    for (const offset of [vccap, vcrsp]) bench.write64(offset, 0xffff_ffff_ffff_ffffn);
    t.deepEqual([bench.read64(vccap), bench.read64(vcrsp)], [1n, n.pasid5]);
  });

  test(`${version}: behaviour 12: the low dword executes with the high one as it was; the high one alone is stored`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok(5));
    bench.write32(vcmd, 1);
    bench.write32(vcmd + 4, 0);
    t.is(bench.read64(vcrsp), n.pasid5);
    t.is(bench.read64(vcmd), 1n);
    t.deepEqual(seen, [[1, 0]]);
    bench.write32(vcmd + 4, Number(n.last >> 32n));
    bench.write32(vcmd, Number(n.last & 0xffff_ffffn) | 2);
    t.deepEqual(seen.at(-1), [2, 0xfffff]);
  });

  test(`${version}: behaviour 12, Q16: the high dword executes too`, t => {
    const { bench, seen, vcmd, vcrsp } = open(version, ok(5), { 'quirk-high-dword-command': true });
    bench.write32(vcmd, 1);
    t.is(bench.read64(vcrsp), n.pasid5);
    bench.write32(vcmd + 4, 0);
    t.is(bench.read64(vcrsp), n.undefined);
    t.is(bench.read64(vcmd), 1n);
    t.is(seen.length, 1);
  });

  test(`${version}: reset clears the interface`, t => {
    const { bench, vcmd, vcrsp, vccap } = open(version, ok(5));
    bench.write64(vcmd, 1n);
    bench.unit.reset();
    t.deepEqual([bench.read64(vcmd), bench.read64(vcrsp), bench.read64(vccap)], [0n, 0n, 1n]);
  });
}
