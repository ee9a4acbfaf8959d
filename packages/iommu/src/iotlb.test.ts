import test from 'ava';
import fc from 'fast-check';
import { Random } from '@remora/bits';
import { Iotlb } from './iotlb.js';

const TOP = 1n << 64n;

/** A page: input base, log2 size, output base, access. */
interface Page {
  readonly base: bigint;
  readonly shift: number;
  readonly out: bigint;
  readonly access: number;
}

const hi = (value: bigint): number => Number(value >> 32n) | 0;
const lo = (value: bigint): number => Number(BigInt.asIntN(32, value));
const align = (value: bigint, shift: number): bigint => (value >> BigInt(shift)) << BigInt(shift);

function insert(tlb: Iotlb, asid: number, page: Page): void {
  tlb.insert(asid, hi(page.base), lo(page.base), page.shift, hi(page.out), lo(page.out), page.access);
}

/** What the table says of `address`; undefined for a miss. */
function look(tlb: Iotlb, asid: number, address: bigint): Page | undefined {
  const slot = tlb.lookup(asid, hi(address), lo(address));
  if (slot < 0) return undefined;
  const shift = tlb.shift(slot);
  const out = (BigInt(tlb.hi(slot)) << 32n) | BigInt(tlb.lo(slot));
  return { base: align(address, shift), shift, out, access: tlb.access(slot) };
}

function page(base: bigint, shift = 12, out = 0x5_0000_0000n, access = 3): Page {
  return { base: align(base, shift), shift, out: align(out, Math.min(shift, 52)), access };
}

test('a translation is found at every address of its page and nowhere else', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(7, -1, 0);
  const small = page(0x1234_5000n, 12, 0xfff_ffff_f000n, 0x83);
  insert(tlb, asid, small);
  t.deepEqual(look(tlb, asid, 0x1234_5000n), small);
  t.deepEqual(look(tlb, asid, 0x1234_5fffn), small);
  t.is(look(tlb, asid, 0x1234_4fffn), undefined);
  t.is(look(tlb, asid, 0x1234_6000n), undefined);
  t.is(look(tlb, tlb.asid(7, 0, 0), 0x1234_5000n), undefined);
  t.is(look(tlb, tlb.asid(7, -1, 1), 0x1234_5000n), undefined);
  t.is(look(tlb, tlb.asid(8, -1, 0), 0x1234_5000n), undefined);
});

test('an asid is the same for the same address space', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(7, 5, 1);
  t.not(tlb.asid(7, 6, 1), asid);
  t.is(tlb.asid(7, 5, 1), asid);
});

test('bad sizes and address spaces are programming errors', t => {
  for (const entries of [0, -1, 1.5, 2 ** 20 + 1]) t.throws(() => new Iotlb(entries), { instanceOf: RangeError });
  const tlb = new Iotlb(1);
  t.throws(() => tlb.asid(-1, 0, 0), { instanceOf: RangeError });
  t.throws(() => tlb.asid(0, 2 ** 20, 0), { instanceOf: RangeError });
  t.throws(() => tlb.asid(0, 0, 4), { instanceOf: RangeError });
});

test('the capacity is a power of two, up to a million', t => {
  t.is(new Iotlb(1000).capacity, 1024);
  t.is(new Iotlb(1024).capacity, 1024);
  t.is(new Iotlb(2 ** 20).capacity, 2 ** 20);
});

test('57-bit addresses, canonical ones of both halves and all 64 bits are told apart', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, 1, 1);
  const bases = [0x00ff_ffff_ffff_f000n, 0x01ff_ffff_ffff_f000n, 0xffff_ffff_ffff_f000n, 0xff00_0000_0000_0000n, 0n];
  bases.forEach((base, i) => insert(tlb, asid, page(base, 12, BigInt(i + 1) << 40n)));
  bases.forEach((base, i) => t.is(look(tlb, asid, base + 0xabcn)?.out, BigInt(i + 1) << 40n));
  t.is(look(tlb, asid, 0x007f_ffff_ffff_f000n), undefined);
});

test('pages of 4 KiB, 64 KiB, 2 MiB, 1 GiB, 512 GiB and of everything lie side by side', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  const pages = [12, 16, 21, 30, 39].map((shift, i) => page(BigInt(i + 1) << 45n, shift, BigInt(i + 1) << 44n, i));
  for (const each of pages) insert(tlb, asid, each);
  for (const each of pages) {
    t.deepEqual(look(tlb, asid, each.base + (1n << BigInt(each.shift)) - 1n), each);
    t.is(look(tlb, asid, each.base + (1n << BigInt(each.shift))), undefined);
  }
  const all = tlb.asid(2, -1, 0);
  tlb.insert(all, 0, 0, 64, 0, 0, 3);
  t.is(tlb.shift(tlb.lookup(all, -1, -1)), 64);
});

