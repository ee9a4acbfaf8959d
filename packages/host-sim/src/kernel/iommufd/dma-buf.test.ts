/** Memory of one device that another reaches, until its own device takes it back (peers.md 3.6, number 18). */
import test, { type ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import * as uapi from '@remora/uapi';
import { ENGINE, type Gadget, SECOND } from '../../bench.test.helper.js';
import { IommufdBench, PAGE, U64_MAX } from './iommufd.test.helper.js';

const CONFIG_REGION = 7 * 2 ** 40;
const COMMAND = 4;
const BAR0 = 0x10;
const PLACE = 0xe000_0000;
const SCRATCH = 0x10;
const IOVA = 0x20_0000;
const GET = uapi.VfioDeviceFeatureFlag.GET;

interface Lending extends Pick<IommufdBench, 'user' | 'process'> {
  readonly b: IommufdBench;
  /** The device that has the memory. */
  readonly fd: number;
  /** What the other one's requests go through. */
  readonly ioas: number;
  readonly engine: number;
  /** That one's id. */
  readonly id: number;
  dmaBuf(values?: object, ...ranges: readonly (readonly [offset: number, length: number])[]): number;
  enableMemory(on: boolean): void;
}

function lending(t: ExecutionContext): Lending {
  const b = new IommufdBench(t);
  const { user, process } = b;
  // The firmware of the host has given the BAR an address.
  const { config } = b.bench.host.function(SECOND);
  config.write(BAR0, PLACE, 4);
  config.write(COMMAND, 2, 2);
  const engine = b.bind(0);
  const { fd } = b.bind(1);
  const ioas = user.ioas();
  t.true(user.attach(engine.fd, ioas) >= 0);
  const enableMemory = (on: boolean): void => {
    process.pwrite(fd, Uint8Array.of(on ? 2 : 0, 0), CONFIG_REGION + COMMAND);
  };
  enableMemory(true);
  return {
    b,
    user,
    process,
    fd,
    ioas,
    engine: engine.fd,
    id: engine.id,
    enableMemory,
    dmaBuf: (values = {}, ...ranges) => {
      const wanted = ranges.length === 0 ? [[0, PAGE] as const] : ranges;
      const body = uapi.VfioDeviceFeatureDmaBuf.encode({ nr_ranges: wanted.length, ...values });
      const list = wanted.flatMap(([offset, length]) => [...uapi.VfioRegionDmaRange.encode({ offset, length })]);
      const argsz = 8 + body.length + list.length;
      const head = uapi.VfioDeviceFeature.encode({ argsz, flags: GET | uapi.VFIO_DEVICE_FEATURE_DMA_BUF });
      return process.ioctl(fd, uapi.VFIO_DEVICE_FEATURE, Uint8Array.of(...head, ...body, ...list));
    },
  };
}

/** What device writes arrive as; undefined where they do not. */
function through({ b }: Lending, value: number, bdf = ENGINE): number | undefined {
  const gadget = b.bench.host.device<Gadget>(SECOND);
  gadget.scratch = 0;
  return b.dmaWrite(IOVA + SCRATCH, value, bdf) ? gadget.scratch : undefined;
}

test('3.6/18: a device writes into the memory of another, through an address space; nothing of it is pinned', t => {
  const at = lending(t);
  const buffer = at.dmaBuf();
  t.true(buffer >= 0);
  t.is(through(at, 1), undefined);
  t.deepEqual(at.b.mapFile(at.ioas, { fd: buffer, start: 0, length: PAGE, iova: IOVA }), { iova: IOVA });
  t.is(through(at, 0x5a), 0x5a);
  t.deepEqual(at.b.bench.host.dump()['pinned'], []);
  t.is(at.b.unmap(at.ioas, IOVA, PAGE), PAGE);
  t.is(through(at, 1), undefined);
});

const REVOKED: Readonly<Record<string, (at: Lending) => unknown>> = {
  'its memory is switched off': at => at.enableMemory(false),
  'it is reset': at => at.process.ioctl(at.fd, uapi.VFIO_DEVICE_RESET),
  'it is closed': at => at.process.close(at.fd),
};

for (const [what, take] of Object.entries(REVOKED)) {
  test(`3.6/18: revoked while mapped, since ${what}: nothing arrives any more, and the mapping can only go`, t => {
    const at = lending(t);
    const [ioas, copy] = [at.ioas, at.user.ioas()];
    const buffer = at.dmaBuf();
    at.b.mapFile(ioas, { fd: buffer, start: 0, length: PAGE, iova: IOVA });
    t.deepEqual(at.b.copy(copy, ioas, { length: PAGE, src_iova: IOVA, dst_iova: IOVA }), { iova: IOVA });
    const memory = at.user.memory(PAGE);
    at.b.map(ioas, { user_va: memory.address, length: PAGE, iova: IOVA + PAGE });
    t.is(through(at, 7), 7);
    take(at);
    t.is(through(at, 8), undefined);
    t.true(at.b.dmaWrite(IOVA + PAGE, 9), 'what lies beside it is there still');
    t.is(at.user.attach(at.engine, copy), -Errno.ENODEV);
    t.is(through(at, 8), undefined);
    t.deepEqual(at.b.map(ioas, { user_va: memory.address, length: PAGE, iova: IOVA }), -Errno.EEXIST);
    t.is(at.b.unmap(ioas, 0, U64_MAX), 2 * PAGE);
    t.is(at.b.unmap(copy, 0, U64_MAX), PAGE);
    t.true(at.user.attach(at.engine, copy) >= 0);
    t.deepEqual(at.b.bench.host.dump()['pinned'], []);
  });
}

test('3.6/18: dirty tracking begins and goes on beside what was taken back', t => {
  const at = lending(t);
  const { b, user, ioas } = at;
  const hwpt = user.hwpt(at.id, ioas, { flags: uapi.IommuHwptAllocFlag.DIRTY_TRACKING });
  t.is(user.attach(at.engine, hwpt), 0);
  b.mapFile(ioas, { fd: at.dmaBuf(), start: 0, length: PAGE, iova: IOVA });
  at.enableMemory(false);
  const track = (flags: number): number =>
    user.call(uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.IommuHwptSetDirtyTracking, { hwpt_id: hwpt, flags }).result;
  t.is(track(1), 0);
  t.is(track(0), 0);
});

test('3.6/18: what was taken back can be mapped anew when the device answers again, not before', t => {
  const at = lending(t);
  const buffer = at.dmaBuf();
  const map = (): unknown => at.b.mapFile(at.ioas, { fd: buffer, start: 0, length: PAGE, iova: IOVA });
  at.enableMemory(false);
  t.is(map(), -Errno.ENODEV);
  at.enableMemory(true);
  t.deepEqual(map(), { iova: IOVA });
  t.is(through(at, 3), 3);
  at.process.ioctl(at.fd, uapi.VFIO_DEVICE_RESET);
  t.is(through(at, 4), undefined);
  t.is(at.b.unmap(at.ioas, IOVA, PAGE), PAGE);
  at.enableMemory(true);
  t.deepEqual(map(), { iova: IOVA });
  t.is(through(at, 5), 5);
});

test('3.6/18: what is refused: other regions, ranges that are not of whole pages, several, beyond the end', t => {
  const at = lending(t);
  t.is(at.dmaBuf({ nr_ranges: 0 }), -Errno.EINVAL);
  t.is(at.dmaBuf({ flags: 1 }), -Errno.EINVAL);
  t.is(at.dmaBuf({ region_index: 7 }), -Errno.ENODEV);
  t.is(at.dmaBuf({ region_index: 1 }), -Errno.ENODEV);
  t.is(at.dmaBuf({ region_index: 2 }), -Errno.ENODEV, 'without an address');
  t.is(at.dmaBuf({}, [0, 0x800]), -Errno.EINVAL);
  t.is(at.dmaBuf({}, [PAGE, PAGE]), -Errno.EINVAL);
  t.is(at.dmaBuf({}, [0, PAGE], [0, PAGE]), -Errno.EOPNOTSUPP);
  const buffer = at.dmaBuf();
  t.is(at.b.mapFile(at.ioas, { fd: buffer, start: 0, length: 2 * PAGE, iova: IOVA }), -Errno.EINVAL);
  const probe = (flags: number): number =>
    at.process.ioctl(at.fd, uapi.VFIO_DEVICE_FEATURE, uapi.VfioDeviceFeature.encode({ argsz: 8, flags: flags | 11 }));
  t.is(probe(uapi.VfioDeviceFeatureFlag.PROBE), 0);
  t.is(probe(GET), -Errno.EINVAL, 'too short');
  t.is(probe(uapi.VfioDeviceFeatureFlag.SET), -Errno.EINVAL);
});
