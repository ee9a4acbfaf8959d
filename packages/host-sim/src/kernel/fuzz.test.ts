/** Processes that do anything at all: the kernel throws nothing, answers errnos that Linux has, and gets everything back. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { hva } from '@remora/bits';
import { errnoName } from '@remora/core';
import { VfioIommuType1DmaMap, VfioIommuType1PasidRequest } from '@remora/uapi';
import { bench, ENGINE, gadget, SECOND } from '../bench.test.helper.js';
import { ForwardingSyscalls, type HostSyscalls, type IoctlArgument } from '@remora/host';

const { ioctls } = JSON.parse(
  readFileSync(new URL('../../../uapi/fixtures/fixtures.json', import.meta.url), 'utf8'),
) as {
  readonly ioctls: readonly { readonly request: number; readonly bytes: string }[];
};
const VALID = ioctls.map(({ request, bytes }) => ({ request, bytes: Uint8Array.from(Buffer.from(bytes, 'hex')) }));
const INTEGERS = [0x3b64, 0x3b65, 0x3b66, 0x3b69, 0x3b6f, 0x3b7b];
const PATHS = ['/dev/vfio/vfio', '/dev/vfio/1', '/dev/vfio/2', '/dev/vfio/3', '/dev/zero'];

type Step = (process: HostSyscalls) => number;

/** In the first process, once it is set up: container, group, device. */
const fd = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 3, max: 5 }) },
  { weight: 3, arbitrary: fc.integer({ min: 3, max: 9 }) },
  { weight: 1, arbitrary: fc.integer({ min: -1, max: 20 }) },
);
const word = fc.oneof(fc.nat(16), fc.constantFrom(0x1000, 0x20_0000, 0xffff_ffff, 0x8000_0000), fc.nat(2 ** 32 - 1));

/** A valid structure with a few of its words replaced, sometimes cut off. */
const mutated = fc
  .tuple(
    fc.constantFrom(...VALID),
    fc.array(fc.tuple(fc.nat(20), word), { maxLength: 2 }),
    fc.option(fc.nat(80), { freq: 8 }),
  )
  .map(([{ request, bytes }, changes, cut]) => {
    const copy = bytes.slice();
    const view = new DataView(copy.buffer);
    for (const [at, value] of changes) if (at * 4 + 4 <= copy.length) view.setUint32(at * 4, value, true);
    return { request, bytes: cut === null ? copy : copy.slice(0, cut) };
  });

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.tuple(fd, fc.nat(20)).map(
      ([at, page]): Step =>
        process =>
          mapSome(process, at, page),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(...PATHS).map(
      (path): Step =>
        process =>
          process.open(path),
    ),
  },
  {
    weight: 8,
    arbitrary: fc.tuple(fd, mutated).map(
      ([at, { request, bytes }]): Step =>
        process =>
          process.ioctl(at, request, bytes.slice()),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(fd, fc.constantFrom(...INTEGERS), fc.constantFrom(1, 3, 6, 9)).map(
      ([at, request, value]): Step =>
        process =>
          process.ioctl(at, request, value),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fd, fd).map(
      ([group, container]): Step =>
        process =>
          process.ioctl(group, 0x3b68, Uint8Array.of(container, 0, 0, 0)),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fd, fc.constantFrom(ENGINE, SECOND, '')).map(
      ([at, name]): Step =>
        process =>
          process.ioctl(at, 0x3b6a, new TextEncoder().encode(`${name}\0`)),
    ),
  },
  {
    weight: 2,
    arbitrary: fd.map(
      (at): Step =>
        process =>
          process.close(at),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>(process => process.eventfd()) },
  {
    weight: 1,
    arbitrary: fc.nat(8).map(
      (pages): Step =>
        process =>
          Number(typeof process.mmap(pages * 4096) === 'number'),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.nat(64).map(
      (pages): Step =>
        process =>
          process.munmap(hva(0x7f00_0000_0000), pages * 4096),
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fd, fc.nat(8), fc.nat(0x1008), fc.uint8Array({ maxLength: 9 }), fc.boolean())
      .map(([at, region, offset, bytes, write]): Step => process => {
        const where = region * 2 ** 40 + offset;
        return write ? process.pwrite(at, bytes, where) : process.pread(at, bytes, where);
      }),
  },
);

/** Opens what most calls need, so that they get somewhere. */
const opening: readonly Step[] = [
  process => process.open('/dev/vfio/vfio'),
  process => process.open('/dev/vfio/1'),
  process => process.ioctl(4, 0x3b68, Uint8Array.of(3, 0, 0, 0)),
  process => process.ioctl(3, 0x3b66, 6),
  process => process.ioctl(4, 0x3b6a, new TextEncoder().encode(`${ENGINE}\0`)),
  // The PASID of the fixtures.
  process => process.ioctl(3, 0x3b7a, VfioIommuType1PasidRequest.encode({ argsz: 20, flags: 1, min: 5, max: 5 })),
];

/** MAP_DMA of memory that is there. */
function mapSome(process: HostSyscalls, at: number, iovaPage: number): number {
  const memory = process.mmap(0x2000);
  if (typeof memory === 'number') return memory;
  const values = { argsz: 32, flags: 3, vaddr: memory.address, iova: iovaPage * 4096, size: 0x2000 };
  return process.ioctl(at, 0x3b71, VfioIommuType1DmaMap.encode(values));
}

/** Notes which ioctls got through. */
class Observed extends ForwardingSyscalls {
  readonly #succeeded: Set<number>;

  constructor(next: HostSyscalls, succeeded: Set<number>) {
    super(next);
    this.#succeeded = succeeded;
  }

  override ioctl(at: number, request: number, argument?: IoctlArgument): number {
    const result = super.ioctl(at, request, argument);
    if (result >= 0) this.#succeeded.add(request);
    return result;
  }
}

test('whatever two processes do, nothing throws, and what they leave is nothing', t => {
  const { host, driver, ...rest } = bench({ devices: [gadget(ENGINE), gadget(SECOND)] });
  const before = host.dump();
  const programmed = driver.state();
  const succeeded = new Set<number>();
  fc.assert(
    fc.property(
      fc.boolean(),
      fc.array(fc.tuple(fc.boolean(), step), { maxLength: 40, size: 'max' }),
      (opened, steps) => {
        const processes = ['one', 'two'].map(name => host.process(name));
        const [one, two] = processes.map(process => new Observed(process, succeeded));
        for (const each of opening) if (opened) t.true(each(one!) >= 0);
        for (const [first, each] of steps) {
          const result = each(first ? one! : two!);
          if (!Number.isInteger(result) || (result < 0 && errnoName(result).startsWith('errno'))) return false;
        }
        for (const process of processes) process[Symbol.dispose]();
        return JSON.stringify(host.dump()) === JSON.stringify(before);
      },
    ),
    { numRuns: 500, seed: 1 },
  );
  t.deepEqual(driver.state(), programmed);
  const requests = new Set([...VALID.map(({ request }) => request), ...INTEGERS]);
  t.true(succeeded.size >= requests.size - 3, `${succeeded.size} of ${requests.size} ioctls got through`);
  t.true(
    driver.calls.some(call => call.startsWith('attach')),
    'the unit was reached',
  );
  rest[Symbol.dispose]();
});