test('an entry for the same page is replaced', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  insert(tlb, asid, page(0x1000n, 12, 0x7000n, 1));
  insert(tlb, asid, page(0x1000n, 12, 0x9000n, 3));
  t.deepEqual([look(tlb, asid, 0x1000n)?.out, look(tlb, asid, 0x1000n)?.access, tlb.live], [0x9000n, 3, 1]);
  tlb.invalidatePages(asid, 0, 0x1000, 12);
  t.is(look(tlb, asid, 0x1000n), undefined);
});

test('an output that needs more than 52 bits is not cached', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  insert(tlb, asid, page(0x1000n, 12, 1n << 52n));
  t.is(look(tlb, asid, 0x1000n), undefined);
});

test('a seventeenth page size empties the table instead of confusing sizes', t => {
  const tlb = new Iotlb(256);
  const asid = tlb.asid(1, -1, 0);
  for (let shift = 12; shift < 12 + 17; shift++)
    insert(tlb, asid, page(BigInt(shift) << 40n, shift, BigInt(shift) << 40n));
  t.is(tlb.live, 1);
  t.is(look(tlb, asid, 28n << 40n)?.out, 28n << 40n);
  t.is(look(tlb, asid, 12n << 40n), undefined);
});

test('1000 random pages fit in a table for 1024', t => {
  const random = new Random(1);
  const tlb = new Iotlb(1024);
  const asids = [1, 2, 3, 4].map(domain => tlb.asid(domain, -1, 0));
  const pages = Array.from({ length: 1000 }, () => BigInt(random.next()) << 12n);
  pages.forEach((base, i) => insert(tlb, asids[i & 3]!, page(base)));
  const hits = pages.filter((base, i) => look(tlb, asids[i & 3]!, base) !== undefined).length;
  t.true(hits >= 980, `${hits} of 1000`);
});

for (const [what, stride] of [
  ['neighbouring', 1n],
  ['2 MiB apart', 512n],
  ['1 GiB apart', 0x4_0000n],
] as const) {
  test(`1000 pages that are ${what} fit in a table for 1024`, t => {
    const tlb = new Iotlb(1024);
    const asid = tlb.asid(3, 9, 2);
    for (let i = 0n; i < 1000n; i++) insert(tlb, asid, page((i * stride) << 12n));
    let hits = 0;
    for (let i = 0n; i < 1000n; i++) if (look(tlb, asid, (i * stride) << 12n) !== undefined) hits++;
    t.true(hits >= 980, `${hits} of 1000`);
  });
}

test('what was flushed leaves its room to what is live', t => {
  const tlb = new Iotlb(256);
  const dead = tlb.asid(1, -1, 0);
  for (let i = 0n; i < 1024n; i++) insert(tlb, dead, page(i << 12n));
  tlb.invalidateAsid(dead);
  const random = new Random(2);
  const asid = tlb.asid(2, -1, 0);
  const pages = Array.from({ length: 250 }, () => BigInt(random.next()) << 12n);
  for (const base of pages) insert(tlb, asid, page(base));
  const hits = pages.filter(base => look(tlb, asid, base) !== undefined).length;
  t.true(hits >= 245, `${hits} of 250`);
});

test('an asid is usable again after its flush, and holds nothing of before', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  insert(tlb, asid, page(0x1000n));
  for (const flush of [
    () => tlb.invalidateAsid(asid),
    () => tlb.invalidateDomain(1),
    () => tlb.invalidateDomain(1, 0),
    () => tlb.invalidateAll(),
  ]) {
    insert(tlb, asid, page(0x2000n, 12, 0x8000n));
    flush();
    t.is(tlb.live, 0);
    t.is(look(tlb, asid, 0x1000n), undefined);
    t.is(look(tlb, asid, 0x2000n), undefined);
    insert(tlb, asid, page(0x2000n, 12, 0x9000n));
    t.is(look(tlb, asid, 0x2000n)?.out, 0x9000n);
    t.is(tlb.live, 1);
  }
});

