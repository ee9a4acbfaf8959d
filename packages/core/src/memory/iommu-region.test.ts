import { bigOf } from '@remora/bits';
import test from 'ava';
import { AddressSpace } from './address-space.js';
import { Access, MemTx, TxAttrs } from './memtx.js';
import { Ram } from './ram.js';
import { Region, WHOLE_SPACE } from './region.js';
import type { Translation } from './translation.js';

interface Page {
  readonly to: number;
  readonly access: number;
  readonly shift?: number;
}

/** An IOMMU that knows a few pages, by 64-bit input page address, in front of 64 pages of RAM. */
function behindIommu(pages: Record<string, Page>) {
  const ram = Ram.allocate(0x4_0000);
  const target = new AddressSpace('memory', Region.ram('ram', ram));
  const asked: string[] = [];
  const translator = {
    target,
    translate(hi: number, lo: number, access: number, attrs: TxAttrs, out: Translation): number {
      const input = bigOf(hi, lo);
      asked.push(`${input.toString(16)}:${access}:${attrs.requesterId.toString(16)}`);
      for (const [from, { to, access: granted, shift = 12 }] of Object.entries(pages)) {
        if (input >> BigInt(shift) !== BigInt(from) >> BigInt(shift)) continue;
        out.hi = 0;
        out.lo = to;
        out.shift = shift;
        out.access = granted;
        return (granted & access & Access.READ_WRITE) === 0 ? 5 : 0;
      }
      return 7;
    },
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, translator));
  const memory = (address: number, count: number): number[] => {
    const out = new Uint8Array(count);
    ram.read(0, address, out);
    return [...out];
  };
  return { space, memory, asked, translator };
}

const RW = Access.READ_WRITE;
const master = new TxAttrs();
master.requesterId = 0x0118;

test('each page is translated on its own', t => {
  const { space, memory, asked } = behindIommu({
    0x1000: { to: 0x8000, access: RW },
    0x2000: { to: 0x5000, access: RW },
  });
  t.is(space.writeAs(0, 0x1ffe, Uint8Array.of(1, 2, 3, 4), master), MemTx.OK);
  t.deepEqual(memory(0x8ffe, 2), [1, 2]);
  t.deepEqual(memory(0x5000, 2), [3, 4]);
  t.deepEqual(asked, ['1ffe:2:118', '2000:2:118']);
  const out = new Uint8Array(4);
  t.is(space.readAs(0, 0x1ffe, out, master), MemTx.OK);
  t.deepEqual([...out], [1, 2, 3, 4]);
});

test('one answer holds for its whole page, however large', t => {
  const { space, memory, asked } = behindIommu({ 0x20_0000: { to: 0, access: RW, shift: 21 } });
  t.is(space.writeAs(0, 0x20_0ffe, new Uint8Array(0x1004).fill(9), master), MemTx.OK);
  t.deepEqual(asked, ['200ffe:2:118']);
  t.deepEqual(memory(0x0ffd, 3), [0, 9, 9]);
  t.deepEqual(memory(0x2001, 2), [9, 0]);
});

test('a fault in the middle: earlier pages are written, later ones are not', t => {
  const { space, memory, asked } = behindIommu({
    0x1000: { to: 0x8000, access: RW },
    0x2000: { to: 0x9000, access: Access.READ },
    0x3000: { to: 0xa000, access: RW },
  });
  t.is(space.writeAs(0, 0x1000, new Uint8Array(0x3000).fill(7), master), MemTx.ACCESS_ERROR);
  t.deepEqual(memory(0x8fff, 2), [7, 0]);
  t.deepEqual(memory(0xa000, 1), [0]);
  t.deepEqual(asked, ['1000:2:118', '2000:2:118'], 'one fault, not one a page');
  t.is(space.readAs(0, 0x1000, new Uint8Array(0x3000), master), MemTx.OK, 'all three may be read');
});

test('a translation that does not grant the access is a refusal, whatever the translator returned', t => {
  const { translator } = behindIommu({});
  const lax = {
    ...translator,
    translate: (_h: number, _l: number, _a: number, _t: TxAttrs, out: Translation) => {
      out.hi = out.lo = 0;
      out.shift = 12;
      out.access = Access.READ;
      return 0;
    },
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, lax));
  t.is(space.readAs(0, 0, new Uint8Array(4), master), MemTx.OK);
  t.is(space.writeAs(0, 0, new Uint8Array(4), master), MemTx.ACCESS_ERROR);
});

