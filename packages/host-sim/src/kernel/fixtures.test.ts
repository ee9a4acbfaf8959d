/**
 * The kernel, driven by bytes that a C compiler made: each ioctl as it should be, then with each field wrong, each padding byte set,
 * and cut off at each length.
 */
import { readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { Errno, errnoName } from '@remora/core';
import { owner } from '@remora/testing';
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_TYPE1_NESTING_IOMMU,
  VfioIommuType1DmaMap,
  VfioIommuType1PasidRequest,
} from '@remora/uapi';
import { bench, deviceOf, ENGINE, mapped, ready } from '../bench.test.helper.js';
import type { HostProcess } from '../process.js';
import type { SimulatedHost } from '../simulated-host.js';

interface IoctlFixture {
  readonly name: string;
  readonly case: string;
  readonly request: number;
  /** Hexadecimal. */
  readonly bytes: string;
  /** Offset and size by path. */
  readonly fields: Readonly<Record<string, readonly [number, number]>>;
}

const { ioctls } = JSON.parse(
  readFileSync(new URL('../../../uapi/fixtures/fixtures.json', import.meta.url), 'utf8'),
) as { readonly ioctls: readonly IoctlFixture[] };

type Value = number | bigint;
/** Values that are refused, with the errno; or 'any' where every value is as good as the one of the fixture. */
type Verdict = 'any' | readonly (readonly [value: Value, errno: number])[];

interface Expectation {
  /** What makes the valid bytes valid: which descriptor they go to, and what must be there before. */
  prepare(world: World): number;
  /** Of the fields whose value depends on the host. */
  patch?(world: World): Readonly<Record<string, Value>>;
  readonly fields: Readonly<Record<string, Verdict>>;
  /** Bytes that must be there; default: all. */
  readonly needed?: number;
  /** Padding bytes that must be zero. */
  readonly padding?: readonly number[];
}

const { EINVAL, ENOENT, EFAULT, ERANGE, EBADF, ENOTTY } = Errno;
const PASID = 5;

class World {
  readonly host: SimulatedHost;
  readonly process: HostProcess;
  readonly container: number;
  readonly group: number;
  readonly memory: number;

  constructor(t: ExecutionContext, kernel: Parameters<typeof bench>[0]) {
    this.host = owner(t)(bench(kernel)).host;
    this.process = this.host.process('vmm');
    const { container, groups } = ready(this.process, VFIO_TYPE1_NESTING_IOMMU, 1);
    this.container = container;
    this.group = groups[0]!;
    this.memory = mapped(this.process, 0x20_0000).address;
  }

  /** The container, with PASID 5 allocated. */
  withPasid(): number {
    const bytes = VfioIommuType1PasidRequest.encode({ argsz: 20, flags: 1, min: PASID, max: PASID });
    if (this.process.ioctl(this.container, 0x3b7a, bytes) !== 0) throw new Error('no PASID');
    return this.container;
  }

  /** The container, with PASID 5 bound. */
  bound(): number {
    this.withPasid();
    if (this.process.ioctl(this.container, 0x3b7b, bytesOf(find('VFIO_IOMMU_BIND', 'bind'))) !== 0)
      throw new Error('no bind');
    return this.container;
  }

  mappedAt(iova: number): number {
    const bytes = VfioIommuType1DmaMap.encode({ argsz: 32, flags: 3, vaddr: this.memory, iova, size: 0x20_0000 });
    if (this.process.ioctl(this.container, VFIO_IOMMU_MAP_DMA, bytes) !== 0) throw new Error('no mapping');
    return this.container;
  }

  device(): number {
    return deviceOf(this.process, this.group, ENGINE);
  }

  /** The first descriptor of an eventfd from `from` on. */
  eventfd(from: number): number {
    for (;;) {
      const fd = this.process.eventfd();
      if (fd >= from) return fd;
    }
  }
}