test('flushes reach what they name and nothing else', t => {
  const tlb = new Iotlb(64);
  const names = [
    [1, -1, 0],
    [1, 5, 1],
    [1, 6, 1],
    [2, 5, 1],
  ] as const;
  const asids = names.map(([domain, pasid, kind]) => tlb.asid(domain, pasid, kind));
  const refill = (): void => asids.forEach(asid => insert(tlb, asid, page(0x1000n)));
  const present = (): boolean[] => asids.map(asid => look(tlb, asid, 0x1000n) !== undefined);
  refill();
  tlb.invalidateAsid(asids[1]!);
  t.deepEqual(present(), [true, false, true, true]);
  refill();
  tlb.invalidateDomain(1, 1);
  t.deepEqual(present(), [true, false, false, true]);
  refill();
  tlb.invalidateDomain(1);
  t.deepEqual(present(), [false, false, false, true]);
  refill();
  tlb.invalidateDomain(9);
  tlb.invalidateDomainPages(9, 0, 0, 0, 64);
  t.deepEqual(present(), [true, true, true, true]);
  tlb.invalidateDomainPages(1, 1, 0, 0x1000, 12);
  t.deepEqual(present(), [true, false, false, true]);
});

test('a page-selective flush takes larger pages around and smaller pages within, and leaves neighbours', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  const giant = page(0n, 30);
  const small = page(0x4000_0000n, 12);
  const other = page(0x4020_0000n, 12);
  for (const each of [giant, small, other]) insert(tlb, asid, each);
  tlb.invalidatePages(asid, 0, 0x4000_0abc, 21);
  t.deepEqual(look(tlb, asid, 0n), giant);
  t.is(look(tlb, asid, small.base), undefined);
  t.deepEqual(look(tlb, asid, other.base), other);
  tlb.invalidatePages(asid, 0, 0x1000, 12);
  t.is(look(tlb, asid, 0x3fff_ffffn), undefined);
});

test('a page-selective flush beyond the bound takes the address space, and only that', t => {
  const tlb = new Iotlb(64);
  const asid = tlb.asid(1, -1, 0);
  const other = tlb.asid(2, -1, 0);
  for (const each of [asid, other]) insert(tlb, each, page(1n << 50n));
  tlb.invalidatePages(asid, 0, 0, 48);
  t.is(look(tlb, asid, 1n << 50n), undefined);
  t.not(look(tlb, other, 1n << 50n), undefined);
});

test('when all tags are used up the table starts again, empty', t => {
  const tlb = new Iotlb(16);
  const asid = tlb.asid(1, -1, 0);
  const bystander = tlb.asid(2, -1, 0);
  insert(tlb, bystander, page(0x7000n));
  let lost = 0;
  for (let round = 1; round <= 200_000; round++) {
    tlb.insert(asid, 0, 0x1000, 12, 0, round << 12, 3);
    if (tlb.lookup(asid, 0, 0x1000) < 0 || tlb.lo(tlb.lookup(asid, 0, 0x1000)) !== (round << 12) >>> 0)
      t.fail(`round ${round}`);
    if (tlb.lookup(bystander, 0, 0x7000) < 0) {
      lost++;
      insert(tlb, bystander, page(0x7000n));
    }
    tlb.invalidateAsid(asid);
    if (tlb.lookup(asid, 0, 0x1000) >= 0) t.fail(`round ${round}: flushed and found`);
  }
  t.is(lost, 3);
});

test('after 2^17 address spaces the earlier asids are stale, never somebody else', t => {
  const tlb = new Iotlb(16);
  const first = tlb.asid(0, 0, 0);
  insert(tlb, first, page(0x1000n));
  for (let pasid = 1; pasid < 2 ** 17; pasid++) tlb.asid(0, pasid, 0);
  t.true(tlb.isCurrent(first));
  t.not(look(tlb, first, 0x1000n), undefined);
  const next = tlb.asid(1, -1, 0);
  t.false(tlb.isCurrent(first));
  t.true(tlb.isCurrent(next));
  insert(tlb, next, page(0x1000n));
  insert(tlb, first, page(0x2000n));
  tlb.invalidateAsid(first);
  t.is(look(tlb, first, 0x1000n), undefined);
  t.is(look(tlb, first, 0x2000n), undefined);
  t.not(look(tlb, next, 0x1000n), undefined);
  t.not(tlb.asid(0, 0, 0), first);
});

test('entries() names what is cached', t => {
  const tlb = new Iotlb(64);
  insert(tlb, tlb.asid(3, 7, 2), page(0x1ff_1234_5678_9000n, 12, 0xa_bcde_f000n, 0x93));
  const only = { domain: 3, pasid: 7, kind: 2, hi: 0x1ff1234, lo: 0x56789000, shift: 12 };
  t.deepEqual([...tlb.entries()], [{ ...only, outHi: 0xa, outLo: 0xbcdef000, access: 0x93 }]);
});