test('the request carries its flags and PASID', t => {
  const { translator } = behindIommu({});
  const seen: number[][] = [];
  const watching = {
    ...translator,
    translate: (_h: number, _l: number, access: number, attrs: TxAttrs) => {
      seen.push([access, attrs.pasid]);
      return 1;
    },
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, watching));
  const attrs = new TxAttrs();
  attrs.pasid = 77;
  attrs.flags = Access.EXECUTE | Access.PRIVILEGED;
  t.is(space.readAs(0, 0, new Uint8Array(1), attrs), MemTx.ACCESS_ERROR);
  t.deepEqual(seen, [[Access.READ | Access.EXECUTE | Access.PRIVILEGED, 77]]);
});

test('a region of 2^64 bytes translates every 64-bit address', t => {
  const top = '0xfffffffffffff000';
  const odd = '0x0123456789abc000';
  const { space, memory, asked } = behindIommu({
    [top]: { to: 0x3000, access: RW },
    [odd]: { to: 0x6000, access: RW },
  });
  t.is(space.writeAs(-1, -8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), master), MemTx.OK);
  t.deepEqual(memory(0x3ff8, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
  t.is(space.writeAs(0x0123_4567, 0x89ab_cdef | 0, Uint8Array.of(9), master), MemTx.OK);
  t.deepEqual(memory(0x6def, 1), [9]);
  t.deepEqual(asked, ['fffffffffffffff8:2:118', '123456789abcdef:2:118']);
  t.is(space.writeAs(-1, -8, new Uint8Array(9), master), MemTx.DECODE_ERROR, 'there is no wrap-around');
});

test('the offset in a page of any size reaches the output address', t => {
  const reached: string[] = [];
  const last = behindIommu({});
  const end = {
    ...last.translator,
    translate: (hi: number, lo: number) => (reached.push(bigOf(hi, lo).toString(16)), 1),
  };
  const target = new AddressSpace('end', Region.iommu('end', WHOLE_SPACE, end));
  const page = { shift: 12, hi: 0x40_0000, lo: 0 };
  const translate = (_h: number, _l: number, _a: number, _t: TxAttrs, out: Translation): number => {
    Object.assign(out, page, { access: RW });
    return 0;
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, { target, translate }));
  for (const shift of [12, 31, 32, 33, 39, 48, 55, 63, 64]) {
    page.shift = shift;
    page.hi = shift < 54 ? 0x40_0000 : shift < 63 ? 0x8000_0000 : 0;
    space.readAs(0xfedc_ba98 | 0, 0x7654_3210, new Uint8Array(1), master);
  }
  const base = 0x40_0000_0000_0000n;
  const offset = (bits: bigint): bigint => BigInt.asUintN(Number(bits), 0xfedc_ba98_7654_3210n);
  const expected = [12n, 31n, 32n, 33n, 39n, 48n].map(bits => base + offset(bits));
  expected.push(0x8000_0000_0000_0000n + offset(55n), offset(63n), offset(64n));
  t.deepEqual(
    reached,
    expected.map(address => address.toString(16)),
  );
});

test('a transfer may go on across 4 GiB, in the input and in the output', t => {
  const reached: string[] = [];
  const last = behindIommu({});
  const end = {
    ...last.translator,
    translate: (hi: number, lo: number, _a: number, _t: TxAttrs, out: Translation) => {
      reached.push(bigOf(hi, lo).toString(16));
      Object.assign(out, { hi: 0, lo: 0, shift: 12, access: RW });
      return 0;
    },
  };
  const target = new AddressSpace('end', Region.iommu('end', WHOLE_SPACE, end));
  const translate = (_h: number, _l: number, _a: number, _t: TxAttrs, out: Translation): number => {
    Object.assign(out, { hi: 0, lo: 0, shift: 64, access: RW });
    return 0;
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, { target, translate }));
  t.is(space.readAs(4, -0x1000, new Uint8Array(0x2000), master), MemTx.OK);
  t.deepEqual(reached, ['4fffff000', '500000000']);
});