const refused = (errno: number, ...values: Value[]): [Value, number][] => values.map(value => [value, errno]);
const short = (least: number): Verdict => refused(EINVAL, 0, least - 1);

const BIND_HEADER = { argsz: short(8), flags: refused(EINVAL, 0, 3, 4, 5) };
const FLUSH_HEADER = {
  argsz: short(8),
  flags: refused(EINVAL, 1, 0x8000_0000),
  'cache_info.version': refused(EINVAL, 0, 2),
};

const EXPECTED: Readonly<Record<string, Expectation>> = {
  'VFIO_IOMMU_PASID_REQUEST alloc': {
    prepare: world => world.container,
    fields: {
      argsz: short(8),
      flags: refused(EINVAL, 0, 3, 4, 5),
      min: refused(EINVAL, 0x10_0000),
      max: refused(EINVAL, 0),
      result: 'any',
    },
  },
  'VFIO_IOMMU_PASID_REQUEST free': {
    prepare: world => world.withPasid(),
    fields: { argsz: short(8), flags: refused(EINVAL, 0, 3, 4, 6), free_pasid: refused(ENOENT, 0, 6, 0x10_0000) },
    needed: 12,
  },
  'VFIO_IOMMU_BIND bind': {
    prepare: world => world.withPasid(),
    fields: {
      ...BIND_HEADER,
      'data.version': refused(EINVAL, 0, 2),
      'data.format': refused(EINVAL, 0, 2),
      'data.flags': refused(EINVAL, 2, 3, 2n ** 32n),
      'data.gpgd': refused(EINVAL, 0x1234_5001, 0x1234_5800),
      'data.hpasid': [...refused(EINVAL, 0, 0x10_0000, 2n ** 32n + 5n), ...refused(ENOENT, 6)],
      'data.gpasid': 'any',
      'data.addr_width': refused(EINVAL, 0, 39, 49, 64),
      'data.vtd.flags': refused(EINVAL, 0x40, 2n ** 32n),
      'data.vtd.pat': 'any',
      'data.vtd.emt': refused(EINVAL, 8),
    },
    padding: Array.from({ length: 12 }, (_, at) => 8 + 44 + at),
  },
  'VFIO_IOMMU_BIND unbind': {
    prepare: world => world.bound(),
    fields: {
      ...BIND_HEADER,
      'data.version': 'any',
      'data.format': 'any',
      'data.flags': 'any',
      'data.gpgd': 'any',
      'data.hpasid': refused(EINVAL, 0, 6, 0x10_0000),
      'data.gpasid': 'any',
      'data.addr_width': 'any',
      'data.vtd.flags': 'any',
      'data.vtd.pat': 'any',
      'data.vtd.emt': 'any',
    },
  },
  'VFIO_IOMMU_CACHE_INVALIDATE domain': {
    prepare: world => world.bound(),
    fields: {
      ...FLUSH_HEADER,
      'cache_info.cache': refused(EINVAL, 0, 2, 3, 8),
      'cache_info.granularity': refused(EINVAL, 1, 2, 3, 255),
    },
    padding: [14, 15],
  },
  'VFIO_IOMMU_CACHE_INVALIDATE pasid': {
    prepare: world => world.bound(),
    fields: {
      ...FLUSH_HEADER,
      'cache_info.cache': refused(EINVAL, 0, 8, 9),
      'cache_info.granularity': refused(EINVAL, 2, 3),
      'cache_info.pasid_info.flags': refused(EINVAL, 0, 2, 4, 5),
      'cache_info.pasid_info.archid': 'any',
      'cache_info.pasid_info.pasid': refused(EINVAL, 0, 6, 0x10_0000, 2n ** 32n + 5n),
    },
    padding: [14, 15],
  },
  'VFIO_IOMMU_CACHE_INVALIDATE pages': {
    prepare: world => world.bound(),
    fields: {
      ...FLUSH_HEADER,
      'cache_info.cache': refused(EINVAL, 0, 4, 5, 8),
      'cache_info.granularity': refused(EINVAL, 3),
      'cache_info.addr_info.flags': refused(EINVAL, 2, 6, 8, 13),
      'cache_info.addr_info.archid': 'any',
      'cache_info.addr_info.pasid': refused(EINVAL, 0, 6, 0x10_0000),
      'cache_info.addr_info.addr': refused(ERANGE, 0x7fff_0000_7001, 1),
      'cache_info.addr_info.granule_size': [
        ...refused(EINVAL, 0, 1, 0x800, 0x1800),
        ...refused(ERANGE, 0x2000, 2n ** 40n),
      ],
      'cache_info.addr_info.nb_granules': [...refused(EINVAL, 0, 2n ** 53n), ...refused(ERANGE, 2, 3)],
    },
    padding: [14, 15],
  },
  'VFIO_IOMMU_GET_VMID get': { prepare: world => world.container, fields: { vmid: 'any' } },
  'VFIO_GROUP_GET_STATUS status': { prepare: world => world.group, fields: { argsz: short(8), flags: 'any' } },
  'VFIO_GROUP_SET_CONTAINER container': {
    prepare: world => world.process.open('/dev/vfio/2'),
    patch: world => ({ fd: world.container }),
    fields: { fd: [...refused(EBADF, 99, 0xffff_ffff), ...refused(EINVAL, 4)] },
  },
  'VFIO_DEVICE_GET_INFO device': {
    prepare: world => world.device(),
    fields: { argsz: short(16), flags: 'any', num_regions: 'any', num_irqs: 'any', cap_offset: 'any' },
    needed: 16,
  },
  'VFIO_DEVICE_GET_REGION_INFO config': {
    prepare: world => world.device(),
    fields: {
      argsz: short(32),
      flags: 'any',
      index: refused(EINVAL, 8, 9, 0xffff_ffff),
      cap_offset: 'any',
      size: 'any',
      offset: 'any',
    },
  },
  'VFIO_DEVICE_GET_IRQ_INFO msix': {
    prepare: world => world.device(),
    fields: { argsz: short(16), flags: 'any', index: refused(EINVAL, 5, 0xffff_ffff), count: 'any' },
  },
  'VFIO_DEVICE_SET_IRQS eventfds': {
    prepare: world => world.device(),
    patch: world => ({ 'data[0]': world.eventfd(9) }),
    fields: {
      argsz: refused(EINVAL, 0, 19, 27),
      flags: [...refused(EINVAL, 0, 0x20, 0x26, 0x64), ...refused(ENOTTY, 4, 0xc, 0x14, 0x2c)],
      index: refused(EINVAL, 0, 3, 5, 0xffff_ffff),
      start: refused(EINVAL, 7, 8, 0xffff_ffff),
      count: refused(EINVAL, 0, 3, 8, 0xffff_ffff),
      'data[0]': [...refused(EBADF, 99), ...refused(EINVAL, 3)],
      'data[1]': [...refused(EBADF, 99), ...refused(EINVAL, 3)],
    },
  },
  'VFIO_IOMMU_GET_INFO info': {
    prepare: world => world.container,
    fields: { argsz: short(16), flags: 'any', iova_pgsizes: 'any', cap_offset: 'any' },
    needed: 16,
  },
  'VFIO_IOMMU_MAP_DMA map': {
    prepare: world => world.container,
    patch: world => ({ vaddr: world.memory }),
    fields: {
      argsz: short(32),
      flags: refused(EINVAL, 0, 4, 7, 8),
      vaddr: [...refused(EINVAL, 0x1001), ...refused(EFAULT, 0x1000, 2n ** 63n)],
      iova: refused(EINVAL, 1, 0x800, 2n ** 48n, 2n ** 64n - 0x1000n),
      size: [...refused(EINVAL, 0, 0x1001, 2n ** 63n), ...refused(EFAULT, 0x20_1000)],
    },
  },
  'VFIO_IOMMU_UNMAP_DMA unmap': {
    prepare: world => world.mappedAt(0x1_0000_0000),
    fields: {
      argsz: short(24),
      flags: refused(EINVAL, 1, 2, 4, 8),
      iova: refused(EINVAL, 1, 0x1_0000_1000, 2n ** 64n - 0x1000n),
      size: refused(EINVAL, 0, 0x1000, 0x1001, 2n ** 64n - 0x1000n),
    },
  },
};