// Random programs against a list of pages. A hit must be an entry of the list; the list forgets exactly what was named.
const SHIFTS = [12, 14, 21, 30, 39];
const BASES = [0n, 0x4000_0000n, 0xffff_8000_0000_0000n, 0x00ff_ffff_c000_0000n, 0xfff_ffff_ffff_f000n];
const space = fc.record({
  domain: fc.integer({ min: 1, max: 2 }),
  pasid: fc.integer({ min: -1, max: 1 }),
  kind: fc.integer({ min: 0, max: 1 }),
});
const address = fc
  .tuple(fc.constantFrom(...BASES), fc.bigInt(0n, 0x7fffn), fc.constantFrom(0n, 12n, 21n, 30n))
  .map(([base, offset, scale]) => (base + (offset << scale)) % TOP);
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('insert' as const),
      space,
      address,
      shift: fc.constantFrom(...SHIFTS),
      out: fc.bigInt(0n, (1n << 52n) - 1n),
      access: fc.nat(255),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('pages' as const),
      space,
      address,
      shift: fc.integer({ min: 12, max: 64 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('domainPages' as const),
      space,
      address,
      shift: fc.integer({ min: 12, max: 64 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom('asid', 'domain', 'domainKind', 'all'), space }) },
);

test('random programs: never less is removed than asked, and no hit is invented', t => {
  let hits = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 5, maxLength: 60 }), commands => {
      const tlb = new Iotlb(16);
      const model = new Map<
        string,
        { space: { domain: number; pasid: number; kind: number }; pages: Map<string, Page> }
      >();
      const spaceOf = (name: { domain: number; pasid: number; kind: number }) => {
        const key = `${name.domain}/${name.pasid}/${name.kind}`;
        if (!model.has(key)) model.set(key, { space: name, pages: new Map() });
        return model.get(key)!;
      };
      const remove = (pages: Map<string, Page>, at: bigint, shift: number): void => {
        const from = align(at, shift);
        const to = from + (1n << BigInt(shift));
        for (const [key, each] of pages)
          if (each.base < to && from < each.base + (1n << BigInt(each.shift))) pages.delete(key);
      };
      const seen: bigint[] = [];
      for (const each of commands) {
        const { domain, pasid, kind } = each.space;
        const asid = tlb.asid(domain, pasid, kind);
        const own = spaceOf(each.space);
        switch (each.op) {
          case 'insert': {
            const made = {
              base: align(each.address, each.shift),
              shift: each.shift,
              out: align(each.out, each.shift),
              access: each.access,
            };
            insert(tlb, asid, made);
            own.pages.set(`${made.base}/${made.shift}`, made);
            t.not(look(tlb, asid, each.address), undefined);
            seen.push(each.address, made.base, made.base + (1n << BigInt(made.shift)) - 1n);
            break;
          }
          case 'pages':
            tlb.invalidatePages(asid, hi(each.address), lo(each.address), each.shift);
            remove(own.pages, each.address, each.shift);
            break;
          case 'domainPages':
            tlb.invalidateDomainPages(domain, kind, hi(each.address), lo(each.address), each.shift);
            for (const other of model.values()) {
              if (other.space.domain === domain && other.space.kind === kind)
                remove(other.pages, each.address, each.shift);
            }
            break;
          case 'asid':
            tlb.invalidateAsid(asid);
            own.pages.clear();
            break;
          case 'domain':
            tlb.invalidateDomain(domain);
            for (const other of model.values()) if (other.space.domain === domain) other.pages.clear();
            break;
          case 'domainKind':
            tlb.invalidateDomain(domain, kind);
            for (const other of model.values()) {
              if (other.space.domain === domain && other.space.kind === kind) other.pages.clear();
            }
            break;
          default:
            tlb.invalidateAll();
            model.clear();
        }
        for (const at of seen) {
          for (const { space: name, pages } of model.values()) {
            const found = look(tlb, tlb.asid(name.domain, name.pasid, name.kind), at % TOP);
            if (found === undefined) continue;
            hits++;
            t.deepEqual(found, pages.get(`${found.base}/${found.shift}`));
          }
        }
      }
    }),
    { numRuns: 150, seed: 1 },
  );
  t.true(hits > 1000, `only ${hits} hits`);
});