test('an IOMMU region that starts elsewhere is asked for offsets in it', t => {
  const { translator, asked } = behindIommu({});
  const root = Region.container('root', WHOLE_SPACE);
  root.add(0x1_8000_0000, Region.iommu('window', 0x1_0000_0000, translator));
  const space = new AddressSpace('device', root);
  space.readAs(1, 0x8000_0010 | 0, new Uint8Array(1), master);
  space.readAs(2, 0x10, new Uint8Array(1), master);
  space.readAs(2, 0x8000_0000 | 0, new Uint8Array(1), master);
  t.deepEqual(asked, ['10:1:118', '80000010:1:118']);
});

test('what has a higher priority than the IOMMU region is not translated', t => {
  const { translator, asked } = behindIommu({});
  const written: number[] = [];
  const root = Region.container('root', WHOLE_SPACE);
  root.add(0, Region.iommu('iommu', WHOLE_SPACE, translator));
  const write = (offset: number): void => void written.push(offset);
  root.add(0xfee0_0000, Region.mmio('interrupts', 0x10_0000, { read: () => 0, write }), 1);
  const space = new AddressSpace('device', root);
  t.is(space.writeAs(0, 0xfee0_1000, new Uint8Array(4), master), MemTx.OK);
  t.deepEqual(written, [0x1000]);
  t.is(space.writeAs(0, 0xfef0_0000, new Uint8Array(4), master), MemTx.ACCESS_ERROR);
  t.deepEqual(asked, ['fef00000:2:118']);
});

test('the target says what is at the other end', t => {
  const { space } = behindIommu({ 0: { to: 0x3f000, access: RW }, 0x1000: { to: 0x7000_0000, access: RW } });
  t.is(space.writeAs(0, 0xffc, new Uint8Array(4), master), MemTx.OK);
  t.is(space.writeAs(0, 0x1000, new Uint8Array(4), master), MemTx.DECODE_ERROR);
});

test('one IOMMU behind another', t => {
  const inner = behindIommu({ 0x5000: { to: 0x2000, access: RW } });
  const outer = behindIommu({ 0x9000: { to: 0x5000, access: RW } });
  const space = new AddressSpace(
    'device',
    Region.iommu('outer', WHOLE_SPACE, { ...outer.translator, target: inner.space }),
  );
  t.is(space.writeAs(0, 0x9004, Uint8Array.of(8), master), MemTx.OK);
  t.deepEqual(inner.memory(0x2004, 1), [8]);
});

test('IOMMUs in a ring end in a refusal', t => {
  const identity = (_h: number, _l: number, _a: number, _t: TxAttrs, out: Translation): number => {
    out.hi = out.lo = 0;
    out.shift = 64;
    out.access = RW;
    return 0;
  };
  const root = Region.container('root', WHOLE_SPACE);
  const space: AddressSpace = new AddressSpace('ring', root);
  root.add(0, Region.iommu('ring', WHOLE_SPACE, { target: space, translate: identity }));
  t.is(space.readAs(0x1234, 0, new Uint8Array(4), master), MemTx.ACCESS_ERROR);
  t.is(space.readAs(0x1234, 0, new Uint8Array(4), master), MemTx.ACCESS_ERROR, 'the guard opens again');
});

test('a translator may read memory through an IOMMU itself', t => {
  const tables = behindIommu({ 0: { to: 0x1000, access: RW } });
  tables.space.write(0, 0, Uint8Array.of(0, 0x30, 0, 0));
  const { translator, memory } = behindIommu({});
  const walking = {
    ...translator,
    translate: (_h: number, _l: number, _a: number, _t: TxAttrs, out: Translation) => {
      out.hi = 0;
      out.shift = 12;
      out.access = RW;
      const entry = new Int32Array(1);
      if (tables.space.load(0, 0, entry, 0, 1) !== MemTx.OK) return 1;
      out.lo = entry[0]!;
      return 0;
    },
  };
  const space = new AddressSpace('device', Region.iommu('iommu', WHOLE_SPACE, walking));
  t.is(space.writeAs(0, 0x10, Uint8Array.of(6), master), MemTx.OK);
  t.deepEqual(memory(0x3010, 1), [6]);
});