function find(name: string, which: string): IoctlFixture {
  return ioctls.find(known => known.name === name && known.case === which)!;
}

function bytesOf(fixture: IoctlFixture): Uint8Array {
  return Uint8Array.from(Buffer.from(fixture.bytes, 'hex'));
}

/** The fixture's bytes with some fields changed. */
function changed(fixture: IoctlFixture, values: Readonly<Record<string, Value>>): Uint8Array {
  const bytes = bytesOf(fixture);
  for (const [path, value] of Object.entries(values)) {
    const [offset, size] = fixture.fields[path]!;
    for (let at = 0; at < size; at++) bytes[offset + at] = Number((BigInt(value) >> BigInt(8 * at)) & 0xffn);
  }
  return bytes;
}

test('every fixture has its expectation, and every field its verdict', t => {
  t.deepEqual(
    ioctls.map(fixture => [`${fixture.name} ${fixture.case}`, Object.keys(fixture.fields).sort()]).sort(),
    Object.entries(EXPECTED)
      .map(([name, { fields }]) => [name, Object.keys(fields).sort()])
      .sort(),
  );
});

for (const fixture of ioctls) {
  const name = `${fixture.name} ${fixture.case}`;
  const expected = EXPECTED[name]!;
  const kernel = fixture.name === 'VFIO_IOMMU_GET_VMID' ? { uapi: 'vmid-rfc-v2' as const } : {};

  test(name, t => {
    const world = new World(t, { kernel });
    const fd = expected.prepare(world);
    const patch = expected.patch?.(world) ?? {};
    const before = world.host.dump();
    const call = (bytes: Uint8Array): string => {
      const result = world.process.ioctl(fd, fixture.request, bytes);
      return result < 0 ? errnoName(result) : 'ok';
    };

    for (const [path, verdict] of Object.entries(expected.fields)) {
      if (verdict === 'any') continue;
      for (const [value, errno] of verdict) {
        const bytes = changed(fixture, { ...patch, [path]: value });
        const copy = bytes.slice();
        t.is(call(bytes), errnoName(errno), `${path} = ${value}`);
        t.deepEqual(bytes, copy, `${path} = ${value}: nothing is written back`);
      }
    }
    for (const at of expected.padding ?? []) {
      const bytes = changed(fixture, patch);
      bytes[at] = 1;
      t.is(call(bytes), 'EINVAL', `padding byte ${at}`);
    }
    const whole = changed(fixture, patch);
    for (let length = 0; length < (expected.needed ?? whole.length); length++) {
      t.is(call(whole.slice(0, length)), 'EFAULT', `${length} bytes`);
    }
    t.is(world.process.ioctl(fd, fixture.request, 0x1000), -EFAULT, 'a pointer to nowhere');
    t.is(world.process.ioctl(fd, fixture.request), -EFAULT, 'no argument');
    t.deepEqual(world.host.dump(), before, 'what was refused has changed nothing');

    t.is(call(changed(fixture, patch)), 'ok');
  });

  for (const [path, verdict] of Object.entries(expected.fields)) {
    if (verdict !== 'any') continue;
    test(`${name}: any ${path} will do`, t => {
      const world = new World(t, { kernel });
      const fd = expected.prepare(world);
      const [, size] = fixture.fields[path]!;
      const bytes = changed(fixture, { ...expected.patch?.(world), [path]: 256n ** BigInt(size) - 1n });
      t.is(world.process.ioctl(fd, fixture.request, bytes), 0);
    });
  }
}
